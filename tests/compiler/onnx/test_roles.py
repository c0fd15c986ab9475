"""Constants that an exporter merged: each place that learns has its own, also in the model that is saved."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch.nn.functional import mse_loss

import ffebm
from ffebm.graph.tensor import Array
from tests.models import Builder, oracle, random_feeds, relative_error, tensors


def fresh(b: Builder, ir: int = 9) -> onnx.ModelProto:
    """Two fresh normalisations behind convolutions: all ones are one constant, and so are all zeros."""
    x = b.input("x", "N", 2, 5, 5)
    b.constant(np.ones(4, np.float32), "ones")
    b.constant(np.zeros(4, np.float32), "zeros")
    for size in (2, 4):
        x = b.node("Conv", x, b.weight(4, size, 3, 3), "zeros", pads=[1, 1, 1, 1], name=f"conv{size}")
        x = b.node("BatchNormalization", x, "ones", "zeros", "zeros", "ones", name=f"norm{size}")
    return b.model(b.node("Relu", x), ir=ir)


def trained(plan: ffebm.Plan, feeds: dict[str, Array], path: Path) -> ffebm.Executor:
    """Two steps of training; what is saved computes the same in onnxruntime."""
    net = ffebm.Executor(plan).train()
    optimizer = torch.optim.SGD(net.weights().values(), 0.1)
    (x,) = tensors(feeds).values()
    with torch.no_grad():
        target = torch.randn(net.eval()(x).shape, generator=torch.manual_seed(0))
    net.train()
    for _ in range(2):
        optimizer.zero_grad()
        net.loss(x, target, mse_loss).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    net.eval().save_onnx(path)
    assert relative_error((net(x),), oracle(str(path), feeds)) < 1e-5
    return net


@pytest.mark.parametrize("ir", [3, 9])
def test_each_place_of_a_merged_constant_learns_apart(tmp_path: Path, ir: int) -> None:
    model = fresh(Builder(), ir)
    before = model.SerializeToString()
    plan = ffebm.compile(model, hardware="ideal")
    assert model.SerializeToString() == before
    assert set(plan.trainable) == {
        "ones", "norm4.scale", "zeros", "norm2.B", "conv4.B", "norm4.B", "c2", "c3",
    }  # fmt: skip
    assert plan.buffers == ("norm2.input_mean", "norm2.input_var", "norm4.input_mean", "norm4.input_var")
    assert plan.tied() == []
    assert plan.notes == (
        "each place that read ones, zeros has a constant of its own: the exporter had merged equal ones",
    )

    feeds = random_feeds(model, batch=6)
    net = trained(plan, feeds, tmp_path / "trained.onnx")
    held = {t.name: numpy_helper.to_array(t) for t in onnx.load(tmp_path / "trained.onnx").graph.initializer}
    assert set(held) == {*plan.trainable, *plan.buffers}
    assert not np.allclose(held["ones"], held["norm2.input_var"], atol=1e-4)
    assert not np.allclose(held["ones"], held["norm4.scale"], atol=1e-6)
    assert not np.allclose(held["norm2.B"], held["norm4.B"], atol=1e-6)
    assert np.allclose(held["norm2.B"], net.weights()["norm2.B"].detach().numpy())


def test_training_is_that_of_a_model_whose_constants_were_never_merged(tmp_path: Path) -> None:
    b = Builder()
    merged, feeds = fresh(b), random_feeds(fresh(Builder()), batch=6)
    alone = Builder()
    x = alone.input("x", "N", 2, 5, 5)
    weights = {t.name: numpy_helper.to_array(t) for t in merged.graph.initializer}
    for weight in ("c2", "c3"):
        zeros = [alone.constant(np.zeros(4, np.float32)) for _ in range(3)]
        ones = [alone.constant(np.ones(4, np.float32)) for _ in range(2)]
        x = alone.node("Conv", x, alone.constant(weights[weight]), zeros[0], pads=[1, 1, 1, 1])
        x = alone.node("BatchNormalization", x, ones[0], zeros[1], zeros[2], ones[1])
    apart = alone.model(alone.node("Relu", x))
    found = [
        trained(ffebm.compile(model, hardware="ideal"), feeds, tmp_path / f"{index}.onnx")(
            *tensors(feeds).values()
        ).detach()
        for index, model in enumerate((merged, apart))
    ]
    torch.testing.assert_close(found[0], found[1])


def test_a_weight_that_two_layers_share_stays_one(tmp_path: Path) -> None:
    b = Builder()
    x = b.input("x", "N", 4)
    b.weight(4, 4, name="w")
    b.weight(4, name="c")
    y = b.node("Tanh", b.node("Gemm", x, "w", "c", name="first"))
    model = b.model(b.node("Gemm", y, "w", "c", name="second"))
    plan = ffebm.compile(model, hardware="ideal")
    assert plan.trainable == ("w", "c")
    assert plan.tied() == [("w", ["first", "second"]), ("c", ["first", "second"])]
    assert "tied        w is one weight in first, second\n" in plan.summary()
    trained(plan, random_feeds(model), tmp_path / "trained.onnx")


def test_scale_and_variance_of_other_numbers_part_too(tmp_path: Path) -> None:
    b = Builder()
    x = b.input("x", "N", 3, 4, 4)
    b.constant(np.array([0.5, 1.0, 2.0], np.float32), "s")
    b.constant(np.array([0.1, 0.2, 0.3], np.float32), "m")
    model = b.model(b.node("BatchNormalization", x, "s", "m", "m", "s", name="norm"))
    plan = ffebm.compile(model, hardware="ideal")
    assert plan.trainable == ("s", "m")
    assert plan.buffers == ("norm.input_mean", "norm.input_var")
    trained(plan, random_feeds(model, batch=5), tmp_path / "trained.onnx")


def test_biases_that_nodes_make_part_as_well(tmp_path: Path) -> None:
    b = Builder()
    x = b.input("x", "N", 4)
    zero = b.node("Constant", value=numpy_helper.from_array(np.zeros(4, np.float32)), out="zero")
    for index in range(2):
        x = b.node("Add", b.node("MatMul", x, b.weight(4, 4)), zero, name=f"add{index}")
    model = b.model(x)
    plan = ffebm.compile(model, hardware="ideal")
    assert {"zero", "add1.B"} < set(plan.trainable)
    net = trained(plan, random_feeds(model), tmp_path / "trained.onnx")
    weights = net.weights()
    assert not torch.allclose(weights["zero"], weights["add1.B"])


def test_constants_that_nothing_learns_stay_merged() -> None:
    b = Builder()
    x = b.input("x", "N", 4)
    b.constant(np.ones(1, np.float32), "one")
    y = b.node("Add", b.node("Mul", b.node("Exp", x), "one"), "one")
    plan = ffebm.compile(b.model(y), hardware="ideal")
    assert list(plan.weights) == ["one"]
    assert plan.notes == ()
