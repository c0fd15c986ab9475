"""Ops of torch that run graphs: what runs once is read in place, the rest becomes ONNX's control flow."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
from torch import fx

from ffebm.compiler.torch.views import Aliases, Named, NotInvertibleError
from ffebm.errors import Location
from ffebm.graph.graph import Attr, Graph, Node
from ffebm.graph.tensor import Array, TensorType


class Reader(Protocol):
    """What reads the nodes of a program."""

    graph: Graph
    aliases: Aliases
    numbers: dict[fx.Node, object]
    prefix: str

    def walk(self, nodes: Iterable[fx.Node]) -> None:
        """Read nodes in order."""

    def value(self, node: object) -> str:
        """Name of a node's value as it is now."""

    def append(self, node: fx.Node, op: str, inputs: list[str], attrs: dict[str, Attr]) -> list[str]:
        """Add a node; names of its outputs."""

    def constant(self, name: str, array: Array) -> str:
        """Add a constant."""

    def fresh(self, name: str) -> str:
        """A name that no value has."""

    def type_of(self, value: object) -> TensorType:
        """Type of what export saw."""

    def location(self, node: fx.Node) -> Location:
        """Where a node came from."""


def _region(reader: Reader, node: object) -> fx.GraphModule:
    assert isinstance(node, fx.Node)
    region = reader.numbers[node]
    assert isinstance(region, fx.GraphModule)
    return region


def _inline(reader: Reader, region: fx.GraphModule, operands: Iterable[object]) -> list[str]:
    """Read a region in place; operands are nodes around it, names of values, or numbers."""
    nodes = list(region.graph.nodes)
    taken = (node for node in nodes if node.op == "placeholder")
    for inner, outer in zip(taken, operands, strict=True):
        if isinstance(outer, Named):
            reader.aliases.enter(inner, outer.name)
        elif isinstance(outer, fx.Node) and outer not in reader.numbers:
            reader.aliases.same(inner, outer)
        else:
            reader.numbers[inner] = reader.numbers[outer] if isinstance(outer, fx.Node) else outer
    reader.walk(node for node in nodes if node.op != "placeholder")
    results = nodes[-1].args[0]
    return [reader.value(value) for value in (results if isinstance(results, tuple | list) else [results])]


@contextmanager
def _subgraph(reader: Reader, name: str) -> Iterator[Graph]:
    """A graph that takes what is read meanwhile."""
    nodes, prefix = reader.graph.nodes, reader.prefix
    inner = Graph(name=name, source=reader.graph.source)
    reader.graph.nodes, reader.prefix = inner.nodes, f"{prefix}{name}."
    yield inner
    made = [value for node in inner.nodes for value in node.outputs]
    inner.types = {value: reader.graph.types[value] for value in [*inner.inputs, *made]}
    reader.graph.nodes, reader.prefix = nodes, prefix


def _input(reader: Reader, inner: Graph, name: str, kind: TensorType) -> str:
    """A fresh input of a subgraph."""
    name = reader.fresh(name)
    reader.graph.types[name] = kind
    inner.inputs.append(name)
    return name


def _state(reader: Reader, inner: Graph, region: fx.GraphModule, count: int) -> list[str]:
    """The first arguments of a region as inputs of a subgraph."""
    taken = [node for node in region.graph.nodes if node.op == "placeholder"][:count]
    return [_input(reader, inner, node.name, reader.type_of(node.meta["val"])) for node in taken]


def _start(reader: Reader, node: fx.Node, values: Iterable[object]) -> list[str]:
    """Values that a region starts with; a number becomes a constant."""
    return [
        reader.value(value)
        if isinstance(value, fx.Node)
        else reader.constant(f"{node.name}.start", np.asarray(value))
        for value in values
    ]


def _without_gradient(reader: Reader, node: fx.Node) -> list[str]:
    """A part with gradients switched on or off."""
    on, region, *operands = node.args
    results = _inline(reader, _region(reader, region), operands)
    return results if on else [_detached(reader, node, value) for value in results]


def _detached(reader: Reader, node: fx.Node, value: str) -> str:
    name = reader.fresh(f"{node.name}.detach")
    reader.graph.nodes.append(
        Node("aten.detach.default", name, [value], [name], {"self": "%0"}, reader.location(node))
    )
    reader.graph.types[name] = reader.graph.types[value]
    return name


def _autocast(reader: Reader, node: fx.Node) -> list[str]:
    """A part with automatic casts switched off; one with casts is decomposed first."""
    _, _, on, _, region, *operands = node.args
    if on:
        raise NotInvertibleError("an autocast, which a decomposed program holds as casts")
    return _inline(reader, _region(reader, region), operands)


def _cond(reader: Reader, node: fx.Node) -> list[str]:
    """A condition as ONNX's If; its branches take what they read from outside."""
    chosen, yes, no, operands = node.args
    attrs: dict[str, Attr] = {}
    for key, branch in (("then_branch", yes), ("else_branch", no)):
        with _subgraph(reader, f"{node.name}.{key}") as inner:
            inner.outputs = _inline(reader, _region(reader, branch), _listed(operands))
        attrs[key] = inner
    flag = reader.value(chosen) if isinstance(chosen, fx.Node) else None
    flag = flag or reader.constant(f"{node.name}.condition", np.asarray(chosen))
    return reader.append(node, "If", [flag], attrs)


def _while(reader: Reader, node: fx.Node) -> list[str]:
    """A while loop as ONNX's Loop, whose body ends with the condition of the next round."""
    question, body = _region(reader, node.args[0]), _region(reader, node.args[1])
    more = _listed(node.args[3])
    start = _start(reader, node, _listed(node.args[2]))
    first = _inline(reader, question, [*map(Named, start), *more])
    with _subgraph(reader, f"{node.name}.body") as inner:
        _input(reader, inner, "round", TensorType("int64", ()))
        _input(reader, inner, "goes_on", TensorType("bool", ()))
        state = _state(reader, inner, body, len(start))
        results = _inline(reader, body, [*map(Named, state), *more])
        again = _inline(reader, question, [*map(Named, results), *more])
        inner.outputs = [*again, *results]
    return reader.append(node, "Loop", ["", *first, *start], {"body": inner})


def _scan(reader: Reader, node: fx.Node) -> list[str]:
    """A scan over first axes as ONNX's Scan; a map is one that carries nothing."""
    combine, *carried, scanned, more = node.args
    body = _region(reader, combine)
    start = _start(reader, node, _listed(carried[0]) if carried else ())
    slices = [reader.value(value) for value in _listed(scanned)]
    with _subgraph(reader, f"{node.name}.body") as inner:
        given = _state(reader, inner, body, len(start) + len(slices))
        inner.outputs = _inline(reader, body, [*map(Named, given), *_listed(more)])
    attrs: dict[str, Attr] = {"body": inner, "num_scan_inputs": len(slices)}
    return reader.append(node, "Scan", [*start, *slices], attrs)


def _listed(values: Any) -> Sequence[object]:
    assert isinstance(values, tuple | list)
    return values


REGIONS: dict[str, Callable[[Reader, fx.Node], list[str]]] = {
    "cond": _cond,
    "map_impl": _scan,
    "scan": _scan,
    "while_loop": _while,
    "wrap_with_autocast": _autocast,
    "wrap_with_set_grad_enabled": _without_gradient,
}
"""How each op of torch that runs graphs is read: (reader, node) -> names of its results."""
