"""`ffebm report`."""

from pathlib import Path
from typing import Annotated

import msgspec
from typer import Option

from ffebm.commands.console import PlanPath, out
from ffebm.plan import Plan, load_plan
from ffebm.report.write_file import write_file


def report(
    plan: PlanPath,
    output: Annotated[Path, Option("-o", "--output", help="The page.")] = Path("report.html"),
    run: Annotated[Path | None, Option(help="Record of a training run, as `ffebm train` leaves it.")] = None,
    json: Annotated[Path | None, Option(help="Where the data behind the page go, too.")] = None,
) -> None:
    """Write one page that shows a plan: graph, tiles, timeline, costs, nodes."""
    from ffebm.report.facts import facts
    from ffebm.report.page import page
    from ffebm.report.run_facts import read_run

    loaded = load_plan(plan)
    data = facts(loaded, read_run(loaded, run) if run is not None else None)
    if json is not None:
        write_file(json, msgspec.json.format(msgspec.json.encode(data), indent=1))
        out.print(f"data written to {json}", markup=False)
    write_file(output, page(data).encode("utf-8"))
    out.print(f"report written to {output}", markup=False)


def write_report(plan: Plan, path: Path) -> None:
    """Write a plan's page and say so."""
    from ffebm.report.facts import facts
    from ffebm.report.page import page

    write_file(path, page(facts(plan)).encode("utf-8"))
    out.print(f"report written to {path}", markup=False)
