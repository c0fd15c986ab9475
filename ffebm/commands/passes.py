"""`ffebm passes`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.table import Table
from typer import Argument, Option

from ffebm.commands.compiling import Compiling
from ffebm.commands.console import out, print_tables, tables
from ffebm.commands.options import with_options
from ffebm.errors import Location, UsageError, reason_of
from ffebm.files.write_file import write_file
from ffebm.plan.schema import Settle
from ffebm.visible import visible_lines

if TYPE_CHECKING:
    from ffebm.compiler.observe import Observed
    from ffebm.compiler.own_passes import Pass
    from ffebm.graph.graph import Graph

EVERYTHING = 2**62
"""More elements than any constant has."""


@with_options
def passes(  # noqa: PLR0913 - a command's options are its arguments
    model: Annotated[Path, Argument(metavar="MODEL.onnx", help="The model.")],
    *,
    source: Annotated[
        Path | None,
        Option("--from", metavar="TEXT", help="Start from this text of a graph; the model lends it weights."),
    ] = None,
    only: Annotated[
        list[str] | None, Option(metavar="PASS", help="Run this pass only; repeatable. [default: all]")
    ] = None,
    output: Annotated[
        Path | None, Option("-o", "--output", metavar="TEXT", help="Write the last graph here.")
    ] = None,
    quiet: Annotated[bool, Option("--quiet", help="Do not print the graph after every pass.")] = False,
    values: Annotated[bool, Option("--values", help="Every constant in full.")] = False,
    timing: Annotated[bool, Option("--timing", help="Processor time of every pass.")] = False,
    statistics: Annotated[bool, Option("--statistics", help="What every pass has changed.")] = False,
    asked: Compiling,
) -> None:
    """Run the compiler's passes on a model or on the text of a graph, and print the graph between them."""
    from ffebm.compiler.driver import pass_order
    from ffebm.compiler.observe import observe
    from ffebm.compiler.onnx.from_onnx import from_onnx
    from ffebm.compiler.options import options_from
    from ffebm.compiler.own_passes import own_passes, with_own
    from ffebm.graph.graph import graph_text
    from ffebm.graph.text import SHOWN
    from ffebm.hardware.description import load_hardware

    options, settle = options_from(asked.settings()), Settle(free_sweeps=asked.free_sweeps)
    order = with_own(pass_order(options, settle=settle), own_passes(asked.own_passes or ()))
    steps, machine = _chosen(order, only or []), load_hardware(asked.hardware)
    graph = from_onnx(model, options.dims).graph
    if source is not None:
        if not only:
            raise UsageError(f"--from {source} without --only", allowed="a text, and the passes to run on it")
        graph = _read(source, graph)
    shown = EVERYTHING if values else SHOWN

    def show(name: str, found: "Graph") -> None:
        if not quiet:
            out.print(visible_lines(f"--- {name}\n{graph_text(found, shown)}"), markup=False)

    _check_stages(graph, steps)
    show("imported" if source is None else str(source), graph)
    observed = observe(graph, machine, steps, show)
    if output is not None:
        write_file(output, graph_text(graph, shown).encode())
    if timing or statistics:
        print_tables(tables(), [_table(observed, timing, statistics)])


def _chosen(steps: "tuple[Pass, ...]", only: list[str]) -> "tuple[Pass, ...]":
    """The passes that were asked for, in the compiler's order, each once."""
    known = {step.name: step for step in steps}
    unknown = [name for name in only if name not in known]
    if unknown:
        raise UsageError(f"--only {unknown[0]}", allowed=f"one of {', '.join(known)}")
    return tuple(known[name] for name in known if name in only) if only else steps


def _check_stages(graph: "Graph", steps: "tuple[Pass, ...]") -> None:
    """Each pass needs what passes before it have done, or what the text that it starts from says."""
    stage = graph.stage
    for step in steps:
        if stage < step.requires:
            raise UsageError(
                f"--only {step.name} on a graph at {stage.name}",
                allowed=f"a graph at {step.requires.name} or later",
                hint="add --only for the passes before it, or start --from a text of that stage",
            )
        stage = max(stage, step.ensures)


def _read(path: Path, model: "Graph") -> "Graph":
    from ffebm.graph.parse import parse

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot be read: {reason_of(error)}", location=Location(str(path))) from None
    return parse(text, model.arrays(), str(path))


def _table(observed: "list[Observed]", timing: bool, statistics: bool) -> Table:
    table = Table("pass", box=None)
    if timing:
        table.add_column("ms", justify="right")
    if statistics:
        for name in ("added", "removed", "changed", "constants", "blocks", "parts"):
            table.add_column(name, justify="right")
    for found in observed:
        cells = [found.name]
        if timing:
            cells.append(f"{1000 * found.seconds:.1f}")
        if statistics:
            counts = (found.added, found.removed, found.changed)
            cells += [*map(str, counts), f"{found.constants:+d}", str(found.blocks), str(found.parts)]
        table.add_row(*cells)
    return table
