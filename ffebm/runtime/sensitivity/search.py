"""Which units to keep digital so that the rest, on tiles, keeps an accuracy with the most work there.

Two ways to look for it; both ask one question, whether a set of units on tiles keeps the accuracy, and are
compared by how often they ask.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

from ffebm.runtime.sensitivity.units import Unit

Keeps = Callable[[frozenset[str]], bool]
"""Whether the accuracy is kept with these units on tiles, by name, and the others digital."""

PATIENCE = 2
"""Units in a row that may cost too much before the search ends."""
STEPS = 500
"""Steps into which work is divided to weigh it against distortion: 0.2 % of it each."""


def by_work(units: Sequence[Unit], keeps: Keeps) -> frozenset[str]:
    """Move one unit after the other onto tiles, the most work first; one that costs too much goes back.

    Source: LionHeart, Lammie et al. 2024 (arXiv 2401.09420), without its retraining between steps.
    """
    chosen: frozenset[str] = frozenset()
    for unit in sorted(units, key=lambda unit: -unit.macs):
        if keeps(chosen | {unit.name}):
            chosen |= {unit.name}
    return chosen


def by_distortion(units: Sequence[Unit], distortions: Mapping[str, float], keeps: Keeps) -> frozenset[str]:
    """Bisect the sets of units that do the most work for the distortion that they cause.

    Independent deviations add up in the square, so the distortion of a set is taken as the sum of its units'.
    Accuracy is taken to fall as distortion grows; among the sets that no other beats in both, the one with
    most work that keeps the accuracy is found by bisection. As the sum is an approximation, single units are
    then added to it, the most work first, until `PATIENCE` of them in a row cost too much. It takes fewer
    questions than there are units, unless bisection alone takes as many.

    Args:
        units: All units.
        distortions: What each alone does to the logits, by name.
        keeps: Answers the question.
    """
    sets = list(frontier(units, distortions))
    low, high = 0, len(sets)  # the first keeps the accuracy: it is empty
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if keeps(sets[middle]) else (low, middle)
    asked, failed = (len(sets) - 1).bit_length(), 0
    chosen = sets[low]
    for unit in sorted(units, key=lambda unit: -unit.macs):
        if unit.name in chosen or chosen | {unit.name} in sets:
            continue
        if asked >= len(units) - 1 or failed == PATIENCE:
            break
        asked += 1
        kept = keeps(chosen | {unit.name})
        chosen, failed = (chosen | {unit.name}, 0) if kept else (chosen, failed + 1)
    return chosen


def frontier(units: Sequence[Unit], distortions: Mapping[str, float]) -> Iterator[frozenset[str]]:
    """Sets that do more work than every set with less distortion, from the empty one on.

    A knapsack by dynamic programming over the work in `STEPS` steps.
    """
    total = sum(unit.macs for unit in units) or 1
    best: dict[int, tuple[float, int, frozenset[str]]] = {0: (0.0, 0, frozenset())}
    for unit in units:
        for distortion, macs, chosen in list(best.values()):
            taken = (distortion + distortions[unit.name], macs + unit.macs, chosen | {unit.name})
            step = round(taken[1] * STEPS / total)
            if step not in best or _is_better(taken, best[step]):
                best[step] = taken
    most = -1
    for _, macs, chosen in sorted(best.values(), key=lambda entry: (entry[0], -entry[1])):
        if macs > most:
            most = macs
            yield chosen


def _is_better(taken: tuple[float, int, frozenset[str]], held: tuple[float, int, frozenset[str]]) -> bool:
    """Less distortion; at equal distortion more work."""
    return (taken[0], -taken[1]) < (held[0], -held[1])
