"""`ffebm compile`, which is also `ffebm-compile`."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
from typer import Argument, Option

from ffebm.commands.compiling import Compiling
from ffebm.commands.console import out
from ffebm.commands.options import with_options
from ffebm.commands.report import write_report
from ffebm.errors import UsageError
from ffebm.plan.schema import MOST_SWEEPS, Settle
from ffebm.visible import visible_lines

if TYPE_CHECKING:
    from ffebm.graph.graph import Graph


@dataclass(frozen=True)
class SettleOptions:
    """How energy blocks are to settle, beside the sweeps of a free phase, which their price depends on."""

    nudged_sweeps: Annotated[int, Option(help="Most sweeps of a nudged phase.", min=1, max=MOST_SWEEPS)] = 20
    tol: Annotated[float | None, Option(help="Stop a phase at this residual.")] = None
    start: Annotated[str, Option(help="Where free phases start: zero or feedforward.")] = "zero"
    relaxation: Annotated[
        str, Option(help="Step towards each update: below 1 damps; auto finds each sample's.")
    ] = "1"
    anderson: Annotated[int, Option(help="States that Anderson acceleration remembers.", min=0)] = 0
    winners: Annotated[
        str,
        Option(help="Winners of max-pooling under negative states: sharp, or shared, which settles cycles."),
    ] = "sharp"
    strict: Annotated[bool, Option(help="A block that does not settle is an error.")] = False
    settling: Annotated[
        str, Option(help="How blocks are simulated: by sweeps, or as a circuit in continuous time.")
    ] = "sweeps"

    def checked(self, free_sweeps: int) -> Settle:
        """The settings, checked, with messages that name the options."""
        choices = {"start": ("zero", "feedforward"), "winners": ("sharp", "shared")}
        choices["settling"] = ("sweeps", "circuit")
        settings = asdict(self)
        for name, allowed in choices.items():
            if settings[name] not in allowed:
                raise UsageError(f"--{name} {settings[name]}", allowed=" or ".join(allowed))
        if self.tol is not None and not 0 < self.tol < math.inf:
            raise UsageError(f"--tol {self.tol}", allowed="more than 0")
        settings["relaxation"] = _relaxation(self.relaxation)
        return msgspec.convert({"free_sweeps": free_sweeps, **settings}, Settle)


def _relaxation(text: str) -> float | str:
    """A step as a user writes it."""
    if text == "auto":
        return text
    try:
        step = float(text)
    except ValueError:
        step = math.nan
    if not 0 < step < 2:
        raise UsageError(f"--relaxation {text}", allowed="between 0 and 2, or auto")
    return step


@with_options
def compile(  # noqa: A001, PLR0913 - the command's name; each option has a name and a default
    model: Annotated[Path, Argument(metavar="MODEL", help="An ONNX file, or the plan of one.")],
    *,
    output: Annotated[
        Path | None,
        Option("-o", "--output", help="Plan folder. [default: MODEL.plan; of a plan, MODEL-again.plan]"),
    ] = None,
    asked: Compiling,
    settling: SettleOptions,
    batch: Annotated[
        int,
        Option(help="Runs of the model that each schedule has in flight; a step updates after all.", min=1),
    ] = 1,
    no_weights: Annotated[
        bool,
        Option(
            "--no-weights", help="For cost and schedules alone: the plan holds no weights, and cannot run."
        ),
    ] = False,
    report: Annotated[
        bool, Option("--report", help="Write a page that shows the plan, PLAN.html, too.")
    ] = False,
    print_passes: Annotated[bool, Option(help="Print the graph after every pass.")] = False,
) -> None:
    """Compile an ONNX model into a plan."""
    from ffebm.compiler.driver import compile_model

    plan = compile_model(
        model,
        hardware=asked.hardware,
        settle=settling.checked(asked.free_sweeps),
        passes=asked.own_passes or (),
        progress=_print_graph if print_passes else None,
        batch=batch,
        no_weights=no_weights,
        mapped=True,
        **asked.settings(),
    )
    folder = output or Path(f"{model.stem}{'-again' if model.is_dir() else ''}.plan")
    plan.save(folder)
    out.print(visible_lines(plan.summary()), end="", markup=False)
    out.print(f"plan written to {folder}", markup=False)
    if report:
        write_report(plan, folder.with_name(f"{folder.name}.html"))


def _print_graph(name: str, graph: "Graph") -> None:
    out.print(visible_lines(f"--- {name}\n{graph}"), markup=False)
