from collections.abc import Callable

import pytest

from ffebm import compile as compile_plan
from ffebm.passes.fold_constants import FoldConstants
from ffebm.work import elements, macs, operations, parameters, sizes
from tests.machines import crossbars
from tests.models import Builder
from tests.passes.common import imported


def test_sizes_of_open_shapes() -> None:
    assert sizes(("N", 3)) == (1, 3)
    assert sizes((4, "M")) is None
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
}


@pytest.mark.parametrize("case", CASES)
def test_multiply_accumulates_and_weights(case: str) -> None:
    build, products, weights = CASES[case]
    b = Builder()
    graph = imported(b.model(build(b, b.input("x", "N", 4, 4, 4))))
    FoldConstants().run(graph, crossbars(1, 1, 1))
    node = graph.nodes[-1]
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
    plan = compile_plan(b.model(b.node("MatMul", b.input("x", 3, 4), b.weight(4, 5))), "ideal")
    assert [(n.macs, n.weights, n.shape) for n in plan.nodes] == [(60, 20, (3, 5))]
