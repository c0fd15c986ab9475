"""The least product of energy and latency, with a proven bound.

Latencies are parted into ranges. In a range, the least sum of energy and a slope times latency bounds the
energy from below by a falling line; along it the product is least at an end of the range. The range with the
least bound is parted where that sum has its solution, until the best product that was seen is close enough to
all bounds.
"""

import heapq
import math
from dataclasses import dataclass

from ffebm.mapping.solver.problem import Figures
from ffebm.mapping.solver.program import MappingProgram, Picked, Solution

PRODUCT_GAP = 0.005
"""A product that is known to be so close to the optimum, as a share, is good enough."""
MOST_RANGES = 60
"""Ranges that are looked into at most."""
NARROW = 1e-6
"""A range is not parted so close to its ends, as a share of latency."""


@dataclass(order=True, frozen=True)
class _Range:
    """Latencies between two ends.

    Attributes:
        bound: No product in it is smaller.
        low: Least latency, s.
        high: Largest latency, s.
        floor: No energy in it is smaller, J.
        falls: By how much energy falls from end to end, as far as is known, J.
    """

    bound: float
    low: float
    high: float
    floor: float
    falls: float


def least_product(
    program: MappingProgram, ends: tuple[Solution, Solution] | None = None
) -> tuple[tuple[int, ...], Figures, float]:
    """The choice with the least product of energy and latency, what it costs, and a bound of the product.

    Args:
        program: To be solved.
        ends: The choices with the least latency and with the least energy, where they are known.

    Raises:
        UsageError: If nothing is within the limits.
    """
    fast, frugal = ends or (program.least("seconds"), program.least("joules"))
    best = min(((f.picked, f.figures) for f in (fast, frugal)), key=_product)
    falls = fast.figures.joules - frugal.figures.joules
    whole = _Range(fast.bound * frugal.bound, fast.bound, frugal.figures.seconds, frugal.bound, falls)
    ranges, closed = [whole], math.inf
    for _ in range(MOST_RANGES):
        if not ranges or ranges[0].bound >= _product(best) * (1 - PRODUCT_GAP):
            break
        here = heapq.heappop(ranges)
        found, parts = _looked_into(program, here)
        best = min([best, *found], key=_product)
        for part in parts:
            if part.high > part.low * (1 + NARROW):
                heapq.heappush(ranges, part)
            else:
                closed = min(closed, part.bound)

    value = _product(best)
    bound = min([value, closed, *(part.bound for part in ranges)])
    return *best, bound


def _looked_into(program: MappingProgram, here: _Range) -> tuple[list[Picked], list[_Range]]:
    """Choices in a range, and the range in two parts with tighter bounds."""
    slope = max(0.0, here.falls) / (here.high - here.low)
    terms = dict(program.terms["joules"])
    for column, factor in program.terms["seconds"].items():
        terms[column] = terms.get(column, 0.0) + slope * factor
    program.rows.row(program.terms["seconds"], here.low * (1 - 1e-9), here.high * (1 + 1e-9))
    found, least = program.search(terms)
    program.rows.without_last_row()
    if found is None:
        return [], [] if least == math.inf else [here]

    line = _Line(least, slope, here.floor)
    middle = found[1].seconds
    if not here.low * (1 + NARROW) < middle < here.high * (1 - NARROW):
        middle = math.sqrt(here.low * here.high)
    at = found[1].joules if middle == found[1].seconds else line.at(middle)
    ends = ((here.low, middle, here.floor + here.falls - at), (middle, here.high, at - here.floor))
    return [found], [
        _Range(max(here.bound, line.product(low, high)), low, high, line.at(high), falls)
        for low, high, falls in ends
    ]


@dataclass(frozen=True)
class _Line:
    """No energy is smaller than `start - slope * latency`, nor than `floor`."""

    start: float
    slope: float
    floor: float

    def at(self, seconds: float) -> float:
        """Least energy at a latency."""
        return max(self.floor, self.start - self.slope * seconds)

    def product(self, low: float, high: float) -> float:
        """Least product between two latencies: at an end, or where the line meets the floor."""
        meets = (self.start - self.floor) / self.slope if self.slope else low
        last = min(max(meets, low), high)
        return min(low * self.at(low), last * self.at(last))


def _product(picked: Picked) -> float:
    return picked[1].edp
