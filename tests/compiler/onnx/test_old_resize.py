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
