"""`ffebm compile`, which is also `ffebm-compile`."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
from typer import Argument, Option

from ffebm.commands.compiling import (
    Activations,
    BlockSize,
    Boundary,
    Digital,
    Dimensions,
    FoldsBatchNorm,
    FreeSweeps,
    MachineName,
    OwnPasses,
    PhysicsName,
    Trainable,
    boundary_of,
    dims_of,
    sizes_of,
)
from ffebm.commands.console import out
from ffebm.commands.mapping_options import (
    MaxArea,
    MaxEnergy,
    MaxLatency,
    ObjectiveName,
    Replicas,
    SearchEffort,
    Slowdown,
    TileLimit,
    objective_of,
)
from ffebm.commands.report import write_report
from ffebm.errors import UsageError
from ffebm.graph.energy_block import DEFAULT_PHYSICS
from ffebm.plan.schema import MOST_SWEEPS, Settle
from ffebm.visible import visible_lines

if TYPE_CHECKING:
    from ffebm.graph.graph import Graph


def compile(  # noqa: A001, PLR0913 - the command's name; a command's options are its arguments
    model: Annotated[Path, Argument(metavar="MODEL.onnx", help="The model.")],
    output: Annotated[
        Path | None, Option("-o", "--output", help="Plan folder. [default: MODEL.plan]")
    ] = None,
    hardware: MachineName = "reference",
    block_size: BlockSize = "1",
    boundary: Boundary = "tile",
    free_sweeps: FreeSweeps = 60,
    nudged_sweeps: Annotated[int, Option(help="Most sweeps of a nudged phase.", min=1, max=MOST_SWEEPS)] = 20,
    tol: Annotated[float | None, Option(help="Stop a phase at this residual.")] = None,
    start: Annotated[str, Option(help="Where free phases start: zero or feedforward.")] = "zero",
    relaxation: Annotated[float, Option(help="Step towards each update: below 1 damps.")] = 1.0,
    anderson: Annotated[int, Option(help="States that Anderson acceleration remembers.", min=0)] = 0,
    winners: Annotated[
        str,
        Option(help="Winners of max-pooling under negative states: sharp, or shared, which settles cycles."),
    ] = "sharp",
    strict: Annotated[bool, Option(help="A block that does not settle is an error.")] = False,
    fold_batch_norm: FoldsBatchNorm = False,
    dim: Dimensions = None,
    digital: Digital = None,
    trainable: Trainable = None,
    own_passes: OwnPasses = None,
    physics: PhysicsName = DEFAULT_PHYSICS,
    activation: Activations = None,
    objective: ObjectiveName = "analog",
    tiles: TileLimit = None,
    max_latency: MaxLatency = None,
    max_energy: MaxEnergy = None,
    max_area: MaxArea = None,
    slowdown: Slowdown = None,
    replicas: Replicas = None,
    effort: SearchEffort = 1000,
    report: Annotated[
        bool, Option("--report", help="Write a page that shows the plan, PLAN.html, too.")
    ] = False,
    print_passes: Annotated[bool, Option(help="Print the graph after every pass.")] = False,
) -> None:
    """Compile an ONNX model into a plan."""
    from ffebm.compiler.driver import compile_model

    plan = compile_model(
        model,
        hardware=hardware,
        block_size=sizes_of(block_size),
        boundary=boundary_of(boundary),
        settle=_settle(
            {
                "free_sweeps": free_sweeps,
                "nudged_sweeps": nudged_sweeps,
                "tol": tol,
                "start": start,
                "relaxation": relaxation,
                "anderson": anderson,
                "winners": winners,
                "strict": strict,
            }
        ),
        fold_batch_norm=fold_batch_norm,
        dims=dims_of(dim or []),
        digital=digital or (),
        trainable=trainable or (),
        passes=own_passes or (),
        physics=physics,
        activations=activation or (),
        progress=_print_graph if print_passes else None,
        objective=objective_of(objective),
        tiles=tiles,
        max_latency=max_latency,
        max_energy=max_energy,
        max_area=max_area,
        slowdown=slowdown,
        replicas=replicas,
        effort=effort,
    )
    folder = output or Path(f"{model.stem}.plan")
    plan.save(folder)
    out.print(visible_lines(plan.summary()), end="", markup=False)
    out.print(f"plan written to {folder}", markup=False)
    if report:
        write_report(plan, folder.with_name(f"{folder.name}.html"))


def _print_graph(name: str, graph: "Graph") -> None:
    out.print(visible_lines(f"--- {name}\n{graph}"), markup=False)


def _settle(settings: dict[str, int | float | str | bool | None]) -> Settle:
    """The settings, checked, with messages that name the options."""
    choices = {"start": ("zero", "feedforward"), "winners": ("sharp", "shared")}
    for name, allowed in choices.items():
        if settings[name] not in allowed:
            raise UsageError(f"--{name} {settings[name]}", allowed=" or ".join(allowed))
    tol, relaxation = settings["tol"], settings["relaxation"]
    if isinstance(tol, float) and not 0 < tol < math.inf:
        raise UsageError(f"--tol {tol}", allowed="more than 0")
    if isinstance(relaxation, float) and not 0 < relaxation < 2:
        raise UsageError(f"--relaxation {relaxation}", allowed="between 0 and 2")
    return msgspec.convert(settings, Settle)
