"""`ffebm report`."""

import os
import tempfile
from pathlib import Path
from typing import Annotated

from typer import Option

from ffebm.commands.console import PlanPath, out
from ffebm.errors import UsageError
from ffebm.plan import Plan, load_plan


def report(
    plan: PlanPath,
    output: Annotated[Path, Option("-o", "--output", help="The page.")] = Path("report.html"),
    run: Annotated[Path | None, Option(help="Record of a training run, as `ffebm train` leaves it.")] = None,
    json: Annotated[Path | None, Option(help="Where the data behind the page go, too.")] = None,
) -> None:
    """Write one page that shows a plan: graph, tiles, timeline, costs, nodes."""
    from ffebm.report.run_facts import read_run

    loaded = load_plan(plan)
    recorded = read_run(loaded, run) if run is not None else None
    from ffebm.report.facts import facts
    from ffebm.report.page import page

    data = facts(loaded, recorded)
    if json is not None:
        import msgspec

        write_whole(json, msgspec.json.format(msgspec.json.encode(data), indent=1))
        out.print(f"data written to {json}", markup=False)
    write_whole(output, page(data).encode("utf-8"))
    out.print(f"report written to {output}", markup=False)


def write_report(plan: Plan, path: Path) -> None:
    """Write a plan's page."""
    from ffebm.report.facts import facts
    from ffebm.report.page import page

    write_whole(path, page(facts(plan)).encode("utf-8"))


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, all of it or nothing.

    Raises:
        UsageError: If the disk refuses.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, scratch = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.chmod(scratch, 0o644)
            os.replace(scratch, path)
        except OSError:
            os.unlink(scratch)
            raise
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None
