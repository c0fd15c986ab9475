"""Roles of constants: which train, and which stay as they are.

A torch model says itself what its parameters are. An ONNX file says only which op reads a constant: weights
of linear maps, convolutions, normalisations, embeddings and recurrent layers train, biases behind them, and
scale and shift of a normalisation that is written out in parts. Masks, position tables, means and deviations
are operands of sums and products too; they train where that is asked for.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase

import numpy as np

from ffebm.errors import Location, UsageError
from ffebm.graph.graph import Graph, Node, Stage, holds_floats
from ffebm.graph.ops import OPS, Kind, kind_of
from ffebm.hardware.description import Hardware

NORMALISATIONS = frozenset(
    {
        "BatchNormalization",
        "GroupNormalization",
        "InstanceNormalization",
        "LayerNormalization",
        "LpNormalization",
        "MeanVarianceNormalization",
        "RMSNormalization",
    }
)
SPREADS = frozenset({"ReduceL2", "LpPool", "GlobalLpPool"})
"""Reductions that are deviations already."""
MEANS = frozenset({"ReduceMean", "ReduceSum", "ReduceSumSquare", "GlobalAveragePool"})
"""Reductions whose root is a deviation."""
PLAIN = frozenset({"Add", "Sub", "Mul", "Div", "Max", "Min", "Clip", "Reciprocal", "Expand"})
"""Ops through which a mean or a deviation stays one, if its other operands are constants."""


@dataclass(frozen=True)
class Roles:
    """Marks the constants that train.

    Attributes:
        trainable: Names of constants that train beside; * stands for anything.
        decides: Weights are told by the ops that read them, for a model that does not say what they are.
    """

    trainable: tuple[str, ...] = ()
    decides: bool = True
    name: str = "roles"
    requires: Stage = Stage.IMPORTED
    ensures: Stage = Stage.IMPORTED

    def run(self, graph: Graph, hardware: Hardware) -> None:
        """Mark what trains.

        Raises:
            UsageError: If no constant has a name that is to train.
        """
        if self.decides:
            reader = _Reader(graph)
            reader.read(graph.nodes)
            graph.trainable = reader.trained
        graph.trainable |= _asked(graph, self.trainable)


def running_statistics(graph: Graph) -> tuple[str, ...]:
    """Constants that runs change: no gradient does."""
    found = [
        node.inputs[position]
        for node in graph.nodes
        if node.op in OPS
        for position in OPS[node.op].buffers
        if position < len(node.inputs) and node.inputs[position] in graph.constants
    ]
    return tuple(dict.fromkeys(found))


def _asked(graph: Graph, patterns: Iterable[str]) -> set[str]:
    """Constants with names that are to train."""
    buffers = set(running_statistics(graph))
    known = [name for name, array in graph.constants.items() if holds_floats(array) and name not in buffers]
    asked: set[str] = set()
    for pattern in patterns:
        found = {name for name in known if fnmatchcase(name, pattern)}
        if not found:
            close = get_close_matches(pattern, known, 3, 0.5)
            raise UsageError(
                f"no constant is called {pattern!r}, so none trains",
                allowed="names of floating-point constants, but running statistics; * stands for anything",
                hint=f"there are {', '.join(close or known[:6])}" if known else "the model has none",
                location=Location(graph.source),
            )
        asked |= found
    return asked


@dataclass
class _Reader:
    """Reads nodes in order, and keeps what is known of each value.

    Attributes:
        trained: Constants that train.
        root: The constant that a value is behind layout changes and casts.
        widths: Sizes of the outputs of the linear maps that make a value, if only sums and layouts follow.
        means: Values that are means over units, False, or deviations, True.
        normal: Normalised values, with the size of the scale behind them; 1 without.
    """

    graph: Graph
    trained: set[str] = field(default_factory=set)
    root: dict[str, str] = field(default_factory=dict)
    widths: dict[str, frozenset[int]] = field(default_factory=dict)
    means: dict[str, bool] = field(default_factory=dict)
    normal: dict[str, int] = field(default_factory=dict)

    def read(self, nodes: Iterable[Node]) -> None:
        """Read nodes, those of subgraphs first."""
        for node in nodes:
            for attr in node.attrs.values():
                if isinstance(attr, Graph):
                    self.read(attr.nodes)
            self._node(node)

    def _node(self, node: Node) -> None:
        kind = kind_of(node.op)
        if kind in {Kind.LAYOUT, Kind.CAST, Kind.POOL}:
            self._pass_on(node)
        elif kind in {Kind.SUM, Kind.SCALE, Kind.ARITHMETIC}:
            self._arithmetic(node, kind)
        elif node.op in OPS:
            self._weights(node)
        self._deviation(node)

    def _constant(self, value: str) -> str:
        """The constant that a value is; empty if it is computed."""
        return value if value in self.graph.constants else self.root.get(value, "")

    def _pass_on(self, node: Node) -> None:
        value, made = node.inputs[0], node.outputs[0]
        held = self._constant(value)
        if held and kind_of(node.op) is not Kind.POOL:
            self.root[made] = held
        self._copy(value, made)

    def _copy(self, value: str, made: str) -> None:
        """What is made is like the value in all that matters here."""
        if value in self.widths:
            self.widths[made] = self.widths[value]
        if value in self.normal:
            self.normal[made] = self.normal[value]

    def _weights(self, node: Node) -> None:
        """Constants at the positions of weights; a linear map's also tell how wide a bias behind it is."""
        op, widths = OPS[node.op], set[int]()
        for position in op.weights:
            value = node.inputs[position] if position < len(node.inputs) else ""
            held = self._constant(value)
            if not held or not self._learns(held, least=2 if node.op == "Gather" else 1):
                continue
            if op.kind is not Kind.LINEAR and not self._finite(held):
                continue
            self.trained.add(held)
            widths |= set(self.graph.shape(value) or self.graph.constants[held].shape)  # type: ignore[arg-type]
        if op.kind in {Kind.LINEAR, Kind.OTHER_LINEAR} and widths:
            self.widths[node.outputs[0]] = frozenset(self._width(node) or widths)
        if node.op in NORMALISATIONS:
            self.normal[node.outputs[0]] = 1

    def _width(self, node: Node) -> set[int]:
        """Outputs of a linear map a sample and place; empty where its op does not tell."""
        shape = self.graph.shape(node.outputs[0]) or ()
        axis = {"Conv": 1, "ConvTranspose": 1, "Gemm": -1, "MatMul": -1}.get(node.op)
        if axis is None or len(shape) < 2:
            return set()
        if node.op == "MatMul" and self._constant(node.inputs[0]):
            axis = -2
        size = shape[axis]
        return {size} if isinstance(size, int) else set()

    def _arithmetic(self, node: Node, kind: Kind) -> None:
        held = [self._constant(value) for value in node.inputs]
        rest = [value for value, constant in zip(node.inputs, held, strict=True) if not constant]
        constants = [name for name in held if name]
        made = node.outputs[0]
        if kind is Kind.SUM:
            widths = frozenset[int]().union(*(self.widths.get(value, frozenset()) for value in rest))
            if widths:
                self.widths[made] = widths
            shift = self.normal.get(rest[0], 0) if len(rest) == 1 else 0
            self.trained.update(name for name in constants if self._is_bias(name, widths, shift))
        elif len(rest) == 1 and all(self._size(name) == 1 for name in constants):
            self._copy(rest[0], made)
        elif len(rest) == 1 and node.op == "Mul":
            self._scale(rest[0], constants[0], made)
        elif len(rest) == 2 and self._normalises(node, rest):
            self.normal[made] = 1

    def _scale(self, value: str, name: str, made: str) -> None:
        """The scale of a normalisation in parts; that of a batch stands behind a linear map."""
        widths = self.widths.get(value, frozenset())
        if self._size(name) in widths:
            self.widths[made] = widths
        elif value not in self.normal:
            return
        if value in self.normal:
            self.normal[made] = self._size(name)
        if self._learns(name) and self._finite(name):
            self.trained.add(name)

    def _is_bias(self, name: str, widths: frozenset[int], shift: int) -> bool:
        """Whether a constant in a sum is one number an output of what makes the other operand."""
        size, axes = self._size(name), [d for d in self.graph.constants[name].shape if d != 1]
        behind = (
            size in widths or (shift > 1 and size == shift) or (shift == 1 and size > 1 and len(axes) == 1)
        )
        return behind and self._learns(name) and self._finite(name)

    def _normalises(self, node: Node, operands: list[str]) -> bool:
        """Whether a quotient or product divides a value by its deviation."""
        value, spread = operands if node.op == "Div" or not self.means.get(operands[0]) else operands[::-1]
        return node.op in {"Div", "Mul"} and bool(self.means.get(spread)) and not self.means.get(value)

    def _deviation(self, node: Node) -> None:
        """Follow means to their roots, which are deviations."""
        made = node.outputs[0]
        rest = [value for value in node.inputs if value and not self._constant(value)]
        if not rest:
            return
        if node.op in SPREADS:
            self.means[made] = True
        elif node.op in MEANS:
            self.means[made] = False
        elif len(rest) == 1 and rest[0] in self.means:
            if node.op in {"Sqrt", "Pow"}:
                self.means[made] = True
            elif node.op in PLAIN or kind_of(node.op) in {Kind.LAYOUT, Kind.CAST}:
                self.means[made] = self.means[rest[0]]

    def _learns(self, name: str, least: int = 1) -> bool:
        array = self.graph.constants[name]
        return holds_floats(array) and array.ndim >= least

    def _finite(self, name: str) -> bool:
        """What holds an infinite number or a NaN masks something, and learns nothing."""
        return bool(np.isfinite(self.graph.constants[name]).all())

    def _size(self, name: str) -> int:
        return int(self.graph.constants[name].size)
