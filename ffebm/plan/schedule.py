"""A schedule: steps with times, energies and conversions."""

import math
from collections.abc import Collection, Iterator
from typing import Literal

import msgspec

ENERGY_KINDS = ("array", "dac", "adc", "adders", "buffer", "digital", "memory", "network", "leakage")
"""Fields of a cost that are joules."""


class Cost(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Energy by kind in joules, and conversions.

    Attributes:
        array: Cells read or written.
        dac: Digital-to-analog conversions.
        adc: Analog-to-digital conversions.
        adders: Additions beside the converters: digits, slices of inputs, partial sums of cut matrices.
        buffer: Bits read and written in buffers beside the tiles.
        digital: Arithmetic of digital units.
        memory: Bits read and written beside these.
        network: Bits moved between units.
        leakage: What powered units take, whatever they do.
        dac_count: Digital-to-analog conversions, a number.
        adc_count: Analog-to-digital conversions, a number.
    """

    array: float = 0.0
    dac: float = 0.0
    adc: float = 0.0
    adders: float = 0.0
    buffer: float = 0.0
    digital: float = 0.0
    memory: float = 0.0
    network: float = 0.0
    leakage: float = 0.0
    dac_count: int = 0
    adc_count: int = 0

    @property
    def energy(self) -> float:
        """All kinds together, joules."""
        return math.fsum(getattr(self, kind) for kind in ENERGY_KINDS)

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(**{f: getattr(self, f) + getattr(other, f) for f in self.__struct_fields__})

    def times(self, factor: int) -> "Cost":
        """The same thing done several times."""
        return Cost(**{f: getattr(self, f) * factor for f in self.__struct_fields__})


StepKind = Literal["transfer", "digital", "free", "nudged", "loss", "digital_backward", "contrast", "update"]
"""`nudged` is one of the two nudged phases; `contrast` makes weight gradients from the nudged states."""


class Step(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Something that a unit does without a break.

    Attributes:
        id: Position in the schedule.
        kind: What is done.
        name: The node, block or value that it is done to.
        units: The units that it occupies: "tile<id>", "core<id>", "digital<id>", "network", or
            "network<id>", the port of a router of a mesh.
        start_s: When it starts, seconds.
        end_s: When it ends, seconds.
        after: Ids of the steps that it waits for.
        cost: Energy and conversions.
        block: Id of the energy block that it works for; None if a digital node, the loss or a value alone.
    """

    id: int
    kind: StepKind
    name: str
    units: tuple[str, ...]
    start_s: float
    end_s: float
    after: tuple[int, ...]
    cost: Cost
    block: int | None = None


class Schedule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Steps with their times.

    Attributes:
        steps: In order of their start.
        makespan_s: When the last step ends, seconds.
        critical_path_s: Longest chain of steps that wait for each other, seconds.
        busiest_unit: The unit with the most to do.
        busiest_s: How long it is busy, seconds.
        leakage: What powered units take over the makespan beside their steps, joules.
    """

    steps: tuple[Step, ...]
    makespan_s: float
    critical_path_s: float
    busiest_unit: str
    busiest_s: float
    leakage: float = 0.0

    @property
    def units(self) -> frozenset[str]:
        """Units that do something, which are powered."""
        return frozenset(unit for step in self.steps for unit in step.units)

    @property
    def lower_bound_s(self) -> float:
        """No schedule is shorter: the critical path or the busiest unit."""
        return max(self.critical_path_s, self.busiest_s)

    @property
    def ratio(self) -> float:
        """Makespan over lower bound; 1 is optimal."""
        return self.makespan_s / self.lower_bound_s if self.lower_bound_s else 1.0

    @property
    def cost(self) -> Cost:
        """All steps together, and the leakage."""
        total = Cost(leakage=self.leakage)
        for step in self.steps:
            total += step.cost
        return total


def schedule_problems(schedule: Schedule, units: Collection[str], n_blocks: int) -> Iterator[str]:
    """Contradictions, as text.

    Args:
        schedule: Of a plan.
        units: What the machine has.
        n_blocks: How many energy blocks the plan has.
    """
    yield from number_problems(schedule)
    free: dict[str, float] = {}
    blocks = {None, *range(n_blocks)}
    for position, step in enumerate(schedule.steps):
        if step.id != position or any(not 0 <= before < len(schedule.steps) for before in step.after):
            yield f"step {step.id} stands at position {position}, or waits for an unknown step"
            return
        if not step.start_s <= step.end_s:
            yield f"step {step.id} runs from {step.start_s} s to {step.end_s} s"
        for unit in step.units:
            if unit not in units:
                yield f"step {step.id} runs on unknown unit {unit!r}"
            if free.get(unit, 0.0) > step.start_s:
                yield f"step {step.id} starts before {unit} is free"
            free[unit] = step.end_s
        if step.block not in blocks or (step.block is None and step.kind in {"free", "nudged", "contrast"}):
            yield f"step {step.id} works for block {step.block}, which there is not"
        if any(schedule.steps[before].end_s > step.start_s for before in step.after):
            yield f"step {step.id} starts before a step that it waits for has ended"
    if schedule.makespan_s != max((step.end_s for step in schedule.steps), default=0.0):
        yield f"a schedule takes {schedule.makespan_s} s, which is not when its last step ends"


def number_problems(schedule: Schedule) -> Iterator[str]:
    """Times and costs that are no finite numbers of at least 0, as text."""
    for name in ("makespan_s", "critical_path_s", "busiest_s", "leakage"):
        if not 0 <= getattr(schedule, name) < math.inf:
            yield f"a schedule has a {name} of {getattr(schedule, name)}"
    for step in schedule.steps:
        if not (0 <= step.start_s < math.inf and 0 <= step.end_s < math.inf):
            yield f"step {step.id} ({step.name}) runs from {step.start_s} s to {step.end_s} s"
        for name in step.cost.__struct_fields__:
            if not 0 <= getattr(step.cost, name) < math.inf:
                yield f"step {step.id} ({step.name}) costs {getattr(step.cost, name)} in {name}"
