"""Tasks of one inference: each item in bands of rows where it streams, at once where it does not.

A band waits for the band before it and for the bands that it needs of what it reads; the last band waits for
all the rest of it. Values that cross units travel over the network band by band as they are made: between
tiles, digital groups, and both; what leaves the tiles as an output goes to the host. What the bands of an
item take adds up to what it takes at once; only latencies of the network are more, since each band has its
own, and reads where rows leave few replicas idle. Where reads take vectors of the next rows too, a band waits
for what these need.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add

from ffebm.graph.energy_block import EnergyBlock
from ffebm.graph.graph import Graph
from ffebm.graph.work import sizes
from ffebm.hardware.description import DigitalGroup, Hardware
from ffebm.hardware.groups import DataType
from ffebm.mapping.block_cost import PhaseCost
from ffebm.mapping.digital_cost import digital_cost, work_of
from ffebm.plan.memory.held import Rows
from ffebm.plan.schema import Settle
from ffebm.scheduling.bands import SINGLE_ROWS, USUAL, Bands, Cutting, StepBudget, of_height
from ffebm.scheduling.items import ScheduledItem, items_of
from ffebm.scheduling.list_schedule import Task
from ffebm.scheduling.streams import Stream, Streams, fused, streams_of
from ffebm.scheduling.task_list import CoreUnits, DigitalRun, Seat, TaskList, apart


def place_of(seat: Seat) -> str:
    """Where a value is brought, by name."""
    if isinstance(seat, CoreUnits):
        return seat.name
    return seat.name if isinstance(seat, EnergyBlock) else f"digital {seat}"


@dataclass(frozen=True)
class Coming:
    """A value, or its error current, that comes in bands.

    Attributes:
        tasks: After each of which a band is there; -1 if it is from the start.
        axis: Along which it comes; None: at once.
        bands: Of its rows; None: at once.
    """

    tasks: tuple[int, ...]
    axis: int | None = None
    bands: Bands | None = None

    def bring(self, axis: int, rows: Rows) -> tuple[int, ...]:
        """The tasks that bring some rows of an axis; all of them if it does not come along that."""
        if self.bands is None or axis != self.axis:
            return self.tasks
        first, behind = rows
        return self.tasks[self.bands.of(first) : self.bands.of(behind - 1) + 1] if first < behind else ()


GIVEN = Coming((-1,))
"""What is there from the start."""


class Forward(TaskList):
    """Tasks of one inference.

    Args:
        graph: A placed graph.
        hardware: The machine.
        settle: How energy blocks settle.
        dtype: In which digital units compute.
        most_bands: Bands of an item; 1: nothing streams.
        budget: Steps of all.

    Attributes:
        fewer: Some items have fewer bands than they might, as these make them longer.
        reads_alike: Blocks are read in one way only.
    """

    reads_alike = True

    def __init__(
        self,
        graph: Graph,
        hardware: Hardware,
        settle: Settle,
        dtype: DataType,
        most_bands: int,
        budget: StepBudget = USUAL,
    ) -> None:
        super().__init__(graph, hardware, settle, dtype)
        self.items = items_of(graph)
        self.done: dict[int, Coming] = {}
        self._node_seats: dict[str, Seat] = {}
        self._work = {item.name: work_of(graph, item.nodes[0]) for item in self.items if item.block is None}
        self._moved: dict[tuple[str, str], Coming] = {}
        self._most = most_bands
        self._cutting = Cutting([], [], [])
        self.fewer = False
        self._take(self.items, Streams([None] * len(self.items)))
        self._bands: list[Bands | None] = [None] * len(self.items)
        if most_bands > 1 and self._several_units():
            self._cut(budget)

    def _take(self, items: list[ScheduledItem], streams: Streams) -> None:
        """What is done, and how it streams."""
        self.items, self._streams, self._axes = items, streams.of, streams.axes
        self.maker = {value: item for item in items for value in item.makes}
        self.seats: dict[str, Seat] = {}
        self._seat_of: list[Seat] = []
        for item in items:
            self._seat_of.append(self._seated(item))
            self.seats.update(dict.fromkeys(item.makes, self._seat_of[-1]))

    def _joined(self) -> Collection[str]:
        """Nodes that need all rows of all samples, by name: none in an inference."""
        return ()

    def _several_units(self) -> bool:
        """Bands gain nothing where one unit does everything."""
        groups = {node.group for node in self.graph.nodes if node.unit == "digital"}
        found = [self.hardware.digital_group(group) for group in groups]
        alone = all(group.count == 1 or group.place == "core" for group in found)
        return bool(self.graph.blocks) or len(groups) > 1 or not alone

    def _found_streams(self) -> Streams:
        """What streams."""
        copies = {
            item.position: [self.costs[item.block.id].replicas(i) for _, i in item.block.interactions()]
            for item in self.items
            if item.block is not None
        }
        return streams_of(self.graph, self.hardware, self.items, self.batch, self._joined(), copies)

    def _in_one_step(self, streams: Streams) -> tuple[list[ScheduledItem], Streams]:
        """Items of which some are several nodes, and their streams.

        What moves nothing lies where it was, and products take long: others go between them.
        """
        digital = [item for item in self.items if item.block is None]
        alone = {i.name for i in digital if self._moves_nothing(i) or self._work[i.name].products}
        places = [place_of(self.seat(item)) for item in self.items]
        return fused(self.graph, self.items, streams, alone, places)

    def _moves_nothing(self, item: ScheduledItem) -> bool:
        """A view of a single value."""
        return len(item.reads) == 1 and not any(self._work[node.name].moved for node in item.nodes)

    def _cut(self, budget: StepBudget) -> None:
        """Decide what streams, in which bands; where these are too many steps, nodes share some first."""
        streams = self._found_streams()
        self._take(self.items, streams)
        self._cutting = self._ways_to_cut()
        if self.steps(self._most) > budget.most:
            self._take(*self._in_one_step(streams))
            self._cutting = self._ways_to_cut()
        few = self.steps(2 * self._most) <= budget.few
        weighed = budget.weighed and self._most < SINGLE_ROWS
        self._most *= 2 if few else 1
        self._bands = self._cutting.bands(self._most, budget.few if few else budget.most)
        if weighed:
            bands = [self._worthwhile(*both) for both in zip(self.items, self._bands, strict=True)]
            self.fewer, self._bands = bands != self._bands, bands

    def _worthwhile(self, item: ScheduledItem, bands: Bands | None) -> Bands | None:
        """The bands of an item, or fewer where cores wait for the last read of each."""
        block, stream = item.block, self._streams[item.position]
        if block is None or bands is None or stream is None:
            return bands
        if self.hardware.analog_group(block.group).core is None:
            return bands
        if self._in_rounds(block, self._band_costs(block, stream, bands)):
            return bands
        return self._cutting.worthwhile(
            item.position, bands, lambda rows: self._band_cost(block, stream, rows).seconds
        )

    def _ways_to_cut(self) -> Cutting:
        """How what streams may be cut into bands."""
        seconds = [self._seconds(item) for item in self.items]
        return Cutting(self._streams, self._further_steps(), seconds)

    def steps(self, most_bands: int) -> int:
        """About how many steps it takes if items have up to so many bands; 0 where nothing streams."""
        return self._cutting.steps(most_bands)

    def _further_steps(self) -> list[int]:
        """Steps of a band of each item beside its own: how often what it makes is carried."""
        places: dict[str, set[str]] = {}
        for item in self.items:
            for value in item.reads:
                if apart(self.seats.get(value), self.seat(item)):
                    places.setdefault(value, set()).add(place_of(self.seat(item)))
        return [sum(len(places.get(value, ())) for value in item.makes) for item in self.items]

    def _seconds(self, item: ScheduledItem) -> float:
        """How long an item takes at once."""
        if item.block is not None:
            return self.costs[item.block.id].free(self.settle.free_sweeps).seconds
        return sum(self._node_seconds(item))

    def _node_seconds(self, item: ScheduledItem) -> list[float]:
        """How long each node of an item takes at once."""
        group = self.hardware.digital_group(item.nodes[0].group)
        units = len(self.units_in_cores(group, self.seat(item))) or 1
        return [
            digital_cost(self.hardware, group, self._work[node.name], self.dtype, units).seconds
            for node in item.nodes
        ]

    def ended(self, item: ScheduledItem) -> tuple[int, ...]:
        """The tasks with which an item has run; none before it has."""
        done = self.done.get(item.position)
        return () if done is None else done.tasks

    def forward(self) -> None:
        """Tasks of one inference."""
        for item in self.items:
            stream, bands = self._streams[item.position], self._bands[item.position]
            if stream is None or bands is None:
                after = tuple(
                    task for value in item.reads for task in self.coming(value, self.seat(item)).tasks
                )
                made = Coming((self.append(self._at_once(item, after), item.block),))
            else:
                made = Coming(self._in_bands(item, stream, bands), stream.axis, bands)
            self.done[item.position] = made
        for value in self.graph.outputs:
            if isinstance(self.seats.get(value), EnergyBlock):
                self.coming(value, self.hardware.host.name)

    def seat(self, item: ScheduledItem) -> Seat:
        """Where an item works; a view of a digital value is wherever that lies."""
        return self._seat_of[item.position]

    def _seated(self, item: ScheduledItem) -> Seat:
        if item.block is not None:
            return item.block
        if item.name not in self._node_seats:  # the same in whatever bands, alone or in one step with others
            self._node_seats[item.name] = self._node_seat(item)
        return self._node_seats[item.name]

    def _node_seat(self, item: ScheduledItem) -> Seat:
        """Where a digital node works."""
        node = item.nodes[0]
        if self._moves_nothing(item):
            source = self.seats.get(item.reads[0])
            if not isinstance(source, EnergyBlock):
                return source
        group = self.hardware.digital_group(node.group)
        if group.place == "core" and item.reads and not self._work[node.name].products:
            return self._in_cores(item, group)
        return node.group

    def _in_cores(self, item: ScheduledItem, group: DigitalGroup) -> Seat:
        """The cores that hold most of what a node reads, of equals the last made; else all units."""

        def size(value: str) -> tuple[int, int]:
            maker = self.maker.get(value)
            return self.elements(value), -1 if maker is None else maker.position

        largest = max(item.reads, key=size)
        seat = self.seats.get(largest)
        if isinstance(seat, CoreUnits):
            return replace(seat, group=group.name)
        cores = self.cores(seat.id) if isinstance(seat, EnergyBlock) else {}
        if len(cores) in {0, self.hardware.core_count}:
            return group.name
        return CoreUnits(group.name, tuple(cores), tuple(cores.values()))

    def _at_once(self, item: ScheduledItem, after: tuple[int, ...]) -> Task:
        """All of an item."""
        if item.block is None:
            return self._node_run(item).task("digital", item.name, after)
        phase = self.costs[item.block.id].free(self.settle.free_sweeps)
        lag = phase.lag if self._in_rounds(item.block, [phase]) else 0.0
        units = self.tiles(item.block)
        return Task("free", item.block.name, units, phase.seconds, after, phase.cost, lag=lag)

    def _in_bands(self, item: ScheduledItem, stream: Stream, bands: Bands) -> tuple[int, ...]:
        """One task a band; each waits for the one before."""
        run = self._node_run(item) if item.block is None else None
        units = () if item.block is None else self.tiles(item.block)
        in_rounds = item.block is not None and self._in_rounds(
            item.block, self._band_costs(item.block, stream, bands)
        )
        tasks: list[int] = []
        reads = [(value, self.coming(value, self.seat(item))) for value in item.reads]
        for rows in bands.rows():
            needed = (task for value, coming in reads for task in _rows_of(coming, value, stream, rows))
            after = (*tasks[-1:], *needed)
            share = (rows[1] - rows[0]) / stream.rows
            if run is not None:
                task = run.task("digital", item.name, after, rows, share)
            else:
                task = self._block_band(item, stream, rows, units, after, in_rounds=in_rounds)
            tasks.append(self.append(task, item.block))
        return tuple(tasks)

    def _node_run(self, item: ScheduledItem) -> DigitalRun:
        work = reduce(add, (self._work[node.name] for node in item.nodes))
        run = self.digital_run(work, self.hardware.digital_group(item.nodes[0].group), self.seat(item))
        if len(item.nodes) == 1:
            return run
        names, seconds = [node.name for node in item.nodes], self._node_seconds(item)
        whole = sum(seconds)
        shares = tuple(own / whole if whole else 0.0 for own in seconds)
        return replace(run, fused=tuple(names[:-1]), shares=shares)

    def _block_band(
        self,
        item: ScheduledItem,
        stream: Stream,
        rows: Rows,
        units: tuple[str, ...],
        after: tuple[int, ...],
        *,
        in_rounds: bool,
    ) -> Task:
        """Some rows of a block of one layer."""
        assert item.block is not None
        phase = self._band_cost(item.block, stream, rows)
        begun = stream.begun(rows[1])
        return Task(
            "free",
            item.block.name,
            units,
            phase.seconds,
            after,
            phase.cost,
            rows=rows,
            begun=begun if begun > rows[1] else 0,
            lag=phase.lag if in_rounds else 0.0,
            share_s=phase.share,
        )

    def _in_rounds(self, block: EnergyBlock, phases: Sequence[PhaseCost]) -> bool:
        """Whether a block is read in rounds, so that its cores are free when these are over.

        That needs all of its reads, and nothing else on its arrays: other blocks have rounds of their own.
        """
        return self.reads_alike and all(phase.lag >= 0.0 for phase in phases) and self.alone(block)

    def _band_costs(self, block: EnergyBlock, stream: Stream, bands: Bands) -> list[PhaseCost]:
        """The same of each band."""
        return [self._band_cost(block, stream, rows) for rows in bands.rows()]

    def _band_cost(self, block: EnergyBlock, stream: Stream, rows: Rows) -> PhaseCost:
        """What some rows of a block of one layer take."""
        spans = [(0, 0) if drive is None else drive.vectors(rows, stream.rows) for drive in stream.drives]
        return self.costs[block.id].band(spans, (rows[1] - rows[0]) / stream.rows)

    # --- what is read --------------------------------------------------------------------------------

    def _tasks_before(self, value: str, item: ScheduledItem, stream: Stream, rows: Rows) -> tuple[int, ...]:
        """The tasks that bring the rows of a value that some rows of an item need."""
        return _rows_of(self.coming(value, self.seat(item)), value, stream, rows)

    def coming(self, value: str, seat: Seat) -> Coming:
        """A value as it comes to where it is read."""
        if value in self.graph.constants:
            return GIVEN
        maker = self.maker.get(value)
        made = GIVEN if maker is None else self.done[maker.position]
        start = self.seats.get(value)
        if not apart(start, seat):
            return made
        where = value, place_of(seat)
        if where not in self._moved:
            source = self._given(value) if maker is None else made
            self._moved[where] = self._carried(value, source, (start, seat))
        return self._moved[where]

    def _given(self, value: str) -> Coming:
        """An input of the model, which the host has, in bands to be carried."""
        axis, shape = self._axes.get(value), sizes(self.graph.shape(value))
        rows = 1 if axis is None or shape is None else shape[axis]
        if rows < 2:
            return GIVEN
        bands = of_height(rows, -(-rows // self._most))
        return Coming((-1,) * len(bands.ends), axis, bands)

    def _carried(self, value: str, made: Coming, ends: tuple[Seat, Seat]) -> Coming:
        """A value over the network, band by band."""
        if made.bands is None:
            return Coming((self.transfer(value, made.tasks, ends),))
        tasks = [
            self._carried_rows(value, (task,), ends, rows, made.bands)
            for rows, task in zip(made.bands.rows(), made.tasks, strict=True)
        ]
        return Coming(tuple(tasks), made.axis, made.bands)

    def _carried_rows(
        self, value: str, after: tuple[int, ...], ends: tuple[Seat, Seat], rows: Rows, bands: Bands
    ) -> int:
        """Some rows of a value, or of its error current, over the network."""
        moved = self.elements(value) * (rows[1] - rows[0]) / bands.ends[-1]
        return self.transfer(value, after, ends, moved, rows=rows)


def _rows_of(coming: Coming, value: str, stream: Stream, rows: Rows) -> tuple[int, ...]:
    """The tasks that bring the rows of a value that some rows of a stream need."""
    reaches = stream.reads.get(value)
    if coming.bands is None or not reaches:
        return coming.tasks
    first, behind = stream.needed(value, rows)
    if rows[1] == stream.rows:
        behind = coming.bands.ends[-1]
    return coming.bring(reaches[0].axis, (first, behind))
