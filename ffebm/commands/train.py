"""`ffebm train`."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from typer import Option

from ffebm.commands.console import DATA, LARGEST, DataFolder, PlanPath, err, out
from ffebm.errors import UsageError
from ffebm.files.lock import claimed
from ffebm.files.scratch import collect
from ffebm.plan.plan import Plan, load_plan
from ffebm.training.record import Epoch
from ffebm.training.settings import Training, held_norm, read_settings, strength, training_from
from ffebm.visible import visible

if TYPE_CHECKING:
    from ffebm.training.trainer import Trainer

LARGEST_FILE = 1 << 24
"""Bytes of a file of class weights."""


def train(  # noqa: PLR0913 - a command's options are its arguments
    plan: PlanPath,
    data: Annotated[str | None, DATA] = None,
    data_folder: DataFolder = None,
    settings: Annotated[
        Path | None, Option(help="TOML file of these settings, as `ffebm recipe` writes it; options win.")
    ] = None,
    epochs: Annotated[
        int | None, Option(help="Passes over the samples. [default: 10]", min=1, max=LARGEST)
    ] = None,
    batch: Annotated[int | None, Option(help="Samples a step. [default: 32]", min=1, max=LARGEST)] = None,
    optimizer: Annotated[str | None, Option(help="Any of torch.optim. [default: Adam]")] = None,
    lr: Annotated[float | None, Option(help="Learning rate. [default: 0.001]")] = None,
    min_lr: Annotated[float | None, Option(help="Where the cosine schedule ends. [default: 0]")] = None,
    weight_decay: Annotated[float | None, Option(help="L2 penalty, if the optimiser takes one.")] = None,
    momentum: Annotated[float | None, Option(help="Momentum, if the optimiser takes one.")] = None,
    clip_norm: Annotated[
        float | None, Option(help="Longest gradient that a step takes, over all weights together.")
    ] = None,
    hold_norm: Annotated[
        str | None,
        Option(help="Largest spectral norm of the couplings inside blocks, or of other weights: 0.8,NAME."),
    ] = None,
    remap: Annotated[
        int | None,
        Option(help="Steps after which cells that learn in place are written anew in new ranges.", min=1),
    ] = None,
    schedule: Annotated[
        str | None,
        Option(
            help="constant, cosine, step, multistep, exponential, linear, onecycle or plateau. "
            "[default: constant]"
        ),
    ] = None,
    schedule_by: Annotated[
        str | None, Option(help="What the schedule counts: epochs or steps. [default: epochs]")
    ] = None,
    warmup: Annotated[
        int | None, Option(help="Epochs or steps in which the rate grows to its value.", min=0)
    ] = None,
    drop_every: Annotated[
        int | None,
        Option(help="step: epochs or steps between drops; plateau: epochs without an improvement.", min=1),
    ] = None,
    milestones: Annotated[
        str | None, Option(help="multistep: epochs or steps at which the rate drops: 30,60.")
    ] = None,
    drop_factor: Annotated[
        float | None,
        Option(help="What a drop multiplies the rate by. [default: 0.1; exponential needs it]"),
    ] = None,
    score: Annotated[str | None, Option(help="Output that the loss reads. [default: the first]")] = None,
    loss: Annotated[
        str | None,
        Option(
            help="cross-entropy, nll, mse, l1, huber, bce or bce-with-logits. "
            "[default: cross-entropy for class numbers, mse for other numbers]"
        ),
    ] = None,
    class_weights: Annotated[
        str | None, Option(help="balanced, a number for each class (1,2,0.5), or a file of them.")
    ] = None,
    ignore_label: Annotated[int | None, Option(help="Class number of labels that are left out.")] = None,
    accumulate: Annotated[
        int | None, Option(help="Batches whose gradients make one step. [default: 1]", min=1, max=LARGEST)
    ] = None,
    ema: Annotated[
        float | None, Option(help="Decay of an average of the weights, tested and saved beside them.")
    ] = None,
    validation: Annotated[
        float | None, Option(help="Share of the training samples that are held out to validate on.")
    ] = None,
    patience: Annotated[
        int | None, Option(help="Epochs without an improvement before training stops.", min=1)
    ] = None,
    precision: Annotated[
        str | None, Option(help="fp32, bf16 or fp16, for what is digital. [default: fp32]")
    ] = None,
    gradient: Annotated[
        str | None, Option(help="ep, implicit, unrolled, or a package's. [default: ep]")
    ] = None,
    beta: Annotated[str | None, Option(help="Nudging strength, or auto. [default: 0.1]")] = None,
    cost: Annotated[
        bool | None, Option("--cost/--no-cost", help="ep: the cost itself nudges the last block.")
    ] = None,
    freeze: Annotated[
        list[str] | None, Option(help="Weights that are not trained; * stands for anything. Repeatable.")
    ] = None,
    pad: Annotated[
        bool | None, Option("--pad/--no-pad", help="Pad images to the model's size, repeat one channel.")
    ] = None,
    mean: Annotated[str | None, Option(help="Subtracted from each channel: 0.49,0.48,0.45.")] = None,
    std: Annotated[str | None, Option(help="Each channel is divided by it.")] = None,
    flip: Annotated[
        bool | None, Option("--flip/--no-flip", help="Mirror half of the training images.")
    ] = None,
    crop: Annotated[
        int | None, Option(help="Pixels by which training images are shifted at most.", min=0)
    ] = None,
    seed: Annotated[
        int | None,
        Option(help="Seed of sample order, augmentation and noise. [default: 0]", min=0, max=LARGEST),
    ] = None,
    device: Annotated[str, Option(help="Where to compute: cpu, cuda …")] = "cpu",
    run: Annotated[Path | None, Option(help="Folder of the run's record. [default: PLAN.run]")] = None,
    resume: Annotated[bool, Option(help="Continue the run in that folder.")] = False,
) -> None:
    """Train a plan; every epoch leaves a checkpoint, the trained model lies beside it as ONNX."""
    from ffebm.training.checkpoint import load_checkpoint

    given: dict[str, object] = {
        "data": data,
        "epochs": epochs,
        "batch": batch,
        "optimizer": optimizer,
        "lr": lr,
        "min_lr": min_lr,
        "weight_decay": weight_decay,
        "momentum": momentum,
        "clip_norm": clip_norm,
        "remap": remap,
        "hold_norm": None if hold_norm is None else held_norm(hold_norm),
        "schedule": schedule,
        "schedule_by": schedule_by,
        "warmup": warmup,
        "drop_every": drop_every,
        "milestones": None if milestones is None else _wholes("milestones", milestones),
        "drop_factor": drop_factor,
        "score": score,
        "loss": loss,
        "class_weights": None if class_weights is None else _class_weights(class_weights),
        "ignore_label": ignore_label,
        "accumulate": accumulate,
        "ema": ema,
        "validation": validation,
        "patience": patience,
        "precision": precision,
        "gradient": gradient,
        "beta": None if beta is None else strength(beta),
        "cost": cost,
        "freeze": freeze or None,
        "pad": pad,
        "mean": _numbers("mean", mean),
        "std": _numbers("std", std),
        "flip": flip,
        "crop": crop,
        "seed": seed,
    }
    chosen = read_settings(settings) if settings is not None else {}
    chosen |= {name: value for name, value in given.items() if value is not None}
    folder = run or plan.resolve().with_name(f"{plan.resolve().name}.run")
    with claimed(folder, "trains in it", "wait until it ends, or name another folder with --run"):
        collect(folder.resolve().parent)  # a run whose process died may have to be put into its place
        if resume:
            chosen = {**msgspec.structs.asdict(load_checkpoint(folder).record.training), **chosen}
        elif "data" not in chosen:
            raise UsageError("no --data", allowed="digits, fashion-mnist …, or the path of an .npz file")
        elif folder.exists():
            raise UsageError(
                f"there is a run in {folder} already",
                hint="--resume continues it; --run names another folder",
            )
        _train(load_plan(plan), training_from(chosen), folder, resume, data_folder, device)
    out.print(f"run recorded in {folder}", markup=False)


def _numbers(name: str, text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
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


def _train(
    plan: Plan, training: Training, folder: Path, resume: bool, data_folder: Path | None, device: str
) -> None:
    import torch

    from ffebm.runtime.executor import Executor
    from ffebm.runtime.tiles.tile import limits_met
    from ffebm.training.classification import data_for
    from ffebm.training.estimator import estimator
    from ffebm.training.trainer import Trainer

    net = Executor(plan, gradient=estimator(training), seed=training.seed)
    trainer = Trainer(net, data_for(plan, training.data, data_folder), training, folder, device)
    if resume:
        trainer.resume()
        threads = torch.get_num_threads()
        if trainer.threads not in {0, threads}:
            err.print(
                f"warning: the run was begun with {trainer.threads} threads, now there are {threads}: "
                "torch may add up in another order, and the run may end with other bits",
                markup=False,
            )
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
                out.print(_epoch_text(epoch), markup=False)
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


def _epoch_text(epoch: "Epoch") -> str:
    from ffebm.runtime.blocks.settling.settling import SETTLED

    settled = f", {100 * epoch.unsettled:.1f} % not settled to {SETTLED:g}" if epoch.unsettled else ""
    parts = [f"epoch {epoch.epoch:>3}", f"loss {epoch.loss:.4f}"]
    if epoch.train_accuracy is not None:
        parts.append(f"train {100 * epoch.train_accuracy:.2f} %")
    parts += _figures(epoch)
    return f"{'  '.join(parts)}  {epoch.seconds:.1f} s{settled}"


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
