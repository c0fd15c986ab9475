"""What the solver chooses, for fewer tiles where its choice does not pack."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ffebm.mapping.search.filling import Filling
from ffebm.mapping.search.goal import OBJECTIVES, Goal
from ffebm.mapping.search.known import Known
from ffebm.mapping.solver.choice import Choice, choose, choose_beside
from ffebm.mapping.solver.problem import Limits
from ffebm.mapping.whole import WholeChoice
from ffebm.plan.mapping import Objective

CLOSE_SHARES = (1.0, 0.985, 0.97)
"""Shares of the tiles, with parts of tiles as such; behind the first one where the work on tiles counts."""
SHARES = (1.0, 0.93, 0.86, 0.78, 0.7, 0.5)
"""Shares of the tiles that the solver may fill, one after the other until its choice packs."""


@dataclass(frozen=True)
class Solving:
    """Asks the solver for choices that pack.

    Attributes:
        whole: The problem.
        goal: What is wanted.
        filling: Packs choices.
        known: What was solved.
    """

    whole: WholeChoice
    goal: Goal
    filling: Filling
    known: Known

    def others(self) -> Iterator[tuple[int, ...]]:
        """No tiles at all; all on the fewest tiles; and what other objectives would have.

        Prices do not know what the schedule does: which blocks share a tile and wait for each other, what
        runs side by side. So the choice for one figure may schedule with more of it than that for another.
        """
        if all(not some.options[0].group for some in self.filling.choosing):
            yield (0,) * len(self.filling.choosing)
        densest = self.filling.densest()
        if self.filling.packs(densest, apart=False):
            yield densest
        if self.goal.objective != "analog":
            for other in OBJECTIVES:
                if other != self.goal.objective:
                    yield from self.packed(other, Limits())[1]

    def packed(self, objective: Objective, limits: Limits) -> tuple[Choice, list[tuple[int, ...]]]:
        """What the solver chooses and what packs of it; without limits each objective is solved for once."""
        if limits != Limits():
            return self._packing(objective, limits)
        solved = self.known.solved
        if objective not in solved:
            solved[objective] = self._packing(objective, limits)
        return solved[objective]

    def _packing(self, objective: Objective, limits: Limits) -> tuple[Choice, list[tuple[int, ...]]]:
        """The solver's choice; and what packs of it and of others for fewer tiles, the last one at its price.

        Bundles of a block that share a tile wait for each other, which prices do not know and the schedule
        does; so the first choice that packs at all counts too.
        """
        room = {group.name: float(group.count) for group in self.filling.hardware.analog}
        most = math.inf if self.goal.tiles is None else float(self.goal.tiles)
        ends: tuple[Choice, Choice] | None = None
        if objective == "edp" and limits == Limits():  # which all objectives look at, so nothing more to do
            ends = self.packed("latency", limits)[0], self.packed("energy", limits)[0]
        limits = replace(limits, tiles=room, all_tiles=most, area=self.goal.area)
        first: Choice | None = None
        found: list[tuple[int, ...]] = []
        closely = [(self.whole, share) for share in CLOSE_SHARES[: 3 if objective == "analog" else 1]]
        roomy = self.whole.roomy
        for problem, share in (*closely, *((roomy, share) for share in SHARES)):
            smaller = {name: tiles * share for name, tiles in limits.tiles.items()}
            less = replace(
                limits, tiles=smaller, all_tiles=limits.all_tiles * share, area=limits.area * share
            )
            if first is not None and objective == "edp":  # its bound is there; a sweep takes several programs
                chosen = choose_beside(problem.problem, less, self.goal.effort, first.figures)
            else:
                choice = choose(problem.problem, objective, less, self.goal.effort, ends)
                first, chosen = first or choice, choice.picked
            picked = self.whole.picked(chosen)
            if not found and self.filling.packs(picked, apart=False):
                found.append(picked)
            if self.filling.packs(picked, apart=True):
                return first, [*found, picked]
        assert first is not None
        return first, [*found, self.filling.fallback()]
