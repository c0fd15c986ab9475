"""`ffebm explain`."""

from typing import Annotated

from typer import Option

from ffebm.commands.console import PlanPath, out
from ffebm.plan.plan import load_plan


def explain(
    plan: PlanPath,
    node: Annotated[str | None, Option(help="Only nodes whose name or op contains this.")] = None,
) -> None:
    """Say for every node where it runs and why, and what kept work off the tiles."""
    from ffebm.report.terminal.words import explain_lines

    for line in explain_lines(load_plan(plan), node):
        out.print(line, markup=False)
