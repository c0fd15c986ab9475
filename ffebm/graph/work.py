"""How much a node computes, whichever unit runs it: multiply-accumulates, other operations, weights.

A size that is only known at run time counts as one: the batch, and what else is open.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from ffebm.graph.graph import Graph, Node, captured
from ffebm.graph.ops import OPS, Kind, kind_of
from ffebm.graph.tensor import Array, Dim

WorkRule = Callable[[Graph, Node], int]


def sizes(shape: tuple[Dim, ...] | None) -> tuple[int, ...] | None:
    """A shape as numbers, each named size at one; None if a size has no name, or the rank is unknown."""
    if shape is None or "?" in shape:
        return None
    return tuple(d if isinstance(d, int) else _at_one(d) for d in shape)


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


# --- multiply-accumulates ----------------------------------------------------------------------------


def macs(graph: Graph, node: Node) -> int:
    """Multiply-accumulates of one run of a node; 0 for nodes that are made of no matrix products."""
    count = _COUNTS.get(node.op) or _COUNTS.get(_plain_name(node.op))
    return count(graph, node) if count is not None else 0


def _plain_name(op: str) -> str:
    """`aten.conv2d` of `aten.conv2d.default`; nothing for ONNX's names."""
    return op.rpartition(".")[0] if op.startswith("aten.") else ""


def _size(graph: Graph, value: str, axis: int) -> int:
    """One size of a value; 0 if unknown."""
    known = sizes(graph.shape(value))
    return known[axis] if known and -len(known) <= axis < len(known) else 0


def _convolution(position: int) -> WorkRule:
    """Each output element reads the kernel of its group; the weight is the input at a position."""

    def count(graph: Graph, node: Node) -> int:
        weight = sizes(graph.shape(node.inputs[position]))
        return elements(graph, node.outputs[0]) * math.prod(weight[1:]) if weight else 0

    return count


def _transposed_convolution(graph: Graph, node: Node) -> int:
    weight = sizes(graph.shape(node.inputs[1]))
    return elements(graph, node.inputs[0]) * math.prod(weight[1:]) if weight else 0


def _torch_convolution(graph: Graph, node: Node) -> int:
    return (_transposed_convolution if node.attrs.get("transposed") else _convolution(1))(graph, node)


def _product(position: int, axis: int = -1) -> WorkRule:
    """Each output element sums over an axis of the operand at a position."""
    return lambda graph, node: elements(graph, node.outputs[0]) * _size(graph, node.inputs[position], axis)


def _gemm(graph: Graph, node: Node) -> int:
    return _product(0, 0 if node.attrs.get("transA") else -1)(graph, node)


def _summed_product(graph: Graph, node: Node) -> int:
    """Products of matrices (torch's addbmm), summed over the batch."""
    left = _operand(node, "batch1")
    return elements(graph, node.outputs[0]) * _size(graph, left, -1) * _size(graph, left, 0)


def _torch_product(name: str) -> WorkRule:
    return lambda graph, node: elements(graph, node.outputs[0]) * _size(graph, _operand(node, name), -1)


def _operand(node: Node, name: str) -> str:
    """The value of a torch argument."""
    return node.inputs[int(str(node.attrs[name]).removeprefix("%"))]


def _bilinear(graph: Graph, node: Node) -> int:
    """x1' W x2: one product with each matrix of the weight, one with the other operand."""
    weight = sizes(graph.shape(_operand(node, "weight")))
    return elements(graph, node.outputs[0]) * weight[2] * (weight[1] + 1) if weight else 0


def _einsum(graph: Graph, node: Node) -> int:
    """Every combination of indices, once for each operand after the first."""
    terms = str(node.attrs["equation"]).replace(" ", "").partition("->")[0].split(",")
    extent: dict[str, int] = {}
    shared = 1  # what `...` stands for, at most
    for term, value in zip(terms, node.inputs, strict=False):
        known = sizes(graph.shape(value))
        if known is None:
            return 0
        before, dots, behind = term.partition("...")
        if dots:
            shared = max(shared, math.prod(known[len(before) : len(known) - len(behind)]))
        extent.update(zip(before, known, strict=False))
        extent.update(zip(reversed(behind), reversed(known), strict=False))
    return shared * math.prod(extent.values()) * (len(terms) - 1)


def _attention(graph: Graph, node: Node) -> int:
    """Scores and weighted values: query and result each meet every key."""
    query, key = node.inputs[:2]
    seen = _size(graph, key, 1 if len(graph.shape(key) or ()) == 3 else -2)
    past = node.inputs[4] if node.op == "Attention" and len(node.inputs) > 4 else ""
    seen += _size(graph, past, -2) if past else 0
    return (elements(graph, query) + elements(graph, node.outputs[0])) * seen


def _linear_attention(graph: Graph, node: Node) -> int:
    """Each key writes a matrix state (and reads it, under a delta rule); each query reads it."""
    query, key, value = node.inputs[:3]
    heads = node.attrs.get("kv_num_heads")
    width = _size(graph, value, -1) // heads if isinstance(heads, int) and heads else 0
    touches = 2 if len(node.inputs) > 5 and node.inputs[5] else 1
    return width * (touches * elements(graph, key) + elements(graph, query))


def _recurrent(graph: Graph, node: Node) -> int:
    """Both matrices of each direction at each step."""
    steps = _steps(graph, node)
    return steps * sum(elements(graph, value) for value in node.inputs[1:3])


def _torch_recurrent(graph: Graph, node: Node) -> int:
    """All matrices of all layers at each step; a hidden state has three axes."""
    matrices = [value for value in node.inputs[1:] if len(graph.shape(value) or ()) == 2]
    return _steps(graph, node) * sum(elements(graph, value) for value in matrices)


def _steps(graph: Graph, node: Node) -> int:
    width = _size(graph, node.inputs[0], -1)
    return elements(graph, node.inputs[0]) // width if width else 0


def _cell(graph: Graph, node: Node) -> int:
    return _steps(graph, node) * sum(elements(graph, _operand(node, name)) for name in ("w_ih", "w_hh"))


def _branches(graph: Graph, node: Node) -> int:
    """Of a condition: the branch with more work."""
    return max(map(_inside, _subgraphs(graph, node)), default=0)


def _rounds(graph: Graph, node: Node) -> int:
    """Of a loop: its body, as often as it runs if that is constant, else once."""
    trips = graph.constants.get(node.inputs[0])
    times = int(trips.ravel()[0]) if trips is not None and trips.size == 1 else 1
    return max(times, 0) * sum(map(_inside, _subgraphs(graph, node)))


def _scanned(graph: Graph, node: Node) -> int:
    """Of a scan: its body, once for each slice."""
    axes = node.attrs.get("scan_input_axes")
    axis = int(axes[-1]) if isinstance(axes, tuple) and axes else 0
    return _size(graph, node.inputs[-1], axis) * sum(map(_inside, _subgraphs(graph, node)))


def _learnt(name: str) -> WorkRule:
    """Of a classifier or regressor that holds its numbers in an attribute: each once a sample."""

    def count(graph: Graph, node: Node) -> int:
        numbers = node.attrs.get(name, ())
        return (
            numbers.size
            if isinstance(numbers, np.ndarray)
            else len(numbers)
            if isinstance(numbers, tuple)
            else 0
        )

    return count


def _inside(graph: Graph) -> int:
    return sum(macs(graph, node) for node in graph.nodes)


def _subgraphs(graph: Graph, node: Node) -> Iterator[Graph]:
    """The graphs inside a node, each with what it sees of the graph around it."""
    for attr in node.attrs.values():
        if isinstance(attr, Graph):
            constants = {**graph.constants, **attr.constants}
            types = {**graph.types, **attr.types}
            yield Graph(attr.name, nodes=attr.nodes, types=types, constants=constants)


_COUNTS: dict[str, WorkRule] = {
    "Attention": _attention,
    "CausalConvWithState": _convolution(1),
    "Conv": _convolution(1),
    "ConvInteger": _convolution(1),
    "ConvTranspose": _transposed_convolution,
    "DeformConv": _convolution(1),
    "Einsum": _einsum,
    "GRU": _recurrent,
    "Gemm": _gemm,
    "If": _branches,
    "LSTM": _recurrent,
    "LinearAttention": _linear_attention,
    "Loop": _rounds,
    "MatMul": _product(0),
    "MatMulInteger": _product(0),
    "QLinearConv": _convolution(3),
    "QLinearMatMul": _product(0),
    "RNN": _recurrent,
    "Scan": _scanned,
    "ai.onnx.preview.FlexAttention": _attention,
    "ai.onnx.ml.LinearClassifier": _learnt("coefficients"),
    "ai.onnx.ml.SVMClassifier": _learnt("support_vectors"),
    "ai.onnx.ml.SVMRegressor": _learnt("support_vectors"),
    "aten.addbmm": _summed_product,
    "aten.addmv": _torch_product("mat"),
    "aten.addmm": _torch_product("mat1"),
    "aten.baddbmm": _torch_product("batch1"),
    "aten.bilinear": _bilinear,
    "aten.bmm": _product(0),
    "aten.dot": _product(0),
    "aten.einsum": _einsum,
    "aten.gru": _torch_recurrent,
    "aten.gru_cell": _cell,
    "aten.linear": _product(0),
    "aten.lstm": _torch_recurrent,
    "aten.lstm_cell": _cell,
    "aten.matmul": _product(0),
    "aten.mm": _product(0),
    "aten.mv": _product(0),
    "aten.rnn_relu": _torch_recurrent,
    "aten.rnn_relu_cell": _cell,
    "aten.rnn_tanh": _torch_recurrent,
    "aten.rnn_tanh_cell": _cell,
    "aten.scaled_dot_product_attention": _attention,
    "aten.vdot": _product(0),
    "com.microsoft.DynamicQuantizeMatMul": _product(0),
    "com.microsoft.MatMulIntegerToFloat": _product(0),
    "com.microsoft.MultiHeadAttention": _attention,
    "com.microsoft.QGemm": _gemm,
    **{f"aten.conv{axes}d": _convolution(1) for axes in (1, 2, 3)},
    **{f"aten.conv_transpose{axes}d": _transposed_convolution for axes in (1, 2, 3)},
    "aten.convolution": _torch_convolution,
}
"""How the products of each op are counted; torch's ops without their overload."""


# --- other work, and weights -------------------------------------------------------------------------


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
    """Number of weights that a node reads, in subgraphs too: trainable ones, and those that stay."""
    read = dict.fromkeys(captured(node))
    held = stationary(node.op, node.inputs, graph.constants)
    return sum(graph.constants[v].size for v in read if v in graph.trainable or v in held)


def stationary(op: str, inputs: Sequence[str], constants: Mapping[str, Array]) -> set[str]:
    """Constants that a linear, recurrent or quantised layer has as weights, whether they train or not.

    Args:
        op: The layer's op.
        inputs: Its inputs.
        constants: Arrays by source name.
    """
    kind = kind_of(op)
    if kind not in {Kind.LINEAR, Kind.OTHER_LINEAR, Kind.RECURRENT, Kind.QUANTISED}:
        return set()
    positions = OPS[op].weights if op in OPS else range(len(inputs))
    return {inputs[p] for p in positions if p < len(inputs) and inputs[p] in constants}
