"""Constants that a description gives by a formula, computed from what it says about the same tile."""

from collections.abc import Iterator, Mapping
from typing import Any

from ffebm.hardware.formulas import FORMULAS, Formula


class FormulaError(ValueError):
    """A formula that cannot be used as the description has it.

    Attributes:
        where: Dotted name of the constant.
        found: What is wrong.
        allowed: What is allowed.
    """

    def __init__(self, where: str, found: str, allowed: str = "") -> None:
        super().__init__(found)
        self.where = where
        self.found = found
        self.allowed = allowed


def with_derived(document: Any) -> tuple[Any, FormulaError | None]:
    """A description as plain data, with value and source of each constant that a formula gives.

    Args:
        document: The description as it was read; what is no description is returned as it is.

    Returns:
        The description, and what is wrong with the first formula that cannot be computed; such a constant is
        0, so that what else is wrong with the description can be told first.
    """
    walk = _Walk()
    found = (
        {key: walk.entry(key, held) for key, held in document.items()} if isinstance(document, dict) else None
    )
    return (document if found is None else found), (walk.problems[0] if walk.problems else None)


class _Walk:
    """Goes through the tables of a description."""

    def __init__(self) -> None:
        self.problems: list[FormulaError] = []

    def entry(self, where: str, held: Any) -> Any:
        """Groups, a table, or a plain value."""
        if isinstance(held, list | tuple):
            return [self.entry(_named(where, part), part) for part in held]
        if not isinstance(held, dict):
            return held
        return self.table(where, held, _of_tile(held.get("tile")))

    def table(self, where: str, table: dict[str, Any], seen: Mapping[str, float]) -> dict[str, Any]:
        """A table and the tables in it, with what their formulas give from what they see."""
        if table.get("formula") is not None:
            try:
                return _computed(where, table, seen)
            except FormulaError as error:
                self.problems.append(error)
                return {**table, "value": 0.0, "source": "-", "formula": None}
        found: dict[str, Any] = {}
        for key, held in table.items():
            if isinstance(held, dict):
                own = _numbers(_bits(held)) if key in {"dac", "adc"} else {}
                found[key] = self.table(f"{where}.{key}", held, {**seen, **own})
            else:
                found[key] = held
        return found


def _named(where: str, part: Any) -> str:
    return f"{where}.{part['name']}" if isinstance(part, dict) and "name" in part else where


def _numbers(asked: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in asked.items() if isinstance(value, int | float)}


def _of_tile(tile: Any) -> dict[str, float]:
    """What formulas of a tile may ask for: rows, columns, arrays, and the bits of its ADCs."""
    if not isinstance(tile, dict):
        return {}
    slices, cells = tile.get("slices", 1), 1 if tile.get("mapping") in {"offset", "single"} else 2
    asked = {"rows": tile.get("rows"), "cols": tile.get("cols"), **_bits(tile.get("adc"))}
    cell = tile.get("cell")
    devices = cell.get("devices", 1) if isinstance(cell, dict) else 1
    known = isinstance(slices, int) and isinstance(devices, int)
    asked["arrays"] = slices * cells * devices if known else None
    return _numbers(asked)


def _bits(converter: Any) -> dict[str, Any]:
    """Bits of one conversion: those of a slice where inputs are sliced."""
    if not isinstance(converter, dict):
        return {}
    return {"bits": converter.get("slice_bits") or converter.get("bits")}


def _computed(where: str, table: dict[str, Any], seen: Mapping[str, float]) -> dict[str, Any]:
    """A constant with the value that its formula gives."""
    asked = table["formula"]
    name = asked.get("name") if isinstance(asked, dict) else asked
    if not isinstance(asked, dict) or not isinstance(name, str) or name not in FORMULAS:
        raise FormulaError(where, f"formula {name!r}", f"{{ name, … }} with one of {', '.join(FORMULAS)}")
    formula = FORMULAS[name]
    if table.get("unit") != formula.unit:
        raise FormulaError(where, f"unit {table.get('unit')!r} of {asked['name']}", f"{formula.unit!r}")
    missing = [name for name in formula.reads if name not in seen]
    if missing:
        found = f"{asked['name']} needs {missing[0]!r}, which this constant's table does not say"
        raise FormulaError(where, found)
    given = dict(_parameters(where, asked, formula))
    try:
        given = {read: float(seen[read]) for read in formula.reads} | given
        value = float(formula.compute(given))
    except (OverflowError, ZeroDivisionError):
        raise FormulaError(where, f"{asked['name']} gives no finite number") from None
    told = "".join(f", {name} = {number:g}" for name, number in given.items())
    source = f"{formula.text}{told}: {formula.citation}"
    return {**table, "formula": dict(asked), "value": value, "source": source}


def _parameters(where: str, asked: Mapping[str, Any], formula: Formula) -> Iterator[tuple[str, float]]:
    """What is given with a formula: exactly what it takes, each above 0."""
    given = {key: value for key, value in asked.items() if key != "name" and value is not None}
    if sorted(given) != sorted(formula.parameters):
        found = ", ".join(sorted(given)) or "nothing"
        allowed = ", ".join(formula.parameters) or "nothing"
        raise FormulaError(where, f"{found} given with {asked['name']}", f"exactly: {allowed}")
    for key in formula.parameters:
        value = given[key]
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < 1e30:
            raise FormulaError(where, f"{key} = {value!r}", "a number above 0")
        yield key, float(value)
