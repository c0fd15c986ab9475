"""Units of a schedule in few words: numbers as ranges, and units that always work together as one."""

from collections.abc import Iterable
from itertools import groupby, pairwise


def ranges(numbers: Iterable[int]) -> str:
    """Whole numbers in order, runs joined.

    >>> ranges([7, 0, 1, 2, 3])
    '0-3, 7'
    """
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in _runs(numbers))


def unit_order(unit: str) -> tuple[int, int]:
    """Digital units first, then the network, then cores and tiles; each by number."""
    kind, number = _kind_and_number(unit)
    return ("digital", "network", "core", "tile").index(kind), number


def unit_ranges(units: Iterable[str]) -> str:
    """Names of units in order, runs of one kind joined.

    >>> unit_ranges(["tile9", "tile3", "tile4", "tile5", "network"])
    'network, tile3-tile5, tile9'
    >>> unit_ranges(["network2", "network1", "network0", "core4"])
    'network0-network2, core4'
    """
    found: list[str] = []
    for kind, same in groupby(sorted(units, key=unit_order), lambda unit: _kind_and_number(unit)[0]):
        members = list(same)
        found += [unit for unit in members if unit == kind]
        runs = _runs(_kind_and_number(unit)[1] for unit in members if unit != kind)
        found += (
            f"{kind}{first}" if first == last else f"{kind}{first}-{kind}{last}" for first, last in runs
        )
    return ", ".join(found)


def working_together(sets: Iterable[Iterable[str]]) -> list[tuple[str, ...]]:
    """Units in groups that do the same steps, in order.

    Args:
        sets: The units of each step, or each different set of them.

    >>> working_together([["tile0", "tile1"], ["tile0", "tile1", "tile2"], ["tile2"]])
    [('tile0', 'tile1'), ('tile2',)]
    """
    inside: dict[str, list[int]] = {}
    for number, units in enumerate(dict.fromkeys(map(tuple, sets))):
        for unit in units:
            inside.setdefault(unit, []).append(number)
    groups: dict[tuple[int, ...], list[str]] = {}
    for unit in sorted(inside, key=unit_order):
        groups.setdefault(tuple(inside[unit]), []).append(unit)
    return list(map(tuple, groups.values()))


def _kind_and_number(unit: str) -> tuple[str, int]:
    """A single channel has no number; those of several networks have."""
    kind = unit.rstrip("0123456789")
    return kind, int(unit.removeprefix(kind) or 0)


def _runs(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """First and last of each run of numbers without a gap."""
    ordered = sorted(numbers)
    cuts = [0, *(k + 1 for k, (a, b) in enumerate(pairwise(ordered)) if b != a + 1), len(ordered)]
    return [(ordered[start], ordered[end - 1]) for start, end in pairwise(cuts) if end > start]
