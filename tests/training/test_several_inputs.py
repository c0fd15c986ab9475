"""Models of several inputs by command: arrays are called as inputs, labels are as for one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import ModelProto, TensorProto
from torch import Tensor
from torch.nn import functional

from ffebm import Executor, Plan, Settle
from ffebm import compile as compile_plan
from ffebm.errors import UsageError
from ffebm.training.classification import data_for, fitted
from ffebm.training.data import Data
from ffebm.training.runs.checkpoint import load_checkpoint
from ffebm.training.settings import Training
from ffebm.training.trainer import Trainer
from tests.models import Builder
from tests.running import Run

Arrays = dict[str, Any]


def model(first: str = "image", second: str = "ids") -> ModelProto:
    """Numbers through a layer, tokens through a table, and a layer behind both."""
    b = Builder()
    numbers = b.input(first, "N", 1, 4)
    tokens = b.input(second, "N", 3, dtype=TensorProto.INT64)
    y = b.node("Relu", b.node("MatMul", b.node("Flatten", numbers), b.weight(4, 6, name="w")))
    read = b.node("Gather", b.weight(5, 2, name="table"), tokens)
    y = b.node("Concat", y, b.node("Flatten", read), axis=1)
    return b.model(b.node("Gemm", y, b.weight(12, 3, name="v"), b.weight(3, name="bias")))


def plan(hardware: str = "ideal", first: str = "image", second: str = "ids") -> Plan:
    return compile_plan(model(first, second), hardware=hardware, settle=Settle(free_sweeps=3))


def arrays(n: int = 40) -> Arrays:
    """The class is that of the first token, or the next one if the first number is large."""
    rng = np.random.default_rng(0)
    image = rng.random((n, 4), np.float32)  # the model's number of elements, as for one input
    ids = rng.integers(0, 5, (n, 3))
    return {"image": image, "ids": ids, "y": (ids[:, 0] + (image[:, 0] > 0.5)) % 3}


@pytest.fixture
def npz(tmp_path: Path) -> Path:
    np.savez(tmp_path / "data.npz", **arrays())
    return tmp_path / "data.npz"


@pytest.mark.parametrize(
    "hardware", ["ideal", "resistive", pytest.param("reference", marks=pytest.mark.slow)]
)
def test_a_run_is_trained_recorded_and_resumed(run: Run, npz: Path, tmp_path: Path, hardware: str) -> None:
    folder = tmp_path / "two.plan"
    plan(hardware).save(folder)
    options = ("--data", npz, "--batch", "8", "--lr", "0.03", "--validation", "0.2", "--ema", "0.9")
    code, _, err = run("train", folder, *options, "--epochs", "12", "--run", tmp_path / "whole")
    assert code == 0, err
    whole = load_checkpoint(tmp_path / "whole")
    assert whole.record.epochs[-1].loss < 0.8 * whole.record.epochs[0].loss
    assert run("train", folder, *options, "--epochs", "5", "--run", tmp_path / "part")[0] == 0
    assert run("train", folder, "--resume", "--epochs", "12", "--run", tmp_path / "part")[0] == 0
    part = load_checkpoint(tmp_path / "part")
    for kind in ("weights", "state", "cells", "average"):
        ours, theirs = getattr(part, kind), getattr(whole, kind)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours), kind


def test_a_step_is_that_of_a_loop_of_ones_own(npz: Path) -> None:
    training = Training(data="two", epochs=1, batch=1000, optimizer="SGD", lr=0.1, gradient="implicit")
    made = plan()
    data = data_for(made, str(npz))
    trainer = Trainer(Executor(made), data, training)
    (epoch,) = trainer.run()
    net = Executor(made)
    inputs = (data.x_train.reshape(-1, 1, 4), *data.more_train)
    loss = functional.cross_entropy(net(*inputs), data.y_train)
    assert epoch.loss == pytest.approx(loss.item(), rel=1e-5)
    loss.backward()  # type: ignore[no-untyped-call]
    for name, weight in net.weights().items():
        assert weight.grad is not None
        stepped = weight.detach() - 0.1 * weight.grad
        torch.testing.assert_close(trainer.net.weights()[name].detach(), stepped, rtol=1e-2, atol=1e-4)
    right = net_accuracy(trainer.net, data)
    shaped = (data.x_test.reshape(-1, 1, 4), *data.more_test)
    assert trainer.accuracy() == trainer.accuracy_on(shaped, data.y_test) == right


def net_accuracy(net: Executor, data: Data) -> float:
    found = net(data.x_test.reshape(-1, 1, 4), *data.more_test)
    return float((found.argmax(1) == data.y_test).double().mean())


def test_a_test_set_of_its_own(tmp_path: Path) -> None:
    held = arrays()
    tests = {f"{name}_test": array[:7] for name, array in held.items()}
    np.savez(tmp_path / "data.npz", **held, **tests)
    data = fitted(plan(), data_for(plan(), str(tmp_path / "data.npz")))
    assert [tuple(x.shape) for x in data.train] == [(40, 1, 4), (40, 3)]
    assert [tuple(x.shape) for x in data.test] == [(7, 1, 4), (7, 3)]
    assert torch.equal(data.more_train[0][:7], data.more_test[0])
    assert torch.equal(data.y_train[:7], data.y_test)


def test_samples_of_all_inputs_stay_together(npz: Path) -> None:
    held = arrays()
    rows = {tuple(i): (tuple(x), y) for x, i, y in zip(held["image"], held["ids"], held["y"], strict=True)}
    data = data_for(plan(), str(npz))
    for (x, ids), y in ((data.train, data.y_train), (data.test, data.y_test)):
        for k in range(len(y)):
            if sum(tuple(row) == tuple(ids[k].tolist()) for row in held["ids"]) == 1:
                assert rows[tuple(ids[k].tolist())] == (tuple(x[k].numpy()), int(y[k]))


def test_labels_beside_an_input_called_y(tmp_path: Path) -> None:
    made, held = plan(first="y", second="y_test"), arrays()
    np.savez(tmp_path / "data.npz", y=held["image"], y_test=held["ids"], target=held["y"])
    data = data_for(made, str(tmp_path / "data.npz"))
    assert (len(data.y_train), len(data.y_test)) == (32, 8)  # y_test is no test set
    list(Trainer(Executor(made), data, Training(data="two", epochs=1)).run())


def test_one_input_may_have_its_own_name(tmp_path: Path) -> None:
    b = Builder()
    made = compile_plan(b.model(b.node("MatMul", b.input("image", "N", 4), b.weight(4, 3))), hardware="ideal")
    held = arrays()
    for name in ("image", "x"):
        np.savez(tmp_path / f"{name}.npz", **{name: held["image"], "y": held["y"]})
    ours, theirs = (data_for(made, str(tmp_path / f"{name}.npz")) for name in ("image", "x"))
    assert torch.equal(ours.x_train, theirs.x_train)


def changed(**changes: Any) -> Arrays:
    return {name: array for name, array in {**arrays(), **changes}.items() if array is not None}


WRONG: dict[str, tuple[Arrays, str]] = {
    "one missing": (
        changed(ids=None),
        "{path}: it has no array 'ids', only ['image', 'y']; arrays image, ids and y",
    ),
    "all missing": (
        {"x": np.zeros(3)},
        "{path}: it has no arrays 'image', 'ids', 'y', only ['x']; arrays image, ids and y",
    ),
    "another length": (
        changed(ids=np.zeros((39, 3), np.int64)),
        "{path}: ids is int64[39, 3], y is int64[40]; an entry of y for each of ids, at least 2 of them",
    ),
    "another test shape": (
        changed(
            image_test=np.zeros((2, 4)), ids_test=np.zeros((2, 5), np.int64), y_test=np.zeros(2, np.int64)
        ),
        "{path}: a sample of ids_test is [5]; one of ids is [3]",
    ),
    "another shape": (
        changed(ids=np.zeros((40, 2), np.int64)),
        "a sample of ids of data.npz is [2]; the model takes [3]\n"
        "  hint: pad or resize the data, or compile a model for it",
    ),
    "fractions": (
        changed(ids=np.full((40, 3), 0.5)),
        "samples of ids of data.npz are no int64, which the model takes; whole numbers",
    ),
    "not a number": (
        changed(image=np.full((40, 4), np.nan)),
        "image of data.npz holds a NaN or an infinite number; finite numbers",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_named(run: Run, tmp_path: Path, case: str) -> None:
    held, message = WRONG[case]
    path = tmp_path / "data.npz"
    np.savez(path, **held)
    plan().save(tmp_path / "two.plan")
    code, _, err = run("train", tmp_path / "two.plan", "--data", path)
    assert code == 2
    assert err == f"error: {message.format(path=path)}\n"
    assert not (tmp_path / "two.plan.run").exists()


def test_data_of_one_input_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        Trainer(Executor(plan()), data_for(plan(), "digits"), Training(data="digits"))
    assert str(caught.value) == (
        "digits holds samples of 1 input, the model takes 2 inputs: image, ids; "
        "an .npz file with an array for each input by its name, and labels y"
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [("mean", (0.5,)), ("std", (2.0,)), ("flip", True), ("crop", 1), ("dither", 0.1), ("pad", True)],
)
def test_images_are_treated_alone(npz: Path, name: str, value: Any) -> None:
    training = Training(data="two", **{name: value})
    with pytest.raises(UsageError) as caught:
        Trainer(Executor(plan()), data_for(plan(), str(npz)), training)
    assert str(caught.value) == (
        f"--{name} with a model of 2 inputs; a model of one input\n  hint: prepare the arrays instead"
    )


def test_the_other_commands_take_the_same_file(run: Run, npz: Path, tmp_path: Path) -> None:
    folder = tmp_path / "two.plan"
    plan("reference").save(folder)
    whole = arrays(5)
    np.savez(tmp_path / "in.npz", image=whole["image"][:, None], ids=whole["ids"])
    calibrated = ("run", folder, "--input", tmp_path / "in.npz", "--calibrate", npz)
    code, _, err = run(*calibrated)
    assert code == 0
    assert "on 32 samples" in err
    code, _, err = run("gradcheck", folder, "--data", npz, "-o", tmp_path / "check.json", "--no-sweeps")
    assert code == 0, err
    code, _, err = run("sensitivity", folder, "--data", npz, "--samples", "8", "--probes", "8")
    assert code == 0, err


def test_training_changes_no_samples(npz: Path) -> None:
    data = data_for(plan(), str(npz))
    kept: list[Tensor] = [x.clone() for x in (*data.train, *data.test)]
    list(Trainer(Executor(plan()), data, Training(data="two", epochs=1)).run())
    assert all(torch.equal(x, y) for x, y in zip(kept, (*data.train, *data.test), strict=True))
