"""The Pareto front of points, and how much each knob matters."""

import math
from collections.abc import Mapping, Sequence

from ffebm.exploration.figures import FIGURES
from ffebm.exploration.knobs import Knob, Point

Figured = Mapping[str, float | None]
"""Figures by name; None is not known."""


def dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    """Nowhere worse and somewhere better; less is better."""
    return all(a <= b for a, b in zip(one, other, strict=True)) and any(
        a < b for a, b in zip(one, other, strict=True)
    )


def on_front(rows: Sequence[Figured], names: Sequence[str]) -> list[bool]:
    """Which rows no other one dominates; rows that lack a figure are never among them.

    Rows are looked at in the order of their figures, in which nothing is dominated by what comes later; so
    each is compared with the front so far only (Kung, Luccio & Preparata 1975).

    Args:
        rows: Figures of each point.
        names: Figures that count.
    """
    costs = [_costs(row, names) for row in rows]
    order = sorted((cost, index) for index, cost in enumerate(costs) if cost is not None)
    front: list[tuple[float, ...]] = []
    found = [False] * len(rows)
    for cost, index in order:
        if not any(dominates(other, cost) for other in front):
            front.append(cost)
            found[index] = True
    return found


def _costs(row: Figured, names: Sequence[str]) -> tuple[float, ...] | None:
    """Figures of which less is better; None if one is not known."""
    costs = []
    for name in names:
        value = row[name]
        if value is None:
            return None
        costs.append(-value if FIGURES[name].better == "more" else value)
    return tuple(costs)


def importance(
    points: Sequence[Point], values: Sequence[float | None], knobs: Sequence[Knob]
) -> dict[str, float]:
    """The share of a figure's variance that each knob explains alone: its main effect.

    Points fall into groups by the value of a knob; the share is the variance of the groups' means, weighted
    by their sizes, over the variance of all (the correlation ratio; in a full grid the first-order Sobol
    index). What is left to 1 is what knobs do together. Figures above 0 are compared by their logarithms.

    Args:
        points: The points.
        values: Their figures; points without one are left out.
        knobs: What was varied.
    """
    known = [(point, value) for point, value in zip(points, values, strict=True) if value is not None]
    logs = all(value > 0 for _, value in known)
    numbers = [math.log(value) if logs else value for _, value in known]
    total = _spread(numbers)
    found = {}
    for knob in knobs:
        groups: dict[object, list[float]] = {}
        for (point, _), number in zip(known, numbers, strict=True):
            groups.setdefault(point[knob.key], []).append(number)
        within = math.fsum(_spread(group) for group in groups.values())
        found[knob.key] = max(0.0, 1.0 - within / total) if total > 0 else 0.0
    return found


def _spread(numbers: Sequence[float]) -> float:
    """Sum of the squared differences from the mean."""
    mean = math.fsum(numbers) / len(numbers) if numbers else 0.0
    return math.fsum((number - mean) ** 2 for number in numbers)
