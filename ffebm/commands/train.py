"""`ffebm train`."""

from pathlib import Path
from typing import Annotated

import msgspec
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from typer import Option

from ffebm.commands.console import DATA, LARGEST, DataFolder, PlanPath, err, out
from ffebm.errors import UsageError
from ffebm.lock import claimed
from ffebm.plan import Plan, load_plan
from ffebm.run_record import Epoch
from ffebm.scratch import collect
from ffebm.training import Training, read_settings, strength, training_from


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
    schedule: Annotated[str | None, Option(help="constant or cosine. [default: constant]")] = None,
    gradient: Annotated[str | None, Option(help="ep, implicit or unrolled. [default: ep]")] = None,
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
    from ffebm.runtime.checkpoint import load_checkpoint

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
        "schedule": schedule,
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


def _train(
    plan: Plan, training: Training, folder: Path, resume: bool, data_folder: Path | None, device: str
) -> None:
    from ffebm.runtime.data import load_data
    from ffebm.runtime.executor import Executor
    from ffebm.runtime.training import Trainer, estimator

    net = Executor(plan, gradient=estimator(training), seed=training.seed)
    trainer = Trainer(net, load_data(training.data, data_folder), training, folder, device)
    if resume:
        trainer.resume()
    if trainer.calibration:
        out.print(f"{trainer.calibration}, after 0, 1, 2, 4, 8 … steps of each epoch", markup=False)
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
    if trainer.epochs:
        out.print(f"test accuracy {100 * trainer.epochs[-1].test_accuracy:.2f} %", markup=False)


def _epoch_text(epoch: "Epoch") -> str:
    from ffebm.runtime.settling import SETTLED

    settled = f", {100 * epoch.unsettled:.1f} % not settled to {SETTLED:g}" if epoch.unsettled else ""
    return (
        f"epoch {epoch.epoch:>3}  loss {epoch.loss:.4f}  train {100 * epoch.train_accuracy:.2f} %  "
        f"test {100 * epoch.test_accuracy:.2f} %  {epoch.seconds:.1f} s{settled}"
    )
