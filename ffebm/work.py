"""How much a node computes, whichever unit runs it."""

import math

from ffebm.ir import Dim, Graph, Node
from ffebm.ops import OPS, Kind, kind_of


def sizes(shape: tuple[Dim, ...] | None) -> tuple[int, ...] | None:
    """A shape as numbers, a named first axis at a batch of one; None if another size is unknown."""
    if shape is None:
        return None
    numbers = tuple(_at_one(d) if i == 0 and isinstance(d, str) else d for i, d in enumerate(shape))
    known = tuple(d for d in numbers if isinstance(d, int))
    return known if len(known) == len(numbers) else None


def _at_one(size: str) -> int:
    """A named size at a batch of one: 8 for `8*batch`."""
    factor = size.partition("*")[0]
    return int(factor) if factor.isdecimal() else 1


def rows(graph: Graph, value: str, batch: int) -> int:
    """Entries of a value's first axis that belong to one sample: several where it also holds a sequence."""
    known = sizes(graph.shape(value))
    if not known or not known[0] or known[0] % batch:
        return 1
    return known[0] // batch


def elements(graph: Graph, value: str) -> int:
    """Number of elements of a value at a batch of one; 0 if unknown."""
    known = sizes(graph.shape(value))
    return math.prod(known) if known is not None else 0


def macs(graph: Graph, node: Node) -> int:
    """Multiply-accumulates of one run of a node; 0 for nodes that are made of no matrix products."""
    if node.op.startswith("aten.scaled_dot_product_attention"):
        query, key = (sizes(graph.shape(value)) for value in node.inputs[:2])
        return 2 * math.prod(query) * key[-2] if query and key else 0
    if kind_of(node.op) is Kind.RECURRENT:
        steps = elements(graph, node.inputs[0]) // (sizes(graph.shape(node.inputs[0])) or (1,))[-1]
        shapes = [graph.constants[v].shape for v in node.inputs if v in graph.constants]
        return steps * sum(math.prod(shape) for shape in shapes if len(shape) > 1)
    if node.op not in OPS or OPS[node.op].kind is not Kind.LINEAR:
        return 0
    if node.op == "ConvTranspose":
        weight = sizes(graph.shape(node.inputs[1]))
        return elements(graph, node.inputs[0]) * math.prod(weight[1:]) if weight else 0
    if node.op == "Conv":
        weight = sizes(graph.shape(node.inputs[1]))
        return elements(graph, node.outputs[0]) * math.prod(weight[1:]) if weight else 0
    left = sizes(graph.shape(node.inputs[0]))
    if not left:
        return 0
    inner = left[0] if node.op == "Gemm" and node.attrs.get("transA") else left[-1]
    return elements(graph, node.outputs[0]) * inner


def operations(graph: Graph, node: Node) -> float:
    """Digital operations of one run of a node, beside its multiply-accumulates."""
    work = OPS[node.op].work if node.op in OPS else 1.0
    per_output = work
    if node.op in {"MaxPool", "AveragePool"}:
        kernel = node.attrs.get("kernel_shape")
        per_output = float(math.prod(int(k) for k in kernel)) if isinstance(kernel, tuple) else work
    if OPS.get(node.op) is not None and OPS[node.op].kind is Kind.REDUCTION:
        return work * elements(graph, node.inputs[0])
    return per_output * sum(elements(graph, value) for value in node.outputs if value)


def parameters(graph: Graph, node: Node) -> int:
    """Number of trainable weights that a node reads."""
    return sum(graph.constants[v].size for v in dict.fromkeys(node.inputs) if v in graph.trainable)
