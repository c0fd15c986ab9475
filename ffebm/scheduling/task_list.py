"""Tasks as they come: what a step costs, on which units, after which others."""

from collections.abc import Sequence
from dataclasses import dataclass

from msgspec import structs

from ffebm.graph.energy_block import EnergyBlock
from ffebm.graph.graph import Graph
from ffebm.graph.work import elements, rows
from ffebm.hardware.description import DigitalGroup, Hardware
from ffebm.hardware.groups import DataType
from ffebm.hardware.routes import Routes
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
        unit: The unit.
        work: All of it.
        cost: Of all of it.
        held: Joules of it that a larger batch leaves as they are.
        fused: Nodes that are done before the one that a task names.
        shares: Part of the time that each of them takes, and the named one, which is last.
    """

    unit: str
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
            (self.unit,),
            seconds,
            after,
            cost,
            fixed_j=held,
            rows=rows,
            work=self.work,
            fused=self.fused,
            shares=self.shares,
        )


Seat = EnergyBlock | str | None
"""Where a value lies: on a block's tiles, with a group of digital units by name, or wherever it is read."""


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
        self._ways: dict[tuple[int | str | None, ...], tuple[tuple[str, ...], float]] = {}
        self._elements: dict[str, int] = {}
        self._carrying: dict[tuple[float, int | str | None, int | str | None], PhaseCost] = {}

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
        source, target = (
            self.costs[end.id].tiles[0] if isinstance(end, EnergyBlock) else end for end in ends
        )
        if (source, target) not in self._ways:
            self._ways[source, target] = self._routes.way(source, target)
        units, hops = self._ways[source, target]
        latency = self._routes.latency(hops)
        alike = count, source, target  # as most bands of a value are
        if alike not in self._carrying:
            groups = [end or self.hardware.host.name for end in ends if not isinstance(end, EnergyBlock)]
            self._carrying[alike] = transfer_cost(self.hardware, count, self.dtype, (latency, hops), groups)
        cost = self._carrying[alike]
        task = Task("transfer", name, units, cost.seconds, after, cost.cost, fixed_s=latency, rows=rows)
        return self.append(task, block)

    def compute(
        self,
        kind: StepKind,
        name: str,
        after: tuple[int, ...],
        work: DigitalWork,
        block: EnergyBlock | None = None,
        group: DigitalGroup | None = None,
    ) -> int:
        """Some work on a group's least loaded unit; what belongs to no node is the host's."""
        run = self.digital_run(work, group or self.hardware.host)
        return self.append(run.task(kind, name, after), block)

    def digital_run(self, work: DigitalWork, group: DigitalGroup) -> "DigitalRun":
        """Some work on the unit of a group that has least to do."""
        found = digital_cost(self.hardware, group, work, self.dtype)
        unit = min(self.hardware.unit_numbers(group.name), key=lambda index: (self._load[index], index))
        self._load[unit] += found.seconds
        held = work.held * element_joules(self.hardware, group, self.dtype)
        return DigitalRun(f"digital{unit}", work, found, held)

    def tiles(self, block: EnergyBlock) -> tuple[str, ...]:
        """What a block keeps busy."""
        return self.units(self.costs[block.id].tiles)

    def units(self, tiles: tuple[int, ...]) -> tuple[str, ...]:
        """Tiles, and the cores whose port and adders they take, if they lie in some."""
        cores = {self.hardware.core_of_tile(number) for number in tiles} - {None}
        names = [f"core{number}" for number in sorted(number for number in cores if number is not None)]
        return (*names, *(f"tile{number}" for number in tiles))
