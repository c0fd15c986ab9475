"""The best choice of one option each under limits, with a proven bound.

This is a knapsack with multiple choice, which `MappingProgram` writes as a mixed-integer linear program. The
product of energy and latency is no linear objective: `sweep` bounds it.
"""

from dataclasses import dataclass

from ffebm.mapping.solver.problem import Figures, Limits, Problem, figures_of
from ffebm.mapping.solver.program import (
    Criterion,
    MappingProgram,
    Solution,
    gap_of,
    value_of,
)
from ffebm.mapping.solver.sweep import least_product
from ffebm.plan.mapping import Objective

STAGES: dict[Objective, tuple[Criterion, ...]] = {
    "analog": ("offloaded", "seconds"),
    "latency": ("seconds",),
    "throughput": ("interval",),
    "energy": ("joules",),
    "edp": (),
}
"""What is made small, one after the other, with what came before kept at its best."""

STREAMED_SHARE = 0.3
"""Of the time of all layers one after the other, what is added to that of the busiest unit where layers
stream: a layer starts when the first rows of the one before are there, so no unit waits for all of it."""
STREAMED_GAP = 5e-3
"""How close to its optimum, as a share, such a sum is, of which nobody asks a bound."""
BESIDE_GAP = 5e-3
"""How close to its optimum, as a share, the sum is that leads to a product without a bound."""


@dataclass(frozen=True)
class Choice:
    """The best choice that was found.

    Attributes:
        picked: The candidate of each item.
        figures: What it costs.
        value: Of the objective: s, J, J s; for "analog" the latency among choices with as much work on tiles.
        bound: No choice within the limits has a smaller value.
        gap: Share by which the value may be above the optimum, the largest of all stages.
        solves: How many programs were solved.
    """

    picked: tuple[int, ...]
    figures: Figures
    value: float
    bound: float
    gap: float
    solves: int

    @property
    def solution(self) -> Solution:
        """What the last program gave."""
        return Solution(self.picked, self.figures, self.value, self.bound)


def choose(
    problem: Problem,
    objective: Objective,
    limits: Limits,
    effort: int,
    ends: tuple[Choice, Choice] | None = None,
) -> Choice:
    """The best choice within limits.

    Args:
        problem: What there is to choose.
        objective: What is to be small; "analog" has the most work on tiles, then the least latency.
        limits: What it may take.
        effort: Most nodes of branch and bound for each program that is solved; 0 rounds the relaxation.
        ends: For "edp": what was chosen for "latency" and for "energy" of the same, if that is known.

    Raises:
        UsageError: If nothing is within the limits.
    """
    if all(len(item.candidates) == 1 for item in problem.decisions):
        picked = (0,) * len(problem.decisions)
        figures = figures_of(problem, picked)
        if figures.within(limits):  # if not, the program says which limit leaves nothing
            value = figures.edp if objective == "edp" else value_of(figures, STAGES[objective][-1])
            return Choice(picked, figures, value, bound=value, gap=0.0, solves=0)
    program = MappingProgram(problem, limits, effort)
    if objective == "edp":
        known = None if ends is None else (ends[0].solution, ends[1].solution)
        picked, figures, bound = least_product(program, known)
        return Choice(picked, figures, figures.edp, bound, gap_of(figures.edp, bound), program.solves)
    gap = 0.0
    for figure in STAGES[objective]:
        best = program.least(figure)
        program.keep(figure, best.value)
        gap = max(gap, best.gap)
    return Choice(best.picked, best.figures, best.value, best.bound, gap, program.solves)


def choose_streamed(problem: Problem, limits: Limits, effort: int) -> tuple[int, ...] | None:
    """The candidate of each item in a choice whose layers work side by side; None if none was found.

    One program, without a bound: it makes the time of the busiest unit small, and `STREAMED_SHARE` of that
    of all layers one after the other. The first is what a long stream takes, the second what it takes to
    reach the last layer; the latency of prices, a chain of whole layers, is neither.

    Args:
        problem: What there is to choose.
        limits: What it may take.
        effort: As in `choose`.
    """
    program = MappingProgram(problem, limits, effort)
    terms = dict(program.terms["interval"])
    for column, factor in program.terms["seconds"].items():
        terms[column] = terms.get(column, 0.0) + STREAMED_SHARE * factor
    found, _ = program.search(terms, STREAMED_GAP)
    return None if found is None else found[0]


def choose_beside(problem: Problem, limits: Limits, effort: int, known: Figures) -> tuple[int, ...] | None:
    """The candidate of each item in a choice with nearly the least product of energy and latency.

    None if none was found.

    One program, without a bound: it makes the tangent of the product at a known choice small, the sum of
    energy and latency as shares of what they are there. If a best choice has shares a and b, what is found
    has a product of at most ((a + b) / 2)^2 of the known one, which is near a b where both are near one.

    Args:
        problem: What there is to choose.
        limits: What it may take.
        effort: As in `choose`.
        known: What a choice costs that is the best one, or near it, for nearly the same problem.
    """
    program = MappingProgram(problem, limits, effort)
    terms = {column: factor / known.joules for column, factor in program.terms["joules"].items()}
    for column, factor in program.terms["seconds"].items():
        terms[column] = terms.get(column, 0.0) + factor / known.seconds
    found, _ = program.search(terms, BESIDE_GAP)
    return None if found is None else found[0]
