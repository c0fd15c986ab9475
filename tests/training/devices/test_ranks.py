"""Several processes train as one: the same steps on ideal tiles, noise of their own on others."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ffebm
from ffebm.errors import UsageError
from ffebm.training.devices.ranks import ALONE, APART, Ranks, is_one_of_several, joined
from ffebm.training.devices.shared_batch import check_synchronised
from ffebm.training.runs.checkpoint import load_checkpoint
from ffebm.training.settings import Training
from tests.running import Run

TRAIN = ("--optimizer", "SGD", "--lr", "0.1", "--gradient", "implicit", "--batch", "5")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Samples of twelve numbers and three classes, a batch of which does not part evenly."""
    x = np.random.default_rng(0).random((33, 12))
    path = tmp_path / "data.npz"
    np.savez(path, x=x, y=x[:, :3].argmax(1))
    return path


def compiled(path: Path, hardware: str) -> Path:
    """Two layers that settle together and a readout, in 64 bits."""
    torch.manual_seed(0)
    layers = [torch.nn.Linear(12, 8), torch.nn.Hardtanh(0, 1), torch.nn.Linear(8, 6), torch.nn.Hardtanh(0, 1)]
    model = torch.nn.Sequential(*layers, torch.nn.Linear(6, 3)).double()
    ffebm.compile(model, (torch.zeros(2, 12).double(),), hardware=hardware, block_size=2).save(path)
    return path


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(run).weights


def apart(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def test_two_processes_take_the_steps_of_one(tmp_path: Path, data: Path, run: Run) -> None:
    """The whole batch of one process; goes on with one what two have begun, and says the same figures."""
    plan = compiled(tmp_path / "net.plan", "ideal")
    one, two = tmp_path / "one.run", tmp_path / "two.run"
    asked = ("train", plan, "--data", data, *TRAIN)
    assert run(*asked, "--epochs", "2", "--run", one)[0] == 0
    assert run(*asked, "--epochs", "1", "--devices", "2", "--run-folder", two)[0] == 0
    assert run("train", plan, "--resume", "--epochs", "2", "--run", two)[0] == 0
    assert next(iter(weights(one).values())).dtype == torch.float64
    assert apart(weights(one), weights(two)) < 1e-12
    for ours, theirs in zip(
        load_checkpoint(one).record.epochs, load_checkpoint(two).record.epochs, strict=True
    ):
        assert theirs.loss == pytest.approx(ours.loss, abs=1e-12)
        assert (theirs.train_accuracy, theirs.test_accuracy) == (ours.train_accuracy, ours.test_accuracy)


@pytest.mark.slow
@pytest.mark.parametrize("gradient", ["implicit", "ep"])
def test_a_hundred_steps(gradient: str, tmp_path: Path, data: Path, run: Run) -> None:
    plan = compiled(tmp_path / "net.plan", "ideal")
    runs = {}
    for devices in ("1", "2", "3"):
        runs[devices] = tmp_path / f"{devices}.run"
        asked = ("--epochs", "17", "--gradient", gradient, "--devices", devices, "--run", runs[devices])
        assert run("train", plan, "--data", data, *TRAIN, *asked)[0] == 0
    assert all(apart(weights(runs["1"]), weights(runs[devices])) < 1e-9 for devices in "23")


def normalised(path: Path) -> Path:
    """Batch normalisation before a block, behind it, and without a block's error current below."""
    torch.manual_seed(0)
    norms = [torch.nn.BatchNorm1d(n) for n in (12, 8, 6)]
    layers = [norms[0], torch.nn.Linear(12, 8), norms[1], torch.nn.Hardtanh(0, 1), torch.nn.Linear(8, 6)]
    model = torch.nn.Sequential(*layers, norms[2], torch.nn.Tanh(), torch.nn.Linear(6, 3)).double()
    ffebm.compile(model, (torch.zeros(2, 12).double(),), hardware="ideal", block_size=2).save(path)
    return path


SYNC = "--sync-batch-statistics"


@pytest.mark.parametrize("gradient", ["implicit", pytest.param("ep", marks=pytest.mark.slow)])
def test_batch_statistics_are_those_of_the_whole_batch(
    gradient: str, tmp_path: Path, data: Path, run: Run
) -> None:
    """Shares of unequal size: batches of five, of which one process has three samples and the other two."""
    plan, runs = normalised(tmp_path / "net.plan"), {}
    held = np.load(data)
    np.savez(data, x=held["x"][:25], y=held["y"][:25], x_test=held["x"][25:], y_test=held["y"][25:])
    asked = ("train", plan, "--data", data, *TRAIN, "--gradient", gradient, "--epochs", "1")
    for name, options in {"one": (), "two": ("--devices", "2", SYNC), "own": ("--devices", "2")}.items():
        runs[name] = tmp_path / f"{name}.run"
        code, _, err = run(*asked, *options, "--run", runs[name])
        assert code == 0, err
    assert weights(runs["one"])["1.weight"].dtype == torch.float64
    assert apart(weights(runs["one"]), weights(runs["two"])) < 1e-9
    assert apart(weights(runs["one"]), weights(runs["own"])) > 1e-4
    ours, theirs = (load_checkpoint(runs[name]).record.epochs[-1] for name in ("one", "two"))
    assert theirs.loss == pytest.approx(ours.loss, abs=1e-9)


def test_where_batch_statistics_cannot_be_shared(tmp_path: Path) -> None:
    norm = ffebm.load_plan(normalised(tmp_path / "norm.plan"))
    plain = ffebm.load_plan(compiled(tmp_path / "plain.plan", "ideal"))

    def message(plan: ffebm.Plan, samples: int, ranks: Ranks, **changes: Any) -> str:
        with pytest.raises(UsageError) as caught:
            check_synchronised(plan, Training(data="", batch=8, **changes), samples, ranks)
        return str(caught.value)

    assert message(plain, 33, ALONE) == (
        f"{SYNC} with a plan that has no batch normalisation\n  hint: leave it out: nothing is shared"
    )
    assert message(norm, 32, Ranks(0, 2), cost=True) == (
        f"{SYNC} with --cost: processes would evaluate what is behind the last block unequally often; "
        "a nudge by the error current\n  hint: leave --cost out"
    )
    for samples, ranks, least in ((33, 2, 1), (32, 9, 8), (5, 6, 5)):
        assert message(norm, samples, Ranks(0, ranks)) == (
            f"{SYNC} with {ranks} processes and a batch of {least} of {samples} samples; "
            "a sample of every batch for each process\n  hint: another --batch, whose last one is as large"
        )
    check_synchronised(norm, Training(data="", batch=8), 34, Ranks(0, 2))
    check_synchronised(norm, Training(data="", batch=8, cost=True), 33, ALONE)


@pytest.mark.slow
def test_noise_differs_between_processes_and_weights_do_not(tmp_path: Path, data: Path, run: Run) -> None:
    plan = compiled(tmp_path / "net.plan", "reference")
    folder = tmp_path / "two.run"
    options = ("--epochs", "2", "--devices", "2", "--run", folder)
    assert run("train", plan, "--data", data, *TRAIN, *options)[0] == 0  # who drifts apart is an error
    assert Ranks(1, 2).seed(7) == 7 + APART


@pytest.mark.slow
def test_a_killed_run_is_resumed_with_another_number(tmp_path: Path, data: Path, run: Run) -> None:
    """A process of the run kills itself in its third epoch; what the second has left goes on alone."""
    plan = compiled(tmp_path / "net.plan", "ideal")
    folder, whole = tmp_path / "two.run", tmp_path / "one.run"
    killer = tmp_path / "sitecustomize.py"
    killer.write_text(
        "import os, signal\n"
        "if os.environ.get('RANK') == '1':\n"
        "    from ffebm.training.trainer import Trainer\n"
        "    epoch = Trainer._epoch\n"
        "    def broken(self, number, progress):\n"
        "        number == 3 and os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return epoch(self, number, progress)\n"
        "    Trainer._epoch = broken\n"
    )
    asked = ("train", plan, "--data", data, *TRAIN, "--epochs", "4")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{tmp_path}:{Path(ffebm.__file__).parent.parent}")
        code, _, err = run(*asked, "--devices", "2", "--run", folder)
    assert code == 2
    assert "process 1 of 2 was ended by SIGKILL, and the run with it" in err
    assert len(load_checkpoint(folder).record.epochs) == 2
    assert run("train", plan, "--resume", "--run", folder)[0] == 0
    assert run(*asked, "--run", whole)[0] == 0
    assert apart(weights(whole), weights(folder)) < 1e-12


def test_what_is_wrong_is_said_once(tmp_path: Path, data: Path, run: Run) -> None:
    plan = compiled(tmp_path / "net.plan", "ideal")
    (tmp_path / "taken").mkdir()
    code, out, err = run("train", plan, "--data", data, "--devices", "2", "--run", tmp_path / "taken")
    assert (code, out) == (2, "")
    assert err.startswith(f"error: there is a run in {tmp_path / 'taken'} already")
    assert run("train", plan, "--devices", "2")[2].startswith("error: no --data")


def test_one_alone_adds_nothing_up() -> None:
    assert not is_one_of_several()
    with joined("cpu") as (ranks, device):
        assert (ranks, device) == (ALONE, "cpu")
    assert ALONE.summed([1.5, 2.0]) == [1.5, 2.0]
    assert ALONE.from_first("x") == "x"
    assert ALONE.share(torch.arange(3)).tolist() == [0, 1, 2]
    assert ALONE.seed(3) == 3


def test_a_batch_is_shared_out_without_a_rest() -> None:
    picked = torch.arange(7)
    shares = [Ranks(rank, 3).share(picked) for rank in range(3)]
    assert torch.cat(shares).sort().values.tolist() == picked.tolist()
    assert [len(share) for share in shares] == [3, 2, 2]


@pytest.mark.slow
def test_torchrun_starts_them_too(tmp_path: Path, data: Path) -> None:
    """Its own options leave `--run-folder` alone; `--run` it would take for `--run-path`."""
    plan, folder = compiled(tmp_path / "net.plan", "ideal"), tmp_path / "two.run"
    words = ["--standalone", "--nproc-per-node", "2", "-m", "ffebm", "train", str(plan), "--data", str(data)]
    words += [*TRAIN, "--epochs", "1", "--run-folder", str(folder)]
    command = [sys.executable, "-m", "torch.distributed.run", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("run recorded in") == 1
    assert len(load_checkpoint(folder).record.epochs) == 1
