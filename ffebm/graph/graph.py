"""The graph: nodes and values in topological order, and the energy blocks formed over them.

A graph is rewritten in place by passes. Each pass moves it to a later `Stage`; a stage is a set of facts
that `verify` checks. `str(graph)` is stable text that tests compare.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal, TypeAlias

import msgspec
import numpy as np

from ffebm.errors import InternalError, Location

Dim = int | str
"""A size, or the name of a size that is only known at run time (the batch)."""

Array = np.ndarray[tuple[int, ...], np.dtype[np.generic]]


def holds_floats(array: Array) -> bool:
    """Whether an array holds floating-point numbers of 16 bits or more; numpy itself lacks bfloat16."""
    return (array.dtype.kind == "f" and array.dtype.itemsize > 1) or array.dtype.name == "bfloat16"


class TensorType(msgspec.Struct, frozen=True):
    """Element type and shape of a value.

    Attributes:
        dtype: numpy's name of the element type.
        shape: Sizes; None if even the rank is unknown.
    """

    dtype: str
    shape: tuple[Dim, ...] | None = None

    def __str__(self) -> str:
        shape = "?" if self.shape is None else "x".join(str(d) for d in self.shape)
        return f"{self.dtype}[{shape}]"


Attr: TypeAlias = (
    "bool | int | float | str | tuple[int, ...] | tuple[float, ...] | tuple[str, ...] | Graph | Array"
)
"""An attribute: ONNX's kinds; subgraphs are graphs, tensors are arrays."""


@dataclass(eq=False)
class Node:
    """One operation.

    Attributes:
        op: ONNX op name, `domain.name` outside the default domain, or a torch op (`aten.…`).
        name: Unique in the graph.
        inputs: Names of values; empty where an optional input is left out.
        outputs: Names of values; empty where an optional output is left out.
        location: Where the node came from.
        unit: What runs it: "tile" or "digital"; empty until partitioned.
        reason: Why that unit.
        block: Id of its energy block, if it is in one.
    """

    op: str
    name: str
    inputs: list[str]
    outputs: list[str]
    attrs: dict[str, Attr] = field(default_factory=dict)
    location: Location | None = None
    unit: str = ""
    reason: str = ""
    block: int | None = None


# --- energy blocks -----------------------------------------------------------------------------------


class Layout(msgspec.Struct, frozen=True):
    """A change of shape or axis order; the batch stays the first axis.

    Attributes:
        op: "Reshape" or "Transpose".
        sizes: Reshape: the sizes behind the batch. Transpose: the permutation of all axes.
    """

    op: Literal["Reshape", "Transpose"]
    sizes: tuple[int, ...]


class Linear(msgspec.Struct, frozen=True):
    """A linear map with a stationary weight, by its source name.

    Attributes:
        op: "Conv", "ConvTranspose" or "MatMul" (Gemm is one; it acts on the last axis).
        weight: Source name. Conv: [out, in / groups, *kernel]; ConvTranspose: [in, out / groups, *kernel];
            MatMul: [in, out], or [out, in] if `transposed`.
        bias: Source name of the bias inside the pooling, [out]; None without one.
        strides: Of a convolution.
        pads: Begin of each axis, then end of each axis, as ONNX has them.
        dilations: Of a convolution.
        groups: Of a convolution.
        output_padding: Of a transposed convolution.
        transposed: Of a MatMul: the weight is stored [out, in].
    """

    op: Literal["Conv", "ConvTranspose", "MatMul"]
    weight: str
    bias: str | None = None
    strides: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    groups: int = 1
    output_padding: tuple[int, ...] = ()
    transposed: bool = False


class Pool(msgspec.Struct, frozen=True):
    """A pooling behind a linear map.

    Attributes:
        op: "MaxPool" or "AveragePool".
        kernel: Window sizes.
        strides: Window steps.
        pads: Begin of each axis, then end of each axis.
        dilations: Steps inside a window (maximum only).
        ceil_mode: Keep windows that reach over the end.
        count_include_pad: Padding counts in an average.
    """

    op: Literal["MaxPool", "AveragePool"]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    dilations: tuple[int, ...] = ()
    ceil_mode: bool = False
    count_include_pad: bool = False


class Interaction(msgspec.Struct, frozen=True):
    """One term of a block's energy, -<s_layer, after(pool(linear(before(z))))>.

    Attributes:
        source: Value name of z: a free layer of the same block or a clamped input.
        before: Layout changes of z.
        linear: The linear map; None is the identity (a skip, or a drive computed elsewhere).
        pool: Pooling behind the linear map, if any.
        after: Layout changes of the drive.
        source_shape: Shape of z without the batch.
        linear_shape: Shape of the linear map's output without the batch.
    """

    source: str
    source_shape: tuple[int, ...]
    linear_shape: tuple[int, ...]
    before: tuple[Layout, ...] = ()
    linear: Linear | None = None
    pool: Pool | None = None
    after: tuple[Layout, ...] = ()


class Activation(msgspec.Struct, frozen=True):
    """A monotone activation s = sigma(scale * u).

    Attributes:
        op: ONNX op name; "Identity" for a linear layer.
        scale: Positive factor of the drive.
        alpha: Parameter of LeakyRelu, Elu, Celu, Selu, HardSigmoid (slope).
        beta: Parameter of HardSigmoid (offset), Selu (gamma).
        low: Lower bound of Clip.
        high: Upper bound of Clip.
    """

    op: str
    scale: float = 1.0
    alpha: float = 0.0
    beta: float = 0.0
    low: float | None = None
    high: float | None = None


class Layer(msgspec.Struct, frozen=True):
    """A free layer s_l = sigma(sum of drives + biases + top-down drives).

    Attributes:
        value: Value name of its state.
        shape: Shape of its state without the batch.
        activation: sigma.
        interactions: The terms that drive it bottom-up.
        biases: Source names of constants added to the drive, broadcast against the state.
    """

    value: str
    shape: tuple[int, ...]
    activation: Activation
    interactions: tuple[Interaction, ...]
    biases: tuple[str, ...] = ()


class EnergyBlock(msgspec.Struct, frozen=True):
    """A block of free layers that settle together.

    Attributes:
        id: Position among the blocks, in graph order.
        inputs: Value names of the clamped inputs.
        layers: The free layers, in graph order.
        outputs: Value names of the layers that are read outside the block.
    """

    id: int
    inputs: tuple[str, ...]
    layers: tuple[Layer, ...]
    outputs: tuple[str, ...]

    @property
    def name(self) -> str:
        """Stable short name, used in steps, messages and pictures."""
        return f"block{self.id}"

    def interactions(self) -> Iterator[tuple[Layer, Interaction]]:
        """Every interaction with the layer that it drives, in order."""
        for layer in self.layers:
            for interaction in layer.interactions:
                yield layer, interaction

    def colours(self) -> tuple[int, ...]:
        """A colour for each layer: layers that feel each other differ, so equal ones update at once.

        Greedy, breadth first from the first layer: any bipartite block takes two colours, and even and odd
        layers of a chain get 0 and 1.
        """
        position = {layer.value: index for index, layer in enumerate(self.layers)}
        neighbours: list[list[int]] = [[] for _ in self.layers]
        for layer, interaction in self.interactions():
            if interaction.source in position:
                here, there = position[layer.value], position[interaction.source]
                neighbours[here].append(there)
                neighbours[there].append(here)
        colour: dict[int, int] = {}
        for root in range(len(self.layers)):
            queue = [] if root in colour else [root]
            for index in queue:
                if index not in colour:
                    taken = {colour.get(peer) for peer in neighbours[index]}
                    colour[index] = next(c for c in range(len(self.layers)) if c not in taken)
                    queue.extend(neighbours[index])
        return tuple(colour[index] for index in range(len(self.layers)))

    def weights(self) -> tuple[str, ...]:
        """Source names of all weights and biases, each once, in order."""
        names: dict[str, None] = {}
        for layer in self.layers:
            for interaction in layer.interactions:
                if interaction.linear is not None:
                    names[interaction.linear.weight] = None
                    if interaction.linear.bias is not None:
                        names[interaction.linear.bias] = None
            names.update(dict.fromkeys(layer.biases))
        return tuple(names)


# --- the graph ---------------------------------------------------------------------------------------


class Part(msgspec.Struct, frozen=True):
    """A part of a weight matrix, small enough for one tile.

    Attributes:
        weight: Source name of the weight.
        group: Which group of a grouped convolution; 0 otherwise.
        inputs: Range of the group's inputs: first, and one behind the last.
        outputs: Range of the group's outputs.
    """

    weight: str
    group: int
    inputs: tuple[int, int]
    outputs: tuple[int, int]

    @property
    def n_in(self) -> int:
        """Word lines that it takes."""
        return self.inputs[1] - self.inputs[0]

    @property
    def n_out(self) -> int:
        """Bit-line pairs that it takes."""
        return self.outputs[1] - self.outputs[0]


class Place(msgspec.Struct, frozen=True):
    """Where a part lies: its tile, first word line and first bit-line pair."""

    tile: int
    row: int
    col: int


class Stage(IntEnum):
    """How far a graph has come; each stage keeps the facts of those before it."""

    IMPORTED = 0
    """Values are typed, nodes are in topological order, constants are apart."""
    CANONICAL = 1
    """Equal things are written in one way."""
    BLOCKED = 2
    """Energy blocks are formed; every node outside them has a reason."""
    TILED = 3
    """The weight matrices of the blocks are cut into parts that fit a tile."""
    PARTITIONED = 4
    """Every node has a unit and a reason; the remaining blocks fit the tiles together."""
    PLACED = 5
    """Every part of a remaining block has a place."""


@dataclass(eq=False)
class Graph:
    """A model graph.

    Attributes:
        name: The model's name.
        inputs: Value names fed at run time, in order.
        outputs: Value names returned, in order.
        nodes: In topological order.
        types: Type of every value and constant.
        constants: Arrays by source name.
        trainable: Names of the constants that training changes.
        blocks: Energy blocks, from stage BLOCKED on.
        parts: Parts of each weight on tiles, by source name, from stage TILED on.
        places: Where each part lies, from stage PLACED on.
        notes: What the user should know, in the order it was found.
        source: How the user named the model.
    """

    name: str
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    types: dict[str, TensorType] = field(default_factory=dict)
    constants: dict[str, Array] = field(default_factory=dict)
    trainable: set[str] = field(default_factory=set)
    blocks: list[EnergyBlock] = field(default_factory=list)
    parts: dict[str, tuple[Part, ...]] = field(default_factory=dict)
    places: dict[Part, Place] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    stage: Stage = Stage.IMPORTED
    source: str = ""

    def consumers(self) -> dict[str, list[Node]]:
        """The nodes that read each value, in order; one entry a node and value."""
        readers: dict[str, list[Node]] = {}
        for node in self.nodes:
            for value in dict.fromkeys(captured(node)):
                readers.setdefault(value, []).append(node)
        return readers

    def producers(self) -> dict[str, Node]:
        """The node that makes each value."""
        return {value: node for node in self.nodes for value in node.outputs if value}

    def shape(self, value: str) -> tuple[Dim, ...] | None:
        """Shape of a value; None if unknown."""
        known = self.types.get(value)
        return known.shape if known else None

    def values(self) -> set[str]:
        """Names of all values and constants that the graph makes or is given."""
        return {*self.inputs, *self.constants, *self.producers()}

    def arrays(self) -> Iterator[Array]:
        """Every constant, those of subgraphs too."""
        yield from self.constants.values()
        for node in self.nodes:
            for attr in node.attrs.values():
                if isinstance(attr, Graph):
                    yield from attr.arrays()

    def __eq__(self, other: object) -> bool:
        """The same nodes, constants and decisions; types of values that nothing makes do not count."""
        if not isinstance(other, Graph):
            return NotImplemented
        alike = ("name", "inputs", "outputs", "blocks", "parts", "places", "notes", "stage", "source")
        values, weights = self.values(), self.trainable & self.constants.keys()
        return (
            all(getattr(self, name) == getattr(other, name) for name in alike)
            and values == other.values()
            and all(self.types.get(value) == other.types.get(value) for value in values)
            and self.constants.keys() == other.constants.keys()
            and all(same_array(array, other.constants[name]) for name, array in self.constants.items())
            and weights == other.trainable & other.constants.keys()
            and len(self.nodes) == len(other.nodes)
            and all(map(_same_node, self.nodes, other.nodes))
        )

    __hash__ = object.__hash__

    def __str__(self) -> str:
        from ffebm.graph.text import graph_text  # the text form knows the graph, so it is asked only here

        return graph_text(self)


def same_array(ours: Array, theirs: Array) -> bool:
    """Equal types, shapes and elements; NaN equals NaN."""
    return ours.dtype == theirs.dtype and np.array_equal(
        ours, theirs, equal_nan=holds_floats(ours) or ours.dtype.kind == "c"
    )


def _same_node(ours: Node, theirs: Node) -> bool:
    plain = (f for f in Node.__dataclass_fields__ if f != "attrs")
    return (
        all(getattr(ours, name) == getattr(theirs, name) for name in plain)
        and ours.attrs.keys() == theirs.attrs.keys()
        and all(_same_attr(value, theirs.attrs[key]) for key, value in ours.attrs.items())
    )


def _same_attr(ours: Attr, theirs: Attr) -> bool:
    if isinstance(ours, np.ndarray) and isinstance(theirs, np.ndarray):
        return same_array(ours, theirs)
    return (
        type(ours) is type(theirs) and repr(ours) == repr(theirs)
        if not isinstance(ours, Graph)
        else ours == theirs
    )


def captured(node: Node) -> list[str]:
    """Values that a node reads: its inputs, and what its subgraphs take from outside."""
    names = [name for name in node.inputs if name]
    for attr in node.attrs.values():
        if isinstance(attr, Graph):
            inner = {*attr.inputs, *attr.constants, *(o for n in attr.nodes for o in n.outputs)}
            read = [name for n in attr.nodes for name in captured(n)] + attr.outputs
            names.extend(name for name in read if name not in inner)
    return names


def verify(graph: Graph) -> None:
    """Check the facts of the graph's stage.

    Raises:
        InternalError: With the first fact that does not hold.
    """
    _verify_order(graph)
    if graph.stage >= Stage.BLOCKED:
        _verify_blocks(graph)
    if graph.stage >= Stage.PARTITIONED:
        for node in graph.nodes:
            if node.unit not in {"tile", "digital"} or not node.reason:
                raise InternalError(f"{node.name} has no unit or no reason", location=node.location)
    if graph.stage >= Stage.PLACED:
        unplaced = [part for parts in graph.parts.values() for part in parts if part not in graph.places]
        if unplaced:
            raise InternalError(f"{unplaced[0]} has no place")


def _verify_order(graph: Graph) -> None:
    """Names are unique and every value is made once, before it is read."""
    defined = {*graph.inputs, *graph.constants}
    names: set[str] = set()
    for node in graph.nodes:
        if node.name in names:
            raise InternalError(f"two nodes are named {node.name}", location=node.location)
        names.add(node.name)
        missing = [value for value in captured(node) if value not in defined]
        if missing:
            raise InternalError(f"{node.name} reads {missing[0]} before it is made", location=node.location)
        twice = [value for value in node.outputs if value in defined]
        if twice:
            raise InternalError(f"{twice[0]} is made twice", location=node.location)
        defined.update(value for value in node.outputs if value)
    missing = [value for value in graph.outputs if value not in defined]
    if missing:
        raise InternalError(f"output {missing[0]} is never made")


def _verify_blocks(graph: Graph) -> None:
    """Blocks are numbered in order, and no block or node waits for itself once blocks are contracted."""
    producer = graph.producers()
    for position, block in enumerate(graph.blocks):
        if block.id != position:
            raise InternalError(f"{block.name} stands at position {position}")
        known = {*block.inputs, *(layer.value for layer in block.layers)}
        for layer, interaction in block.interactions():
            if interaction.source not in known:
                raise InternalError(f"{layer.value} of {block.name} reads unknown {interaction.source}")
    latest: dict[str, int] = dict.fromkeys([*graph.inputs, *graph.constants], -1)
    for node in graph.nodes:
        index = max((latest[value] for value in captured(node)), default=-1)
        if node.block is not None:
            outside = [v for v in captured(node) if v not in producer or producer[v].block != node.block]
            if any(latest[value] >= node.block for value in outside):
                raise InternalError(f"{node.name} makes block{node.block} wait for itself")
            index = node.block
        latest.update((value, index) for value in node.outputs if value)
