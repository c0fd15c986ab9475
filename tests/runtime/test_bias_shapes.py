"""A bias of any shape that broadcasts has a gradient of its own shape, equal to that of the closed form."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import conv2d

import ffebm
from tests.models import Builder, oracle, relative_error

BATCH, N_IN, N_OUT = 3, 5, 4


def dense(b: Builder, op: str, *shape: int) -> str:
    x = b.input("x", BATCH, N_IN)
    b.weight(N_IN, N_OUT, name="w")
    b.constant(np.asarray(b.rng.standard_normal(shape), np.float32), "c")
    return b.node("Gemm", x, "w", "c") if op == "Gemm" else b.node("Add", b.node("MatMul", x, "w"), "c")


def image(b: Builder, op: str, *shape: int) -> str:
    x = b.input("x", BATCH, 2, 4, 4)
    b.weight(N_OUT, 2, 3, 3, name="w")
    b.constant(np.asarray(b.rng.standard_normal(shape), np.float32), "c")
    return b.node("Conv", x, "w", "c") if op == "Conv" else b.node("Add", "c", b.node("Conv", x, "w"))


CASES: list[tuple[str, tuple[int, ...]]] = [
    *(("Gemm", shape) for shape in ((N_OUT,), (1, N_OUT), (1, 1), (1,), (), (BATCH, N_OUT), (BATCH, 1))),
    *(("MatMul", shape) for shape in ((N_OUT,), (1, N_OUT), (1,), (), (1, 1), (BATCH, N_OUT))),
    ("Conv", (N_OUT,)),
    *(("Sum of Conv", shape) for shape in ((N_OUT, 1, 1), (1, N_OUT, 1, 1), (1,), (), (2, 2), (1, 1, 1, 2))),
]


@pytest.mark.parametrize(("op", "shape"), CASES, ids=lambda part: str(part))
def test_the_gradient_of_a_bias_has_its_shape(op: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    b = Builder()
    value = dense(b, op, *shape) if op in {"Gemm", "MatMul"} else image(b, op, *shape)
    model = b.model(b.node("Tanh", value, out="y"))
    sizes = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    x = torch.from_numpy(np.random.default_rng(1).standard_normal(sizes).astype(np.float32))

    plan = ffebm.compile(model, hardware="ideal", trainable=["c"])
    net = ffebm.Executor(plan, gradient=ffebm.Implicit()).train()
    weights = net.weights()
    y = net(x)
    target = torch.linspace(-1, 1, y.numel()).reshape(y.shape)
    net.loss(x, target, torch.nn.functional.mse_loss).backward()  # type: ignore[no-untyped-call]

    w, c = (weights[name].detach().clone().requires_grad_() for name in ("w", "c"))
    product = x @ w if op in {"Gemm", "MatMul"} else conv2d(x, w)
    closed = product + (c[:, None, None] if op == "Conv" else c)
    torch.nn.functional.mse_loss(closed.tanh(), target).backward()  # type: ignore[no-untyped-call]
    for name, expected in (("w", w), ("c", c)):
        assert weights[name].grad is not None
        torch.testing.assert_close(weights[name].grad, expected.grad, rtol=1e-4, atol=1e-6)

    torch.optim.SGD(weights.values(), 0.5).step()
    net.save_onnx(tmp_path / "trained.onnx")
    found = net.eval()(x).detach()
    assert relative_error((found,), oracle(str(tmp_path / "trained.onnx"), {"x": x.numpy()})) < 1e-5
    assert not torch.allclose(found, y.detach(), atol=1e-3)


@pytest.mark.filterwarnings("ignore::ffebm.NotSettledWarning")  # two layers of random weights
@pytest.mark.parametrize("size", [1, 2])
def test_a_bias_of_one_row_trains_in_a_block(size: int, tmp_path: Path) -> None:
    b = Builder()
    x = b.input("x", "N", 4)
    hidden = b.node("Relu", b.node("Gemm", x, b.weight(4, 6), b.weight(1, 6, name="c")))
    model = b.model(b.node("Gemm", hidden, b.weight(6, 3), b.weight(1, 3, name="d")))
    net = ffebm.Executor(ffebm.compile(model, hardware="ideal", block_size=size)).train()
    data, labels = torch.randn(8, 4, generator=torch.manual_seed(0)), torch.arange(8) % 3
    net.loss(data, labels, torch.nn.functional.cross_entropy).backward()  # type: ignore[no-untyped-call]
    for weight in net.weights().values():
        assert weight.grad is not None
        assert weight.grad.shape == weight.shape
        assert float(weight.grad.abs().max()) > 0

    torch.optim.SGD(net.weights().values(), 0.1).step()
    net.save_onnx(tmp_path / "trained.onnx")
    if size == 1:
        found = net.eval()(data).detach()
        assert relative_error((found,), oracle(str(tmp_path / "trained.onnx"), {"x": data.numpy()})) < 1e-5
