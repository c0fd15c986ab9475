from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto, helper, numpy_helper

from ffebm import Executor, load_plan
from ffebm import compile as compile_plan
from ffebm.errors import UsageError
from ffebm.runtime import save_onnx
from tests.models import Builder, as_tuple, oracle, random_feeds, relative_error, tensors


def model(ir: int = 9) -> ModelProto:
    """Weights as initializers, a Constant, a ConstantOfShape, and two parts of a Split."""
    b = Builder()
    y = b.norm(b.conv(b.input("x", "N", 1, 4, 4), 1, 2), 2)
    y = b.node("Flatten", b.node("Relu", y))
    constant = numpy_helper.from_array(np.linspace(-0.5, 0.5, 32 * 4, dtype=np.float32).reshape(32, 4))
    y = b.node("MatMul", y, b.node("Constant", out="w0", value=constant))
    tenth = numpy_helper.from_array(np.array([0.1], np.float32))
    y = b.node("MatMul", y, b.node("ConstantOfShape", b.shape(4, 4), out="w1", value=tenth))
    whole = b.constant(np.random.default_rng(0).standard_normal((4, 8)).astype(np.float32), "whole")
    b.nodes.append(helper.make_node("Split", [whole], ["w2", "w3"], "split", axis=1, num_outputs=2))
    y = b.node("MatMul", b.node("MatMul", y, "w2"), "w3")
    return b.model(y, ir=ir)


def trained(source: ModelProto, hardware: str = "ideal") -> Executor:
    net = Executor(compile_plan(source, hardware)).train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    for step in range(3):
        optimizer.zero_grad()
        net(**tensors(random_feeds(source, 4, step))).square().mean().backward()
        optimizer.step()
    return net.eval()


@pytest.mark.parametrize("ir", [3, 9])
def test_the_trained_model_computes_what_the_plan_computes(tmp_path: Path, ir: int) -> None:
    source = model(ir)
    net = trained(source)
    assert {"w0", "w1", "w2", "w3"} <= net.weights().keys()
    for name, weight in net.weights().items():
        assert not np.array_equal(weight.detach().numpy(), net.plan.weights[name]), name
    path = tmp_path / "deep" / "trained.onnx"
    net.save_onnx(path)
    onnx.checker.check_model(path)
    feeds = random_feeds(source, 3, 9)
    assert relative_error(as_tuple(net(**tensors(feeds))), oracle(str(path), feeds)) < 1e-5
    assert relative_error(as_tuple(net(**tensors(feeds))), oracle(source, feeds)) > 1e-2
    assert [p.name for p in path.parent.iterdir()] == ["trained.onnx"]
    again = compile_plan(path, "ideal")
    for name, weight in net.weights().items():
        assert np.array_equal(again.weights[name], weight.detach().numpy())
    for name, statistic in net.running_statistics().items():
        assert np.array_equal(again.weights[name], statistic.numpy())
        assert not np.array_equal(statistic.numpy(), net.plan.weights[name])


def test_an_untrained_model_is_the_source(tmp_path: Path) -> None:
    source = model()
    plan = compile_plan(source, "reference")
    plan.save(tmp_path / "plan")
    Executor(load_plan(tmp_path / "plan")).save_onnx(tmp_path / "same.onnx")
    saved = onnx.load(tmp_path / "same.onnx")
    assert {t.name for t in saved.graph.initializer} >= {t.name for t in source.graph.initializer}
    for tensor in source.graph.initializer:
        (twin,) = [t for t in saved.graph.initializer if t.name == tensor.name]
        assert np.array_equal(numpy_helper.to_array(twin), numpy_helper.to_array(tensor))
    feeds = random_feeds(source)
    for found, expected in zip(oracle(saved, feeds), oracle(source, feeds), strict=True):
        assert np.array_equal(found, expected)


def test_a_large_model_gets_a_file_for_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(save_onnx, "TOO_LARGE", 100)
    b = Builder()
    source = b.model(b.node("MatMul", b.input("x", "N", 40), b.weight(40, 30)))
    net = trained(source)
    path = tmp_path / "large.onnx"
    net.save_onnx(path)
    net.save_onnx(path)  # again, over the older files
    assert sorted(p.name for p in tmp_path.iterdir()) == ["large.onnx", "large.onnx.data"]
    assert (tmp_path / "large.onnx.data").stat().st_size < 2 * 40 * 30 * 4
    feeds = random_feeds(source)
    assert relative_error(as_tuple(net(**tensors(feeds))), oracle(str(path), feeds)) < 1e-6


def test_folded_weights_are_not_the_models(tmp_path: Path) -> None:
    plan = compile_plan(model(), "ideal", fold_batch_norm=True)
    with pytest.raises(UsageError) as caught:
        Executor(plan).save_onnx(tmp_path / "no.onnx")
    assert str(caught.value) == (
        f"{tmp_path / 'no.onnx'}: the plan's weights hold folded batch normalisations, so they are not the "
        "source model's\n  hint: compile without folding to train and save"
    )


def test_a_plan_without_an_onnx_source(tmp_path: Path) -> None:
    plan = compile_plan(model(), "ideal")
    plan.model = b""
    with pytest.raises(UsageError, match="model was no ONNX model"):
        Executor(plan).save_onnx(tmp_path / "no.onnx")


def test_a_path_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    net = Executor(compile_plan(model(), "ideal"))
    for target in (tmp_path / "file" / "no.onnx", tmp_path):
        with pytest.raises(UsageError, match="cannot be written: "):
            net.save_onnx(target)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
