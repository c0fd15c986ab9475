"""Which items of a schedule make their outputs row by row, and from which rows of what they read.

A digital node streams along an axis of its outputs if its row map says so, and what it reads comes along
that axis. A block streams if it is one layer, whose windows are read one after the other: rows of an image,
or rows of a matrix. A block of several layers settles as a whole, and so does a circuit that settles by
itself.
"""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType

from ffebm.graph.energy_block import EnergyBlock, Interaction, Layer
from ffebm.graph.graph import Graph, Node
from ffebm.graph.work import sizes
from ffebm.hardware.description import Hardware
from ffebm.plan.memory.held import Rows
from ffebm.scheduling.items import ScheduledItem
from ffebm.scheduling.rows.drive import Drive, Reach
from ffebm.scheduling.rows.row_maps import row_windows, rows_of
from ffebm.scheduling.rows.row_window import RowWindow, same_rows, scattering, sliding

SPATIAL = {"AveragePool", "Conv", "ConvTranspose", "LpPool", "MaxPool", "Resize"}
"""Ops over images, [samples, channels, rows, …]."""
NO_COPIES: Mapping[int, Sequence[int]] = MappingProxyType({})
"""Of no block."""


@dataclass(frozen=True)
class Stream:
    """How an item makes its outputs row by row.

    Attributes:
        axis: Of each output.
        rows: That each has.
        reads: How far rows reach into each value; a value that is not here is needed whole.
        drives: Of a block: of its linear maps in order, None for an interaction without.
    """

    axis: int
    rows: int
    reads: Mapping[str, tuple[Reach, ...]]
    drives: tuple[Drive | None, ...] = ()

    @cached_property
    def shared(self) -> tuple[Drive, ...]:
        """The linear maps with reads that take vectors of several rows."""
        return tuple(drive for drive in self.drives if drive is not None and drive.at_once > 1)

    def ahead(self, row: int) -> int:
        """How many first rows have a vector among those that are read once so many rows are made."""
        found = row
        for drive in self.shared:
            read = drive.read(row, self.rows)
            while drive.wanted(found, self.rows) < read:
                found += 1
        return found

    def begun(self, row: int) -> int:
        """How many first rows have a part in what is read once so many are made.

        Reads of all copies take vectors of further rows, and windows of a pooling share rows.
        """
        found = row
        for drive in self.drives:
            read = 0 if drive is None else drive.read(row, self.rows)
            while drive is not None and found < self.rows and drive.first(found) < read:
                found += 1
        return found

    def behind(self, row: int) -> int:
        """How many first rows have all their vectors gone once so many rows are there on the way back."""
        found = row
        for drive in self.shared:
            gone = drive.gone(row, self.rows)
            while drive.complete(found, self.rows) > gone:
                found -= 1
        return found

    def made_with(self, row: int) -> int:
        """How many first rows are made by the reads that make so many."""
        reads = [drive.read(row, self.rows) for drive in self.shared]
        while (
            self.shared
            and row < self.rows
            and [drive.read(row + 1, self.rows) for drive in self.shared] == reads
        ):
            row += 1
        return row

    def needed(self, value: str, rows: Rows) -> Rows:
        """The rows of a value that some output rows need: from the first to the last one."""
        if rows[0] < rows[1]:
            rows = rows[0], self.ahead(rows[1])
        found = [reach.needed(rows) for reach in self.reads[value]]
        some = [(first, behind) for first, behind in found if first < behind]
        return min((r[0] for r in some), default=0), max((r[1] for r in some), default=0)

    def complete(self, value: str, row: int) -> int:
        """How many first rows of a value have their error currents once so many output rows have gone."""
        row = self.behind(row)
        return min(reach.complete(row, self.rows) for reach in self.reads[value]) if row else 0


@dataclass
class Streams:
    """The streams of a graph's items.

    Attributes:
        of: The stream of each item by position; None: a barrier.
        axes: The axis along which each value comes.
    """

    of: list[Stream | None] = field(default_factory=list)
    axes: dict[str, int] = field(default_factory=dict)


def streams_of(
    graph: Graph,
    hardware: Hardware,
    items: Sequence[ScheduledItem],
    batch: int,
    joined: Collection[str] = (),
    copies: Mapping[int, Sequence[int]] = NO_COPIES,
) -> Streams:
    """What streams.

    Args:
        graph: With energy blocks.
        hardware: The machine.
        items: Of the graph, in order.
        batch: Samples of one run; the first axis holds rows of one sample only if it is 1.
        joined: Nodes that need all rows of all samples, by name.
        copies: Of the weights of each block in the order of its interactions, by the item's position; one of
            each if it is not here.
    """
    found = Streams()
    for value in graph.inputs:
        axis = _input_axis(graph, hardware, items, value)
        if axis is not None:
            found.axes[value] = axis
    for item in items:
        stream = (
            _node_stream(graph, item.nodes[0], found.axes, 0 if batch == 1 else 1)
            if item.block is None
            else block_stream(graph, hardware, item.block, copies.get(item.position, ()))
        )
        if stream is not None and (stream.rows < 2 or item.nodes[0].name in joined):
            stream = None
        found.of.append(stream)
        if stream is not None:
            found.axes.update(dict.fromkeys(item.makes, stream.axis))
    return found


def _input_axis(graph: Graph, hardware: Hardware, items: Sequence[ScheduledItem], value: str) -> int | None:
    """The axis along which an input of the model comes: as what reads it first wants it."""
    for item in items:
        if value in item.reads:
            stream = (
                _along(graph, item.nodes[0], _natural(graph, item.nodes[0]))
                if item.block is None
                else block_stream(graph, hardware, item.block)
            )
            if stream is not None and value in stream.reads:
                return stream.reads[value][0].axis
    shape = graph.shape(value)
    return len(shape) - 2 if shape is not None and len(shape) in {3, 4} else None


# --- what is done in one step ------------------------------------------------------------------------


def fused(
    graph: Graph,
    items: Sequence[ScheduledItem],
    streams: Streams,
    alone: Collection[str] = (),
    places: Sequence[str] = (),
) -> tuple[list[ScheduledItem], Streams]:
    """Digital nodes that hand their rows on as one item.

    A node is done in one step with the next one if that alone reads what it makes, the same rows, with the
    same units, behind the same last block: so neither would wait for long.

    Args:
        graph: With energy blocks.
        items: Of the graph, in order, a node each.
        streams: How they stream.
        alone: Nodes that have a step of their own, by name.
        places: Where each item is done; none: in its group of units.

    Returns:
        Items in order, and how they stream.
    """
    handed = _handed_on(graph, items, streams, alone, places or [item.nodes[0].group for item in items])
    into: dict[int, int] = {}
    together: dict[int, list[ScheduledItem]] = {}
    for item in reversed(items):
        at = item.position
        into[at] = into[handed[at]] if at in handed else at
        together.setdefault(into[at], []).insert(0, item)
    runs = [together[last] for last in sorted(together)]
    return (
        [replace(_one_item(run), position=place) for place, run in enumerate(runs)],
        Streams([_one_stream(run, streams) for run in runs], streams.axes),
    )


def _handed_on(
    graph: Graph,
    items: Sequence[ScheduledItem],
    streams: Streams,
    alone: Collection[str],
    places: Sequence[str],
) -> dict[int, int]:
    """For each item that is done in one step with its reader the position of that."""
    readers: dict[str, list[ScheduledItem]] = {}
    behind: dict[str, int] = {}
    last: list[int] = []
    for item in items:
        for value in item.reads:
            readers.setdefault(value, []).append(item)
        block = max((behind.get(value, -1) for value in item.reads), default=-1)
        last.append(block if item.block is None else item.block.id)
        behind.update(dict.fromkeys(item.makes, last[-1]))
    found: dict[int, int] = {}
    for item in items:
        made, others = streams.of[item.position], readers.get(item.makes[0], []) if item.makes else []
        if made is None or item.block is not None or len(item.makes) != 1 or len(others) != 1:
            continue
        (reader,), (value,) = others, item.makes
        read = streams.of[reader.position]
        if (
            read is not None
            and reader.block is None
            and value not in graph.outputs
            and not {item.name, reader.name} & {*alone}
            and places[item.position] == places[reader.position]
            and last[item.position] == last[reader.position]
            and read.rows == made.rows
            and {*read.reads.get(value, ())} == {Reach((same_rows(made.axis, made.rows),))}
        ):
            found[item.position] = reader.position
    return found


def _one_item(run: Sequence[ScheduledItem]) -> ScheduledItem:
    """Nodes that are done in one step, in order."""
    if len(run) == 1:
        return run[0]
    inside = {value for item in run[:-1] for value in item.makes}
    reads = dict.fromkeys(value for item in run for value in item.reads if value not in inside)
    return replace(run[-1], nodes=[item.nodes[0] for item in run], reads=list(reads))


def _one_stream(run: Sequence[ScheduledItem], streams: Streams) -> Stream | None:
    """How they stream: rows of what they make need the rows that any of them does."""
    last = streams.of[run[-1].position]
    if len(run) == 1 or last is None:
        return last
    reads: dict[str, list[tuple[Reach, ...]]] = {}
    for item in run:
        stream = streams.of[item.position]
        for value in item.reads:
            reads.setdefault(value, []).append(() if stream is None else stream.reads.get(value, ()))
    found: dict[str, tuple[Reach, ...]] = {}
    for value, some in reads.items():
        axes = {reach.axis for reaches in some for reach in reaches}
        found[value] = () if () in some or len(axes) > 1 else tuple(r for reaches in some for r in reaches)
    return Stream(last.axis, last.rows, found)


# --- digital nodes -----------------------------------------------------------------------------------


def _natural(graph: Graph, node: Node) -> int | None:
    """The axis of rows of a node's output by what it is."""
    shape = graph.shape(node.outputs[0])
    if shape is None:
        return None
    if node.op in SPATIAL:
        return 2
    return len(shape) - 2 if node.op == "MatMul" and len(shape) > 2 else None


def _node_stream(graph: Graph, node: Node, axes: Mapping[str, int], least: int) -> Stream | None:
    """The stream of a node along the axis on which most of what it reads comes."""
    shape = graph.shape(node.outputs[0]) if node.outputs else None
    coming = [axes[value] for value in node.inputs if value in axes]
    if shape is None:
        return None
    best: tuple[int, Stream | None] = (0, None)
    for axis in dict.fromkeys([*coming, *range(least, len(shape))]):
        stream = _along(graph, node, axis) if least <= axis < len(shape) else None
        if stream is None:
            continue
        score = sum(
            reaches[0].axis == axes.get(value) and reaches[0].size > 1
            for value, reaches in stream.reads.items()
        )
        if score > best[0] and stream.rows > 1:
            best = score, stream
        if score == len(coming):
            break
    return best[1] or _along(graph, node, _natural(graph, node))


def _along(graph: Graph, node: Node, axis: int | None) -> Stream | None:
    """The stream of a node along an axis; None if it is a barrier there."""
    rows = None if axis is None else rows_of(graph, node, axis)
    windows = None if axis is None or rows is None else row_windows(graph, node, axis)
    if axis is None or rows is None or windows is None:
        return None
    read: dict[str, list[RowWindow | None]] = {}
    for value, window in zip(node.inputs, windows, strict=True):
        read.setdefault(value, []).append(window)
    return Stream(axis, rows, {value: found for value, some in read.items() if (found := _one_way(some))})


def _one_way(windows: Sequence[RowWindow | None]) -> tuple[Reach, ...]:
    """How a value is read along one axis; nothing if some of its reads want all of it, or another axis."""
    reaches = tuple(Reach((window,)) for window in windows if window is not None)
    return reaches if len(reaches) == len(windows) and len({reach.axis for reach in reaches}) == 1 else ()


# --- blocks ------------------------------------------------------------------------------------------


def block_stream(
    graph: Graph, hardware: Hardware, block: EnergyBlock, copies: Sequence[int] = ()
) -> Stream | None:
    """The stream of a block; None if it settles as a whole.

    Args:
        graph: The graph.
        hardware: The machine.
        block: The block.
        copies: Of the weights of its interactions in order; none: one of each.
    """
    if len(block.layers) > 1 or hardware.analog_group(block.group).relaxation is not None:
        return None
    (layer,) = block.layers
    shape = sizes(graph.shape(layer.value))
    plain = all(_is_plain(layer, interaction) for interaction in layer.interactions)
    ops = {i.linear.op for i in layer.interactions if i.linear is not None}
    if not plain or not ops or shape is None or len(shape) != len(layer.shape) + 1:
        return None
    axis = 1 if ops == {"MatMul"} else 2
    if axis >= len(shape) - (axis == 1) or (axis == 2 and "MatMul" in ops):
        return None
    drives: list[Drive | None] = []
    reads: dict[str, list[Reach]] = {}
    rows = layer.shape[axis - 1]
    for interaction, number in zip(layer.interactions, copies or [1] * len(layer.interactions), strict=True):
        drive, read = _interaction_reach(graph, layer, interaction, axis)
        reads.setdefault(interaction.source, []).append(read)
        drives.append(drive and drive.shared_out(number, rows))
    return Stream(axis, rows, {v: tuple(r) for v, r in reads.items()}, tuple(drives))


def _is_plain(layer: Layer, interaction: Interaction) -> bool:
    """Rows stay where they are, but for pooling."""
    moved = interaction.before or interaction.after
    return not moved and (interaction.pool is not None or interaction.linear_shape[1:] == layer.shape[1:])


def _interaction_reach(
    graph: Graph, layer: Layer, interaction: Interaction, axis: int
) -> tuple[Drive | None, Reach]:
    """Of the vectors of a linear map, and of the value that it multiplies."""
    behind = tuple(_pool_windows(layer, interaction, axis))
    linear = interaction.linear
    rows = interaction.linear_shape[axis - 1]
    if linear is None:
        return None, Reach((*behind, same_rows(axis, rows)))
    if linear.op == "MatMul":
        window = same_rows(axis, rows)
        per_row = math.prod(interaction.linear_shape[1:-1])
        return Drive(Reach((*behind, window)), per_row), Reach((*behind, window))
    kernel = graph.constants[linear.weight].shape[2:]
    ones = (1,) * len(kernel)
    facts = (
        kernel[0],
        (linear.strides or ones)[0],
        (linear.dilations or ones)[0],
        (linear.pads or (0,))[0],
    )
    size = interaction.source_shape[axis - 1]
    if linear.op == "ConvTranspose":  # a vector for each pixel of its input
        read = Reach((*behind, scattering(axis, size, *facts)))
        return Drive(read, math.prod(interaction.source_shape[2:])), read
    drive = Drive(Reach((*behind, same_rows(axis, rows))), math.prod(interaction.linear_shape[2:]))
    return drive, Reach((*behind, sliding(axis, size, *facts)))


def _pool_windows(layer: Layer, interaction: Interaction, axis: int) -> Iterator[RowWindow]:
    """From rows of a layer to rows of what is pooled."""
    pool = interaction.pool
    if pool is not None:
        dilation = pool.dilations[0] if pool.dilations else 1
        size = interaction.linear_shape[axis - 1]
        yield sliding(axis, size, pool.kernel[0], pool.strides[0], dilation, pool.pads[0])
