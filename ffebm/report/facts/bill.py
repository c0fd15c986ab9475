"""Bill: where energy, time and conversions of a schedule go, by block and by kind."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Literal

import msgspec

from ffebm.graph.admission import admission_of
from ffebm.graph.energy_block import EnergyBlock
from ffebm.hardware.description import AnalogGroup, Hardware, Relaxation, Transfer
from ffebm.hardware.groups import DigitalGroup, units_among
from ffebm.hardware.silicon import powered
from ffebm.mapping.read_cost import buffer_of
from ffebm.plan.plan import Plan
from ffebm.plan.schedule import Cost, Schedule, Step, StepKind
from ffebm.scheduling.backward import LOSS_OPERATIONS, UPDATE_OPERATIONS
from ffebm.scheduling.memory.pricing import pricing_of


class Constant(msgspec.Struct, frozen=True, kw_only=True):
    """A constant that figures rest on.

    Attributes:
        name: Dotted name.
        value: In its unit.
        unit: SI unit; "1" for none.
        source: Where the value comes from.
        assumption: Nobody measured or derived it for this machine.
    """

    name: str
    value: float
    unit: str
    source: str
    assumption: bool


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What one part of the model or one kind of step takes.

    Attributes:
        name: A block, a digital segment, a kind of step, "loss" or "model inputs".
        block: Id of the energy block, if it is one.
        segment: Id of the digital segment, if it is one.
        steps: Number of steps.
        seconds: Their lengths together; steps of different units run side by side.
        cost: Energy by kind and conversions.
        energy: Joules together.
    """

    name: str
    block: int | None
    segment: int | None
    steps: int
    seconds: float
    cost: Cost
    energy: float


class Bill(msgspec.Struct, frozen=True, kw_only=True):
    """Where energy, time and conversions of a schedule go.

    Attributes:
        parts: By block and digital segment; a transfer counts for what makes its value. Leakage last.
        kinds: By kind of step, and leakage.
        nodes: Seconds and joules of the steps done to digital nodes, by the name of the last one of a step.
    """

    parts: tuple[Row, ...]
    kinds: tuple[Row, ...]
    nodes: dict[str, tuple[float, float]]


def energy_basis(plan: Plan, *schedules: Schedule) -> dict[str, tuple[str, ...]]:
    """Constants that each kind of energy of schedules is computed from: those of groups that take part."""
    hardware = plan.hardware
    taking = _Taking(plan, [step for schedule in schedules for step in schedule.steps])

    def at(kind: str) -> _Taking:
        return taking.only(lambda step: getattr(step.cost, kind) > 0)

    units = {unit for schedule in schedules for unit in schedule.units}
    relaxes = partial(_relaxes, plan, taking.steps)
    leaking = [part for part in powered(hardware, units) if part.used]
    farther = dict.fromkeys(held for schedule in schedules for held in pricing_of(plan, schedule).farther())
    bits = {
        kind: [f"memory.{name}.bit_energy" for of, name in farther if of == kind]
        for kind in ("buffer", "memory")
    }
    return _known(
        hardware,
        {
            "array": (
                *at("array").of_tiles("tile.cell.read_energy"),
                *(name for group in at("array").analog for name in relaxes(group, "energy")),
                *at("array").of_updates("energy"),
            ),
            "dac": at("dac").of_tiles("tile.dac.energy"),
            "adc": at("adc").of_tiles("tile.adc.energy"),
            "adders": _additions(hardware, at("adders").analog),
            "buffer": tuple(dict.fromkeys((*_lines(hardware, at("buffer").analog), *bits["buffer"]))),
            "digital": at("digital").of_units("energy"),
            "memory": tuple(
                dict.fromkeys(
                    (
                        *(
                            f"memory.{hardware.memory_of(group.name).name}.bit_energy"
                            for group in (hardware.host, *taking.digital)
                        ),
                        *bits["memory"],
                    )
                )
            ),
            "network": ("network.bit_energy", *(("network.hops",) if taking.counts_hops else ())),
            "leakage": tuple(
                "network.leakage" if part.kind == "network" else f"{part.kind}.{part.name}.leakage"
                for part in leaking
            ),
        },
    )


def time_basis(plan: Plan, *schedules: Schedule) -> dict[str, tuple[str, ...]]:
    """Constants that the time of each kind of step is computed from: those of groups that take such steps."""
    waits = [wait for schedule in schedules for wait in _waits(plan, schedule)]
    taking = _Taking(plan, [step for step, memory in waits if memory is None])
    far = {(step.kind, memory): f"memory.{memory}.bandwidth" for step, memory in waits if memory is not None}
    bound = {kind for kind, _ in far} - {step.kind for step in taking.steps}

    def at(kind: StepKind) -> _Taking:
        return taking.only(lambda step: step.kind == kind)

    nudges = at("nudged").steps
    free = partial(_phase, plan, [*at("free").steps, *nudges], nudged=False)
    nudged = partial(_phase, plan, nudges, nudged=True)
    own: dict[str, tuple[str, ...]] = {
        "transfer": ("network.latency", "network.bit_rate"),
        "digital": at("digital").of_units("rate"),
        "free": tuple(name for group in at("free").analog for name in free(group)),
        "nudged": tuple(name for group in at("nudged").analog for name in nudged(group)),
        "loss": (*at("loss").of_units("rate"), "schedule.loss_operations"),
        "digital_backward": at("digital_backward").of_units("rate"),
        "contrast": at("contrast").of_units("rate"),
        "update": (
            *at("update").of_updates("time"),
            *at("update").of_units("rate"),
            "schedule.update_operations",
        ),
        "leakage": (),
    }
    basis = {
        kind: (*(() if kind in bound else names), *(name for (of, _), name in far.items() if of == kind))
        for kind, names in own.items()
    }
    return _known(plan.hardware, basis)


def _waits(plan: Plan, schedule: Schedule) -> Iterator[tuple[Step, str | None]]:
    """Steps of a schedule, each with the memory whose bandwidth alone makes its time, if one does."""
    binding = pricing_of(plan, schedule).binding()
    return ((step, binding.get(step.id)) for step in schedule.steps)


def _lines(hardware: Hardware, groups: Sequence[AnalogGroup]) -> Iterator[str]:
    """Constants behind what lines of some groups carry: bits of the memory nearest to the tiles."""
    for group in groups:
        buffer = buffer_of(hardware, group)
        if buffer is not None and group.tile.has_cells:
            yield f"memory.{buffer.name}.bit_energy"


@dataclass(frozen=True)
class _Taking:
    """Steps, and what of a machine takes them.

    Attributes:
        plan: Theirs.
        steps: The steps.
    """

    plan: Plan
    steps: Sequence[Step]

    def only(self, which: Callable[[Step], bool]) -> "_Taking":
        """Some of the steps."""
        return _Taking(self.plan, [step for step in self.steps if which(step)])

    @cached_property
    def analog(self) -> tuple[AnalogGroup, ...]:
        """Groups of tiles that take one of the steps."""
        numbers = self.plan.hardware.tile_numbers
        units = _units(self.steps)
        return tuple(g for g in self.plan.hardware.analog if units_among(units, "tile", numbers(g.name)))

    @cached_property
    def digital(self) -> tuple[DigitalGroup, ...]:
        """Groups of digital units that take one of the steps."""
        numbers = self.plan.hardware.unit_numbers
        units = _units(self.steps)
        return tuple(g for g in self.plan.hardware.digital if units_among(units, "digital", numbers(g.name)))

    @property
    def counts_hops(self) -> bool:
        """Ways are mean ones: on a bus, and those of what crosses inside a block."""
        inside = any(step.cost.network and step.kind != "transfer" for step in self.steps)
        return inside or self.plan.hardware.network.topology == "bus"

    def of_tiles(self, *keys: str) -> tuple[str, ...]:
        """Names of constants of their tiles."""
        return tuple(f"analog.{group.name}.{key}" for group in self.analog for key in keys)

    def of_units(self, what: Literal["energy", "rate"]) -> tuple[str, ...]:
        """Names of constants of their digital units, in the type that they compute in.

        Contrasts and nodes that multiply have products. What tiles leave to be computed, the host does: that
        is energy, in the time of the tiles.
        """
        nodes = {node.name for node in self.plan.nodes if node.macs}
        contrasts = self.only(lambda step: step.kind == "contrast")
        rest = self.only(lambda step: step.kind != "contrast")
        runs = rest.only(lambda step: step.kind in {"digital", "digital_backward"})
        products = runs.only(lambda step: not nodes.isdisjoint(step.nodes))
        beside = what == "energy" and any(not _Taking(self.plan, [step]).digital for step in self.steps)
        names = []
        for group in self.plan.hardware.digital:
            if group in contrasts.digital or group in products.digital:
                names.append(f"digital.{group.name}.fp32.mac_{what}")
            if group in rest.digital or (beside and group is self.plan.hardware.host):
                names.append(f"digital.{group.name}.fp32.op_{what}")
        return tuple(names)

    def of_updates(self, what: Literal["energy", "time"]) -> tuple[str, ...]:
        """Constants behind an update of cells."""
        return tuple(name for group in self.analog for name in _update_of(group, what))


def _units(steps: Sequence[Step]) -> frozenset[str]:
    return frozenset(unit for step in steps for unit in step.units)


def _relaxes(
    plan: Plan, steps: Sequence[Step], group: AnalogGroup, what: Literal["energy", "time"]
) -> tuple[str, ...]:
    """Constants behind phases of a group's blocks that settle by themselves, simulated or not."""
    if group.relaxation is None:
        return ()
    blocks = [block for block in plan.blocks if block.group == group.name]
    keys = ["relaxation.time_constant", *(["relaxation.voltage"] if what == "energy" else [])]
    if what == "energy":
        keys += _supplies(group.relaxation, blocks)
    if any(block.relaxed is None for block in blocks):
        keys += ["relaxation.time_constants", *(["relaxation.conductance"] if what == "energy" else [])]
    simulated = {block.physics for block in blocks if block.relaxed is not None}
    if "deep-resistive" in simulated:
        keys += ["relaxation.conductance"]  # and the time constant: the capacitance of a node
    if simulated - {"deep-resistive"}:
        keys += ["relaxation.amplifier.gain_bandwidth"]
    if simulated:
        keys += ["tile.cell.g_min", "tile.cell.g_max", "tile.update.range"]
        keys += [f"relaxation.{key}" for key in _accuracies(group.relaxation, steps)]
    return tuple(f"analog.{group.name}.{key}" for key in dict.fromkeys(keys))


def _supplies(relaxation: Relaxation, blocks: Sequence[EnergyBlock]) -> Iterator[str]:
    """Powers of neurons and of amplifiers at virtual grounds."""
    if relaxation.neuron is not None:
        yield "relaxation.neuron"
    grounded = any(admission_of(block.physics).cells_a_weight > 1 for block in blocks)
    if grounded and relaxation.amplifier is not None and relaxation.amplifier.power is not None:
        yield "relaxation.amplifier.power"


def _accuracies(relaxation: Relaxation, steps: Sequence[Step]) -> tuple[str, ...]:
    """What says how long phases last that are simulated: of a free one both, where nudged ones follow."""
    if relaxation.response is None:
        return ("accuracy",)
    kinds = {step.kind for step in steps}
    return tuple(key for key, kind in (("accuracy", "free"), ("response", "nudged")) if kind in kinds)


def _reads(group: AnalogGroup) -> tuple[str, ...]:
    """Constants behind the time of a read, in the order in which it happens."""
    return tuple(f"analog.{group.name}.tile.{key}" for key in ("dac.time", "read_time", "adc.time"))


def _phase(plan: Plan, steps: Sequence[Step], group: AnalogGroup, *, nudged: bool) -> tuple[str, ...]:
    """Constants behind the time of a phase: of reads, or of a relaxation and what is read beside it."""
    reads = _reads(group)
    if group.relaxation is None:
        return reads if group.core is None else (*reads, f"analog.{group.name}.core.issue")
    relaxes = _relaxes(plan, steps, group, "time")
    return (*reads, *relaxes) if nudged else (reads[0], *relaxes, reads[2])


def schedule_basis(schedule: Schedule, plan: Plan) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Constants that the time and the energy of a whole schedule are computed from."""
    behind = time_basis(plan, schedule)
    kinds = dict.fromkeys(step.kind for step in schedule.steps)
    times = dict.fromkeys(name for kind in kinds for name in behind[kind])
    energies = energy_basis(plan, schedule)
    spent = [names for kind, names in energies.items() if getattr(schedule.cost, kind)]
    if schedule.leakage:
        spent.append(tuple(times))  # units leak as long as the schedule takes
    return tuple(times), tuple(dict.fromkeys(name for names in spent for name in names))


def _additions(hardware: Hardware, groups: Sequence[AnalogGroup]) -> tuple[str, ...]:
    """Constants behind an addition beside the converters of some groups."""
    names = []
    for group in groups:
        if group.tile.has_cells and group.tile.crossbar().adder is None:
            names.append(f"digital.{hardware.host.name}.fp32.op_energy")
        elif group.tile.has_cells:
            names.append(f"analog.{group.name}.tile.adder")
    return tuple(dict.fromkeys(names))


def _update_of(group: AnalogGroup, what: Literal["energy", "time"]) -> tuple[str, ...]:
    """Constants behind an update of cells: pulses in place, or writes, verified ones too."""
    tile, prefix = group.tile, f"analog.{group.name}.tile"
    if tile.update is not None:
        # a transfer reads the array that learns, line by line; what its reads take in energy stands by itself
        reads = _reads(group) if what == "time" and isinstance(tile.update.remedy, Transfer) else ()
        return (f"{prefix}.update.{what}", *reads)
    if tile.verify is not None and what == "energy":
        verify = ("cell.write_energy", "cell.verify.tolerance", "cell.programming_noise")
        return tuple(f"{prefix}.{key}" for key in verify)
    return (f"{prefix}.cell.write_energy" if what == "energy" else f"{prefix}.write_time",)


def _known(hardware: Hardware, basis: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Those constants that a machine has: an exact tile has no converters."""
    names = {constant.name for constant in constants(hardware)}
    return {kind: tuple(name for name in wanted if name in names) for kind, wanted in basis.items()}


def constants(hardware: Hardware) -> tuple[Constant, ...]:
    """Every constant of a machine, then those of the schedule."""
    of_machine = tuple(
        Constant(
            name=name,
            value=q.value,
            unit=str(getattr(q, "unit", "1")),
            source=q.source,
            assumption=q.assumption,
        )
        for name, q in hardware.quantities()
    )
    loss = "operations an output element for a loss and its derivative, as softmax with cross-entropy"
    step = "operations a weight for an optimiser's step, as plain gradient descent"
    return (
        *of_machine,
        Constant(
            name="schedule.loss_operations", value=LOSS_OPERATIONS, unit="1", source=loss, assumption=True
        ),
        Constant(
            name="schedule.update_operations", value=UPDATE_OPERATIONS, unit="1", source=step, assumption=True
        ),
    )


def bill(plan: Plan, schedule: Schedule) -> Bill:
    """Sort a schedule's steps by what they are done for."""
    owners = _Owners(plan)
    parts: dict[tuple[str, int], list[Step]] = {}
    kinds: dict[str, list[Step]] = {}
    nodes: dict[str, tuple[float, float]] = {}
    for step in schedule.steps:
        parts.setdefault(owners.of(step), []).append(step)
        kinds.setdefault(step.kind, []).append(step)
        if step.kind in {"digital", "digital_backward", "update"} and step.block is None:
            seconds, joules = nodes.get(step.name, (0.0, 0.0))
            nodes[step.name] = (seconds + step.end_s - step.start_s, joules + step.cost.energy)
    leaks = (_leakage(schedule),) if schedule.leakage else ()
    return Bill(
        parts=(*(_row(kind, number, parts[kind, number]) for kind, number in _sorted(parts)), *leaks),
        kinds=(*(_row(kind, -1, steps) for kind, steps in kinds.items()), *leaks),
        nodes=nodes,
    )


def _leakage(schedule: Schedule) -> Row:
    """What no step is to blame for."""
    cost = Cost(leakage=schedule.leakage)
    return Row(
        name="leakage", block=None, segment=None, steps=0, seconds=0.0, cost=cost, energy=schedule.leakage
    )


def _sorted(parts: Iterable[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    order = ("inputs", "block", "segment", "loss")
    yield from sorted(parts, key=lambda part: (order.index(part[0]), part[1]))


class _Owners:
    """Finds the block or segment that a step works for."""

    def __init__(self, plan: Plan) -> None:
        self.nodes = {node.name: ("segment", node.segment) for node in plan.nodes if node.segment is not None}
        self.makers: dict[str, tuple[str, int]] = {}
        for node in plan.nodes:
            owner = ("block", node.block) if node.block is not None else self.nodes[node.name]
            self.makers.update((value, owner) for value in node.outputs if value)

    def of(self, step: Step) -> tuple[str, int]:
        """Kind and number of the part that a step works for."""
        if step.block is not None:
            return ("block", step.block)
        if step.kind == "loss":
            return ("loss", -1)
        if step.kind == "transfer":
            return self.makers.get(step.name, ("inputs", -1))
        return self.nodes[step.name]


def _row(kind: str, number: int, steps: list[Step]) -> Row:
    total = Cost()
    for step in steps:
        total += step.cost
    names = {"inputs": "model inputs", "block": f"block{number}", "segment": f"segment{number}"}
    return Row(
        name=names.get(kind, kind),
        block=number if kind == "block" else None,
        segment=number if kind == "segment" else None,
        steps=len(steps),
        seconds=sum(step.end_s - step.start_s for step in steps),
        cost=total,
        energy=total.energy,
    )
