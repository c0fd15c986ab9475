"""`ffebm train`: token models, and what a run records and resumes."""

from inspect import signature
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto

from ffebm.commands.train import train
from ffebm.training.runs.checkpoint import Checkpoint, load_checkpoint
from ffebm.training.runs.record import RunRecord
from ffebm.training.settings import Training
from tests.models import Builder
from tests.running import Run


def transformer(per_token: bool) -> onnx.ModelProto:
    """Embedded tokens, one head of attention, and a layer behind; classes of tokens, or of their mean."""
    b, width = Builder(), 8
    x = b.node("Gather", b.weight(12, width, name="table"), b.input("ids", "N", "T", dtype=TensorProto.INT64))
    q, k, v = (b.node("MatMul", x, b.weight(width, width, name=name)) for name in "qkv")
    scores = b.node("MatMul", q, b.node("Transpose", k, perm=[0, 2, 1]))
    scaled = b.node("Softmax", b.node("Mul", scores, b.constant(width**-0.5)), axis=-1)
    x = b.node("Add", x, b.node("MatMul", b.node("MatMul", scaled, v), b.weight(width, width, name="o")))
    if not per_token:
        x = b.node("ReduceMean", x, b.shape(1), keepdims=0)
    return b.model(b.node("MatMul", x, b.weight(width, 3, name="head"), out="scores"))


@pytest.fixture(params=["reference", "ideal"])
def plan(request: pytest.FixtureRequest, run: Run, tmp_path: Path) -> Path:
    onnx.save(transformer(per_token=True), tmp_path / "model.onnx")
    path = tmp_path / "plan"
    assert run("compile", tmp_path / "model.onnx", "-o", path, "--hardware", request.param)[0] == 0
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The class of a token is its remainder by 3; token 0 has none."""
    ids = np.random.default_rng(0).integers(0, 12, (60, 5))
    np.savez(tmp_path / "data.npz", x=ids, y=np.where(ids == 0, -1, ids % 3))
    return tmp_path / "data.npz"


ALL = [
    *("--accumulate", "2", "--batch", "8", "--lr", "0.03", "--clip-norm", "5", "--ema", "0.9"),
    *("--schedule", "cosine", "--schedule-by", "steps", "--warmup", "2", "--class-weights", "balanced"),
    *("--ignore-label", "-1", "--validation", "0.2", "--patience", "3"),
]


def _percent(share: float | None) -> str:
    assert share is not None
    return f"{100 * share:.2f} %"


def same(ours: Checkpoint, theirs: Checkpoint) -> None:
    for kind in ("weights", "state", "cells", "average", "best"):
        a, b = getattr(ours, kind), getattr(theirs, kind)
        assert a.keys() == b.keys()
        for name in a:
            assert torch.equal(a[name], b[name]), (kind, name)
    assert figures(ours.record) == figures(theirs.record)


def figures(record: RunRecord) -> list[dict[str, object]]:
    names = set(record.epochs[0].__struct_fields__) - {"seconds"}
    return [{name: getattr(epoch, name) for name in names} for epoch in record.epochs]


def test_a_transformer_is_trained_recorded_and_resumed(
    run: Run, plan: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, part = tmp_path / "whole", tmp_path / "part"
    options = ["--data", data, "--epochs", "6", *ALL]
    code, out, err = run("train", plan, *options, "--run", whole)
    assert (code, err.strip()) == (0, "")
    record = load_checkpoint(whole).record
    best = max(record.epochs, key=lambda epoch: epoch.figure)  # the first of equal ones
    said = [line for line in out.splitlines() if line.startswith(("best", "test"))]
    assert said == [
        f"best: epoch {best.epoch}  test {_percent(best.test_accuracy)}  "
        f"average {_percent(best.average_accuracy)}  validation {_percent(best.validation_accuracy)}",
        f"test accuracy {_percent(record.epochs[-1].test_accuracy)} behind epoch {record.epochs[-1].epoch}",
    ]
    assert (record.training.accumulate, record.training.ema, record.training.warmup) == (2, 0.9, 2)
    assert record.loss == "cross-entropy of output 'scores', classes on axis 2"
    assert len(record.class_weights) == 3
    assert record.epochs[-1].loss < record.epochs[0].loss
    assert {"trained.onnx", "averaged.onnx", "best.onnx"} <= {path.name for path in whole.iterdir()}

    from ffebm.training.trainer import Trainer

    seen: list[int] = []
    step = Trainer._epoch

    def interrupted(self: Trainer, number: int, progress: object) -> object:
        if number == 4 and not seen:
            seen.append(number)
            raise KeyboardInterrupt
        return step(self, number, progress)  # type: ignore[arg-type]

    monkeypatch.setattr(Trainer, "_epoch", interrupted)
    assert run("train", plan, *options, "--run", part)[0] != 0
    assert len(load_checkpoint(part).record.epochs) == 3
    ours = torch.get_num_threads()
    monkeypatch.setattr(torch, "get_num_threads", lambda: ours + 1)
    code, _, err = run("train", plan, "--resume", "--run", part)
    assert (code, err.strip()) == (
        0,
        f"warning: the run was begun with {ours} threads, now there are {ours + 1}: "
        "torch may add up in another order, and the run may end with other bits",
    )
    same(load_checkpoint(part), load_checkpoint(whole))


def test_token_models_in_the_other_commands(run: Run, data: Path, tmp_path: Path) -> None:
    onnx.save(transformer(per_token=False), tmp_path / "model.onnx")
    plan = tmp_path / "plan"
    ids = np.random.default_rng(0).integers(0, 12, (60, 5))
    np.savez(data, x=ids, y=ids[:, 0] % 3)
    assert run("compile", tmp_path / "model.onnx", "-o", plan, "--hardware", "reference")[0] == 0
    assert run("gradcheck", plan, "--data", data, "--no-sweeps", "--samples", "4")[0] == 0
    few = ("--noise", "1", "--bits", "", "--samples", "12", "--probes", "8", "--drop", "100")
    assert run("sensitivity", plan, "--data", data, *few)[0] == 0
    check = ("--check", tmp_path / "model.onnx", "--calibrate", data)
    code, out, _ = run("run", plan, "--input", data, *check)
    assert code == 0
    assert out.startswith("scores: largest error ")
    assert run("train", plan, "--data", data, "--epochs", "1")[0] == 0


def test_tokens_that_the_model_does_not_know(run: Run, plan: Path, data: Path) -> None:
    np.savez(data, x=np.full((20, 5), 12), y=np.zeros((20, 5), int))
    code, _, err = run("train", plan, "--data", data)
    assert (code, err.strip()) == (
        2,
        "error: Gather reads at 12 to 12 of an axis of 12; -12 to 11\n"
        "  hint: tokens or positions of the input are beyond the model's table",
    )
    np.savez(data, x=np.full((20, 5), 0.5), y=np.zeros((20, 5), int))
    assert run("train", plan, "--data", data, "--run", data.with_name("other")) == (
        2,
        "",
        "error: samples of data.npz are no int64, which the model takes; whole numbers\n",
    )


def test_a_recipe_that_holds_norms(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "small.plan"
    options = ("--data", "fashion-mnist", "--width", "0.06", "-o", folder, "--hold-norm", "0.8,layer[13].*")
    assert run("recipe", "splitting-small-2", *options)[0] == 0
    settings = folder.with_name("small.plan.toml")
    assert 'hold_norm = [0.8, "layer[13].*"]\n' in settings.read_text(encoding="utf-8")
    x = np.random.default_rng(0).random((20, 3, 32, 32), np.float32)
    np.savez(tmp_path / "data.npz", x=x, y=np.arange(20) % 10)
    data = ("--data", tmp_path / "data.npz", "--epochs", "1", "--batch", "20", "--warmup", "0")
    training = (*data, "--settings", settings)
    code, out, _ = run("train", folder, *training, "--run", tmp_path / "named")
    assert code == 0
    assert "largest norm 0.8: layer1.weight, layer3.weight\n" in out
    assert load_checkpoint(tmp_path / "named").record.training.hold_norm == (0.8, "layer[13].*")
    code, out, _ = run("train", folder, *training, "--run", tmp_path / "own", "--hold-norm", "0.1")
    assert "largest norm 0.1: layer1.weight, layer3.weight, layer5.weight\n" in out
    held = load_checkpoint(tmp_path / "own").weights
    for name in ("layer1.weight", "layer3.weight", "layer5.weight"):
        assert float(torch.linalg.matrix_norm(held[name].flatten(1), 2)) == pytest.approx(0.1, rel=0.01)
    code, _, err = run("train", folder, *training, "--run", tmp_path / "no", "--hold-norm", "much")
    assert code == 2
    assert err == "error: hold_norm is much; a finite number above 0, or one and a name: 0.8,layer1.*\n"
    assert not (tmp_path / "no").exists()


def test_every_setting_of_a_run_has_an_option() -> None:
    assert {*Training.__struct_fields__} - signature(train).parameters.keys() == set()
