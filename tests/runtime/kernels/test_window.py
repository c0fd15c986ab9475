"""Convolutions and poolings with random windows against ONNX Runtime.

Left out is where it departs from ONNX's text: with automatic padding it refuses dilated convolutions, leaves
the dilation out of a pooling's padding, and takes a stride above the kernel in its own way.
"""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper

from tests.onnx_interpreter import run_model

onnxruntime = pytest.importorskip("onnxruntime")

Attrs = dict[str, int | str | list[int]]
POOLS = ("AveragePool", "LpPool", "MaxPool")


@dataclass(frozen=True)
class Node:
    op: str
    size: list[int]
    kernel: list[int]
    attrs: Attrs


@st.composite
def nodes(draw: st.DrawFn) -> Node:
    op = draw(st.sampled_from(("Conv", "ConvTranspose", *POOLS)))
    n_axes = draw(st.integers(1, 3))

    def numbers(low: int, high: int, count: int = n_axes) -> list[int]:
        return draw(st.lists(st.integers(low, high), min_size=count, max_size=count))

    kernel, strides, dilations = numbers(1, 3), numbers(1, 3), numbers(1, 2)
    auto_pad = draw(st.sampled_from(("NOTSET", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")))
    attrs: Attrs = {"kernel_shape": kernel, "strides": strides, "dilations": dilations, "auto_pad": auto_pad}
    if auto_pad == "NOTSET":
        attrs["pads"] = [
            min(pad, k - 1) for pad, k in zip(numbers(0, 2, 2 * n_axes), kernel * 2, strict=True)
        ]
    if auto_pad.startswith("SAME"):
        attrs["strides"] = [min(pair) for pair in zip(strides, kernel, strict=True)]
        attrs["dilations"] = dilations if op == "ConvTranspose" else [1] * n_axes
    if op in POOLS and auto_pad == "NOTSET":
        attrs["ceil_mode"] = draw(st.integers(0, 1))
    if op == "AveragePool":
        attrs["count_include_pad"] = draw(st.integers(0, 1))
    if op not in POOLS:
        attrs["group"] = draw(st.integers(1, 2))
    return Node(op, numbers(5, 8), kernel, attrs)


def model_of(node: Node, shape: tuple[int, ...], weights: list[np.ndarray]) -> ModelProto:
    constants = [numpy_helper.from_array(weight, f"w{i}") for i, weight in enumerate(weights)]
    inputs = ["x", *(constant.name for constant in constants)]
    proto = helper.make_node(node.op, inputs, ["y"])
    proto.attribute.extend(helper.make_attribute(name, value) for name, value in node.attrs.items())
    graph = helper.make_graph(
        [proto],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


@settings(max_examples=200, derandomize=True)
@given(nodes())
def test_windows_agree_with_onnxruntime(node: Node) -> None:
    random = np.random.default_rng(0)
    weights = []
    if node.op not in POOLS:
        channels = (4, 4 // int(str(node.attrs["group"]))) if node.op == "Conv" else (4, 2)
        weights = [random.standard_normal((*channels, *node.kernel)).astype(np.float32)]
    x = random.standard_normal((1, 4, *node.size)).astype(np.float32)
    model = model_of(node, x.shape, weights)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    (want,) = session.run(None, {"x": x})
    (y,) = run_model(model, [torch.from_numpy(x)])
    np.testing.assert_allclose(y.numpy(), want, rtol=1e-3, atol=1e-5)
