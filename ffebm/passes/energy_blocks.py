"""Form energy blocks.

The graph is read once, in order. A value is either a *state* (an input, a digital result or a free layer),
a *view* (a state behind layout changes) or a *drive* (a sum of linear maps of states that no activation has
closed yet). An activation closes a drive into a free layer; whatever else reads a drive closes it into a
linear layer. A closed layer joins the latest block among its sources that has room, or starts a new block.

Blocks never wait for themselves: `latest[v]` is the highest block that v depends on, and a layer joins block
b only if its other sources depend on blocks before b. So contracted blocks are ordered by their number.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Literal

import msgspec

from ffebm.errors import Location, UsageError
from ffebm.graph.admission import admission_of
from ffebm.graph.energy_block import (
    DEFAULT_PHYSICS,
    Activation,
    EnergyBlock,
    Interaction,
    Layer,
    Linear,
    Pool,
    Rearrangement,
)
from ffebm.graph.graph import Graph, Node, Stage, captured
from ffebm.graph.monotone import activation_of
from ffebm.graph.ops import OPS, Kind, kind_of
from ffebm.hardware.description import Hardware
from ffebm.passes.linear_maps import (
    Unfit,
    bias_shape_fits,
    branches,
    linear_of,
    pool_of,
    rearrangement_of,
    scale_of,
    unfit,
)
from ffebm.patterns import Patterns
from ffebm.visible import visible

ON_REQUEST = "kept digital on request"
_IDENTITY = Activation("Identity")


@dataclass(frozen=True)
class EnergyBlocks:
    """Forms the energy blocks.

    Attributes:
        block_size: Free layers that one block may hold; or one number a block, in graph order.
        boundary: Where the first linear map of a block runs.
        digital: Names or patterns of weights, whose linear maps stay digital, and of nodes that stay digital.
        physics: What the energy of the blocks is, by name.
        activations: Ops that are activations by what packages offer.
    """

    block_size: int | tuple[int, ...] = 1
    boundary: Literal["tile", "digital"] = "tile"
    digital: tuple[str, ...] = ()
    physics: str = DEFAULT_PHYSICS
    activations: tuple[str, ...] = ()
    name: str = "energy-blocks"
    requires: Stage = Stage.CANONICAL
    ensures: Stage = Stage.BLOCKED

    def run(self, graph: Graph, hardware: Hardware) -> None:
        """Give every node a block, or the reason why it is digital.

        Raises:
            UsageError: If nothing has a name that is to stay digital, more block sizes are listed than the
                chain of layers takes, or the circuit of a block cannot be wired.
        """
        former = _Former(graph, self)
        for node in graph.nodes:
            former.visit(node)
        former.finish()
        if graph.blocks and self.physics != DEFAULT_PHYSICS:
            graph.notes.append(
                f"blocks of physics {self.physics!r} settle where its energy is least: even with one layer a "
                "block that is not what the model computes"
            )
            graph.notes += _spare_cells(hardware, former.admission.cells_a_weight)
        _check_names(graph, self.digital, former.seen)
        _check_sizes(graph, self.block_size, former.taken(), former.weighted)
        for block in graph.blocks:
            graph.notes += former.admission.notes(block, graph.constants)

    def room(self, turn: int) -> int:
        """How many free layers a block may hold; `turn` counts in graph order, blocks without a tile too."""
        if isinstance(self.block_size, int):
            return self.block_size
        return self.block_size[turn] if turn < len(self.block_size) else 0


@dataclass
class _View:
    """A state behind layout changes that no node has made digital yet."""

    source: str
    layouts: tuple[Rearrangement, ...]
    nodes: list[Node]


@dataclass
class _Term:
    """One interaction in the making, with the nodes that compute it and the value that they make."""

    interaction: Interaction
    nodes: list[Node]
    value: str


@dataclass
class _Drive:
    """A sum of terms that no activation has closed yet."""

    terms: list[_Term]
    nodes: list[Node] = field(default_factory=list)
    biases: tuple[str, ...] = ()
    scale: float = 1.0


@dataclass
class _Formed:
    """A closed layer; `block` is None while it is only a candidate (no weight of its own)."""

    layer: Layer
    terms: list[_Term]
    nodes: list[Node]
    block: int | None = None
    taken: bool = False


class _Former:
    """Reads the nodes in order and keeps what is known of each value."""

    def __init__(self, graph: Graph, options: EnergyBlocks) -> None:
        self.graph = graph
        self.options = options
        self.digital = Patterns(options.digital)
        self.admission = admission_of(options.physics)
        self.readers = graph.consumers()
        self.makers = graph.producers()
        self.views: dict[str, _View] = {}
        self.drives: dict[str, _Drive] = {}
        self.formed: dict[str, _Formed] = {}
        self.blocks: list[list[_Formed]] = []
        self.rooms: list[int] = []
        self.turn = 0  # of the next block among the listed sizes
        self.waiting = 0  # listed sizes, with that of a block whose first layer is there
        self.spared = 0  # linear maps kept digital on request, whose sizes may stay in the list
        self.weighted = 0  # layers with a weight that fits a tile
        self.latest: dict[str, int] = dict.fromkeys([*graph.inputs, *graph.constants], -1)
        self.fed: set[str] = set(graph.inputs)
        self.stored: dict[str, Linear] = {}
        self.seen: set[str] = set()

    # --- reading -------------------------------------------------------------------------------------

    def visit(self, node: Node) -> None:
        """Let a node extend a view or a drive, close a layer, or be digital."""
        if any(value in self.fed for value in captured(node)):
            self.fed.update(value for value in node.outputs if value)
        kind = kind_of(node.op)
        try:
            if node.name in self.digital:
                raise Unfit(ON_REQUEST)
            if kind is Kind.LINEAR:
                self._linear(node)
            elif kind is Kind.POOL:
                self._pool(node)
            elif kind is Kind.LAYOUT:
                self._layout(node)
            elif kind is Kind.SUM:
                self._sum(node)
            elif kind is Kind.SCALE or (node.op == "Div" and node.inputs[1] in self.graph.constants):
                self._scale(node)
            elif kind is Kind.ACTIVATION or node.op in self.options.activations:
                self._activate(node)
            else:
                raise unfit(self.graph, node)
        except Unfit as reason:
            self.spared += kind is Kind.LINEAR and str(reason) == ON_REQUEST
            self._digital(node, str(reason))

    def taken(self) -> int:
        """How many listed sizes the layers take, those of layers kept digital on request with them."""
        return max(self.turn, self.waiting) + self.spared

    def finish(self) -> None:
        """Close what is open, then write blocks and reasons into the graph."""
        for value in [*self.drives]:
            self._close_linear(value)
        for value in [*self.views]:
            self._realise(value)
        for formed in self.formed.values():
            if formed.block is None:
                for node in self._nodes(formed):
                    self._reason([node], OPS[node.op].kind.value)
        self._write()

    def _linear(self, node: Node) -> None:
        linear, out_shape = linear_of(self.graph, node, self.makers)
        self.seen.add(linear.weight)
        if linear.weight in self.digital:
            raise Unfit(ON_REQUEST)
        if node.inputs[0] not in self.fed:
            raise Unfit("computed from constants")
        self._require(linear, _IDENTITY)
        reason = self.admission.holds(self.graph.constants[linear.weight])
        if reason is not None:
            raise Unfit(reason)
        self._store(linear)
        source, before, nodes = self._state(node.inputs[0])
        interaction = Interaction(
            source=source,
            source_shape=self._sample_shape(source),
            linear_shape=out_shape,
            before=before,
            linear=linear,
        )
        self._open(node.outputs[0], _Drive([_Term(interaction, [*nodes, node], node.outputs[0])]))

    def _require(self, linear: Linear | None, activation: Activation, pool: Pool | None = None) -> None:
        """The blocks' physics can drive a layer in this way."""
        reason = self.admission.admits(linear, activation, pool)
        if reason is not None:
            raise Unfit(reason)

    def _store(self, linear: Linear) -> None:
        """A weight that several maps share lies on the tiles once, so it must lie there in one way."""
        first = self.stored.setdefault(linear.weight, linear)
        ways = [(way.op, way.groups, way.transposed) for way in (first, linear)]
        if ways[0] != ways[1]:
            raise Unfit("its weight lies on a tile already, for a map that uses it another way round")

    def _pool(self, node: Node) -> None:
        drive = self.drives.get(node.inputs[0])
        if drive is None:
            raise Unfit(Kind.POOL.value)
        term = drive.terms[0]
        plain = len(drive.terms) == 1 and not drive.biases and drive.scale == 1.0 and not drive.nodes
        if not plain or term.interaction.pool is not None or term.interaction.after:
            raise Unfit(Kind.POOL.value)
        pool = pool_of(self.graph, node)
        self._require(term.interaction.linear, _IDENTITY, pool)
        del self.drives[node.inputs[0]]
        interaction = msgspec.structs.replace(term.interaction, pool=pool)
        self._open(node.outputs[0], _Drive([_Term(interaction, [*term.nodes, node], node.outputs[0])]))

    def _layout(self, node: Node) -> None:
        value = node.inputs[0]
        if value not in self.fed:
            raise Unfit("layout of constants")
        layouts = rearrangement_of(self.graph, node)
        drive = self.drives.get(value)
        if drive is not None:
            term = drive.terms[0]
            if len(drive.terms) > 1 or drive.biases or drive.nodes:
                raise Unfit(Kind.LAYOUT.value)
            del self.drives[value]
            interaction = msgspec.structs.replace(term.interaction, after=(*term.interaction.after, *layouts))
            term = _Term(interaction, [*term.nodes, node], node.outputs[0])
            self._open(node.outputs[0], replace(drive, terms=[term]))
            return
        if len(self.readers.get(node.outputs[0], [])) != 1 or node.outputs[0] in self.graph.outputs:
            raise Unfit(Kind.LAYOUT.value)
        source, before, nodes = self._state(value)
        self.views[node.outputs[0]] = _View(source, (*before, *layouts), [*nodes, node])
        self.latest[node.outputs[0]] = self.latest[source]

    def _sum(self, node: Node) -> None:
        out, sample = self.graph.shape(node.outputs[0]), self._sample_shape(node.outputs[0])
        drive = _Drive([], [node])
        for value in node.inputs:
            if value not in self.fed:
                if value not in self.graph.constants or not bias_shape_fits(self.graph, value, sample):
                    raise Unfit(Kind.SUM.value)
                drive.biases = (*drive.biases, value)
            elif self.graph.shape(value) != out:
                raise Unfit("sum of values of different shapes")
            elif value in self.drives and self.drives[value].scale != 1.0:
                raise Unfit("sum behind a scale")
        if len(set(node.inputs)) != len(node.inputs) or len(drive.biases) == len(node.inputs):
            raise Unfit(Kind.SUM.value)
        fed = [value for value in node.inputs if value in self.fed]
        if not self._has_drive(fed) and not self._activated(node.outputs[0]):
            raise Unfit(Kind.SUM.value)
        if not all(value in self.drives for value in fed):
            self._require(None, _IDENTITY)
        for value in fed:
            self._add(drive, value)
        self._open(node.outputs[0], drive)

    def _has_drive(self, values: list[str]) -> bool:
        return any(value in self.drives for value in values)

    def _activated(self, value: str) -> bool:
        """Whether the one reader of a value is an activation."""
        readers = self.readers.get(value, [])
        return (
            value not in self.graph.outputs
            and len(readers) == 1
            and activation_of(self.graph, readers[0], self.options.activations) is not None
        )

    def _add(self, drive: _Drive, value: str) -> None:
        """Take an operand of a sum: a drive with all of its terms, a state as an identity."""
        inner = self.drives.pop(value, None)
        if inner is not None:
            drive.terms.extend(inner.terms)
            drive.nodes[:0] = inner.nodes
            drive.biases = (*inner.biases, *drive.biases)
        else:
            drive.terms.append(self._identity(value))

    def _identity(self, value: str) -> _Term:
        shape = self._sample_shape(value)
        source, before, nodes = self._state(value)
        interaction = Interaction(
            source=source, source_shape=self._sample_shape(source), linear_shape=shape, before=before
        )
        return _Term(interaction, nodes, value)

    def _scale(self, node: Node) -> None:
        factor, value = scale_of(self.graph, node)
        if value not in self.drives and not self._activated(node.outputs[0]):
            raise Unfit(Kind.SCALE.value)
        if self.graph.shape(value) != self.graph.shape(node.outputs[0]):
            raise Unfit("product of values of different shapes")
        self._require_drive(value, _IDENTITY, factor)
        drive = self.drives.pop(value, None) or _Drive([self._identity(value)])
        drive.nodes.append(node)
        self._open(node.outputs[0], replace(drive, scale=drive.scale * factor))

    def _require_drive(self, value: str, activation: Activation, factor: float = 1.0) -> None:
        """The blocks' physics can drive a layer of this activation by a value, times a factor."""
        drive = self.drives.get(value)
        scale = factor if drive is None else factor * drive.scale
        activation = msgspec.structs.replace(activation, scale=scale)
        terms = [] if drive is None else [term.interaction for term in drive.terms]
        for linear, pool in [(i.linear, i.pool) for i in terms] or [(None, None)]:
            self._require(linear, activation, pool)

    def _activate(self, node: Node) -> None:
        activation = activation_of(self.graph, node, self.options.activations)
        if activation is None:
            raise Unfit("not monotone with its parameters, so no convex potential has it as its activation")
        value = node.inputs[0]
        if value not in self.fed:
            raise Unfit("computed from constants")
        self._require_drive(value, activation)
        drive = self.drives.pop(value, None) or _Drive([self._identity(value)])
        drive.nodes.append(node)
        activation = msgspec.structs.replace(activation, scale=drive.scale)
        self._close(node.outputs[0], drive, activation)

    # --- closing -------------------------------------------------------------------------------------

    def _open(self, value: str, drive: _Drive) -> None:
        """Keep a drive open if one node reads it; else it is a linear layer."""
        self.drives[value] = drive
        self.latest[value] = max(self.latest[t.interaction.source] for t in drive.terms)
        if len(self.readers.get(value, [])) != 1 or value in self.graph.outputs:
            self._close_linear(value)

    def _close_linear(self, value: str) -> None:
        drive = self.drives.pop(value)
        self._close(value, drive, Activation("Identity", scale=drive.scale))

    def _close(self, value: str, drive: _Drive, activation: Activation) -> None:
        """Make a free layer and find its block."""
        layer = Layer(
            value,
            self._sample_shape(value),
            activation,
            tuple(t.interaction for t in drive.terms),
            drive.biases,
        )
        formed = _Formed(layer, drive.terms, drive.nodes)
        self.formed[value] = formed
        self.weighted += self._weighted(formed)
        block = self._joinable(formed)
        if block is None and self._weighted(formed):
            block = self._start(formed)
        if block is None:
            self._stay_out(formed)
            return
        if self.options.boundary == "digital":
            self._cut_boundary(formed, block)
        self._join(formed, block)

    def _weighted(self, formed: _Formed) -> bool:
        return any(i.linear is not None for i in formed.layer.interactions)

    def _sources(self, formed: _Formed) -> list[str]:
        return [i.source for i in formed.layer.interactions]

    def _joinable(self, formed: _Formed) -> int | None:
        """The latest block among the sources that has room and that no other source waits for.

        Where the physics joins branches, also among the layers that drive another layer beside it.
        """
        sources = self._sources(formed)
        value = formed.layer.value
        beside = branches(value, self.readers, self.makers) if self.admission.joins_branches else []
        near = [self.formed[v] for v in (*sources, *beside) if v in self.formed]
        inside = {f.block for f in near if f.block is not None}
        for block in sorted(inside, reverse=True):
            outside = [v for v in sources if v not in self.formed or self.formed[v].block != block]
            room = len(self.blocks[block]) < self.rooms[block]
            if room and all(self.latest[v] < block for v in outside):
                return block
        return None

    def _start(self, formed: _Formed) -> int | None:
        """A new block, with the candidates that can be its first layers; None if it would hold no weight."""
        room = self.options.room(self.turn)
        first = [
            self.formed[v]
            for v in dict.fromkeys(self._sources(formed))
            if v in self.formed and self.formed[v].block is None and not self.formed[v].taken
        ]
        first = [f for f in first if len(self.readers.get(f.layer.value, [])) == 1 and self._plain(f)]
        first = first[: max(0, room - 1)]
        if room == 0 or (self.options.boundary == "digital" and not self._driven(formed, first)):
            return None
        block = len(self.blocks)
        self.blocks.append([])
        self.rooms.append(room)
        self.turn += 1

        for candidate in first:
            self._join(candidate, block)
        return block

    def _driven(self, formed: _Formed, first: list[_Formed]) -> bool:
        """Whether one of the first layers drives a layer through a weight."""
        values = {f.layer.value for f in first}
        return any(i.linear is not None and i.source in values for i in formed.layer.interactions)

    def _plain(self, formed: _Formed) -> bool:
        return formed.layer.value not in self.graph.outputs

    def _join(self, formed: _Formed, block: int) -> None:
        formed.block = block
        self.blocks[block].append(formed)
        self.latest[formed.layer.value] = block
        for value in self._sources(formed):
            self._use(value, block)

    def _use(self, value: str, block: int) -> None:
        """A candidate that is read from outside its future block can no longer be pulled into one."""
        formed = self.formed.get(value)
        if formed is not None and formed.block != block:
            formed.taken = True

    def _stay_out(self, formed: _Formed) -> None:
        """A layer without a block: its linear maps are digital; it may become the first layer of a block."""
        if self._weighted(formed):
            count = len(self.options.block_size) if isinstance(self.options.block_size, tuple) else 0
            room = self.options.room(self.turn)
            if room == 0:
                why = f"behind the last of the {count} blocks that block_size names"
            elif room == 1:
                why = "boundary is digital, so a block of one layer has no linear map inside"
                formed.taken = True  # it is a block of its own, so it takes its turn
                self.turn += 1
            else:
                why = "the first linear map of a block; boundary is digital"
                self.waiting = self.turn + 1
            self._make_digital(formed, formed.terms, why)
        self.latest[formed.layer.value] = max(self.latest[v] for v in self._sources(formed))
        for value in self._sources(formed):
            self._use(value, -1)

    def _cut_boundary(self, formed: _Formed, block: int) -> None:
        """Linear maps from outside the block run digitally; the block is clamped to what they make."""
        outside = [
            term
            for term in formed.terms
            if term.interaction.linear is not None
            and (
                term.interaction.source not in self.formed
                or self.formed[term.interaction.source].block != block
            )
        ]
        self._make_digital(formed, outside, "the first linear map of a block; boundary is digital")

    def _make_digital(self, formed: _Formed, terms: list[_Term], why: str) -> None:
        """Replace terms by an identity from the value that their nodes make."""
        for term in terms:
            if term.interaction.linear is None:
                continue
            self._reason(term.nodes, why)
            self._use(term.interaction.source, -1)
            self.latest[term.value] = self.latest[term.interaction.source]
            shape = self._sample_shape(term.value)
            term.interaction = Interaction(source=term.value, source_shape=shape, linear_shape=shape)
            term.nodes = []
        formed.layer = msgspec.structs.replace(
            formed.layer, interactions=tuple(t.interaction for t in formed.terms)
        )

    # --- digital -------------------------------------------------------------------------------------

    def _digital(self, node: Node, reason: str) -> None:
        self._reason([node], reason)
        for value in captured(node):
            self._realise(value)
            self._use(value, -1)
        index = max((self.latest[value] for value in captured(node)), default=-1)
        self.latest.update((value, index) for value in node.outputs if value)

    def _realise(self, value: str) -> None:
        """Turn a view or a drive into a state."""
        view = self.views.pop(value, None)
        if view is not None:
            self._reason(view.nodes, Kind.LAYOUT.value)
            self._use(view.source, -1)
        if value in self.drives:
            self._close_linear(value)

    def _state(self, value: str) -> tuple[str, tuple[Rearrangement, ...], list[Node]]:
        """A value as a state behind layout changes, and the nodes of those changes."""
        view = self.views.pop(value, None)
        if view is not None:
            return view.source, view.layouts, view.nodes
        if value in self.drives:
            self._close_linear(value)
        return value, (), []

    def _reason(self, nodes: list[Node], reason: str) -> None:
        for node in nodes:
            node.unit, node.reason = "digital", reason

    def _sample_shape(self, value: str) -> tuple[int, ...]:
        shape = self.graph.shape(value)
        if shape is None or not all(isinstance(size, int) for size in shape[1:]):
            raise Unfit(f"the shape of {value} is not known: {shape}")
        return tuple(int(size) for size in shape[1:])

    # --- writing -------------------------------------------------------------------------------------

    def _write(self) -> None:
        for index, members in enumerate(self.blocks):
            values = {f.layer.value for f in members}
            inputs = dict.fromkeys(v for f in members for v in self._sources(f) if v not in values)
            nodes = {id(n) for f in members for n in self._nodes(f)}
            outputs = [f.layer.value for f in members if self._read_outside(f.layer.value, nodes)]
            layers = tuple(f.layer for f in members)
            block = EnergyBlock(index, tuple(inputs), layers, tuple(outputs), physics=self.options.physics)
            self.graph.blocks.append(block)
            for position, formed in enumerate(members):
                for node in self._nodes(formed):
                    node.unit, node.block = "tile", index
                    is_map = kind_of(node.op) is Kind.LINEAR
                    role = f"{self.admission.role}, into" if is_map else _role(node)
                    node.reason = f"{role} layer {position + 1} of {len(members)} in {block.name}"

    def _nodes(self, formed: _Formed) -> list[Node]:
        return [node for term in formed.terms for node in term.nodes] + formed.nodes

    def _read_outside(self, value: str, nodes: set[int]) -> bool:
        readers = self.readers.get(value, [])
        return value in self.graph.outputs or any(id(n) not in nodes for n in readers)


def _spare_cells(hardware: Hardware, needed: int) -> Iterator[str]:
    """Groups of tiles whose arrays have more cells a weight than the circuits of the blocks take."""
    for group in hardware.analog:
        if group.tile.has_cells:
            cells = group.tile.crossbar().cells_a_weight // group.tile.slices
            if cells > needed:
                yield (
                    f"arrays of {visible(group.name)!r} have {cells} cells a weight, and blocks "
                    f"take {needed}: tiles, area and the energy of cells are counted for all"
                )


def _check_names(graph: Graph, digital: tuple[str, ...], weights: set[str]) -> None:
    """Every name that is to stay digital is a node's, or a weight's that a tile could hold."""
    known = weights | {node.name for node in graph.nodes}
    for name in digital:
        if name not in known and not any(found in Patterns([name]) for found in known):
            close = get_close_matches(name, known, 3, 0.5) or sorted(weights)[:6]
            raise UsageError(
                f"{name!r} is to stay digital",
                allowed="the name of a node, or of a weight that a tile could hold; * stands for anything",
                hint=f"there are {', '.join(close)}" if close else "no weight of this model fits a tile",
                location=Location(graph.source),
            )


def _check_sizes(graph: Graph, sizes: int | tuple[int, ...], taken: int, layers: int) -> None:
    """Every listed block size is some block's."""
    if isinstance(sizes, int) or len(sizes) <= taken:
        return
    few = ",".join(map(str, sizes[:taken]))  # as it is typed
    raise UsageError(
        f"{len(sizes)} block sizes for a chain that takes {taken}",
        allowed=f"it has {layers} layer{'' if layers == 1 else 's'} with weights that fit tiles",
        hint=f"list the first {taken} only: {few}" if taken else "give one number, such as 1",
        location=Location(graph.source),
    )


def _role(node: Node) -> str:
    return {
        Kind.POOL: "pooling behind a linear map, into",
        Kind.LAYOUT: "layout between layers, into",
        Kind.SUM: "sum of drives, into",
        Kind.SCALE: "scale of the drive, into",
    }.get(OPS[node.op].kind, "activation of")
