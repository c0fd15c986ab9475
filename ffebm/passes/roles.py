"""Roles of constants: which train, and which stay as they are.

A torch model says itself what its parameters are. An ONNX file says only which op reads a constant: weights
of linear maps, convolutions, normalisations, embeddings and recurrent layers train, biases behind them, and
scale and shift of a normalisation that is written out in parts. Masks, position tables, means and deviations
are operands of sums and products too; they train where that is asked for.

A table that `Gather` reads is an embedding if the inputs say which rows it reads. One that is read at places
that constants, shapes and counting alone give holds something a place, as a position table, a buffer of sines
or a mask does; so does one of sines or ramps, whatever reads it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase

import numpy as np

from ffebm.errors import Location, UsageError
from ffebm.files.mapped import let_go
from ffebm.graph.graph import Graph, Node, Stage, captured
from ffebm.graph.ops import OPS, Kind, kind_of
from ffebm.graph.tensor import Array, holds_floats
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

TABLES: dict[str, dict[int, int]] = {
    "Gather": {0: 1},
    "com.microsoft.EmbedLayerNormalization": {2: 0, 3: 8, 4: 1},
}
"""Positions of the tables that an op reads rows of, with the position of what says which rows."""
SIZES = frozenset({"ConstantOfShape", "EyeLike", "Shape", "Size"})
"""Ops whose results no element of their operands changes."""
ORDER = frozenset(
    {"Add", "Sub", "Mul", "Where", "Max", "Min", "Clip", "Concat", "Expand", "Pad", "Slice", "Split", "Tile"}
)
"""Ops through which what is counted stays a place, whatever their other operands are."""
SAMPLE, LEAST = 64, 8
"""Rows by which a table is known as one of sines, and the fewest that tell."""


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
            reader = _RoleReader(graph)
            reader.read(graph)
            graph.trainable = reader.trained
        graph.trainable |= _asked(graph, self.trainable)
        if self.decides:
            graph.notes.extend(
                f"{name} is read by place, not by token: it does not train unless --trainable names it"
                for name in reader.by_place
                if name not in graph.trainable
            )


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


def _random(node: Node) -> bool:
    return node.op in OPS and OPS[node.op].random


def _of_sines(table: Array, axis: int) -> bool:
    """Whether each column of a table is a sine over its rows, or a ramp, and not all are constant.

    Of a sine of any frequency and phase, what stands above and below a number adds up to a multiple of it,
    the same in all rows; a ramp's does so twice. No table that has learnt, or is fresh, is like that. The two
    first rows are left out, where some models put zeros for padding.

    A number is rounded by half a unit of its type, and three of them with a factor of at most two make two
    units; the angle was a product in float32, off by up to half a unit of its own size, a row number.

    Args:
        table: Finite numbers.
        axis: Of the rows.
    """
    sample = np.moveaxis(table, axis, 0)[2 : 2 + SAMPLE]
    if len(sample) < LEAST or not sample.size:
        return False
    rows = sample.astype(np.float64).reshape(len(sample), -1)
    unit = float(np.finfo(np.float32).eps)
    width = {"bfloat16": 2.0**-7, "float16": 2.0**-10, "float32": unit}.get(table.dtype.name, 2.0**-52)
    bound = (2 * width + 2 * (SAMPLE + 2) * unit) * np.abs(rows).max(axis=0)
    middle, around = rows[1:-1], rows[2:] + rows[:-2]
    power = (middle**2).sum(axis=0)
    factor = np.divide((middle * around).sum(axis=0), power, out=np.zeros_like(power), where=power > 0)
    follows = np.abs(around - factor * middle).max(axis=0) <= bound
    moves = np.ptp(rows, axis=0) > bound
    return bool(follows.all() and moves.any())


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
class _RoleReader:
    """Reads nodes in order, and keeps what is known of each value.

    Attributes:
        trained: Constants that train.
        root: The constant that a value is behind layout changes and casts.
        widths: Sizes of the outputs of the linear maps that make a value, if only sums and layouts follow.
        means: Values that are means over units, False, or deviations, True.
        normal: Normalised values, with the size of the scale behind them; 1 without.
        places: Values that constants, shapes and counting alone give.
        counted: Those of them that count elements of the data, as places behind padding are.
        by_place: Tables that only such values read.
    """

    graph: Graph
    trained: set[str] = field(default_factory=set)
    root: dict[str, str] = field(default_factory=dict)
    widths: dict[str, frozenset[int]] = field(default_factory=dict)
    means: dict[str, bool] = field(default_factory=dict)
    normal: dict[str, int] = field(default_factory=dict)
    places: set[str] = field(default_factory=set)
    counted: set[str] = field(default_factory=set)
    by_place: dict[str, None] = field(default_factory=dict)

    def read(self, graph: Graph) -> None:
        """Read the nodes of a graph in order, those of subgraphs before their node."""
        self.places.update(graph.constants)
        for node in graph.nodes:
            for attr in node.attrs.values():
                if isinstance(attr, Graph):
                    if node.op == "Loop":  # the number of the iteration
                        self.places.update(attr.inputs[:1])
                    self.read(attr)
            self._node(node)

    def _node(self, node: Node) -> None:
        self._place(node)
        kind = kind_of(node.op)
        if kind in {Kind.LAYOUT, Kind.CAST, Kind.POOL}:
            self._pass_on(node)
        elif kind in {Kind.SUM, Kind.SCALE, Kind.ARITHMETIC}:
            self._arithmetic(node, kind)
        elif node.op in OPS:
            self._weights(node)
        self._deviation(node)

    def _place(self, node: Node) -> None:
        """Follow what is known without the elements of any input."""
        made = [value for value in node.outputs if value]
        read = captured(node)
        if node.op in SIZES or (self.places.issuperset(read) and not _random(node)):
            self.places.update(made)
        elif node.op == "CumSum" or self._still_counts(node):
            self.places.update(made)
            self.counted.update(made)

    def _still_counts(self, node: Node) -> bool:
        kept = node.op in ORDER or kind_of(node.op) in {Kind.LAYOUT, Kind.CAST}
        return kept and not self.counted.isdisjoint(node.inputs)

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
        if op.kind is Kind.FUNCTION:  # the slope of an activation trains where that is asked for
            return
        for position in op.weights:
            value = node.inputs[position] if position < len(node.inputs) else ""
            held = self._constant(value)
            if not held or not self._learns(held, least=2 if node.op == "Gather" else 1):
                continue
            if position in TABLES.get(node.op, ()) and self._is_of_places(node, position, held):
                self.by_place[held] = None
                continue
            if op.kind is not Kind.LINEAR and not self._finite(held):
                continue
            self.trained.add(held)
            widths |= set(self.graph.shape(value) or self.graph.constants[held].shape)  # type: ignore[arg-type]
        if op.kind in {Kind.LINEAR, Kind.OTHER_LINEAR} and widths:
            self.widths[node.outputs[0]] = frozenset(self._width(node) or widths)
        if node.op in NORMALISATIONS:
            self.normal[node.outputs[0]] = 1

    def _is_of_places(self, node: Node, position: int, held: str) -> bool:
        """Whether a table holds something a place, not something a token."""
        rows = TABLES[node.op][position]
        index = node.inputs[rows] if rows < len(node.inputs) else ""
        table = self.graph.constants[held]  # in whatever layout it is stored
        return not index or index in self.places or any(_of_sines(table, axis) for axis in range(table.ndim))

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
        array = self.graph.constants[name]
        finite = bool(np.isfinite(array).all())
        let_go(array)
        return finite

    def _size(self, name: str) -> int:
        return int(self.graph.constants[name].size)
