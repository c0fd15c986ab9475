"""Which units to keep digital so that the rest, on tiles, keeps an accuracy with the most work there.

Two ways to look for it; both ask one question, whether a set of units on tiles keeps the accuracy, and are
compared by how often they ask.
"""

from collections.abc import Callable, Mapping, Sequence

from ffebm.studies.sensitivity.units import Unit

Keeps = Callable[[frozenset[str]], bool]
"""Whether the accuracy is kept with these units on tiles, by name, and the others digital."""
Chances = Callable[[Sequence[frozenset[str]]], Sequence[float]]
"""How likely sets keep it, as far as is known; what `Keeps` has answered may change that."""

ALL = 12
"""Most units of which every set is looked at."""
STEPS = 500
"""Steps into which the work of more units is divided: 0.2 % of it each."""
WIDTH = 8
"""Sets that are kept for each step."""
LEAST = 0.005
"""Share of the work that a question must promise to gain."""


def by_work(units: Sequence[Unit], keeps: Keeps) -> frozenset[str]:
    """Move one unit after the other onto tiles, the most work first; one that costs too much goes back.

    Source: LionHeart, Lammie et al. 2024 (arXiv 2401.09420), without its retraining between steps.
    """
    chosen: frozenset[str] = frozenset()
    for unit in sorted(units, key=lambda unit: -unit.macs):
        if keeps(chosen | {unit.name}):
            chosen |= {unit.name}
    return chosen


def by_superposition(
    units: Sequence[Unit], damage: Mapping[str, float], chances: Chances, keeps: Keeps, most: int
) -> frozenset[str]:
    """Ask again and again for the set that promises the largest gain: work beyond the best set, times chance.

    It ends when no set promises `LEAST` of the work of all units. What is returned has been asked for and
    keeps the accuracy; the empty set is known to.

    Source: the rule is expected improvement, Jones, Schonlau and Welch 1998 (10.1023/A:1008306431147), for an
    objective that is known and a constraint that is not.

    Args:
        units: All units.
        damage: What each alone does to the logits, by name; sums over sets rank sets of equal work.
        chances: Predicts answers.
        keeps: Answers the question.
        most: Most questions to ask.
    """
    work = {unit.name: unit.macs for unit in units}
    least = LEAST * sum(work.values())
    left = {names: sum(work[name] for name in names) for names in candidates(units, damage)}
    best, done = frozenset[str](), 0
    for _ in range(most):
        left = {names: macs for names, macs in left.items() if macs > done}
        gains = {
            names: (macs - done) * chance
            for (names, macs), chance in zip(left.items(), chances(list(left)), strict=True)
        }
        names = max(gains, key=lambda names: (gains[names], left[names]), default=best)
        if gains.get(names, 0.0) < least:
            break
        macs = left.pop(names)
        if keeps(names):
            best, done = names, macs
    return best


def candidates(units: Sequence[Unit], damage: Mapping[str, float]) -> list[frozenset[str]]:
    """Sets worth a look: all but the empty one of up to `ALL` units; of more, those of least damage.

    A knapsack by dynamic programming over the work in `STEPS` steps, with the `WIDTH` best sets of each.
    """
    exhaustive = len(units) <= ALL
    total = sum(unit.macs for unit in units) or 1
    best: dict[int, list[tuple[float, int, int]]] = {0: [(0.0, 0, 0)]}
    for bit, unit in enumerate(units):
        for harm, macs, mask in [entry for entries in best.values() for entry in entries]:
            taken = (harm + damage[unit.name], macs - unit.macs, mask | 1 << bit)  # less macs: more work
            step = taken[2] if exhaustive else round(-taken[1] * STEPS / total)
            best.setdefault(step, []).append(taken)
        best = {step: sorted(entries)[:WIDTH] for step, entries in best.items()}
    masks = [mask for entries in best.values() for _, _, mask in entries if mask]
    return [frozenset(u.name for bit, u in enumerate(units) if mask >> bit & 1) for mask in masks]
