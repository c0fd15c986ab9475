"""Mappings with their schedules, each of which is made once, and how they compare."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from ffebm.mapping.options import Choosing, Option
from ffebm.mapping.search.goal import FOR_TIME, SLACK, AtMost, Goal, Measure, Measured
from ffebm.mapping.search.known import Schedules
from ffebm.mapping.solver.program import Criterion
from ffebm.plan.mapping import Objective

REJECTED = 0.5
"""Of a schedule, what a mapping costs that a bound rejects: 3.0 of 5.5 ms for graphs of 9 to 13 nodes."""


@dataclass(frozen=True)
class Tried:
    """A mapping.

    Attributes:
        picked: The option that each of the choosing takes.
        measured: Its schedule.
        work: Multiply-accumulates on tiles.
        scattered: Blocks that share tiles are far apart.
    """

    picked: tuple[int, ...]
    measured: Measured
    work: float
    scattered: bool = False


@dataclass
class Trials:
    """Schedules mappings.

    Attributes:
        choosing: What each block could be.
        goal: What is wanted.
        measure: Schedules a mapping.
        known: What other searches have scheduled.
        scattered: Blocks that share tiles are far apart.
        before: Others with the same effort, which schedule earlier.
        seen: Mappings that were scheduled.
        above: What mappings have more of than that, by a bound.
    """

    choosing: tuple[Choosing, ...]
    goal: Goal
    measure: Measure
    known: Schedules
    scattered: bool = False
    before: "tuple[Trials, ...]" = ()
    seen: dict[tuple[int, ...], Tried] = field(default_factory=dict)
    above: dict[tuple[int, ...], float] = field(default_factory=dict)

    def tried(self, picked: tuple[int, ...]) -> Tried:
        """A mapping with its schedule; each is scheduled once."""
        found = self.within(picked, math.inf)
        assert found is not None
        return found

    def within(self, picked: tuple[int, ...], most: float, *, doubtful: bool = False) -> Tried | None:
        """A mapping with its schedule; None if a bound says that it has more of what is to be small.

        Args:
            picked: The option that each of the choosing takes.
            most: Of what is to be small.
            doubtful: By its prices it has more.
        """
        if picked not in self.seen:
            measured = self._measured(picked, AtMost(self.goal.objective, most, doubtful, self.goal.runs))
            if measured is None:
                return None
            self.seen[picked] = Tried(picked, measured, self.work(picked), self.scattered)
        return self.seen[picked]

    def _measured(self, picked: tuple[int, ...], most: AtMost) -> Measured | None:
        """What `measure` says, which is asked again only where what it has said before does not tell."""
        known, objective = self.known, most.objective
        bounded: Objective = "latency" if objective in FOR_TIME else objective
        if most.value <= known.above.get((bounded, picked), 0.0):
            return None
        found = known.measured.get(picked)
        if found is not None and self.goal.value(found) <= most.value * (1 - SLACK):
            return found  # no bound rejects it
        found = self.measure(self.options(picked), most)
        if found is None:
            known.above[bounded, picked] = most.value
        else:
            known.measured[picked] = found
        return found

    def work(self, picked: Sequence[int]) -> float:
        """Multiply-accumulates of a mapping on tiles."""
        return sum(price.work for option in self.options(picked) for price in option.prices)

    def options(self, picked: Sequence[int]) -> tuple[Option, ...]:
        """What each of the choosing takes."""
        return tuple(some.options[n] for some, n in zip(self.choosing, picked, strict=True))

    def key(self, found: Tried) -> tuple[float, float, float, int]:
        """Smaller is better: what is wanted, then fewer tiles, in fewer pieces."""
        work = -found.work if self.goal.objective == "analog" else 0.0
        return work, self.goal.value(found.measured), *self.room(found.picked)

    def room(self, picked: Sequence[int]) -> tuple[float, int]:
        """Area of the tiles that a mapping takes, parts of them counted as such, mm2; and its pieces."""
        options = self.options(picked)
        area = sum(price.area for option in options for price in option.prices)
        return area, sum(option.bundles for option in options)

    def excess(self, found: Tried) -> dict[Criterion, float]:
        """Limits that a mapping exceeds, as times of the limit."""
        goal, measured = self.goal, found.measured
        times: dict[Criterion, float] = {
            "seconds": measured.seconds / goal.seconds,
            "joules": measured.joules / goal.joules,
            "area": measured.area / goal.area,
        }
        return {name: excess for name, excess in times.items() if excess > 1 + SLACK}

    def spent(self) -> float:
        """Schedules that mappings have cost so far, each mapping once."""
        every = (*self.before, self)
        scheduled = set().union(*(trials.seen for trials in every))
        return len(scheduled) + REJECTED * sum(len(trials.above) for trials in every)
