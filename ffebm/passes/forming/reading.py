"""Reading a graph: which values are states, views and drives, and where layers close.

The graph is read once, in order. A value is either a *state* (an input, a digital result or a free layer),
a *view* (a state behind layout changes) or a *drive* (a sum of linear maps of states that no activation has
closed yet). An activation closes a drive into a free layer; whatever else reads a drive closes it into a
linear layer. Each closed layer goes to the grouping, which finds its block.
"""

from dataclasses import replace

import msgspec

from ffebm.graph.admission import Admission
from ffebm.graph.energy_block import Activation, Interaction, Layer, Linear, Pool, Rearrangement
from ffebm.graph.graph import Graph, Node, captured
from ffebm.graph.monotone import activation_of
from ffebm.graph.ops import Kind, kind_of
from ffebm.passes.forming.grouping import Grouping
from ffebm.passes.forming.linear_maps import (
    Unfit,
    bias_shape_fits,
    linear_of,
    pool_of,
    rearrangement_of,
    scale_of,
    unfit,
)
from ffebm.passes.forming.terms import Formed, OpenDrive, OpenTerm, StateView, keep_digital, sample_shape
from ffebm.patterns import Patterns

ON_REQUEST = "kept digital on request"
_IDENTITY = Activation("Identity")


class LayerReading:
    """Reads the nodes in order and keeps what is known of each value.

    Attributes:
        seen: Weights that a tile could hold, those kept digital on request with them.
        spared: Linear maps kept digital on request, whose sizes may stay in a list of block sizes.
    """

    def __init__(
        self,
        graph: Graph,
        admission: Admission,
        grouping: Grouping,
        digital: Patterns,
        activations: tuple[str, ...],
    ) -> None:
        self.graph = graph
        self.admission = admission
        self.grouping = grouping
        self.digital = digital
        self.activations = activations
        self.readers = graph.consumers()
        self.makers = graph.producers()
        self.views: dict[str, StateView] = {}
        self.drives: dict[str, OpenDrive] = {}
        self.fed: set[str] = set(graph.inputs)
        self.stored: dict[str, Linear] = {}
        self.seen: set[str] = set()
        self.spared = 0

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
            elif kind is Kind.ACTIVATION or node.op in self.activations:
                self._activate(node)
            else:
                raise unfit(self.graph, node)
        except Unfit as reason:
            self.spared += kind is Kind.LINEAR and str(reason) == ON_REQUEST
            self._digital(node, str(reason))

    def finish(self) -> None:
        """Close what is open."""
        for value in [*self.drives]:
            self._close_linear(value)
        for value in [*self.views]:
            self._realise(value)

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
            source_shape=sample_shape(self.graph, source),
            linear_shape=out_shape,
            before=before,
            linear=linear,
        )
        self._open(node.outputs[0], OpenDrive([OpenTerm(interaction, [*nodes, node], node.outputs[0])]))

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
        self._open(node.outputs[0], OpenDrive([OpenTerm(interaction, [*term.nodes, node], node.outputs[0])]))

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
            term = OpenTerm(interaction, [*term.nodes, node], node.outputs[0])
            self._open(node.outputs[0], replace(drive, terms=[term]))
            return
        if len(self.readers.get(node.outputs[0], [])) != 1 or node.outputs[0] in self.graph.outputs:
            raise Unfit(Kind.LAYOUT.value)
        source, before, nodes = self._state(value)
        self.views[node.outputs[0]] = StateView(source, (*before, *layouts), [*nodes, node])
        self.grouping.latest[node.outputs[0]] = self.grouping.latest[source]

    def _sum(self, node: Node) -> None:
        out, sample = self.graph.shape(node.outputs[0]), sample_shape(self.graph, node.outputs[0])
        drive = OpenDrive([], [node])
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
            and activation_of(self.graph, readers[0], self.activations) is not None
        )

    def _add(self, drive: OpenDrive, value: str) -> None:
        """Take an operand of a sum: a drive with all of its terms, a state as an identity."""
        inner = self.drives.pop(value, None)
        if inner is not None:
            drive.terms.extend(inner.terms)
            drive.nodes[:0] = inner.nodes
            drive.biases = (*inner.biases, *drive.biases)
        else:
            drive.terms.append(self._identity(value))

    def _identity(self, value: str) -> OpenTerm:
        shape = sample_shape(self.graph, value)
        source, before, nodes = self._state(value)
        interaction = Interaction(
            source=source, source_shape=sample_shape(self.graph, source), linear_shape=shape, before=before
        )
        return OpenTerm(interaction, nodes, value)

    def _scale(self, node: Node) -> None:
        factor, value = scale_of(self.graph, node)
        if value not in self.drives and not self._activated(node.outputs[0]):
            raise Unfit(Kind.SCALE.value)
        if self.graph.shape(value) != self.graph.shape(node.outputs[0]):
            raise Unfit("product of values of different shapes")
        self._require_drive(value, _IDENTITY, factor)
        drive = self.drives.pop(value, None) or OpenDrive([self._identity(value)])
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
        activation = activation_of(self.graph, node, self.activations)
        if activation is None:
            raise Unfit("not monotone with its parameters, so no convex potential has it as its activation")
        value = node.inputs[0]
        if value not in self.fed:
            raise Unfit("computed from constants")
        self._require_drive(value, activation)
        drive = self.drives.pop(value, None) or OpenDrive([self._identity(value)])
        drive.nodes.append(node)
        activation = msgspec.structs.replace(activation, scale=drive.scale)
        self._close(node.outputs[0], drive, activation)

    def _open(self, value: str, drive: OpenDrive) -> None:
        """Keep a drive open if one node reads it; else it is a linear layer."""
        self.drives[value] = drive
        self.grouping.latest[value] = max(self.grouping.latest[t.interaction.source] for t in drive.terms)
        if len(self.readers.get(value, [])) != 1 or value in self.graph.outputs:
            self._close_linear(value)

    def _close_linear(self, value: str) -> None:
        drive = self.drives.pop(value)
        self._close(value, drive, Activation("Identity", scale=drive.scale))

    def _close(self, value: str, drive: OpenDrive, activation: Activation) -> None:
        """Make a free layer, which finds its block."""
        layer = Layer(
            value,
            sample_shape(self.graph, value),
            activation,
            tuple(t.interaction for t in drive.terms),
            drive.biases,
        )
        self.grouping.add(Formed(layer, drive.terms, drive.nodes))

    def _digital(self, node: Node, reason: str) -> None:
        keep_digital([node], reason)
        for value in captured(node):
            self._realise(value)
            self.grouping.read_outside(value)
        index = max((self.grouping.latest[value] for value in captured(node)), default=-1)
        self.grouping.latest.update((value, index) for value in node.outputs if value)

    def _realise(self, value: str) -> None:
        """Turn a view or a drive into a state."""
        view = self.views.pop(value, None)
        if view is not None:
            keep_digital(view.nodes, Kind.LAYOUT.value)
            self.grouping.read_outside(view.source)
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
