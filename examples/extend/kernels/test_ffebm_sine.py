"""The package does what it says, found by its entry point."""

from pathlib import Path

import numpy as np
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper

import ffebm


def model(weight: np.ndarray) -> ModelProto:
    """X W, then 2 sin of it, then Relu; [N, 4] -> [N, 3]."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("ScaledSine", ["h"], ["s"], domain="com.example", scale=2.0),
        helper.make_node("Relu", ["s"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", k]) for n, k in (("x", 4), ("y", None)))
    graph = helper.make_graph(nodes, "own", [x], [y], [numpy_helper.from_array(weight, "w")])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.example", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def test_the_op_runs_and_trains(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    plan = ffebm.compile(model(weight), hardware="ideal")
    assert plan.packages == ("ffebm-sine",)
    assert plan.types["s"] == plan.types["h"]
    plan.save(tmp_path / "plan")
    net = ffebm.Executor(ffebm.load_plan(tmp_path / "plan"))
    x, w = torch.randn(5, 4), torch.tensor(weight, requires_grad=True)
    expected = torch.relu(2 * torch.sin(x @ w))
    torch.testing.assert_close(net(x), expected)
    net(x).sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(net.weights()["w"].grad, w.grad, rtol=1e-3, atol=1e-3)
