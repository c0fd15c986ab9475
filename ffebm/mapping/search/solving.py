"""What the solver chooses, for fewer tiles where its choice does not pack."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from ffebm.mapping.search.filling import Filling
from ffebm.mapping.search.goal import OBJECTIVES, Goal
from ffebm.mapping.search.known import Known
from ffebm.mapping.solver.choice import Choice, choose, choose_beside, choose_streamed
from ffebm.mapping.solver.problem import Limits
from ffebm.mapping.whole import WholeChoice
from ffebm.plan.mapping import Objective

CLOSE_SHARES = (1.0, 0.985, 0.97)
"""Shares of the tiles, with parts of tiles as such; behind the first one where the work on tiles counts."""
SHARES = (1.0, 0.93, 0.86, 0.78, 0.7, 0.5)
"""Shares of the tiles that the solver may fill, one after the other until its choice packs."""
Asked = Callable[[WholeChoice, Limits], tuple[int, ...] | None]
"""The candidate of each item that the solver chooses of a problem within limits; None if it finds none."""


@dataclass(frozen=True)
class Solving:
    """Asks the solver for choices that pack.

    Attributes:
        whole: The problem.
        goal: What is wanted.
        filling: Packs choices.
        known: What was solved.
        little: The effort does not last for the choices of all objectives.
    """

    whole: WholeChoice
    goal: Goal
    filling: Filling
    known: Known
    little: bool = False

    def others(self) -> Iterator[tuple[int, ...]]:
        """No tiles at all; all on the fewest tiles; and what other objectives would have.

        Prices do not know what the schedule does: which blocks share a tile and wait for each other, what
        runs side by side. So the choice for one figure may schedule with more of it than that for another,
        or than one whose layers work side by side, which with little effort stands for those of all others.
        """
        if all(not some.options[0].group for some in self.filling.choosing):
            yield (0,) * len(self.filling.choosing)
        densest = self.filling.densest()
        if self.filling.packs(densest, apart=False):
            yield densest
        if self.goal.objective == "analog":
            return
        yield from self.streamed()
        if not self.little:
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

    def streamed(self) -> list[tuple[int, ...]]:
        """What packs of choices whose layers work side by side."""
        if self.known.streamed is None:
            effort = self.goal.effort
            self.known.streamed = self._fitting(
                Limits(),
                [(self.whole, 1.0), *((self.whole.roomy, share) for share in SHARES)],
                lambda whole, less: choose_streamed(whole.problem, less, effort),
            )
        return self.known.streamed

    def _packing(self, objective: Objective, limits: Limits) -> tuple[Choice, list[tuple[int, ...]]]:
        """The solver's choice; and what packs of it and of others for fewer tiles, the last one at its price.

        Bundles of a block that share a tile wait for each other, which prices do not know and the schedule
        does; so the first choice that packs at all counts too.
        """
        ends: tuple[Choice, Choice] | None = None
        if objective == "edp" and limits == Limits():  # which all objectives look at, so nothing more to do
            ends = self.packed("latency", limits)[0], self.packed("energy", limits)[0]
        first: Choice | None = None

        def asked(whole: WholeChoice, less: Limits) -> tuple[int, ...] | None:
            nonlocal first
            if first is not None and objective == "edp":  # its bound is there; a sweep takes several programs
                return choose_beside(whole.problem, less, self.goal.effort, first.figures)
            choice = choose(whole.problem, objective, less, self.goal.effort, ends)
            first = first or choice
            return choice.picked

        closely = [(self.whole, share) for share in CLOSE_SHARES[: 3 if objective == "analog" else 1]]
        # streamed choices pack, and chains of whole layers are no better on fewer tiles
        once = self.little and objective == "latency" and limits == Limits()
        roomy = [] if once else [(self.whole.roomy, share) for share in SHARES]
        found = self._fitting(limits, [*closely, *roomy], asked)
        assert first is not None
        return first, found

    def _fitting(
        self, limits: Limits, tries: Sequence[tuple[WholeChoice, float]], asked: Asked
    ) -> list[tuple[int, ...]]:
        """The first choice that packs at all, and the first that packs with bundles of a block apart.

        Args:
            limits: What a choice may take beside tiles and area.
            tries: Problems, and the share of the tiles that each may fill.
            asked: The solver's choice.
        """
        room = {group.name: float(group.count) for group in self.filling.hardware.analog}
        most = math.inf if self.goal.tiles is None else float(self.goal.tiles)
        found: list[tuple[int, ...]] = []
        for whole, share in tries:
            smaller = {name: tiles * share for name, tiles in room.items()}
            less = replace(limits, tiles=smaller, all_tiles=most * share, area=self.goal.area * share)
            chosen = asked(whole, less)
            if chosen is None:
                break
            picked = self.whole.picked(chosen)
            if not found and self.filling.packs(picked, apart=False):
                found.append(picked)
            if self.filling.packs(picked, apart=True):
                return [*found, picked]
        return [*found, self.filling.fallback()]
