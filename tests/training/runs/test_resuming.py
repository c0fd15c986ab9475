"""Checkpoints that are damaged, foreign or of another version: one message each, and nothing changes."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch
from msgspec.structs import replace

from ffebm import Executor
from ffebm.errors import PlanError, UsageError
from ffebm.files.folder import read_folder, write_folder
from ffebm.hardware.description import Transfer
from ffebm.training.runs.checkpoint import checkpoint_among
from ffebm.training.runs.record import RECORD, RUN
from ffebm.training.runs.resuming import check_fits, expected, not_finite
from ffebm.training.trainer import Trainer
from tests.machines import ratio
from tests.mutate_runs import CHECKPOINT, Arrays, Files, mutants
from tests.training.test_trainer import TRAINING, final, in_place, run, samples, tiny

SETTINGS = replace(TRAINING, epochs=2, optimizer="SGD", momentum=0.9)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """The files of a run of one epoch."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    run(tiny("ideal"), replace(SETTINGS, epochs=1), folder)
    return read_folder(folder, RECORD)


def resumed(folder: Path) -> Trainer:
    trainer = Trainer(Executor(tiny("ideal")), samples(), SETTINGS, folder)
    trainer.resume()
    return trainer


def on_arrays(change: Callable[[Arrays], object]) -> Callable[[Files], None]:
    def changed(files: Files) -> None:
        arrays = safetensors.numpy.load(files[CHECKPOINT])
        change(arrays)
        files[CHECKPOINT] = safetensors.numpy.save(arrays)

    return changed


def on_record(change: Callable[[dict[str, object]], object]) -> Callable[[Files], None]:
    def changed(files: Files) -> None:
        document = json.loads(files[RECORD])
        change(document)
        files[RECORD] = json.dumps(document).encode()

    return changed


MEND = "\n  hint: train again, or take an older copy of the folder"
FIT = "the checkpoint does not fit: "


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda files: files.pop(CHECKPOINT), f"checkpoint.safetensors is missing{MEND}"),
        (
            lambda files: files.update({CHECKPOINT: files[CHECKPOINT][:-9]}),
            "the checkpoint cannot be read: Error while deserializing: incomplete metadata, file not fully "
            f"covered{MEND}",
        ),
        (on_arrays(lambda a: a.clear()), f"{FIT}weight 'c0' is missing{MEND}"),
        (on_arrays(lambda a: a.pop("weights/c7")), f"{FIT}weight 'c7' is missing{MEND}"),
        (on_arrays(lambda a: a.update({"weights/w": a["weights/c7"]})), f"{FIT}weight 'w' is unknown{MEND}"),
        (
            on_arrays(lambda a: a.update({"w": a["weights/c7"]})),
            f"the checkpoint holds 'w'; weights/…, optimizer/…, cells/…, average/…, best/…, "
            f"constraints/…{MEND}",
        ),
        (
            on_arrays(lambda a: a.update({"weights/c7": a["weights/c7"].T.copy()})),
            f"{FIT}weight 'c7' is float32 [6, 32], not float32 [32, 6]{MEND}",
        ),
        (
            on_arrays(lambda a: a.update({"weights/c7": a["weights/c7"].astype(np.float64)})),
            f"{FIT}weight 'c7' is float64 [32, 6], not float32 [32, 6]{MEND}",
        ),
        (
            on_arrays(lambda a: a["weights/c7"].fill(np.nan)),
            f"{FIT}weight 'c7' holds a NaN or an infinite number{MEND}",
        ),
        (
            on_arrays(lambda a: a["optimizer/0.momentum_buffer"].fill(np.nan)),
            f"{FIT}optimiser state '0.momentum_buffer' holds a NaN{MEND}",
        ),
        (
            on_arrays(lambda a: a.update({"optimizer/9.momentum_buffer": np.ones(1, np.float32)})),
            f"{FIT}optimiser state '9.momentum_buffer' is unknown{MEND}",
        ),
        (
            on_arrays(lambda a: a.update({"cells/c7/plus": np.ones(1, np.float32)})),
            f"{FIT}cells 'c7/plus' is unknown{MEND}",
        ),
        (
            on_record(lambda r: r.update(groups=[])),
            f"{FIT}the optimiser has 0 groups of settings, not 1{MEND}",
        ),
        (
            on_record(lambda r: r["groups"][0].update(lr="fast")),  # type: ignore[index]
            f"{FIT}the learning rate is 'fast'{MEND}",
        ),
        (
            on_record(lambda r: r["groups"][0].update(momentum=0.5)),  # type: ignore[index]
            f"{FIT}the optimiser's setting momentum is 0.5, not 0.9{MEND}",
        ),
        (
            on_record(lambda r: r.update(schema=7)),
            "the run is of version 7; this ffebm reads version 1\n  hint: train again with this version",
        ),
        (
            on_record(lambda r: r["epochs"][0].update(epoch=3)),  # type: ignore[index]
            f"the run record has epoch 3 in place 1{MEND}",
        ),
        (
            on_record(lambda r: r.update(weather="fair")),
            f"the run record cannot be read: Object contains unknown field `weather`{MEND}",
        ),
        (
            lambda files: files.update({RECORD: b"[" * 100_000}),
            f"the run record cannot be read: Expected `object`, got `array`{MEND}",
        ),
    ],
)
def test_what_does_not_fit_is_one_message(
    whole: Files, tmp_path: Path, change: Callable[[Files], None], message: str
) -> None:
    folder, files = tmp_path / "run", dict(whole)
    change(files)
    write_folder(folder, files, RECORD, RUN)
    with pytest.raises(PlanError) as caught:
        resumed(folder)
    assert str(caught.value) == f"{folder}: {message}"


def test_a_run_that_does_not_fit_changes_nothing(whole: Files, tmp_path: Path) -> None:
    files = dict(whole)
    on_arrays(lambda a: a["weights/c7"].fill(np.nan))(files)
    write_folder(tmp_path / "run", files, RECORD)
    trainer = Trainer(Executor(tiny("ideal")), samples(), SETTINGS, tmp_path / "run")
    before = {name: tensor.clone() for name, tensor in final(trainer).items()}
    with pytest.raises(PlanError):
        trainer.resume()
    assert all(torch.equal(tensor, before[name]) for name, tensor in final(trainer).items())
    assert trainer.epochs == []


def test_a_run_of_before_versions_were_counted_is_read(whole: Files, tmp_path: Path) -> None:
    files = dict(whole)
    on_record(lambda record: record.pop("schema"))(files)
    write_folder(tmp_path / "run", files, RECORD)
    assert len(resumed(tmp_path / "run").epochs) == 1


def in_words_alone(document: dict[str, object]) -> None:
    """A record as it was before it held the estimator, settling and options but in words.

    Leaves out of the words what `Settle` and `Options` did not have once.
    """
    words = str(document["gradient"])
    for since in (", strict=False", ", settling='sweeps'", ", batch=1", ", no_weights=False"):
        assert since in words
        words = words.replace(since, "")
    document["gradient"] = words
    for name in ("estimator", "settle", "options"):
        del document[name]


ANOTHER = "  hint: resume with the same settings (--epochs may grow unless the schedule ends with it)"


def stricter(folder: Path) -> str:
    """What is said to a run that is strict where the one in the folder was not."""
    net = Executor(tiny("ideal"), settle=replace(tiny("ideal").settle, strict=True))
    with pytest.raises(UsageError) as caught:
        Trainer(net, samples(), SETTINGS, folder).resume()
    return str(caught.value)


def test_a_run_of_before_options_came_goes_on_at_their_defaults(whole: Files, tmp_path: Path) -> None:
    files = dict(whole)
    on_record(in_words_alone)(files)
    write_folder(tmp_path / "run", files, RECORD, RUN)
    resumed(tmp_path / "run")

    then = json.loads(files[RECORD])["gradient"]
    now = then.replace("winners='sharp')", "winners='sharp', strict=True)")
    assert stricter(tmp_path / "run") == (
        f"{tmp_path / 'run'}: the run was started with another gradient: {then}; "
        f"now asked for: {now}\n{ANOTHER}"
    )


def without_what_came_later(document: dict[str, object]) -> None:
    """A record of before some fields came, which stand at their defaults."""
    for part, field in (("estimator", "relative"), ("settle", "strict"), ("options", "batch")):
        held = document[part]
        assert isinstance(held, dict)
        del held[field]


def test_a_record_is_compared_by_its_values(whole: Files, tmp_path: Path) -> None:
    """Words are for readers: another version may say them otherwise, and know more fields."""
    files = dict(whole)
    on_record(lambda document: document.update(gradient="in other words"))(files)
    on_record(without_what_came_later)(files)
    write_folder(tmp_path / "run", files, RECORD, RUN)
    resumed(tmp_path / "run")
    assert stricter(tmp_path / "run") == (
        f"{tmp_path / 'run'}: the run was started with other settling: strict = False; now asked for: "
        f"strict = True\n{ANOTHER}"
    )


@pytest.mark.parametrize("missing", ["c7/0.plus", "c7/0.slow.plus"])
def test_cells_that_are_missing(tmp_path: Path, missing: str) -> None:
    """Without them the run would go on from freshly programmed cells, silently another one."""
    plan = tiny(in_place(Transfer(every=3, rate=ratio(0.5)) if "slow" in missing else None))
    run(plan, replace(TRAINING, epochs=1), tmp_path / "run")
    files = read_folder(tmp_path / "run", RECORD)
    on_arrays(lambda a: a.pop(f"cells/{missing}"))(files)
    write_folder(tmp_path / "run", files, RECORD)
    trainer = Trainer(Executor(plan), samples(), TRAINING, tmp_path / "run")
    with pytest.raises(PlanError) as caught:
        trainer.resume()
    assert str(caught.value) == f"{tmp_path / 'run'}: {FIT}cells {missing!r} is missing{MEND}"


def test_a_run_that_spoils_its_weights_keeps_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(Executor(tiny("ideal", 1)), samples(), SETTINGS, tmp_path / "run")
    epochs = trainer.run()
    next(epochs)
    kept = read_folder(tmp_path / "run", RECORD)
    step = trainer.optimizer.step

    def spoiling() -> None:  # behind the last step of an epoch no loss tells
        step()
        with torch.no_grad():
            trainer.net.weights()["c7"][0, 0] = torch.nan

    monkeypatch.setattr(trainer.optimizer, "step", spoiling)
    monkeypatch.setattr(trainer, "data", replace_data(trainer))
    with pytest.raises(UsageError) as caught:
        next(epochs)
    assert str(caught.value) == (
        "weight 'c7' reaches nan in step 1 of epoch 2; "
        "at most 1e+06 times the first loss, and finite weights\n"
        "  hint: try a smaller --lr, --clip-norm, --warmup or another --beta; what epoch 1 has left stays, "
        "for --resume"
    )
    assert read_folder(tmp_path / "run", RECORD) == kept


def replace_data(trainer: Trainer) -> object:
    """So few samples that an epoch has one step."""
    return dataclasses.replace(
        trainer.data, x_train=trainer.data.x_train[:8], y_train=trainer.data.y_train[:8]
    )


def faults(whole: Files, n: int, seed: int) -> tuple[int, int]:
    """How many mutants were accepted and refused; anything else is raised."""
    trainer = Trainer(Executor(tiny("ideal")), samples(), SETTINGS)
    fits = expected(trainer.net, trainer.optimizer, trainer.training, {}, {})
    accepted = refused = 0
    for what, files in mutants(whole, n, seed):
        try:
            checkpoint = checkpoint_among(files, Path("run"))
            check_fits(checkpoint, fits, Path("run"))
        except PlanError:
            refused += 1
        except Exception as error:
            raise AssertionError(what) from error
        else:
            shapes = {name: tensor.shape for name, tensor in fits.weights.items()}
            assert not not_finite(checkpoint.weights), what
            assert {name: tensor.shape for name, tensor in checkpoint.weights.items()} == shapes, what
            accepted += 1
    return accepted, refused


def test_mutants_are_refused_or_fit(whole: Files) -> None:
    accepted, refused = faults(whole, 600, 0)
    assert refused > 300
    assert accepted > 30


@pytest.mark.slow
def test_many_mutants_are_refused_or_fit(whole: Files) -> None:
    faults(whole, 10_000, 1)
