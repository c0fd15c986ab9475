"""The graph: nodes and values in topological order, and the energy blocks formed over them.

A graph is rewritten in place by passes. Each pass moves it to a later `Stage`; a stage is a set of facts
that `verify` checks. `str(graph)` is stable text that tests compare.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TypeAlias

import msgspec
import numpy as np

from ffebm.errors import Location
from ffebm.graph.energy_block import EnergyBlock
from ffebm.graph.tensor import Array, Dim, PlainAttr, TensorType, same_array
from ffebm.graph.text import (
    SHOWN,
    array_text,
    attr_text,
    block_lines,
    location_text,
    name_text,
    names_text,
    type_text,
)


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
        group: Which group of the machine's tiles or digital units runs it; empty until partitioned.
    """

    op: str
    name: str
    inputs: list[str]
    outputs: list[str]
    attrs: dict[str, "Attr"] = field(default_factory=dict)
    location: Location | None = None
    unit: str = ""
    reason: str = ""
    block: int | None = None
    group: str = ""


class Part(msgspec.Struct, frozen=True):
    """A part of a weight matrix, small enough for one tile.

    Attributes:
        weight: Source name of the weight.
        group: Which group of a grouped convolution; 0 otherwise.
        inputs: Range of the group's inputs: first, and one behind the last.
        outputs: Range of the group's outputs.
        bundle: Which of the weight's bundles; the parts of one lie together on an array.
        turn: Which read of the bundle takes it.
        replica: Which copy of the weight; each takes a share of the vectors.
        transposed: It is turned, for products with the transposed weight: outputs are on word lines.
    """

    weight: str
    group: int
    inputs: tuple[int, int]
    outputs: tuple[int, int]
    bundle: int = 0
    turn: int = 0
    replica: int = 0
    transposed: bool = False

    @property
    def n_in(self) -> int:
        """Word lines that it takes."""
        first, last = self.outputs if self.transposed else self.inputs
        return last - first

    @property
    def n_out(self) -> int:
        """Bit-line pairs that it takes."""
        first, last = self.inputs if self.transposed else self.outputs
        return last - first


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
        scattered: Where tiles are shared, parts of equal size come from blocks that are far apart.
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
    scattered: bool = False
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
        alike = (
            "name", "inputs", "outputs", "blocks", "parts", "places", "scattered", "notes", "stage", "source",
        )  # fmt: skip
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
        return graph_text(self)


Attr: TypeAlias = PlainAttr | Graph
"""An attribute: a plain one, or a subgraph."""


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


# --- the text form -----------------------------------------------------------------------------------


def graph_text(graph: Graph, shown: int = SHOWN) -> str:
    """A graph as text, one line a thing; it ends with a line break.

    Args:
        graph: The graph.
        shown: Most elements of a constant that stands in full.
    """
    return "".join(f"{line}\n" for line in _graph_lines(graph, "", shown))


def _graph_lines(graph: Graph, end: str, shown: int) -> Iterator[str]:
    head = f"graph {name_text(graph.name)} {names_text(graph.inputs)} -> {names_text(graph.outputs)}"
    source = f" from {json.dumps(graph.source)}" if graph.source else ""
    scattered = " scattered" if graph.scattered else ""
    yield f"{head} at {graph.stage.name}{scattered}{source}{end}"

    for note in graph.notes:
        yield f"  note {json.dumps(note)}"
    for name in graph.inputs:
        yield f"  input {name_text(name)}{type_text(graph.types.get(name))}"
    for name in sorted(graph.constants):
        mark = "weight" if name in graph.trainable else "constant"
        value = array_text(graph.constants[name], shown)
        yield f"  {mark} {name_text(name)}{type_text(graph.types.get(name))} = {value}"

    for node in graph.nodes:
        yield from (f"  {line}" for line in node_lines(node, graph, shown))
    for block in graph.blocks:
        yield from (f"  {line}" for line in block_lines(block))
    yield from _part_lines(graph)


def _part_lines(graph: Graph) -> Iterator[str]:
    """Where each part of each weight lies."""
    for parts in graph.parts.values():
        for part in parts:
            place = graph.places.get(part)
            where = "" if place is None else f" on tile {place.tile} row {place.row} col {place.col}"
            inputs, outputs = (f"{first}:{last}" for first, last in (part.inputs, part.outputs))
            name = name_text(part.weight)
            read = f"bundle {part.bundle} turn {part.turn} replica {part.replica}"
            read += " transposed" if part.transposed else ""
            yield f"  part {name} group {part.group} inputs {inputs} outputs {outputs} {read}{where}"


def node_lines(node: Node, graph: Graph, shown: int = SHOWN) -> Iterator[str]:
    """A node as it stands in the text of its graph: one line, and those of its subgraphs."""
    made = ", ".join(f"{name_text(value)}{type_text(graph.types.get(value))}" for value in node.outputs)
    line = f"{made} = {name_text(node.op)}{names_text(node.inputs)}"
    for key, value in sorted(node.attrs.items()):
        if not isinstance(value, Graph):
            line += f" {name_text(key)}={attr_text(value)}"
            continue
        first, *rest = _graph_lines(value, " {", shown)
        yield f"{line} {name_text(key)}={first}"
        yield from (f"  {inner}" for inner in rest)
        line = "}"
    if node.name != node.outputs[0]:
        line += f" named {json.dumps(node.name)}"
    yield f"{line}{location_text(node.location, graph.source)}{_decision_text(node)}"


def _decision_text(node: Node) -> str:
    """The unit of a node, its block and the reason, as a comment."""
    if not node.unit:
        return ""
    group = f" in {name_text(node.group)}" if node.group else ""
    block = "" if node.block is None else f" block {node.block}"
    plain = node.reason.isprintable() and not node.reason.startswith('"')
    reason = node.reason if plain else json.dumps(node.reason)
    return f"  # {node.unit}{group}{block}: {reason}"
