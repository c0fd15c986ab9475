"""Tasks of which each two share a unit: they take turns, as if on one, though no unit does all of them.

Where copies of weights lie across each other, three layers may share tiles pairwise, each pair another one.
Cliques of what shares units are found greedily, what has most to do first. The heaviest clique is hard to
find; any of them gives a bound, of a makespan and of the interval of samples.
"""

from collections.abc import Mapping, Sequence

MOST_SETS = 256
"""Sets of units that are looked at, those with most to do first."""
MOST_CLIQUES = 4
"""Cliques that are kept, those with most to do first."""
ROUNDING = 1e-9
"""Part of a time that is no difference: sums in another order differ in their last digits."""

UnitSet = tuple[int, ...]


def with_turns(
    units: Sequence[UnitSet], seconds: Sequence[float], n_units: int
) -> tuple[list[UnitSet], list[int]]:
    """Tasks as if a further unit did those that take turns.

    Args:
        units: Numbers of the units of each task.
        seconds: How long each occupies them.
        n_units: How many units there are.

    Returns:
        Units of each task with the further ones, numbered behind all others, and a unit of each of these.
    """
    work: dict[UnitSet, float] = {}
    for some, busy_s in zip(units, seconds, strict=True):
        work[some] = work.get(some, 0.0) + busy_s
    more = {some: some for some in work}
    cliques = taking_turns(work)
    for further, clique in enumerate(cliques, n_units):
        for some in clique:
            more[some] = (*more[some], further)
    return [more[some] for some in units], [clique[0][0] for clique in cliques]


def taking_turns(work: Mapping[UnitSet, float]) -> list[tuple[UnitSet, ...]]:
    """Cliques of sets of units of which each two have one in common, but not all the same one.

    Args:
        work: What tasks that occupy exactly some units have to do, seconds.
    """
    heavy = sorted((units for units in work if units and work[units] > 0), key=lambda u: (-work[u], u))
    sets = heavy[:MOST_SETS]
    bits = [sum(1 << unit for unit in units) for units in sets]
    seconds = [work[units] for units in sets]
    found: dict[tuple[int, ...], float] = {}
    for seed, own in enumerate(bits):
        meeting = [n for n, other in enumerate(bits) if other & own]
        enough = sorted(found.values())[-MOST_CLIQUES] if len(found) >= MOST_CLIQUES else 0.0
        if sum(seconds[n] for n in meeting) < enough * (1 - ROUNDING):  # all that may be in its clique
            continue
        clique = _greedy(bits, seed, meeting)
        common = -1
        for member in clique:
            common &= bits[member]
        if not common:
            found[clique] = sum(seconds[member] for member in clique)
    kept = sorted(found, key=lambda clique: (-found[clique], clique))[:MOST_CLIQUES]
    return [tuple(sets[member] for member in clique) for clique in kept]


def _greedy(bits: Sequence[int], seed: int, meeting: Sequence[int]) -> tuple[int, ...]:
    """A clique that a set is in: the first ones that share a bit with all taken before.

    Args:
        bits: Of each set.
        seed: The set.
        meeting: Those that share a bit with it.
    """
    taken = [seed]
    able = [n for n in meeting if n != seed]
    while able:
        taken.append(able[0])
        able = [n for n in able[1:] if bits[n] & bits[taken[-1]]]
    return tuple(sorted(taken))
