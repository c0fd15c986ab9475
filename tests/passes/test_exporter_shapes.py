"""Energy blocks in the shapes that real exporters write, as ONNX models."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

import ffebm
from ffebm.graph.energy_block import Layer
from ffebm.graph.tensor import Array

rng = np.random.default_rng(0)


def normal(*shape: int) -> Array:
    return rng.standard_normal(shape).astype(np.float32)


def number(value: float) -> Array:
    return np.asarray(value, np.float32)


def node(op: str, inputs: str, output: str, **attrs: Any) -> NodeProto:
    """A node; inputs are names with spaces between."""
    return helper.make_node(op, inputs.split(), [output], name=f"{op.lower()}_{output}", **attrs)


def model(nodes: list[NodeProto], shape: tuple[int | str, ...], **weights: Array) -> ModelProto:
    """A model from x to y."""
    made = helper.make_graph(
        nodes,
        "exported",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


CASES: dict[str, tuple[ModelProto, list[str], list[str]]] = {
    "MatMul + Add": (
        model(
            [node("MatMul", "x w", "a"), node("Add", "b a", "s"), node("Relu", "s", "y")],
            ("batch", 3, 4),
            w=normal(4, 5),
            b=normal(5),
        ),
        ["Relu(MatMul(x, w) + b)"],
        ["b", "w"],
    ),
    "Gemm with transB": (
        model(
            [node("Gemm", "x w b", "s", transB=1), node("Tanh", "s", "y")],
            ("batch", 4),
            w=normal(5, 4),
            b=normal(5),
        ),
        ["Tanh(MatMul(x, w, b))"],
        ["b", "w"],
    ),
    "bias of a convolution in Add": (
        model(
            [node("Conv", "x w", "a"), node("Add", "a b", "s"), node("Relu", "s", "y")],
            ("batch", 2, 5, 5),
            w=normal(3, 2, 3, 3),
            b=normal(1, 3, 1, 1),
        ),
        ["Relu(Conv(x, w) + b)"],
        ["b", "w"],
    ),
    "batch normalisation as Mul + Add": (
        model(
            [
                node("Conv", "x w", "a"),
                node("Mul", "a scale", "m"),
                node("Add", "m shift", "s"),
                node("Relu", "s", "y"),
            ],
            ("batch", 2, 5, 5),
            w=normal(3, 2, 3, 3),
            scale=normal(1, 3, 1, 1),
            shift=normal(1, 3, 1, 1),
        ),
        ["Identity(Conv(x, w))"],
        ["scale", "shift", "w"],
    ),
    "hard-swish in pieces": (
        model(
            [
                node("Conv", "x w", "a"),
                node("Add", "a three", "t"),
                node("Clip", "t zero six", "c"),
                node("Div", "c six", "d"),
                node("Mul", "a d", "y"),
            ],
            ("batch", 2, 5, 5),
            w=normal(3, 2, 3, 3),
            three=number(3),
            zero=number(0),
            six=number(6),
        ),
        ["Identity(Conv(x, w))"],
        ["w"],
    ),
    "Relu6 as Clip": (
        model(
            [node("Conv", "x w", "a"), node("Clip", "a zero six", "y")],
            ("batch", 2, 5, 5),
            w=normal(3, 2, 3, 3),
            zero=number(0),
            six=number(6),
        ),
        ["Clip(Conv(x, w))"],
        ["w"],
    ),
    "Reshape between convolution and dense layer": (
        model(
            [
                node("Conv", "x w", "a"),
                node("Relu", "a", "r"),
                node("Reshape", "r flat", "f"),
                node("Gemm", "f v b", "y", transB=1),
            ],
            ("batch", 2, 5, 5),
            w=normal(3, 2, 3, 3),
            flat=np.asarray([0, -1]),
            v=normal(4, 27),
            b=normal(4),
        ),
        ["Relu(Conv(x, w))", "Identity(MatMul(r, v, b))"],
        ["b", "v", "w"],
    ),
    "Transpose between convolution and dense layer": (
        model(
            [
                node("Conv", "x w", "a"),
                node("Relu", "a", "r"),
                node("Transpose", "r", "t", perm=[0, 2, 3, 1]),
                node("Reshape", "t flat", "f"),
                node("MatMul", "f v", "m"),
                node("Add", "m b", "y"),
            ],
            ("batch", 2, 5, 5),
            w=normal(3, 2, 3, 3),
            flat=np.asarray([0, -1]),
            v=normal(27, 4),
            b=normal(4),
        ),
        ["Relu(Conv(x, w))", "Identity(MatMul(r, v) + b)"],
        ["b", "v", "w"],
    ),
    "scaled clip as Mul + Clip": (
        model(
            [node("Gemm", "x w", "a"), node("Mul", "half a", "m"), node("Clip", "m zero one", "y")],
            ("batch", 4),
            w=normal(4, 5),
            half=number(0.5),
            zero=number(0),
            one=number(1),
        ),
        ["0.5*Clip(MatMul(x, w))"],
        ["w"],
    ),
    "scaled clip as Div + Clip": (
        model(
            [node("Gemm", "x w", "a"), node("Div", "a four", "m"), node("Clip", "m zero one", "y")],
            ("batch", 4),
            w=normal(4, 5),
            four=number(4),
            zero=number(0),
            one=number(1),
        ),
        ["0.25*Clip(MatMul(x, w))"],
        ["w"],
    ),
    "weight behind Transpose": (
        model(
            [node("Transpose", "w", "t", perm=[1, 0]), node("MatMul", "x t", "a"), node("Relu", "a", "y")],
            ("batch", 3, 4),
            w=normal(5, 4),
        ),
        ["Relu(MatMul(x, w))"],
        ["w"],
    ),
    "weight behind two Transposes of a Gemm": (
        model(
            [
                node("Transpose", "w", "s"),
                node("Transpose", "s", "t"),
                node("Gemm", "x t", "a", transB=1),
                node("Relu", "a", "y"),
            ],
            ("batch", 4),
            w=normal(5, 4),
        ),
        ["Relu(MatMul(x, w))"],
        ["w"],
    ),
    "weights behind Identity": (
        model(
            [
                node("Identity", "w", "i"),
                node("Identity", "b", "j"),
                node("Conv", "x i j", "a"),
                node("Relu", "a", "y"),
            ],
            ("batch", 2, 5, 5),
            w=normal(3, 2, 3, 3),
            b=normal(3),
        ),
        ["Relu(Conv(x, w, b))"],
        ["b", "w"],
    ),
    "weight behind Cast and Transpose": (
        model(
            [
                node("Cast", "w", "c", to=TensorProto.FLOAT),
                node("Transpose", "c", "t"),
                node("MatMul", "x t", "a"),
                node("Relu", "a", "y"),
            ],
            ("batch", 4),
            w=normal(5, 4).astype(np.float16),
        ),
        ["Relu(MatMul(x, w))"],
        ["w"],
    ),
}
"""Model, the layers of its blocks, and its weights."""


@pytest.mark.parametrize("name", CASES)
def test_the_blocks_of_an_exported_shape(name: str, tmp_path: Path) -> None:
    proto, layers, weights = CASES[name]
    plan = ffebm.compile(proto, hardware="ideal")
    assert [_text(layer) for block in plan.blocks for layer in block.layers] == layers
    assert sorted(plan.trainable) == weights
    net = ffebm.Executor(plan)
    x = normal(3, *(d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim[1:]))
    y = net(torch.from_numpy(x))
    torch.testing.assert_close(y.detach(), torch.from_numpy(_oracle(proto, x)), rtol=1e-5, atol=1e-5)
    y.square().sum().backward()
    assert all(w.grad is not None and w.grad.abs().max() > 0 for w in net.weights().values())
    with torch.no_grad():
        for weight in net.weights().values():
            weight.mul_(0.5)
    net.save_onnx(tmp_path / "trained.onnx")
    trained = onnx.load(tmp_path / "trained.onnx")
    torch.testing.assert_close(
        net(torch.from_numpy(x)).detach(), torch.from_numpy(_oracle(trained, x)), rtol=1e-4, atol=1e-4
    )


def _oracle(proto: ModelProto, x: Array) -> Array:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    y: Array = session.run(None, {"x": x})[0]
    return y


def _text(layer: Layer) -> str:
    terms = []
    for interaction in layer.interactions:
        linear = interaction.linear
        assert linear is not None
        inside = ", ".join(name for name in (interaction.source, linear.weight, linear.bias) if name)
        terms.append(f"{linear.op}({inside})")
    scale = "" if layer.activation.scale == 1 else f"{layer.activation.scale:g}*"
    return f"{scale}{layer.activation.op}({' + '.join([*terms, *layer.biases])})"


def test_the_reasons_of_a_normalisation_as_product_and_sum() -> None:
    plan = ffebm.compile(CASES["batch normalisation as Mul + Add"][0], hardware="ideal")
    reasons = {node.op: node.reason for node in plan.nodes if node.unit == "digital"}
    assert reasons == {
        "Mul": "product with a weight for each unit: a diagonal map, which no tile holds",
        "Add": "sum of values that drives no layer of an energy block",
        "Relu": "activation of a value computed digitally, with no stationary weight before it",
    }
