"""Columns: the rows of a page's tables, field by field, and what is often the same once.

A list of objects with the same fields says each name once a row, and a machine of thousands of tiles would
make most of a page of that. Keys that begin with `@` mark what stands for a list:

- `@columns`: by field, what each row has there.
- `@lengths` and `@rows`: how many of the rows belong to each of several lists, and all rows.
- `@of` and `@at`: values that differ, and for each place which of them it holds.
- `@runs`: of whole numbers the first of each run, how much each next one is more, and how many they are.

A key that begins with `@` itself gets one more. `columns.js` reads the same.
"""

from collections.abc import Sequence
from typing import TypeGuard

import msgspec

FEW = 4
"""Shorter lists stay as they are."""
MARK = "@"

Plain = dict[str, "Plain"] | list["Plain"] | tuple["Plain", ...] | str | int | float | None
"""What JSON holds."""


def packed(part: Plain) -> Plain:
    """The same with columns for lists of objects that are alike."""
    if isinstance(part, dict):
        return {_key(name): packed(value) for name, value in part.items()}
    return _column(part) if isinstance(part, list | tuple) else part


def unpacked(part: Plain) -> Plain:
    """What was packed."""
    if isinstance(part, list | tuple):
        return [unpacked(value) for value in part]
    if not isinstance(part, dict):
        return part
    if "@columns" in part:
        columns = part["@columns"]
        assert isinstance(columns, dict)
        names = [_name(key) for key in columns]
        rows = zip(*(_list(column) for column in columns.values()), strict=True)
        return [dict(zip(names, row, strict=True)) for row in rows]
    if "@lengths" in part:
        rest = iter(_list(part["@rows"]))
        return [[next(rest) for _ in range(_number(length))] for length in _list(part["@lengths"])]
    if "@runs" in part:
        runs = [_number(value) for value in _list(part["@runs"])]
        found = zip(runs[::3], runs[1::3], runs[2::3], strict=True)
        return [first + n * more for first, more, count in found for n in range(count)]
    if "@of" in part:
        values = _list(part["@of"])
        return [values[_number(at)] for at in _list(part["@at"])]
    return {_name(key): unpacked(value) for key, value in part.items()}


def _column(values: Sequence[Plain]) -> Plain:
    if len(values) >= FEW:
        if _alike(values):
            return {"@columns": {_key(name): _column([row[name] for row in values]) for name in values[0]}}
        if _lists(values):
            rows = [row for some in values for row in some]
            if len(rows) >= FEW and _alike(rows):
                return {"@lengths": _column([len(some) for some in values]), "@rows": _column(rows)}
    return _once([packed(value) for value in values])


def _alike(rows: Sequence[Plain]) -> TypeGuard[Sequence[dict[str, Plain]]]:
    """Objects with the same fields, in the same order."""
    first = rows[0]
    if not isinstance(first, dict) or not first:
        return False
    names = list(first)
    return all(isinstance(row, dict) and list(row) == names for row in rows)


def _lists(values: Sequence[Plain]) -> TypeGuard[Sequence[Sequence[Plain]]]:
    return all(isinstance(value, list | tuple) for value in values)


def _once(values: list[Plain]) -> Plain:
    """Each value once, or runs of whole numbers, where that is shorter."""
    texts = [msgspec.json.encode(value) for value in values]
    first: dict[bytes, int] = {}
    for place, text in enumerate(texts):
        first.setdefault(text, place)
    number = {text: n for n, text in enumerate(first)}
    different = [values[place] for place in first.values()]
    once: Plain = {"@of": different, "@at": _in_runs([number[text] for text in texts])}
    whole = [value for value in values if type(value) is int]
    plain = _in_runs(whole) if len(whole) == len(values) else values
    return once if _length(once) < _length(plain) else plain


def _in_runs(numbers: Sequence[int]) -> Plain:
    """Whole numbers in runs, where that is shorter."""
    runs: list[Plain] = []
    start = 0
    while start < len(numbers):
        more = numbers[start + 1] - numbers[start] if start + 1 < len(numbers) else 0
        end = start + 1
        while end < len(numbers) and numbers[end] - numbers[end - 1] == more:
            end += 1
        runs += [numbers[start], more, end - start]
        start = end
    plain: Plain = list[Plain](numbers)
    shorter: Plain = {"@runs": runs}
    return shorter if _length(shorter) < _length(plain) else plain


def _length(part: Plain) -> int:
    return len(msgspec.json.encode(part))


def _key(name: str) -> str:
    return MARK + name if name.startswith(MARK) else name


def _name(key: str) -> str:
    return key.removeprefix(MARK)


def _list(part: Plain) -> list[Plain]:
    found = unpacked(part)
    assert isinstance(found, list)
    return found


def _number(part: Plain) -> int:
    assert isinstance(part, int)
    return part
