"""`ffebm show`."""

from pathlib import Path
from typing import Annotated

from rich.rule import Rule
from rich.text import Text
from typer import Option

from ffebm.commands.console import PlanPath, out, print_tables, tables
from ffebm.errors import UsageError
from ffebm.files.write_file import write_file
from ffebm.plan.plan import Plan, load_plan


def show(  # noqa: PLR0913 - a command's options are its arguments
    plan: PlanPath,
    *,
    section: Annotated[
        list[str] | None,
        Option(
            help="summary, flow, tiles, time, memory, costs, settling, options or digital; repeatable. "
            "[default: all]"
        ),
    ] = None,
    whole: Annotated[
        bool, Option("--all", help="Every row of long tables, and every part of a large model.")
    ] = False,
    svg: Annotated[Path | None, Option(help="Draw the partition into this file.")] = None,
    onnx: Annotated[
        Path | None, Option(help="Write the source model with units and reasons on its nodes, for Netron.")
    ] = None,
    trace: Annotated[
        Path | None, Option(help="Write the schedules as a trace, for ui.perfetto.dev or chrome://tracing.")
    ] = None,
    dot: Annotated[Path | None, Option(help="Write the graph as DOT, for Graphviz.")] = None,
) -> None:
    """Show a plan: its parts, tiles, time and costs; or write it for other viewers."""
    loaded = load_plan(plan)
    if section or whole or svg is onnx is trace is dot is None:
        _print(loaded, section or [], whole=whole)
    if svg is not None:
        _draw(loaded, svg)
    if onnx is not None:
        _annotate(loaded, onnx)
    if trace is not None:
        _trace(loaded, trace)
    if dot is not None:
        _dot(loaded, dot)


def _print(plan: Plan, chosen: list[str], *, whole: bool) -> None:
    from ffebm.report.facts.facts import facts
    from ffebm.report.terminal.sections import SECTIONS, View

    unknown = [name for name in chosen if name not in SECTIONS]
    if unknown:
        raise UsageError(f"--section {unknown[0]}", allowed=", ".join(SECTIONS))
    console = tables()
    view = View(facts(plan), console, whole)
    names = list(dict.fromkeys(chosen)) or list(SECTIONS)
    for name in names:
        if len(names) > 1:
            rule = Rule(name, align="left", characters="─" if console.is_terminal else "-")
            print_tables(console, [rule])
        print_tables(console, SECTIONS[name](view))
        if name != names[-1]:
            print_tables(console, [Text()])


def _draw(plan: Plan, path: Path) -> None:
    from ffebm.plan.pictures.partition import picture

    write_file(path, picture(plan).encode())
    out.print(f"picture written to {path}", markup=False)


def _annotate(plan: Plan, path: Path) -> None:
    from ffebm.report.viewers.netron import annotated
    from ffebm.runtime.save_onnx import write_model

    write_model(annotated(plan, path), path)
    out.print(f"annotated model written to {path}", markup=False)


def _trace(plan: Plan, path: Path) -> None:
    from ffebm.report.viewers.perfetto import trace

    write_file(path, trace(plan))
    out.print(f"trace written to {path}", markup=False)


def _dot(plan: Plan, path: Path) -> None:
    from ffebm.report.viewers.dot import dot

    write_file(path, dot(plan).encode())
    out.print(f"graph written to {path}", markup=False)
