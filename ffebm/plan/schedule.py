"""A schedule: steps with times, energies and conversions."""

import math
from collections.abc import Iterable
from typing import Literal

import msgspec
from msgspec import structs

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
        return Cost(
            array=self.array + other.array,
            dac=self.dac + other.dac,
            adc=self.adc + other.adc,
            adders=self.adders + other.adders,
            buffer=self.buffer + other.buffer,
            digital=self.digital + other.digital,
            memory=self.memory + other.memory,
            network=self.network + other.network,
            leakage=self.leakage + other.leakage,
            dac_count=self.dac_count + other.dac_count,
            adc_count=self.adc_count + other.adc_count,
        )

    def times(self, factor: int) -> "Cost":
        """The same thing done several times."""
        return Cost(**{f: getattr(self, f) * factor for f in self.__struct_fields__})


StepKind = Literal["transfer", "digital", "free", "nudged", "loss", "digital_backward", "contrast", "update"]
"""`nudged` is one of the two nudged phases; `contrast` makes weight gradients from the nudged states."""


def one_after_the_other(bands: Iterable[tuple[float, float]]) -> float:
    """Seconds from the start of a layer's first band to its end, each starting when its units are free.

    Args:
        bands: For how many seconds each occupies its units, and how many later it ends.
    """
    left = ended = 0.0
    for busy, lag in bands:
        left += busy
        ended = max(ended, left + lag)
    return ended


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
        rows: The band [a, b) of output rows that it makes or moves; None: all of them.
        sample: Which of several samples in flight it works for, from 0.
        fused: Digital nodes that it does before the one that it names, rows for rows, in order.
        begun: Row behind the last one of which it makes a part, where reads go beyond its own rows; else 0.
        freed_s: When its units are free for others, seconds, where that is before it ends; else None. A core
            starts products for another step while the last ones of this one are read.
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
    rows: tuple[int, int] | None = None
    sample: int = 0
    fused: tuple[str, ...] = ()
    begun: int = 0
    freed_s: float | None = None

    @property
    def seconds(self) -> float:
        """How long it takes."""
        return self.end_s - self.start_s

    @property
    def free_s(self) -> float:
        """When its units are free for others, seconds."""
        return self.end_s if self.freed_s is None else self.freed_s

    @property
    def lag(self) -> float:
        """Seconds at its end in which its units are free already, while what it makes is not there yet."""
        return self.end_s - self.free_s

    @property
    def nodes(self) -> tuple[str, ...]:
        """What it is done to: the digital nodes that it does, or its name alone."""
        return (*self.fused, self.name)


def in_turns(unit: str) -> str:
    """Units that tasks take turns on, as each two of them share one, though none does all of them.

    Args:
        unit: One of them.
    """
    return f"{unit} and units that share its tasks"


class Schedule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Steps with their times.

    Attributes:
        steps: In order of their start.
        makespan_s: When the last step ends, seconds.
        critical_path_s: Longest chain of steps that wait for each other, seconds.
        busiest_unit: The unit with the most to do.
        busiest_s: How long it is busy, seconds.
        lower_bound_s: The strongest lower bound of the makespan that is known, seconds.
        lower_bound: What that bound is, in words.
        interval_s: At which samples can follow each other, seconds; the makespan if each waits for the last.
        interval_unit: The unit that limits it.
        interval_turns: Where steps limit it of which each two share a unit, though no unit does all, what
            they are done to; `interval_unit` is one of those that they share then.
        leakage: What powered units take over the makespan beside their steps, joules.
    """

    steps: tuple[Step, ...]
    makespan_s: float
    critical_path_s: float
    busiest_unit: str
    busiest_s: float
    lower_bound_s: float
    lower_bound: str
    interval_s: float
    interval_unit: str
    interval_turns: tuple[str, ...] = ()
    leakage: float = 0.0

    @property
    def units(self) -> frozenset[str]:
        """Units that do something, which are powered."""
        return frozenset(unit for step in self.steps for unit in step.units)

    @property
    def runs(self) -> tuple[Step, ...]:
        """The free phases and digital nodes in the order in which they are done: of bands the last one.

        A step of several nodes stands for each of them.
        """
        forward = [step for step in self.steps if step.kind in {"free", "digital"} and not step.sample]
        last = {(step.kind, step.name, step.block): step.id for step in forward}
        ending = [step for step in forward if last[step.kind, step.name, step.block] == step.id]
        return tuple(
            structs.replace(step, name=name, fused=()) if step.fused else step
            for step in ending
            for name in step.nodes
        )

    @property
    def interval_limit(self) -> str:
        """What limits how fast samples can follow each other, in words."""
        return in_turns(self.interval_unit) if self.interval_turns else self.interval_unit

    @property
    def ratio(self) -> float:
        """Makespan over its lower bound; 1 is optimal."""
        return self.makespan_s / self.lower_bound_s if self.lower_bound_s else 1.0

    @property
    def cost(self) -> Cost:
        """All steps together, and the leakage."""
        total = Cost(leakage=self.leakage)
        for step in self.steps:
            total += step.cost
        return total
