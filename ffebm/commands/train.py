"""`ffebm train`."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import msgspec
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from typer import Exit, Option

from ffebm.commands.console import DataFolder, PlanPath, err, out
from ffebm.commands.options import with_options
from ffebm.commands.settling import known_settling, settled_by
from ffebm.commands.training import RunSettings
from ffebm.errors import UsageError
from ffebm.files.lock import claimed
from ffebm.files.scratch import collect
from ffebm.plan.plan import Plan, load_plan
from ffebm.plan.schema import Settle
from ffebm.training.runs.record import Epoch
from ffebm.training.settings import Training, held_norm, read_settings, strength, toml_of, training_from
from ffebm.visible import visible

if TYPE_CHECKING:
    from ffebm.training.devices.ranks import Ranks
    from ffebm.training.trainer import Trainer

LARGEST_FILE = 1 << 24
"""Bytes of a file of class weights."""


@with_options
def train(  # noqa: PLR0913 - a command's options are its arguments
    plan: PlanPath,
    *,
    asked: RunSettings,
    data_folder: DataFolder = None,
    settings: Annotated[
        Path | None, Option(help="TOML file of these settings, as `ffebm recipe` writes it; options win.")
    ] = None,
    device: Annotated[str, Option(help="Where to compute: cpu, cuda …")] = "cpu",
    devices: Annotated[
        int,
        Option(help="Processes that share every batch, each with a device of its own.", min=1),
    ] = 1,
    run: Annotated[
        Path | None,
        Option(
            "--run",
            "--run-folder",
            help="Folder of the run's record; torchrun takes only the second name. [default: PLAN.run]",
        ),
    ] = None,
    resume: Annotated[bool, Option(help="Continue the run in that folder.")] = False,
) -> None:
    """Train a plan; every epoch leaves a checkpoint, the trained model lies beside it as ONNX."""
    from ffebm.training.devices.ranks import is_one_of_several, joined

    chosen = _given(asdict(asked))
    if settings is not None:
        chosen = read_settings(settings) | chosen
    folder = run or plan.resolve().with_name(f"{plan.resolve().name}.run")
    held = claimed(folder, "trains in it", "wait until it ends, or name another folder with --run")
    if devices > 1 and not is_one_of_several():
        with held:  # what is wrong is said once, and not by each process
            _settings(chosen, folder, resume)
            load_plan(plan)
        options = {"--run": folder, "--data-folder": data_folder, "--device": device}
        _train_together(devices, [str(plan)], options, chosen, resume=resume)
        return
    with joined(device) as (ranks, own), held if ranks.is_first else nullcontext():
        if ranks.is_first:
            collect(folder.resolve().parent)  # a run whose process died may have to be put into its place
        training = _settings(chosen, folder, resume, ranks.is_first)
        _train(load_plan(plan), training, folder, resume, data_folder, own, ranks)
        if ranks.is_first:
            out.print(f"run recorded in {folder}", markup=False)


def _settings(chosen: dict[str, object], folder: Path, resume: bool, is_first: bool = True) -> Training:
    """What a run goes by: what is asked for, and of one that is resumed what it was begun with."""
    from ffebm.training.runs.checkpoint import load_checkpoint

    if resume:
        chosen = {**msgspec.structs.asdict(load_checkpoint(folder).record.training), **chosen}
    elif "data" not in chosen:
        raise UsageError("no --data", allowed="digits, fashion-mnist …, or the path of an .npz file")
    elif is_first and folder.exists():
        raise UsageError(
            f"there is a run in {folder} already",
            hint="--resume continues it; --run names another folder",
        )
    return training_from(chosen)


def _train_together(
    devices: int,
    words: list[str],
    options: Mapping[str, str | Path | None],
    chosen: Mapping[str, object],
    *,
    resume: bool,
) -> None:
    """Train in several processes, each of which runs this command."""
    from ffebm.training.devices.launching import launch

    given = [word for name, value in options.items() if value is not None for word in (name, str(value))]
    with TemporaryDirectory() as scratch:
        file = Path(scratch) / "settings.toml"
        file.write_text(toml_of(chosen), encoding="utf-8")
        code = launch(["train", *words, *given, "--settings", str(file), *["--resume"] * resume], devices)
    if code:
        raise Exit(code)


def _given(options: Mapping[str, object]) -> dict[str, object]:
    """Settings by the options that were given, as a run has them."""
    given = {name: value for name, value in options.items() if value is not None and value != []}
    return {name: READ[name](str(value)) if name in READ else value for name, value in given.items()}


def _numbers(name: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--{name} {text}", allowed="a number, or several separated by commas") from None


def _wholes(name: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--{name} {text}", allowed="whole numbers separated by commas") from None


def _class_weights(text: str) -> object:
    """`balanced`, numbers, or those of a file, between commas, blanks or line ends."""
    path = Path(text)
    if text == "balanced":
        return text
    if not path.is_file():
        numbers = text
    elif path.stat().st_size > LARGEST_FILE:
        raise UsageError(
            f"--class-weights {text}: it holds {path.stat().st_size} bytes", allowed="a number a class"
        )
    else:
        numbers = path.read_bytes().decode("utf-8", errors="replace")
    try:
        return tuple(float(part) for part in numbers.replace(",", " ").split())
    except ValueError:
        allowed = "balanced, a number for each class separated by commas, or a file of them"
        raise UsageError(f"--class-weights {text}", allowed=allowed) from None


READ: dict[str, Callable[[str], object]] = {
    "hold_norm": held_norm,
    "milestones": partial(_wholes, "milestones"),
    "class_weights": _class_weights,
    "beta": strength,
    "mean": partial(_numbers, "mean"),
    "std": partial(_numbers, "std"),
    "settling": known_settling,
}
"""How options are read that are words on a command line and something else in a run."""


def _train(  # noqa: PLR0913 - a run is all of these
    plan: Plan,
    training: Training,
    folder: Path,
    resume: bool,
    data_folder: Path | None,
    device: str,
    ranks: "Ranks",
) -> None:
    import torch

    from ffebm.runtime.executor import Executor
    from ffebm.runtime.tiles.tile import limits_met
    from ffebm.training.classification import data_for
    from ffebm.training.estimator import estimator
    from ffebm.training.trainer import Trainer

    plan = settled_by(plan, training.settling)
    net = Executor(plan, gradient=estimator(training), seed=training.seed)
    trainer = Trainer(net, data_for(plan, training.data, data_folder), training, folder, device, ranks)
    if resume:
        trainer.resume()
        threads = torch.get_num_threads()
        if ranks.is_first and trainer.threads not in {0, threads}:
            err.print(
                f"warning: the run was begun with {trainer.threads} threads, now there are {threads}: "
                "torch may add up in another order, and the run may end with other bits",
                markup=False,
            )
    if not ranks.is_first:
        deque(trainer.run(), maxlen=0)
        return
    for line in _beginning(trainer):
        out.print(line, markup=False)
    columns = (TextColumn("epoch {task.description}"), BarColumn(), TextColumn("{task.fields[loss]}"))
    with Progress(*columns, TimeRemainingColumn(), console=err, transient=True) as bar:
        task = bar.add_task(str(len(trainer.epochs) + 1), loss="")

        def progress(seen: int, total: int, loss: float) -> None:
            name = str(len(trainer.epochs) + 1)
            bar.update(task, description=name, completed=seen, total=total, loss=f"loss {loss:.4f}")

        try:
            for epoch in trainer.run(progress):
                out.print(epoch_text(epoch, net.settle), markup=False)
        except KeyboardInterrupt:
            done = len(trainer.epochs)
            err.print(f"interrupted behind epoch {done}; --resume continues there", markup=False)
            raise
    for line in _outcome(trainer):
        out.print(line, markup=False)
    for line in limits_met(trainer.net.health()):
        err.print(visible(line), markup=False)


def _beginning(trainer: "Trainer") -> Iterator[str]:
    """What a run does that is not plain."""
    if trainer.calibration:
        yield f"{trainer.calibration}, after 0, 1, 2, 4, 8 … steps of each epoch"
    if str(trainer.loss) != f"cross-entropy of output {trainer.net.plan.outputs[0].name!r}":
        yield f"loss: {visible(str(trainer.loss))}"
    yield from (visible(held) for held in map(str, trainer.constraints) if held)


def _outcome(trainer: "Trainer") -> Iterator[str]:
    """How the run ended."""
    if not trainer.epochs:
        return
    last = trainer.epochs[-1]
    if trainer.has_stopped:
        yield f"stopped: nothing better for {trainer.training.patience} epochs"
    if trainer.best:
        best = trainer.epochs[trainer.best_epoch - 1]
        yield "  ".join([f"best: epoch {best.epoch}", *_figures(best)])
    behind = f" behind epoch {last.epoch}" if trainer.best else ""
    if last.test_accuracy is None:
        yield f"test loss {last.test_loss:.4f}{behind}"
    else:
        yield f"test accuracy {100 * last.test_accuracy:.2f} %{behind}"


def epoch_text(epoch: "Epoch", settle: Settle) -> str:
    """How an epoch went, in one line."""
    from ffebm.runtime.blocks.settling.settling import SETTLED

    how = f"not settled to {SETTLED if settle.tol is None else settle.tol:g}"
    if settle.settling == "circuit":
        how = "still moving when their time was over"
    settled = f", {100 * epoch.unsettled:.1f} % {how}" if epoch.unsettled else ""
    parts = [f"epoch {epoch.epoch:>3}", f"loss {epoch.loss:.4f}"]
    if epoch.train_accuracy is not None:
        parts.append(f"train {100 * epoch.train_accuracy:.2f} %")
    parts += _figures(epoch)
    others = max(epoch.elsewhere, epoch.elsewhere_together)
    several = f", {100 * others:.0f} % settle elsewhere on another way" if others else ""
    return f"{'  '.join(parts)}  {epoch.seconds:.1f} s{settled}{several}"


def _figures(epoch: "Epoch") -> Iterator[str]:
    """What an epoch has reached where nothing was trained."""
    for name, accuracy, loss in (
        ("test", epoch.test_accuracy, epoch.test_loss),
        ("average", epoch.average_accuracy, epoch.average_loss),
        ("validation", epoch.validation_accuracy, epoch.validation_loss),
    ):
        if accuracy is not None:
            yield f"{name} {100 * accuracy:.2f} %"
        elif loss is not None:
            yield f"{name} loss {loss:.4f}"
