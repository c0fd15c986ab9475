"""The commands; the only place where an error becomes text and an exit code."""

import math
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from typer import Argument, Option

from ffebm.errors import FfebmError, InternalError, UsageError
from ffebm.plan import Plan, Settle, load_plan

if TYPE_CHECKING:
    from ffebm.ir import Graph
    from ffebm.runtime.run_record import Epoch

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Compile a model for analog crossbar tiles and digital units; run and train the plan.",
)
out = Console(soft_wrap=True, highlight=False, emoji=False)
err = Console(stderr=True, soft_wrap=True, highlight=False, emoji=False)

LARGEST = 2**31 - 1
"""Of numbers that torch counts or seeds with."""

PlanPath = Annotated[Path, Argument(metavar="PLAN", help="Folder that `ffebm compile` wrote.")]


def main() -> None:
    """Entry point of `ffebm`."""
    sys.exit(_guarded(sys.argv[1:]))


def main_compile() -> None:
    """Entry point of `ffebm-compile`, which is `ffebm compile`."""
    sys.exit(_guarded(["compile", *sys.argv[1:]]))


def _guarded(arguments: list[str]) -> int:
    """Run a command; 0 if done, 2 if the user's input is at fault, 1 if ffebm is, 130 if interrupted."""
    # torch's threads spin while they wait, which on a busy machine costs many times what it saves
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app(arguments, prog_name="ffebm")
    except SystemExit as leave:
        return int(leave.code or 0)
    except InternalError:
        return _our_fault()
    except FfebmError as error:
        err.print(f"error: {error}", markup=False)
        return 2
    except KeyboardInterrupt:
        err.print("interrupted")
        return 130
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            err.print(f"error: {error}", markup=False)
            return 2
        # whoever reads the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception:  # noqa: BLE001 - whatever escapes is a fault of ours, and says so
        return _our_fault()
    return 0


def _our_fault() -> int:
    err.print(traceback.format_exc(), markup=False)
    err.print(
        "this is a fault of ffebm, not of your input; please report it with the text above", markup=False
    )
    return 1


# --- compile -----------------------------------------------------------------------------------------


@app.command()
def compile(  # noqa: A001, PLR0913 - the command's name; a command's options are its arguments
    model: Annotated[Path, Argument(metavar="MODEL.onnx", help="The model.")],
    output: Annotated[
        Path | None, Option("-o", "--output", help="Plan folder. [default: MODEL.plan]")
    ] = None,
    hardware: Annotated[str, Option(help="Shipped name, or path of a .toml file.")] = "reference",
    block_size: Annotated[
        str, Option(help="Free layers in one energy block; or one number a block: 2,2,1.")
    ] = "1",
    boundary: Annotated[
        str, Option(help="Where the first linear map of a block runs: tile or digital.")
    ] = "tile",
    free_sweeps: Annotated[int, Option(help="Most sweeps of a free phase.", min=1)] = 60,
    nudged_sweeps: Annotated[int, Option(help="Most sweeps of a nudged phase.", min=1)] = 20,
    tol: Annotated[float | None, Option(help="Stop a phase at this residual.")] = None,
    start: Annotated[str, Option(help="Where free phases start: zero or feedforward.")] = "zero",
    relaxation: Annotated[float, Option(help="Step towards each update: below 1 damps.")] = 1.0,
    anderson: Annotated[int, Option(help="States that Anderson acceleration remembers.", min=0)] = 0,
    strict: Annotated[bool, Option(help="A block that does not settle is an error.")] = False,
    fold_batch_norm: Annotated[
        bool, Option(help="Fold batch normalisation into weights: the plan is for inference only.")
    ] = False,
    dim: Annotated[list[str] | None, Option(help="Size of a named dimension: NAME=SIZE.")] = None,
    print_passes: Annotated[bool, Option(help="Print the graph after every pass.")] = False,
) -> None:
    """Compile an ONNX model into a plan."""
    from ffebm.compiler.driver import compile_model

    plan = compile_model(
        model,
        hardware=hardware,
        block_size=_block_size(block_size),
        boundary=_one_of("boundary", boundary, ("tile", "digital")),
        settle=_settle(free_sweeps, nudged_sweeps, tol, start, relaxation, anderson, strict),
        fold_batch_norm=fold_batch_norm,
        dims=_dims(dim or []),
        progress=_print_graph if print_passes else None,
    )
    folder = output or Path(f"{model.stem}.plan")
    plan.save(folder)
    out.print(plan.summary(), end="", markup=False)
    out.print(f"plan written to {folder}", markup=False)


def _print_graph(name: str, graph: "Graph") -> None:
    out.print(f"--- {name}\n{graph}", markup=False)


def _block_size(text: str) -> int | tuple[int, ...]:
    try:
        sizes = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(
            f"--block-size {text}", allowed="a whole number, or several separated by commas"
        ) from None
    return sizes if "," in text else sizes[0]


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> Literal["tile", "digital"]:
    if value not in allowed:
        raise UsageError(f"--{name} {value}", allowed=" or ".join(allowed))
    return "tile" if value == "tile" else "digital"


def _settle(  # noqa: PLR0913 - the fields of Settle
    free: int, nudged: int, tol: float | None, start: str, relaxation: float, anderson: int, strict: bool
) -> Settle:
    if start not in {"zero", "feedforward"}:
        raise UsageError(f"--start {start}", allowed="zero or feedforward")
    if tol is not None and not 0 < tol < math.inf:
        raise UsageError(f"--tol {tol}", allowed="more than 0")
    if not 0 < relaxation < 2:
        raise UsageError(f"--relaxation {relaxation}", allowed="between 0 and 2")
    return Settle(
        free_sweeps=free,
        nudged_sweeps=nudged,
        tol=tol,
        start="zero" if start == "zero" else "feedforward",
        relaxation=relaxation,
        anderson=anderson,
        strict=strict,
    )


def _dims(entries: list[str]) -> dict[str, int]:
    dims = {}
    for entry in entries:
        name, _, size = entry.partition("=")
        if not name or not size.isdecimal() or int(size) < 1:
            raise UsageError(f"--dim {entry}", allowed="NAME=SIZE with a size of at least 1")
        dims[name] = int(size)
    return dims


# --- explain and show --------------------------------------------------------------------------------


@app.command()
def explain(
    plan: PlanPath,
    node: Annotated[str | None, Option(help="Only nodes whose name or op contains this.")] = None,
) -> None:
    """Say for every node where it runs and why, and what kept work off the tiles."""
    from ffebm.plan_text import explain_lines

    for line in explain_lines(load_plan(plan), node):
        out.print(line, markup=False)


@app.command()
def show(
    plan: PlanPath, svg: Annotated[Path | None, Option(help="Draw the partition into this file.")] = None
) -> None:
    """Show a plan: summary, flow of blocks and digital parts, tiles."""
    from ffebm.plan_text import show_lines

    loaded = load_plan(plan)
    if svg is not None:
        _draw(loaded, svg)
        return
    out.print(loaded.summary(), markup=False)
    for line in show_lines(loaded):
        out.print(line, markup=False)


def _draw(plan: Plan, path: Path) -> None:
    from ffebm.plan_picture import picture

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(picture(plan), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None
    out.print(f"picture written to {path}", markup=False)


# --- run ---------------------------------------------------------------------------------------------


@app.command()
def run(  # noqa: PLR0913 - a command's options are its arguments
    plan: PlanPath,
    input: Annotated[Path, Option("--input", help=".npz with one array for each input, by name.")],  # noqa: A002
    output: Annotated[Path | None, Option("--output", help="Where outputs go, as .npz.")] = None,
    check: Annotated[Path | None, Option(help="Compare with this ONNX model in onnxruntime.")] = None,
    tolerance: Annotated[float | None, Option(help="Largest relative error that --check accepts.")] = None,
    seed: Annotated[int, Option(help="Seed of noise.", min=0, max=LARGEST)] = 0,
    device: Annotated[str, Option(help="Where to compute: cpu, cuda …")] = "cpu",
) -> None:
    """Run a plan on the samples of a file."""
    from ffebm.runtime.inference import check_outputs, infer, read_inputs, write_outputs

    if tolerance is not None and not tolerance >= 0:
        raise UsageError(f"--tolerance {tolerance}", allowed="0 or more")
    if tolerance is not None and check is None:
        raise UsageError("--tolerance without --check", hint="name the model with --check MODEL.onnx")
    loaded = load_plan(plan)
    inputs = read_inputs(loaded, input)
    outputs, notes = infer(loaded, inputs, seed, device)
    for line in notes:
        err.print(line, markup=False)
    if check is not None:
        for comparison in check_outputs(inputs, outputs, check):
            out.print(str(comparison), markup=False)
            if tolerance is None or comparison.relative_error <= tolerance:
                continue  # a NaN is within no tolerance
            raise UsageError(
                f"{comparison.name} differs from {check.name} by "
                f"{comparison.relative_error:.3g} of its largest value",
                allowed=f"{tolerance:g}",
                hint="block sizes above 1, noise and converters change what a plan computes",
            )
    if output is not None:
        write_outputs(outputs, output)
        out.print(f"outputs written to {output}", markup=False)


# --- train -------------------------------------------------------------------------------------------


@app.command()
def train(  # noqa: PLR0913 - a command's options are its arguments
    plan: PlanPath,
    data: Annotated[str | None, Option(help="digits, fashion-mnist, or an .npz with x and y.")] = None,
    data_folder: Annotated[
        Path | None, Option(help="IDX files of fashion-mnist. [default: Debian's]")
    ] = None,
    epochs: Annotated[
        int | None, Option(help="Passes over the samples. [default: 10]", min=1, max=LARGEST)
    ] = None,
    batch: Annotated[int | None, Option(help="Samples a step. [default: 32]", min=1, max=LARGEST)] = None,
    optimizer: Annotated[str | None, Option(help="Any of torch.optim. [default: Adam]")] = None,
    lr: Annotated[float | None, Option(help="Learning rate. [default: 0.001]")] = None,
    weight_decay: Annotated[float | None, Option(help="L2 penalty, if the optimiser takes one.")] = None,
    momentum: Annotated[float | None, Option(help="Momentum, if the optimiser takes one.")] = None,
    schedule: Annotated[str | None, Option(help="constant or cosine. [default: constant]")] = None,
    gradient: Annotated[str | None, Option(help="ep, implicit or unrolled. [default: ep]")] = None,
    beta: Annotated[float | None, Option(help="Nudging strength. [default: 0.1]")] = None,
    seed: Annotated[
        int | None, Option(help="Seed of sample order and noise. [default: 0]", min=0, max=LARGEST)
    ] = None,
    device: Annotated[str, Option(help="Where to compute: cpu, cuda …")] = "cpu",
    run: Annotated[Path | None, Option(help="Folder of the run's record. [default: PLAN.run]")] = None,
    resume: Annotated[bool, Option(help="Continue the run in that folder.")] = False,
) -> None:
    """Train a plan; every epoch leaves a checkpoint, the trained model lies beside it as ONNX."""
    from ffebm.runtime.run_record import load_checkpoint

    given: dict[str, object] = {
        "data": data,
        "epochs": epochs,
        "batch": batch,
        "optimizer": optimizer,
        "lr": lr,
        "weight_decay": weight_decay,
        "momentum": momentum,
        "schedule": schedule,
        "gradient": gradient,
        "beta": beta,
        "seed": seed,
    }
    chosen: dict[str, object] = {name: value for name, value in given.items() if value is not None}
    folder = run or plan.resolve().with_name(f"{plan.resolve().name}.run")
    if resume:
        chosen = {**msgspec.structs.asdict(load_checkpoint(folder).record.training), **chosen}
    elif data is None:
        raise UsageError("no --data", allowed="digits, fashion-mnist, or the path of an .npz file")
    elif folder.exists():
        raise UsageError(
            f"there is a run in {folder} already", hint="--resume continues it; --run names another folder"
        )
    _train(load_plan(plan), chosen, folder, resume, data_folder, device)
    out.print(f"run recorded in {folder}", markup=False)


def _train(
    plan: Plan, chosen: dict[str, object], folder: Path, resume: bool, data_folder: Path | None, device: str
) -> None:
    from ffebm.runtime.data import load_data
    from ffebm.runtime.executor import Executor
    from ffebm.runtime.run_record import Training
    from ffebm.runtime.training import Trainer, estimator

    training = msgspec.convert(chosen, Training)
    net = Executor(plan, gradient=estimator(training), seed=training.seed)
    trainer = Trainer(net, load_data(training.data, data_folder), training, folder, device)
    if resume:
        trainer.resume()
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
