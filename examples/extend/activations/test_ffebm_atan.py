"""The package does what it says, found by its entry point."""

from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper

import ffebm

WEIGHTS = [np.random.default_rng(seed).normal(size=(4, 4)) / 2 for seed in range(2)]


def model() -> ModelProto:
    """Atan of X W, twice; [N, 4] -> [N, 4] in float64."""
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["a0"]),
        helper.make_node("Atan", ["a0"], ["h0"]),
        helper.make_node("MatMul", ["h0", "w1"], ["a1"]),
        helper.make_node("Atan", ["a1"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.DOUBLE, ["N", 4]) for name in "xy")
    arrays = [numpy_helper.from_array(weight, f"w{k}") for k, weight in enumerate(WEIGHTS)]
    graph = helper.make_graph(nodes, "atan", [x], [y], arrays)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_layers_have_it_where_it_is_asked_for(tmp_path: Path) -> None:
    plain = ffebm.compile(model(), hardware="ideal")
    assert [layer.activation.op for block in plain.blocks for layer in block.layers] == ["Identity"] * 2
    plan = ffebm.compile(model(), hardware="ideal", activations=["Atan"])
    assert [layer.activation.op for block in plan.blocks for layer in block.layers] == ["Atan"] * 2
    assert plan.packages == ("ffebm-atan",)
    plan.save(tmp_path / "plan")
    x = torch.randn(5, 4, dtype=torch.float64)
    w0, w1 = map(torch.tensor, WEIGHTS)
    expected = torch.atan(torch.atan(x @ w0) @ w1)
    torch.testing.assert_close(ffebm.Executor(ffebm.load_plan(tmp_path / "plan"))(x), expected)


@pytest.mark.parametrize("points", [2, 8])
def test_its_energy_has_the_gradient_of_the_exact_adjoint(points: int) -> None:
    settle = ffebm.Settle(free_sweeps=500, nudged_sweeps=500, tol=1e-13)
    plan = ffebm.compile(model(), hardware="ideal", block_size=2, activations=["Atan"], settle=settle)
    assert len(plan.blocks) == 1
    x, found = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(3, 4), []
    for gradient in (ffebm.EP(0.01, points=points), ffebm.Implicit()):
        net = ffebm.Executor(plan, gradient=gradient)
        net(x).square().sum().backward()
        found.append(net.weights()["w0"].grad)
        state = {name: s.requires_grad_() for name, s in net.equilibria[0].state.items()}
        weights = dict(net.weights())
        energy = net.blocks[0].energy(net.equilibria[0].inputs, weights, state).sum()
        for slope in torch.autograd.grad(energy, list(state.values())):
            assert float(slope.abs().max()) < 1e-11
    torch.testing.assert_close(
        *found, rtol=1e-3 if points == 2 else 1e-9, atol=1e-6 if points == 2 else 1e-11
    )
