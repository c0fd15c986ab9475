"""`--settling` of the commands that run a plan."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from ffebm.commands.train import epoch_text
from ffebm.plan.schema import Settle
from ffebm.studies.gradcheck.certificate import load_certificate
from ffebm.training.runs.checkpoint import load_checkpoint
from ffebm.training.runs.record import Epoch
from tests.models import Builder
from tests.running import Run


@pytest.fixture
def plan(run: Run, tmp_path: Path) -> Path:
    b = Builder(0)
    hidden = b.clip(b.node("MatMul", b.input("x", "N", 6), b.weight(6, 5, gain=0.5)))
    onnx.save(b.model(b.node("MatMul", hidden, b.weight(5, 3, gain=0.5), out="y")), tmp_path / "model.onnx")
    path = tmp_path / "plan"
    asked = ("--hardware", "resistive", "--tol", "1e-6")
    assert run("compile", tmp_path / "model.onnx", "-o", path, *asked)[0] == 0
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "x.npz", x=rng.random((4, 6), np.float32))
    np.savez(tmp_path / "data.npz", x=rng.random((8, 6), np.float32), y=rng.integers(0, 3, 8))
    return path


def test_a_run_moves_as_a_circuit(plan: Path, run: Run, tmp_path: Path) -> None:
    found = {}
    for settling in ("sweeps", "circuit"):
        options = ("--input", tmp_path / "x.npz", "--output", tmp_path / "y.npz", "--settling", settling)
        code, _, err = run("run", plan, *options)
        assert code == 0, err
        found[settling] = np.load(tmp_path / "y.npz")["y"]
    assert not np.array_equal(found["sweeps"], found["circuit"])
    np.testing.assert_allclose(found["sweeps"], found["circuit"], atol=0.05)


def test_a_certificate_and_a_run_say_how_blocks_moved(plan: Path, run: Run, tmp_path: Path) -> None:
    code, _, err = run("gradcheck", plan, "--settling", "circuit", "--no-sweeps", "--samples", "2")
    assert code == 0, err
    certificate = load_certificate(tmp_path / "plan.gradcheck.json")
    assert "settling='circuit'" in certificate.settle
    assert "tol=None" in certificate.settle
    options = ("--data", tmp_path / "data.npz", "--epochs", "1", "--batch", "8", "--lr", "0.1")
    code, _, err = run("train", plan, "--run", tmp_path / "run", *options, "--settling", "circuit")
    assert code == 0, err
    assert run("train", plan, "--run", tmp_path / "run", "--resume", "--epochs", "2")[0] == 0
    record = load_checkpoint(tmp_path / "run").record
    assert "settling='circuit'" in record.gradient
    assert len(record.epochs) == 2


@pytest.mark.parametrize("command", ["run", "gradcheck", "train"])
def test_another_way_is_refused(plan: Path, run: Run, tmp_path: Path, command: str) -> None:
    options = {
        "run": ("--input", tmp_path / "x.npz"),
        "train": ("--data", tmp_path / "data.npz", "--run", tmp_path / "run"),
    }
    code, _, err = run(command, plan, *options.get(command, ()), "--settling", "jumps")
    assert code == 2
    assert "jumps" in err
    assert "sweeps" in err
    assert "circuit" in err


@pytest.mark.parametrize(
    ("settle", "said"),
    [
        (Settle(), "50.0 % not settled to 0.0001"),
        (Settle(tol=0.01), "50.0 % not settled to 0.01"),
        (Settle(settling="circuit"), "50.0 % still moving when their time was over"),
    ],
)
def test_an_epoch_says_what_did_not_settle(settle: Settle, said: str) -> None:
    epoch = Epoch(
        epoch=1, loss=1.0, train_accuracy=0.5, test_loss=1.0, test_accuracy=0.5, unsettled=0.5, seconds=1.0
    )
    assert said in epoch_text(epoch, settle)
