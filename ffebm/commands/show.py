"""`ffebm show`."""

from pathlib import Path
from typing import Annotated

from typer import Option

from ffebm.commands.console import PlanPath, out
from ffebm.errors import UsageError
from ffebm.plan import Plan, load_plan
from ffebm.write_file import write_file


def show(
    plan: PlanPath,
    section: Annotated[
        list[str] | None,
        Option(help="summary, flow, tiles, time, costs, settling or digital; repeatable. [default: all]"),
    ] = None,
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
    if svg is onnx is trace is dot is None:
        _print(loaded, section or [])
        return
    if svg is not None:
        _draw(loaded, svg)
    if onnx is not None:
        _annotate(loaded, onnx)
    if trace is not None:
        _trace(loaded, trace)
    if dot is not None:
        _dot(loaded, dot)


def _print(plan: Plan, chosen: list[str]) -> None:
    from ffebm.report.sections import SECTIONS

    unknown = [name for name in chosen if name not in SECTIONS]
    if unknown:
        raise UsageError(f"--section {unknown[0]}", allowed=", ".join(SECTIONS))
    for name in chosen or SECTIONS:
        if len(chosen) != 1:
            out.print(f"--- {name}", markup=False)
        for part in SECTIONS[name](plan):
            out.print(part, soft_wrap=False)
        if len(chosen) != 1:
            out.print()


def _draw(plan: Plan, path: Path) -> None:
    from ffebm.report.picture import picture

    write_file(path, picture(plan).encode())
    out.print(f"picture written to {path}", markup=False)


def _annotate(plan: Plan, path: Path) -> None:
    from ffebm.report.netron import annotated
    from ffebm.runtime.save_onnx import write_model

    write_model(annotated(plan, path), path)
    out.print(f"annotated model written to {path}", markup=False)


def _trace(plan: Plan, path: Path) -> None:
    from ffebm.report.perfetto import trace

    write_file(path, trace(plan))
    out.print(f"trace written to {path}", markup=False)


def _dot(plan: Plan, path: Path) -> None:
    from ffebm.report.dot import dot

    write_file(path, dot(plan).encode())
    out.print(f"graph written to {path}", markup=False)
