from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from onnx import GraphProto, NodeProto, TensorProto, helper
from torch import Tensor, nn

from ffebm import compile as compile_plan
from ffebm.graph.graph import Graph, Node
from ffebm.graph.tensor import PlainAttr, TensorType
from ffebm.graph.work import elements, macs, operations, parameters, rows, sizes
from ffebm.passes.fold_constants import FoldConstants
from ffebm.passes.roles import Roles
from ffebm.report.terminal.words import explain_lines
from tests.machines import crossbars
from tests.models import Builder
from tests.passes.common import imported


def test_sizes_of_open_shapes() -> None:
    assert sizes(("N", 3)) == (1, 3)
    assert sizes((5, "8*batch", "T", 4)) == (5, 8, 1, 4)
    assert sizes((4, "?")) is None
    assert sizes(None) is None
    assert sizes(()) == ()


Build = Callable[[Builder, str], str]
CASES: dict[str, tuple[Build, int, int]] = {
    "Conv": (
        lambda b, x: b.node("Conv", x, b.weight(6, 2, 3, 3), b.weight(6), group=2),
        6 * 2 * 3 * 3 * 4,
        6 * 18 + 6,
    ),
    "ConvTranspose": (
        lambda b, x: b.node("ConvTranspose", x, b.weight(4, 3, 2, 2), group=2),
        4 * 16 * 3 * 4,
        48,
    ),
    "Gemm": (
        lambda b, x: b.node("Gemm", b.node("Flatten", x), b.weight(3, 64), b.weight(3), transB=1),
        192,
        195,
    ),
    "MatMul": (lambda b, x: b.node("MatMul", x, b.weight(4, 5)), 4 * 4 * 4 * 5, 20),
    "Relu": (lambda b, x: b.node("Relu", x), 0, 0),
    "ConvInteger": (
        lambda b, x: b.node("ConvInteger", b.node("Cast", x, to=TensorProto.UINT8), steps(b, 6, 4, 3, 3)),
        6 * 2 * 2 * 36,
        6 * 36,
    ),
    "MatMulInteger": (
        lambda b, x: b.node("MatMulInteger", b.node("Cast", x, to=TensorProto.UINT8), steps(b, 4, 5)),
        4 * 4 * 4 * 5,
        20,
    ),
    "QLinearConv": (
        lambda b, x: b.node("QLinearConv", *quantised(b, x), *quantised(b, "", 6, 4, 3, 3), *scale(b)),
        6 * 2 * 2 * 36,
        6 * 36,
    ),
    "QLinearMatMul": (
        lambda b, x: b.node("QLinearMatMul", *quantised(b, x), *quantised(b, "", 4, 5), *scale(b)),
        4 * 4 * 4 * 5,
        20,
    ),
    "Einsum": (
        lambda b, x: b.node("Einsum", x, b.weight(4, 5), equation="nchw,wk->nchk"),
        4 * 4 * 4 * 5,
        20,
    ),
    "Einsum with dots": (
        lambda b, x: b.node("Einsum", x, b.weight(4, 5), equation="...w, wk -> ...k"),
        4 * 4 * 4 * 5,
        20,
    ),
    "LSTM": (
        # 16 steps; both directions of four gates read 4 inputs and 3 hidden units
        lambda b, x: b.node(
            "LSTM",
            b.node("Reshape", x, b.shape(16, -1, 4)),
            *(b.weight(2, 12, 4), b.weight(2, 12, 3), b.weight(2, 24)),
            hidden_size=3,
            direction="bidirectional",
        ),
        16 * 2 * 12 * (4 + 3),
        2 * 12 * (4 + 3 + 2),
    ),
    "GRU": (
        lambda b, x: b.node(
            "GRU",
            b.node("Reshape", x, b.shape(16, -1, 4)),
            b.weight(1, 9, 4),
            b.weight(1, 9, 3),
            hidden_size=3,
        ),
        16 * 9 * (4 + 3),
        9 * (4 + 3),
    ),
    "Attention": (lambda b, x: b.node("Attention", x, x, x), 2 * 4 * 4 * 4 * 4, 0),
    "If": (
        lambda b, x: b.node(
            "If",
            b.node("IsNaN", b.node("ReduceSum", x, keepdims=0)),
            then_branch=region(helper.make_node("MatMul", [x, b.weight(4, 5, name="wide")], ["t"])),
            else_branch=region(helper.make_node("MatMul", [x, b.weight(4, 3, name="slim")], ["e"])),
        ),
        4 * 4 * 4 * 5,
        4 * 5 + 4 * 3,
    ),
    "Loop": (
        lambda b, x: b.node(
            "Loop",
            *(b.constant(np.asarray(3)), b.constant(np.asarray(True)), x),
            body=region(
                helper.make_node("Identity", ["go"], ["on"]),
                helper.make_node("MatMul", ["state", b.weight(4, 4, name="again")], ["next"]),
                inputs={"i": [], "go": [], "state": ["N", 4, 4, 4]},
                outputs=["on", "next"],
            ),
        ),
        3 * 4 * 4 * 4 * 4,
        16,
    ),
    "Loop as long as it goes on": (
        lambda b, x: b.node(
            "Loop",
            *(b.node("Size", x), b.constant(np.asarray(True)), x),
            body=region(
                helper.make_node("Identity", ["go"], ["on"]),
                helper.make_node("MatMul", ["state", b.weight(4, 4, name="again")], ["next"]),
                inputs={"i": [], "go": [], "state": ["N", 4, 4, 4]},
                outputs=["on", "next"],
            ),
        ),
        4 * 4 * 4 * 4,
        16,
    ),
}


def steps(b: Builder, *shape: int) -> str:
    return b.constant(b.rng.integers(0, 9, shape).astype(np.uint8))


def scale(b: Builder) -> tuple[str, str]:
    return b.constant(0.5), b.constant(np.asarray(3, np.uint8))


def quantised(b: Builder, x: str, *shape: int) -> tuple[str, str, str]:
    """An input in bytes or a weight in bytes, with scale and zero point."""
    factor, zero = scale(b)
    return (b.node("QuantizeLinear", x, factor, zero) if x else steps(b, *shape)), factor, zero


def region(
    *nodes: NodeProto, inputs: dict[str, list[int | str]] | None = None, outputs: Sequence[str] = ()
) -> GraphProto:
    """A graph inside a node."""
    kinds = {"i": TensorProto.INT64, "go": TensorProto.BOOL, "on": TensorProto.BOOL}
    names = outputs or nodes[-1].output
    return helper.make_graph(
        nodes,
        "region",
        [
            helper.make_tensor_value_info(name, kinds.get(name, TensorProto.FLOAT), shape)
            for name, shape in (inputs or {}).items()
        ],
        [helper.make_tensor_value_info(name, kinds.get(name, TensorProto.FLOAT), None) for name in names],
    )


@pytest.mark.parametrize("case", CASES)
def test_multiply_accumulates_and_weights(case: str) -> None:
    build, products, weights = CASES[case]
    b = Builder()
    opset = 24 if case == "Attention" else 20
    y = b.node("Cast", build(b, b.input("x", "N", 4, 4, 4)), to=TensorProto.FLOAT)
    graph = imported(b.model(y, opset=opset))
    FoldConstants().run(graph, crossbars(1, 1, 1))
    Roles().run(graph, crossbars(1, 1, 1))
    node = next(node for node in reversed(graph.nodes) if node.op == case.split()[0])
    assert (macs(graph, node), parameters(graph, node)) == (products, weights)


@pytest.mark.parametrize(
    ("op", "attrs", "expected"),
    [
        ("Relu", {}, 64),
        ("Sigmoid", {}, 4 * 64),
        ("Flatten", {}, 0),
        ("MaxPool", {"kernel_shape": [2, 3]}, 6 * 4 * 3 * 2),
        ("ReduceSum", {}, 64),
    ],
)
def test_other_operations(op: str, attrs: dict[str, list[int]], expected: float) -> None:
    b = Builder()
    y = b.input("x", "N", 4, 4, 4)
    y = b.node(op, y, kernel_shape=attrs["kernel_shape"]) if attrs else b.node(op, y)
    graph = imported(b.model(y))
    assert operations(graph, graph.nodes[0]) == expected
    assert elements(graph, "x") == 64


def test_a_plan_carries_the_figures() -> None:
    b = Builder()
    plan = compile_plan(b.model(b.node("MatMul", b.input("x", 3, 4), b.weight(4, 5))), hardware="ideal")
    assert [(n.macs, n.weights, n.shape) for n in plan.nodes] == [(60, 20, (3, 5))]


class Rest(nn.Module):
    """Layers of torch that have no ONNX name here."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(4, 3)
        self.layer = nn.GRU(4, 3, num_layers=2, batch_first=True)
        self.both = nn.Bilinear(4, 5, 6)
        self.weight = nn.Parameter(torch.randn(4, 7))

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        seen, wide = self.layer(x)[0], torch.einsum("bti,ij->btj", x, self.weight)
        query = x.unsqueeze(1)
        shown = nn.functional.scaled_dot_product_attention(query, query, query)
        return self.cell(x[:, 0])[0], seen, self.both(x[:, 0], y), wide, shown


def test_multiply_accumulates_of_torch_s_own_ops() -> None:
    plan = compile_plan(Rest(), (torch.randn(2, 6, 4), torch.randn(2, 5)), hardware="ideal")
    found = {node.op.split(".")[1]: (node.macs, node.weights) for node in plan.nodes if node.macs}
    assert found == {
        "bilinear": (6 * 5 * (4 + 1), 6 * 4 * 5 + 6),
        "einsum": (6 * 4 * 7, 4 * 7),
        "gru": (6 * 9 * (4 + 3 + 3 + 3), 9 * (4 + 3 + 3 + 3) + 4 * 9),
        "lstm_cell": (12 * (4 + 3), 12 * (4 + 3) + 2 * 12),
        "scaled_dot_product_attention": (2 * 6 * 6 * 4, 0),
    }


def test_a_frozen_or_quantised_weight_counts_as_a_weight() -> None:
    b = Builder()
    x = b.node("MatMul", b.input("x", "N", 4), b.weight(4, 4))
    y = b.node("QLinearMatMul", *quantised(b, x), *quantised(b, "", 4, 12), *scale(b))
    plan = compile_plan(b.model(b.node("Cast", y, to=TensorProto.FLOAT)), hardware="ideal")
    assert [(n.op, n.weights, n.reason) for n in plan.nodes if n.weights] == [
        ("MatMul", 16, "linear map with a stationary weight, into layer 1 of 1 in block0"),
        (
            "QLinearMatMul",
            48,
            "integer arithmetic with zero points and rounding, so it has no energy; its weight is stationary "
            "and stays in digital memory",
        ),
    ]
    assert "on tiles: 25.0 % of multiply-accumulates, 25.0 % of weights" in list(explain_lines(plan))


def test_a_recurrent_weight_stays_in_digital_memory() -> None:
    b = Builder()
    x, w, r = b.input("x", 5, "N", 4), b.weight(1, 3, 4), b.weight(1, 3, 3)
    plan = compile_plan(b.model(b.node("RNN", x, w, r, hidden_size=3)), hardware="ideal")
    assert plan.nodes[0].reason == (
        "recurrence: its gates multiply activations, step after step; its weight is stationary and stays in "
        "digital memory"
    )


def counted(
    op: str, shapes: Sequence[tuple[int | str, ...]], made: tuple[int, ...], **attrs: PlainAttr
) -> int:
    """Multiply-accumulates of a node by the shapes of its inputs and its output."""
    names = [f"v{position}" if shape else "" for position, shape in enumerate(shapes)]
    types = {name: TensorType("float32", shape) for name, shape in zip(names, shapes, strict=True) if name}
    node = Node(op, "n", names, ["y"], dict(attrs))
    return macs(Graph("g", nodes=[node], types={**types, "y": TensorType("float32", made)}), node)


THREE = {"input": "%0", "batch1": "%1", "batch2": "%2", "mat": "%1", "mat1": "%1", "mat2": "%2", "vec": "%2"}


@pytest.mark.parametrize(
    ("op", "shapes", "made", "expected"),
    [
        ("aten.bmm.default", [(3, 4, 5), (3, 5, 6)], (3, 4, 6), 3 * 4 * 6 * 5),
        ("aten.mm.default", [(4, 5), (5, 6)], (4, 6), 4 * 6 * 5),
        ("aten.mv.default", [(4, 5), (5,)], (4,), 4 * 5),
        ("aten.dot.default", [(7,), (7,)], (), 7),
        ("aten.vdot.default", [(7,), (7,)], (), 7),
        ("aten.matmul.default", [(2, 4, 5), (5, 6)], (2, 4, 6), 2 * 4 * 6 * 5),
        ("aten.linear.default", [(2, 5), (6, 5)], (2, 6), 2 * 6 * 5),
        ("aten.addmm.default", [(4, 6), (4, 5), (5, 6)], (4, 6), 4 * 6 * 5),
        ("aten.addmv.default", [(4,), (4, 5), (5,)], (4,), 4 * 5),
        ("aten.addbmm.default", [(4, 6), (3, 4, 5), (3, 5, 6)], (4, 6), 4 * 6 * 5 * 3),
        ("aten.baddbmm.default", [(3, 4, 6), (3, 4, 5), (3, 5, 6)], (3, 4, 6), 3 * 4 * 6 * 5),
        ("aten.conv1d.default", [(1, 4, 9), (6, 4, 3)], (1, 6, 7), 6 * 7 * 4 * 3),
        ("aten.conv_transpose1d.default", [(1, 4, 7), (4, 6, 3)], (1, 6, 9), 4 * 7 * 6 * 3),
        ("aten.convolution.default", [(1, 4, 9), (6, 4, 3)], (1, 6, 7), 6 * 7 * 4 * 3),
        ("com.microsoft.DynamicQuantizeMatMul", [(2, 5), (5, 6)], (2, 6), 2 * 6 * 5),
        ("com.microsoft.MatMulIntegerToFloat", [(2, 5), (5, 6)], (2, 6), 2 * 6 * 5),
        ("com.microsoft.QGemm", [(2, 5), (5, 6)], (2, 6), 2 * 6 * 5),
        # two heads of keys: each key of 8 writes a state of 8 x 6, each query of 16 reads one
        ("LinearAttention", [(1, 5, 16), (1, 5, 8), (1, 5, 12)], (1, 5, 24), 6 * (5 * 8 + 5 * 16)),
        (
            "LinearAttention",
            [(1, 5, 16), (1, 5, 8), (1, 5, 12), (), (), (1, 5, 2)],
            (1, 5, 24),
            6 * (2 * 5 * 8 + 5 * 16),
        ),
        (
            "LinearAttention",
            [(1, 5, 16), (1, 5, 8), (1, 5, 12), (), (1, 5, 2), ()],
            (1, 5, 24),
            6 * (5 * 8 + 5 * 16),
        ),
        ("Attention", [(1, 2, 3, 4), (1, 2, 7, 4), (1, 2, 7, 5)], (1, 2, 3, 5), 2 * 3 * (4 + 5) * 7),
        (
            "Attention",
            [(1, 2, 3, 4), (1, 2, 7, 4), (1, 2, 7, 5), (), (1, 2, 9, 4), (1, 2, 9, 5)],
            (1, 2, 3, 5),
            2 * 3 * (4 + 5) * (7 + 9),
        ),
        ("Attention", [(1, 3, 8), (1, 7, 8), (1, 7, 8)], (1, 3, 8), 3 * (8 + 8) * 7),
        ("aten.nothing.default", [(3, 4)], (3, 4), 0),
        ("MatMul", [(3, "?"), (5, 6)], (3, 6), 0),
    ],
)
def test_products_by_shapes(
    op: str, shapes: Sequence[tuple[int | str, ...]], made: tuple[int, ...], expected: int
) -> None:
    assert counted(op, shapes, made, **THREE, kv_num_heads=2) == expected


def test_products_of_turned_operands() -> None:
    assert counted("Gemm", [(5, 4), (5, 6)], (4, 6), transA=1) == 4 * 6 * 5
    assert counted("Gemm", [(4, 5), (6, 5)], (4, 6), transB=1) == 4 * 6 * 5
    shapes: list[tuple[int | str, ...]] = [(1, 4, 7), (4, 6, 3)]
    assert counted("aten.convolution.default", shapes, (1, 6, 9), transposed=True) == 4 * 7 * 6 * 3


def test_sizes_that_are_not_known_count_as_one_or_nothing() -> None:
    graph = Graph("g", types={"x": TensorType("float32", ("4*N", 6)), "y": TensorType("float32", (8, 0))})
    assert [rows(graph, "x", batch) for batch in (1, 2, 3, 4)] == [4, 2, 1, 1]
    assert rows(graph, "y", 2) == 4
    assert rows(graph, "none", 2) == 1
    assert elements(graph, "x") == 24
    assert elements(graph, "none") == 0
