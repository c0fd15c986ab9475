"""`ffebm show`."""

from pathlib import Path
from typing import Annotated

from typer import Option

from ffebm.commands.console import PlanPath, out
from ffebm.errors import UsageError
from ffebm.plan import Plan, load_plan


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
