"""What searches find out about mappings once, whatever is to be small."""

from dataclasses import dataclass, field

from ffebm.mapping.packing import Box
from ffebm.mapping.search.goal import Measured
from ffebm.mapping.solver.choice import Choice
from ffebm.mapping.whole import WholeChoice
from ffebm.plan.mapping import Objective


@dataclass
class Schedules:
    """What is known of the schedules of mappings.

    Attributes:
        measured: What was scheduled.
        above: What mappings have more of than that, by a bound, by objective.
    """

    measured: dict[tuple[int, ...], Measured] = field(default_factory=dict)
    above: dict[tuple[Objective, tuple[int, ...]], float] = field(default_factory=dict)


@dataclass
class Known:
    """What searches that differ in their objective alone find out once.

    All else is the same: the graph, the machine, what each block could be, and what a goal has beside its
    objective.

    Attributes:
        whole: The problem of the solver.
        boxes: Of options, by place and number.
        packed: Whether mappings pack, each with the blocks' bundles apart or not.
        busiest: What the busiest tile has to do if blocks that share tiles are far apart, seconds.
        solved: The solver's choice for an objective without limits, and what packs.
        streamed: What packs of choices whose layers work side by side; None if nobody has asked.
        schedules: Of mappings, with neighbours in the graph on the tiles that are shared.
        scattered: The same with blocks on these that are far apart.
    """

    whole: WholeChoice | None = None
    boxes: dict[tuple[int, int], dict[str, list[Box]]] = field(default_factory=dict)
    packed: dict[tuple[tuple[int, ...], bool], bool] = field(default_factory=dict)
    busiest: dict[tuple[int, ...], float] = field(default_factory=dict)
    solved: dict[Objective, tuple[Choice, list[tuple[int, ...]]]] = field(default_factory=dict)
    streamed: list[tuple[int, ...]] | None = None
    schedules: Schedules = field(default_factory=Schedules)
    scattered: Schedules = field(default_factory=Schedules)
