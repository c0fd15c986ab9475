"""A matrix product over rows of which not only the first size is open: all rows become one axis, the batch.

A block's layers have known sizes behind the batch, so `[batch, time, n_in]` with an open time is read as
`[batch * time, n_in]`, and the product is given its axes back.
"""

import math
from collections.abc import Sequence

import numpy as np

from ffebm.graph.graph import Graph, Node
from ffebm.graph.tensor import Array, Dim, TensorType


def flatten_open_rows(graph: Graph) -> None:
    """Rewrite every product by a constant matrix that has an open size behind the first."""
    nodes: list[Node] = []
    for node in graph.nodes:
        nodes.extend(_flattened(graph, node) if _has_open_rows(graph, node) else [node])
    graph.nodes = nodes


def _has_open_rows(graph: Graph, node: Node) -> bool:
    if node.op != "MatMul" or node.inputs[1] not in graph.constants:
        return False
    shape = graph.shape(node.inputs[0]) or ()
    matrix = graph.constants[node.inputs[1]].ndim == 2
    return (
        matrix
        and isinstance(shape[-1] if shape else "", int)
        and any(isinstance(d, str) for d in shape[1:-1])
    )


def _flattened(graph: Graph, node: Node) -> list[Node]:
    x, weight = node.inputs
    *rows, n_in = graph.shape(x) or ()
    n_out = graph.constants[weight].shape[0 if node.attrs.get("transB") else 1]
    dtype, flat = graph.types[x].dtype, _product(rows)
    axes = _value(graph, f"{node.name}.axes", TensorType("int64", (len(rows),)))
    shape = _value(graph, f"{node.name}.shape", TensorType("int64", (len(rows) + 1,)))
    before = _value(graph, f"{node.name}.rows", TensorType(dtype, (flat, n_in)))
    after = _value(graph, f"{node.name}.products", TensorType(dtype, (flat, n_out)))
    one = _constant(graph, f"{node.name}.one_axis", np.asarray([-1, n_in], np.int64))
    last = _constant(graph, f"{node.name}.n_out", np.asarray([n_out], np.int64))
    graph.types[node.outputs[0]] = TensorType(dtype, (*rows, n_out))
    return [
        Node("Shape", axes, [x], [axes], {"end": -1}, node.location),
        Node("Concat", shape, [axes, last], [shape], {"axis": 0}, node.location),
        Node("Reshape", before, [x, one], [before], {}, node.location),
        Node("MatMul", node.name, [before, weight], [after], node.attrs, node.location),
        Node("Reshape", f"{node.name}.with_axes", [after, shape], node.outputs, {}, node.location),
    ]


def _product(sizes: Sequence[Dim]) -> str:
    """A name for all rows: `6*batch*time`."""
    known = math.prod(size for size in sizes if isinstance(size, int))
    names = [size for size in sizes if isinstance(size, str)]
    return "*".join([*([str(known)] if known != 1 else []), *names])


def _value(graph: Graph, name: str, kind: TensorType) -> str:
    """A fresh name for a value."""
    while name in graph.types:
        name += "_"
    graph.types[name] = kind
    return name


def _constant(graph: Graph, name: str, array: Array) -> str:
    name = _value(graph, name, TensorType(str(array.dtype), tuple(array.shape)))
    graph.constants[name] = array
    return name


__all__ = ["flatten_open_rows"]
