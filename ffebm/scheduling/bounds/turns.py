"""Tasks of which each two share a unit: they take turns, as if on one, though no unit does all of them.

Where copies of weights lie across each other, three layers may share tiles pairwise, each pair another one.
Cliques of what shares units are found greedily, what has most to do first. The heaviest clique is hard to
find; any of them gives a bound.
"""

from collections.abc import Iterator, Mapping, Sequence

MOST_SETS = 256
"""Sets of units that are looked at, those with most to do first."""
MOST_CLIQUES = 4
"""Cliques that are kept, those with most to do first."""

UnitSet = tuple[int, ...]


def taking_turns(work: Mapping[UnitSet, float]) -> list[tuple[UnitSet, ...]]:
    """Cliques of sets of units of which each two have one in common, but not all the same one.

    Args:
        work: What tasks that occupy exactly some units have to do, seconds.
    """
    heavy = sorted((units for units in work if units and work[units] > 0), key=lambda u: (-work[u], u))
    sets = heavy[:MOST_SETS]
    bits = [sum(1 << unit for unit in units) for units in sets]
    found: dict[tuple[int, ...], float] = {}
    for clique in _greedy(bits):
        common = -1
        for member in clique:
            common &= bits[member]
        if not common:
            found[clique] = sum(work[sets[member]] for member in clique)
    kept = sorted(found, key=lambda clique: (-found[clique], clique))[:MOST_CLIQUES]
    return [tuple(sets[member] for member in clique) for clique in kept]


def _greedy(bits: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """For each set a clique that it is in: the first ones that share a bit with all taken before."""
    for seed, own in enumerate(bits):
        taken = [seed]
        able = [n for n, other in enumerate(bits) if n != seed and other & own]
        while able:
            taken.append(able[0])
            able = [n for n in able[1:] if bits[n] & bits[taken[-1]]]
        yield tuple(sorted(taken))
