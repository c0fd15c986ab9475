from itertools import product
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ffebm import Executor
from ffebm import compile as compile_plan
from ffebm.graph.tensor import Array
from tests.models import as_tuple, oracle, relative_error, tensors

GROWS, SHRINKS, BOTH = [1.0, 1.0, 1.7, 2.6], [1.0, 1.0, 0.6, 0.45], [1.0, 1.0, 0.7, 1.6]


def resized(
    op: str, opset: int, mode: str, scales: list[float], *, computed: bool = False
) -> onnx.ModelProto:
    """A model of one node, its scales given as its opset wants them or joined from two constants."""
    nodes, held, inputs = [], [], ["x"]
    attrs: dict[str, Any] = {"scales": scales} if opset < 9 else {}
    if computed:
        halves = np.split(np.array(scales, np.float32), 2)
        held = [numpy_helper.from_array(half, name) for half, name in zip(halves, "ab", strict=True)]
        nodes.append(helper.make_node("Concat", ["a", "b"], ["s"], axis=0))
    elif opset >= 9:
        held = [numpy_helper.from_array(np.array(scales, np.float32), "s")]
    inputs += ["s"] if opset >= 9 else []
    nodes.append(helper.make_node(op, inputs, ["y"], "resized", mode=mode, **attrs))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 5, 6])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(
        helper.make_graph(nodes, "g", [x], [y], held), opset_imports=opsets, ir_version=4
    )


def error(model: onnx.ModelProto) -> float:
    feeds: dict[str, Array] = {"x": np.random.default_rng(0).normal(size=(1, 2, 5, 6)).astype(np.float32)}
    found = as_tuple(Executor(compile_plan(model, hardware="ideal"))(**tensors(feeds)))
    return relative_error(found, oracle(model, feeds))


@pytest.mark.parametrize(
    ("op", "opset", "scales"),
    [
        ("Upsample", 7, GROWS),
        ("Upsample", 9, GROWS),
        ("Resize", 10, GROWS),
        ("Resize", 10, SHRINKS),
        ("Resize", 10, BOTH),
    ],
)
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_old_resizing_is_onnxruntimes(op: str, opset: int, scales: list[float], mode: str) -> None:
    """Taken for nodes of opset 11, they would lie half a pixel off."""
    assert error(resized(op, opset, mode, scales)) < 1e-6


@pytest.mark.parametrize(
    ("op", "opset", "scales"), [("Upsample", 9, GROWS), ("Resize", 10, SHRINKS), ("Resize", 10, BOTH)]
)
def test_scales_that_are_computed_may_grow_and_shrink(op: str, opset: int, scales: list[float]) -> None:
    assert error(resized(op, opset, "nearest", scales, computed=True)) < 1e-6


@pytest.mark.parametrize(
    ("opset", "axis"), [*product((7, 11, 12, 13), (None, 0, 1, 2)), *product((11, 12, 13), (-1, -2))]
)
def test_hardmax_of_old_opsets_takes_several_axes_together(opset: int, axis: int | None) -> None:
    attrs: dict[str, Any] = {} if axis is None else {"axis": axis}
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3, 4]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Hardmax", ["x"], ["y"], **attrs)], "g", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=4)
    feeds: dict[str, Array] = {"x": np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)}
    found = as_tuple(Executor(compile_plan(model, hardware="ideal"))(**tensors(feeds)))
    assert found[0].tolist() == oracle(model, feeds)[0].tolist()


@pytest.mark.parametrize("nearest", ["floor", "ceil", "round_prefer_floor"])
def test_places_of_opset_11_alone(nearest: str) -> None:
    attrs: dict[str, Any] = {
        "nearest_mode": nearest,
        "coordinate_transformation_mode": "tf_half_pixel_for_nn",
    }
    places = {"roi": np.zeros(0, np.float32), "s": np.array([1, 1, 1.7, 2.2], np.float32)}
    held = [numpy_helper.from_array(array, name) for name, array in places.items()]
    node = helper.make_node("Resize", ["x", "roi", "s"], ["y"], mode="nearest", **attrs)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 5, 6])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    opsets = [helper.make_opsetid("", 11)]
    model = helper.make_model(
        helper.make_graph([node], "g", [x], [y], held), opset_imports=opsets, ir_version=6
    )
    assert error(model) == 0


def test_values_that_are_added_have_names_of_their_own() -> None:
    """The model has values of the names that would be given first."""
    nodes = [
        helper.make_node("Neg", ["x"], ["y.flat"]),
        helper.make_node("Relu", ["x"], ["y.shape"]),
        helper.make_node("Hardmax", ["x"], ["y"], domain="ai.onnx"),
        helper.make_node("Sum", ["y", "y.flat", "y.shape"], ["z"]),
    ]
    x, z = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3, 4]) for name in "xz")
    opsets = [helper.make_opsetid("ai.onnx", 12)]
    model = helper.make_model(helper.make_graph(nodes, "g", [x], [z]), opset_imports=opsets, ir_version=6)
    feeds: dict[str, Array] = {"x": np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)}
    found = as_tuple(Executor(compile_plan(model, hardware="ideal"))(**tensors(feeds)))
    assert relative_error(found, oracle(model, feeds)) < 1e-6
