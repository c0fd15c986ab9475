"""Small ONNX models with one odd thing each, held against onnxruntime."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from onnx import GraphProto, ModelProto, TensorProto, helper

import ffebm
from tests.models import Builder, as_tuple, oracle, random_feeds, relative_error, tensors


def recurrent(b: Builder) -> ModelProto:
    """Both directions, the sequence first; only the last state is named."""
    x = b.input("x", 5, "N", 4)
    weights = b.weight(2, 12, 4), b.weight(2, 12, 3), b.weight(2, 24)
    node = helper.make_node(
        "LSTM", [x, *weights], ["", "h"], "lstm", hidden_size=3, direction="bidirectional"
    )
    b.nodes.append(node)
    return b.model(b.node("MatMul", "h", b.weight(3, 4)))


def dequantised(b: Builder) -> ModelProto:
    """Quantised values before a plain convolution, as most exporters write them."""
    x = b.input("x", "N", 3, 6, 6)
    scales = b.constant(b.rng.uniform(0.01, 0.02, 4).astype(np.float32))
    zeros = b.constant(np.zeros(4, np.int8))
    held = b.constant(b.rng.integers(-100, 100, (4, 3, 3, 3)).astype(np.int8))
    w = b.node("DequantizeLinear", held, scales, zeros, axis=0)
    scale, zero = b.constant(0.02), b.constant(np.asarray(128, np.uint8))
    steps = b.node("QuantizeLinear", x, scale, zero)
    y = b.node("Conv", b.node("DequantizeLinear", steps, scale, zero), w, b.weight(4))
    return b.model(b.node("Relu", y))


def integer_convolution(b: Builder) -> ModelProto:
    x = b.input("x", "N", 3, 6, 6)
    b.nodes.append(helper.make_node("DynamicQuantizeLinear", [x], ["q", "s", "z"], "quantise"))
    held = b.constant(b.rng.integers(0, 200, (4, 3, 3, 3)).astype(np.uint8))
    sums = b.node("ConvInteger", "q", held, "z", b.constant(np.asarray(3, np.uint8)))
    return b.model(b.node("Mul", b.node("Cast", sums, to=TensorProto.FLOAT), "s"))


def branches(b: Builder) -> ModelProto:
    """Weights that only the branches of a condition read."""
    x = b.input("x", "N", 4)

    def branch(w: str, out: str) -> GraphProto:
        port = helper.make_tensor_value_info(out, TensorProto.FLOAT, None)
        return helper.make_graph([helper.make_node("MatMul", [x, w], [out])], out, [], [port])

    flag = b.node("Greater", b.node("ReduceSum", x, keepdims=0), b.constant(0.0))
    yes, no = branch(b.weight(4, 4, name="w_yes"), "yes"), branch(b.weight(4, 4, name="w_no"), "no")
    return b.model(b.node("If", flag, then_branch=yes, else_branch=no))


def rotated(b: Builder) -> ModelProto:
    """Attention between projections."""
    x = b.input("x", "N", 6, 8)
    parts = [b.node("MatMul", x, b.weight(8, 8)) for _ in range(3)]
    y = b.node("Attention", *parts, q_num_heads=2, kv_num_heads=2)
    return b.model(b.node("MatMul", y, b.weight(8, 8)), opset=24)


def by_name(b: Builder) -> ModelProto:
    """A function that is called twice with the same weight."""
    x, w = b.input("x", "N", 4), b.weight(4, 4)
    body = [helper.make_node("MatMul", ["a", "b"], ["t"]), helper.make_node("Relu", ["t"], ["c"])]
    imports = [helper.make_opsetid("", 20)]
    b.functions.append(helper.make_function("own", "Layer", ["a", "b"], ["c"], body, imports))
    return b.model(b.node("Layer", b.node("Layer", x, w, domain="own"), w, domain="own"))


def plain(build: Callable[[Builder, str], str], *shape: int | str) -> Callable[[Builder], ModelProto]:
    """A model of one input."""
    return lambda b: b.model(build(b, b.input("x", *(shape or ("N", 4)))))


MODELS: dict[str, tuple[Callable[[Builder], ModelProto], float]] = {
    "attention": (rotated, 0.7),
    "branches with weights": (branches, 0.0),
    "dequantised weight": (dequantised, 1.0),
    "einsum": (
        plain(lambda b, x: b.node("Einsum", x, b.weight(4, 5), equation="bij,jk->bik"), "N", 3, 4),
        0.0,
    ),
    "function": (by_name, 1.0),
    "Gemm with factors": (plain(lambda b, x: b.node("Gemm", x, b.weight(4, 5), b.weight(5), alpha=0.5)), 0.0),
    "integer convolution": (integer_convolution, 0.0),
    "maximum with zero": (
        plain(lambda b, x: b.node("Max", b.node("MatMul", x, b.weight(4, 5)), b.constant(0.0))),
        1.0,
    ),
    "negative scale": (
        plain(
            lambda b, x: b.node("Tanh", b.node("Mul", b.node("MatMul", x, b.weight(4, 5)), b.constant(-2.0)))
        ),
        1.0,
    ),
    "padding by name": (
        plain(
            lambda b, x: b.node("Conv", x, b.weight(4, 3, 3, 3), auto_pad="SAME_UPPER", strides=[2, 2]),
            "N",
            3,
            7,
            7,
        ),
        1.0,
    ),
    "recurrent": (recurrent, 0.02),
    "rows of open sizes": (
        plain(lambda b, x: b.node("Add", b.node("MatMul", x, b.weight(4, 5)), b.weight(5)), "N", 2, "T", 4),
        1.0,
    ),
    "subtracted bias": (
        plain(lambda b, x: b.node("Relu", b.node("Sub", b.node("MatMul", x, b.weight(4, 5)), b.weight(5)))),
        1.0,
    ),
    "weight from both sides": (
        plain(
            lambda b, x: b.node(
                "MatMul", b.node("MatMul", x, "w"), b.node("Transpose", b.weight(4, 6, name="w"))
            )
        ),
        0.5,
    ),
    "weight in parts": (
        plain(
            lambda b, x: b.node(
                "MatMul", x, b.node("Slice", b.weight(8, 5), b.shape(0), b.shape(4), b.shape(0))
            )
        ),
        1.0,
    ),
    "weight of another shape": (
        plain(lambda b, x: b.node("MatMul", x, b.node("Reshape", b.weight(20), b.shape(4, 5)))),
        0.0,
    ),
    "weight on the left": (plain(lambda b, x: b.node("MatMul", b.weight(5, 4), x), "N", 4, 3), 0.0),
}
"""Every model, and at least which share of its multiply-accumulates lies on tiles."""


@pytest.mark.parametrize("name", MODELS)
def test_outputs_are_onnxruntime_s(name: str) -> None:
    build, on_tiles = MODELS[name]
    model = build(Builder())
    plan = ffebm.compile(model, hardware="ideal")
    feeds = random_feeds(model)
    net = ffebm.Executor(plan)
    results = as_tuple(net(**tensors(feeds)))
    assert relative_error(results, oracle(model, feeds)) <= 1e-5
    work = sum(node.macs for node in plan.nodes)
    assert work > 0
    assert sum(node.macs for node in plan.nodes if node.unit == "tile") >= on_tiles * work
    if net.weights():
        torch.stack([y.square().sum() for y in results]).sum().backward()  # type: ignore[no-untyped-call]
        learnt = [weight.grad is not None for weight in net.weights().values()]
        assert all(learnt) or (name == "branches with weights" and sum(learnt) == 1)
