"""What a mapping is to be like, and what one inference of it takes."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import get_args

from ffebm.mapping.options import Option
from ffebm.mapping.solver.problem import Figures
from ffebm.plan.mapping import Objective

OBJECTIVES: tuple[Objective, ...] = get_args(Objective)
"""What a mapping may make small."""
BY_PRICE: tuple[Objective, ...] = tuple(one for one in OBJECTIVES if one != "analog")
"""Those that make a figure small, whatever lies on tiles."""
FOR_TIME: tuple[Objective, ...] = ("analog", "latency")
"""Objectives for which the least time counts."""
SLACK = 1e-9
"""Rounding of sums, as a share."""


@dataclass(frozen=True)
class Goal:
    """What a mapping is to be like.

    Attributes:
        objective: What is to be small; "analog" has the most work on tiles, then the least latency.
        tiles: Most tiles in use.
        seconds: Most latency of one inference.
        joules: Most energy of one inference.
        area: Most area of the tiles in use, mm2.
        slowdown: A block that is more than so many times slower on tiles is digital.
        effort: Most nodes of each search of the solver; and most schedules that are tried.
        replicas: Most copies of a weight.
        runs: Inferences in flight of which time and energy are to be small together; limits are of one.
    """

    objective: Objective = "analog"
    tiles: int | None = None
    seconds: float = math.inf
    joules: float = math.inf
    area: float = math.inf
    slowdown: float = math.inf
    effort: int = 1000
    replicas: float = math.inf
    runs: int = 1

    @property
    def limited(self) -> bool:
        """Latency, energy or area has a limit."""
        return min(self.seconds, self.joules, self.area) < math.inf

    def value(self, measured: "Measured") -> float:
        """What is to be small: s, J or J s."""
        return value_of(self.objective, measured.together(self.runs))


@dataclass(frozen=True)
class Measured:
    """One inference as it is scheduled.

    Attributes:
        seconds: When it ends.
        joules: Its energy.
        interval: What a further one in flight adds at least: what the busiest unit has to do, or tasks of
            which each two share a unit, seconds.
        area: Of the tiles in use, each of them whole, mm2.
        leakage: Its power while it lasts, W; in its energy.
    """

    seconds: float
    joules: float
    interval: float
    area: float = 0.0
    leakage: float = 0.0

    def together(self, runs: int) -> "Measured":
        """Several inferences in flight: each further one adds the interval to the time.

        Shared tiles may make it more: docs/scheduling.md.
        """
        if runs == 1:
            return self
        seconds = self.seconds + (runs - 1) * self.interval
        dynamic = runs * (self.joules - self.leakage * self.seconds)
        return replace(self, seconds=seconds, joules=dynamic + self.leakage * seconds)


@dataclass(frozen=True)
class AtMost:
    """How much of what an objective makes small a mapping may take.

    Attributes:
        objective: What is to be small.
        value: Its figure, s, J or J s.
        doubtful: By its prices it takes more.
        runs: Inferences in flight that take it together.
    """

    objective: Objective
    value: float = math.inf
    doubtful: bool = False
    runs: int = 1


UNBOUNDED = AtMost("latency")
"""As much as it takes."""
Measure = Callable[[Sequence[Option], AtMost], Measured | None]
"""Places a mapping and schedules one inference of it; None if a bound says that it takes more than it may."""


def value_of(objective: Objective, measured: Measured | Figures) -> float:
    """What an objective makes small, as scheduled or as prices add up: s, J or J s."""
    return {
        "analog": measured.seconds,
        "latency": measured.seconds,
        "throughput": measured.interval,
        "energy": measured.joules,
        "edp": measured.joules * measured.seconds,
    }[objective]
