from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ffebm import Executor
from ffebm import compile as compile_plan
from ffebm.errors import ModelError
from tests.models import Builder, as_tuple, oracle, random_feeds, relative_error, tensors
from tests.passes.common import rewritten


def test_pooling_goes_before_the_activation(golden: Callable[[str], None]) -> None:
    b = Builder()
    x = b.input("x", "N", 1, 8, 8)
    y = b.node("Relu", b.conv(x, 1, 2))
    y = b.node("Sigmoid", y)  # two activations: the pooling passes both
    y = b.node("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2], out="pool")
    golden(rewritten("canonicalize", b.model(y))[0])


@pytest.mark.parametrize("case", ["read twice", "output", "not monotone", "average", "positions"])
def test_pooling_stays_behind(case: str) -> None:
    b = Builder()
    x = b.input("x", "N", 1, 8, 8)
    y = b.node("Abs" if case == "not monotone" else "Relu", b.conv(x, 1, 2))
    op = "AveragePool" if case == "average" else "MaxPool"
    outputs = [b.node(op, y, kernel_shape=[2, 2])]
    if case == "read twice":
        outputs.append(b.node("Neg", y))
    elif case == "output":
        outputs.append(y)
    elif case == "positions":
        b.nodes[-1].output.append("positions")
    _, graph = rewritten("canonicalize", b.model(*outputs))
    assert [n.op for n in graph.nodes][1:3] == [b.nodes[1].op_type, op]


def test_global_poolings_and_padding_modes(golden: Callable[[str], None]) -> None:
    b = Builder()
    x = b.input("x", "N", 1, 7, 6)
    w = b.weight(1, 1, 3, 3)
    y = b.node("Conv", x, w, auto_pad="SAME_UPPER", strides=[2, 2])
    y = b.node("Conv", y, w, auto_pad="SAME_LOWER", dilations=[2, 1])
    y = b.node("Conv", y, b.weight(1, 1, 1, 1), auto_pad="VALID")
    outputs = [b.node("GlobalAveragePool", y), b.node("GlobalMaxPool", y)]
    golden(rewritten("canonicalize", b.model(*outputs))[0])


@settings(derandomize=True)
@given(
    size=st.integers(4, 9),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    mode=st.sampled_from(["SAME_UPPER", "SAME_LOWER"]),
    op=st.sampled_from(["Conv", "MaxPool", "AveragePool"]),
)
def test_resolved_padding_is_onnxruntimes(size: int, kernel: int, stride: int, mode: str, op: str) -> None:
    assume(stride <= kernel)  # onnxruntime pads a pooling with larger steps by a negative number
    b = Builder()
    x = b.input("x", "N", 1, size, size + 1)
    weight = [b.weight(2, 1, kernel, kernel)] if op == "Conv" else []
    attrs: dict[str, Any] = {"auto_pad": mode, "strides": [stride] * 2, "kernel_shape": [kernel] * 2}
    model = b.model(b.node(op, x, *weight, **attrs))
    feeds = random_feeds(model)
    found = as_tuple(Executor(compile_plan(model, hardware="ideal"))(**tensors(feeds)))
    assert relative_error(found, oracle(model, feeds)) < 1e-4


def test_a_kernel_of_unknown_size() -> None:
    b = Builder()
    y = b.node("Conv", b.input("x", "N", 1, 8, 8), b.input("w", 2, 1, "k", "k"), name="c")
    with pytest.raises(ModelError) as caught:
        rewritten("canonicalize", b.model(y))
    assert str(caught.value) == (
        "model:c: the kernel's size is unknown; a weight of known shape or a kernel_shape attribute"
    )


@pytest.mark.parametrize("op", ["Conv", "MaxPool", "AveragePool"])
@pytest.mark.parametrize(
    ("kernel", "attrs", "said"),
    [
        (
            5,
            {"strides": [2, 2]},
            "[5, 5], dilated by [1, 1], lies in an input of [4, 4] with pads [0, 0, 0, 0]",
        ),
        (
            3,
            {"strides": [3, 3], "dilations": [2, 2], "auto_pad": "VALID"},
            "[3, 3], dilated by [2, 2], lies in an input of [4, 4] with pads [0, 0, 0, 0]",
        ),
        (
            7,
            {"strides": [3, 3], "pads": [0, 1, 2, 1]},
            "[7, 7], dilated by [1, 1], lies in an input of [4, 4] with pads [0, 1, 2, 1]",
        ),
    ],
)
def test_windows_that_lie_nowhere_are_refused(op: str, kernel: int, attrs: dict[str, Any], said: str) -> None:
    """Shape inference counts one, as -1 // 2 is 0 where division goes towards 0."""
    b = Builder()
    inputs = [b.input("x", "N", 2, 4, 4), *([b.weight(3, 2, kernel, kernel)] if op == "Conv" else [])]
    with pytest.raises(ModelError) as caught:
        compile_plan(b.model(b.node(op, *inputs, kernel_shape=[kernel, kernel], name="node", **attrs)))
    assert str(caught.value) == f"model:node: no window of {said}"


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_a_window_may_lie_over_the_end_in_ceil_mode(op: str) -> None:
    b = Builder()
    y = b.node(op, b.input("x", 1, 2, 4, 4), kernel_shape=[5, 5], strides=[2, 2], ceil_mode=1)
    model = b.model(y)
    feeds = random_feeds(model)
    plan = compile_plan(model, hardware="ideal")
    assert relative_error(as_tuple(Executor(plan)(**tensors(feeds))), oracle(model, feeds)) < 1e-6


@pytest.mark.parametrize("op", ["Gemm", "MatMul"])
def test_only_the_second_operand_of_a_product_is_read_turned(op: str) -> None:
    """Gemm has an attribute that turns a weight, and none that would turn what it adds."""
    b = Builder()
    x, turned = b.input("x", 5, 5), b.node("Transpose", b.weight(5, 5))
    y = b.node("Gemm", x, b.weight(5, 5), turned) if op == "Gemm" else b.node("MatMul", turned, x)
    model = b.model(y)
    feeds = random_feeds(model)
    found = as_tuple(Executor(compile_plan(model, hardware="ideal"))(**tensors(feeds)))
    assert relative_error(found, oracle(model, feeds)) < 1e-5
