"""What searches find out about mappings once, whatever is to be small."""

from dataclasses import dataclass, field

from ffebm.mapping.packing import Box
from ffebm.mapping.search.goal import Measured
from ffebm.mapping.solver.choice import Choice
from ffebm.mapping.whole import WholeChoice
from ffebm.plan.mapping import Objective


@dataclass
class Known:
    """What searches that differ in their objective alone find out once.

    All else is the same: the graph, the machine, what each block could be, and what a goal has beside its
    objective.

    Attributes:
        whole: The problem of the solver.
        boxes: Of options, by place and number.
        packed: Whether mappings pack, each with the blocks' bundles apart or not.
        solved: The solver's choice for an objective without limits, and what packs.
        streamed: What packs of choices whose layers work side by side; None if nobody has asked.
        measured: What was scheduled.
        above: What mappings have more of than that, by a bound, by objective.
    """

    whole: WholeChoice | None = None
    boxes: dict[tuple[int, int], dict[str, list[Box]]] = field(default_factory=dict)
    packed: dict[tuple[tuple[int, ...], bool], bool] = field(default_factory=dict)
    solved: dict[Objective, tuple[Choice, list[tuple[int, ...]]]] = field(default_factory=dict)
    streamed: list[tuple[int, ...]] | None = None
    measured: dict[tuple[int, ...], Measured] = field(default_factory=dict)
    above: dict[tuple[Objective, tuple[int, ...]], float] = field(default_factory=dict)
