"""Accuracy and gradients of points."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from ffebm import EP, Executor, Implicit
from ffebm import compile as compile_plan
from ffebm.exploration.measured import measured
from ffebm.exploration.metric import Metric, MetricName
from ffebm.plan.plan import Plan
from tests.exploration.models import BITS, request_of
from tests.exploration.test_run import explored
from tests.models import Builder


def teacher(folder: Path) -> Path:
    """It tells the largest of three inputs; the data agrees with it."""
    b = Builder()
    eye = np.eye(6, dtype=np.float32)
    x = b.node("Tanh", b.node("MatMul", b.input("x", "N", 6), b.constant(eye.copy(), "w")))
    onnx.save(b.model(b.node("MatMul", x, b.constant(eye[:, :3].copy(), "pick"))), folder / "model.onnx")
    x_train, x_test = np.random.default_rng(0).standard_normal((2, 150, 6)).astype(np.float32)
    labels = {"y": x_train[:, :3].argmax(1), "y_test": x_test[:, :3].argmax(1)}
    np.savez(folder / "data.npz", x=x_train, x_test=x_test, **labels)
    return folder / "model.onnx"


def plan_of(folder: Path, machine: str) -> Plan:
    return compile_plan(teacher(folder), hardware=machine, replicas=1)


def test_exact_tiles_are_right_and_true(tmp_path: Path) -> None:
    plan, data = plan_of(tmp_path, "ideal"), str(tmp_path / "data.npz")
    assert measured(plan, Metric("accuracy", data)) == 1.0
    assert measured(plan, Metric("cosine", data)) == pytest.approx(1.0, abs=1e-5)


def test_a_cosine_is_that_of_two_gradients(tmp_path: Path) -> None:
    """The exact one by autograd through the model as torch writes it, on the probes of the study."""
    plan = plan_of(tmp_path, "ideal")
    loaded = np.load(tmp_path / "data.npz")
    x, y = torch.from_numpy(loaded["x"]), torch.from_numpy(loaded["y"])
    grads = []
    for gradient in (EP(), Implicit()):
        net = Executor(plan, gradient=gradient)
        torch.autograd.backward(net.loss(x, y, torch.nn.functional.cross_entropy))
        grads.append(torch.cat([w.grad.flatten() for w in net.weights().values() if w.grad is not None]))
    found = float(torch.nn.functional.cosine_similarity(grads[0], grads[1], dim=0))
    metric = Metric("cosine", str(tmp_path / "data.npz"), probes=150)
    assert measured(plan, metric) == pytest.approx(found, abs=1e-5)


def test_more_bits_are_more_accurate(tmp_path: Path) -> None:
    model = teacher(tmp_path)
    figures: tuple[MetricName, ...] = ("accuracy", "cosine")
    for figure in figures:
        metric = Metric(figure, str(tmp_path / "data.npz"))
        request = request_of(
            tmp_path,
            f"{BITS}=2,8",
            model=model,
            folder=tmp_path / figure,
            metric=metric,
            front=("inference_j", figure),
        )
        low, high = (entry.figures for entry in explored(request).entries())
        assert low is not None
        assert high is not None
        assert (low[figure] or 0) < (high[figure] or 0) <= 1
        assert "loss" not in low


def test_data_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    request = request_of(tmp_path, f"{BITS}=8", metric=Metric("accuracy", str(tmp_path / "none.npz")))
    (entry,) = explored(request).ledger.entries()
    assert "none.npz" in entry.refused
