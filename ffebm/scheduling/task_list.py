"""Tasks as they come: what a step costs, on which units, after which others."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from msgspec import structs

from ffebm.graph.energy_block import EnergyBlock
from ffebm.graph.graph import Graph
from ffebm.graph.work import elements, rows
from ffebm.hardware.description import DigitalGroup, Hardware
from ffebm.hardware.groups import DataType
from ffebm.hardware.routes import End, Route, Routes
from ffebm.mapping.block_cost import BlockCost, PhaseCost
from ffebm.mapping.digital_cost import DigitalWork, digital_cost, element_joules, transfer_cost
from ffebm.plan.memory.held import Rows
from ffebm.plan.schedule import Cost, StepKind
from ffebm.plan.schema import Settle
from ffebm.scheduling.list_schedule import Task


def batch_of(graph: Graph) -> int:
    """Samples of one run: the first size of the first input; 1 if it is open or 0."""
    shape = graph.shape(graph.inputs[0]) if graph.inputs else None
    return max(1, shape[0]) if shape and isinstance(shape[0], int) else 1


@dataclass(frozen=True)
class DigitalRun:
    """Work on a digital unit, all of it or in bands.

    Attributes:
        units: The unit, or all over which it is shared out.
        work: All of it.
        cost: Of all of it.
        held: Joules of it that a larger batch leaves as they are.
        fused: Nodes that are done before the one that a task names.
        shares: Part of the time that each of them takes, and the named one, which is last.
    """

    units: tuple[str, ...]
    work: DigitalWork
    cost: PhaseCost
    held: float
    fused: tuple[str, ...] = ()
    shares: tuple[float, ...] = (1.0,)

    def task(
        self, kind: StepKind, name: str, after: tuple[int, ...], rows: Rows | None = None, share: float = 1.0
    ) -> Task:
        """A share of the work."""
        cost = self.cost.cost
        if rows is not None:
            cost = Cost(digital=share * cost.digital, memory=share * cost.memory)
        seconds, held = share * self.cost.seconds, share * self.held
        return Task(
            kind,
            name,
            self.units,
            seconds,
            after,
            cost,
            fixed_j=held,
            rows=rows,
            work=self.work,
            fused=self.fused,
            shares=self.shares,
        )


@dataclass(frozen=True)
class CoreUnits:
    """The digital units of some cores: the same for all blocks that lie in these.

    Attributes:
        group: Theirs, by name.
        cores: Numbers of the cores, ascending.
        tiles: One of each core.
    """

    group: str
    cores: tuple[int, ...]
    tiles: tuple[int, ...] = field(compare=False)

    @cached_property
    def name(self) -> str:
        """What they are called."""
        return f"digital {self.group} in cores {', '.join(map(str, self.cores))}"


Seat = EnergyBlock | CoreUnits | str | None
"""Where a value lies: on a block's tiles, with digital units of some cores, with a group of digital units by
name, or wherever it is read."""


def apart(one: Seat, other: Seat) -> bool:
    """What is read at the one and lies at the other goes over the network."""
    if isinstance(one, EnergyBlock) or isinstance(other, EnergyBlock):
        return one is not other
    return one is not None and other is not None and one != other


def repriced(tasks: Sequence[Task], hardware: Hardware, group: DigitalGroup, dtype: DataType) -> list[Task]:
    """Tasks of one unit, none of them in bands, at the price of another data type.

    Args:
        tasks: Work on a digital unit alone.
        hardware: The machine.
        group: The unit's group.
        dtype: The type.
    """
    found = []
    for task in tasks:
        assert task.work is not None
        cost = digital_cost(hardware, group, task.work, dtype)
        update = task.kind == "update"  # once, whatever the batch
        held = cost.cost.energy if update else task.work.held * element_joules(hardware, group, dtype)
        fixed = cost.seconds if update else task.fixed_s
        found.append(structs.replace(task, seconds=cost.seconds, cost=cost.cost, fixed_s=fixed, fixed_j=held))
    return found


def _is_block(seat: Seat) -> bool:
    return isinstance(seat, EnergyBlock)


def _group(seat: Seat) -> str | None:
    """The digital units where a value lies."""
    return seat.group if isinstance(seat, CoreUnits) else seat  # type: ignore[return-value]


class TaskList:
    """Collects tasks of a placed graph.

    Attributes:
        graph: What is scheduled.
        hardware: The machine.
        settle: How energy blocks settle.
        dtype: In which digital units compute.
        batch: Samples of one run.
        tasks: So far; each waits for earlier ones only.
        costs: Of the blocks, by their ids.
    """

    def __init__(self, graph: Graph, hardware: Hardware, settle: Settle, dtype: DataType) -> None:
        self.graph = graph
        self.hardware = hardware
        self.settle = settle
        self.dtype = dtype
        self.batch = batch_of(graph)
        self.tasks: list[Task] = []
        self.costs = {b.id: BlockCost(graph, hardware, b, self._vectors(b)) for b in graph.blocks}
        self._load = [0.0] * hardware.unit_count
        self._routes = Routes(hardware)
        self._ways: dict[tuple[End, End], Route] = {}
        self._cores: dict[int, dict[int, int]] = {}
        self._elements: dict[str, int] = {}
        self._carrying: dict[tuple[float, End, End, tuple[str, ...]], PhaseCost] = {}

    def _vectors(self, block: EnergyBlock) -> int:
        """Samples that settle in a block: its rows, where batch and sequence are one axis."""
        return self.batch * rows(self.graph, block.outputs[0], self.batch)

    def elements(self, value: str) -> int:
        """How many elements a value has."""
        if value not in self._elements:
            self._elements[value] = elements(self.graph, value)
        return self._elements[value]

    def append(self, task: Task, block: EnergyBlock | None = None) -> int:
        """Add a task, which may work for a block; returns its position."""
        update = task.kind == "update"  # once, whatever the batch
        self.tasks.append(
            structs.replace(
                task,
                after=tuple(sorted({*task.after} - {-1})),
                block=None if block is None else block.id,
                fixed_s=task.seconds if update else task.fixed_s,
                fixed_j=task.cost.energy if update else task.fixed_j,
            )
        )
        return len(self.tasks) - 1

    def transfer(
        self,
        name: str,
        after: tuple[int, ...],
        ends: tuple[Seat, Seat],
        moved: float | None = None,
        block: EnergyBlock | None = None,
        rows: Rows | None = None,
    ) -> int:
        """Carry a value over the network.

        Args:
            name: The value, or what its elements are of.
            after: Tasks that it waits for.
            ends: Where it comes from and where it goes; an end that is nowhere is the host.
            moved: Elements; None: all of the value.
            block: The block that it works for.
            rows: Of the value.
        """
        count = self.elements(name) if moved is None else moved
        source, target = (self._end(end) for end in ends)
        if (source, target) not in self._ways:
            self._ways[source, target] = self._routes.way(source, target)
        way = self._ways[source, target]
        latency = self._routes.latency(way.longest)
        groups = tuple(_group(end) or self.hardware.host.name for end in ends if not _is_block(end))
        alike = count, source, target, groups  # as most bands of a value are
        if alike not in self._carrying:
            self._carrying[alike] = transfer_cost(
                self.hardware, count, self.dtype, (latency, way.hops), groups, way.lanes
            )
        cost = self._carrying[alike]
        task = Task("transfer", name, way.units, cost.seconds, after, cost.cost, fixed_s=latency, rows=rows)
        return self.append(task, block)

    def _end(self, seat: Seat) -> End:
        """Where a value comes from or goes to: the first tile of a block, or one of each of its cores."""
        if seat is None or isinstance(seat, str):
            return seat
        if isinstance(seat, CoreUnits):
            return seat.tiles
        if not self.hardware.has_units_in_cores:
            return self.costs[seat.id].tiles[0]
        return tuple(self.cores(seat.id).values()) or self.costs[seat.id].tiles[0]

    def cores(self, block: int) -> dict[int, int]:
        """The first tile of a block in each of its cores, by core; of a block outside of cores none."""
        if block not in self._cores:
            found: dict[int, int] = {}
            for tile in self.costs[block].tiles:
                core = self.hardware.core_of_tile(tile)
                if core is not None:
                    found.setdefault(core, tile)
            self._cores[block] = dict(sorted(found.items()))
        return self._cores[block]

    def compute(
        self,
        kind: StepKind,
        name: str,
        after: tuple[int, ...],
        work: DigitalWork,
        block: EnergyBlock | None = None,
        group: DigitalGroup | None = None,
    ) -> int:
        """Some work of a group; what belongs to no node is the host's."""
        run = self.digital_run(work, group or self.hardware.host)
        return self.append(run.task(kind, name, after), block)

    def digital_run(self, work: DigitalWork, group: DigitalGroup, seat: Seat = None) -> "DigitalRun":
        """Some work on the unit of a group that has least to do, or shared out over those in cores."""
        units = self.units_in_cores(group, seat)
        found = digital_cost(self.hardware, group, work, self.dtype, len(units) or 1)
        if not units:
            numbers = self.hardware.unit_numbers(group.name)
            units = (min(numbers, key=lambda index: (self._load[index], index)),)
            self._load[units[0]] += found.seconds
        held = work.held * element_joules(self.hardware, group, self.dtype)
        return DigitalRun(tuple(f"digital{unit}" for unit in units), work, found, held)

    def units_in_cores(self, group: DigitalGroup, seat: Seat) -> tuple[int, ...]:
        """The units over which work of a group is shared out at a seat; none if it is not."""
        if group.place != "core":
            return ()
        numbers = self.hardware.unit_numbers(group.name)
        return tuple(numbers[core] for core in seat.cores) if isinstance(seat, CoreUnits) else tuple(numbers)

    def tiles(self, block: EnergyBlock) -> tuple[str, ...]:
        """What a block keeps busy."""
        return self.units(self.costs[block.id].tiles)

    def alone(self, block: EnergyBlock) -> bool:
        """Whether no other block has a part on a tile of a block."""
        return not self._shared.intersection(self.costs[block.id].tiles)

    @cached_property
    def _shared(self) -> frozenset[int]:
        """Tiles that hold parts of several blocks."""
        blocks = Counter(tile for cost in self.costs.values() for tile in cost.tiles)
        return frozenset(tile for tile, count in blocks.items() if count > 1)

    def units(self, tiles: tuple[int, ...]) -> tuple[str, ...]:
        """Tiles, and the cores whose port and adders they take, if they lie in some."""
        cores = {self.hardware.core_of_tile(number) for number in tiles} - {None}
        names = [f"core{number}" for number in sorted(number for number in cores if number is not None)]
        return (*names, *(f"tile{number}" for number in tiles))
