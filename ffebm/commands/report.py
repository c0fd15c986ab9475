"""`ffebm report`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
from typer import Argument, Option

from ffebm.commands.console import PlanPath, out
from ffebm.errors import UsageError
from ffebm.files.write_file import write_file
from ffebm.plan.plan import Plan, load_plan

if TYPE_CHECKING:
    from ffebm.report.facts.comparison import Comparison
    from ffebm.report.facts.facts import Facts


def report(  # noqa: PLR0913 - a command's options are its arguments
    plan: PlanPath,
    other: Annotated[
        Path | None, Argument(metavar="PLAN_B", help="Compare with this plan of the model.")
    ] = None,
    *,
    output: Annotated[Path, Option("-o", "--output", help="The page.")] = Path("report.html"),
    run: Annotated[Path | None, Option(help="Record of a training run, as `ffebm train` leaves it.")] = None,
    certificate: Annotated[
        Path | None, Option(help="Certificate of its gradients, as `ffebm gradcheck` writes it.")
    ] = None,
    sensitivity: Annotated[Path | None, Option(help="Study of it, as `ffebm sensitivity` writes it.")] = None,
    json: Annotated[Path | None, Option(help="Where the data behind the page go, too.")] = None,
) -> None:
    """Write one page that shows a plan, or two plans of one model side by side."""
    from ffebm.report.page import comparison_page, page

    data: Facts | Comparison
    if other is not None:
        _alone({"--run": run, "--certificate": certificate, "--sensitivity": sensitivity})
        data = _compared(plan, other)
        html = comparison_page(data)
    else:
        data = _facts(plan, run, certificate, sensitivity)
        html = page(data)
    if json is not None:
        write_file(json, msgspec.json.format(msgspec.json.encode(data), indent=1))
        out.print(f"data written to {json}", markup=False)
    write_file(output, html.encode("utf-8"))
    out.print(f"report written to {output}", markup=False)


def _alone(given: dict[str, Path | None]) -> None:
    """What was measured on one plan is shown with that plan."""
    for option, path in given.items():
        if path is not None:
            raise UsageError(
                f"{option} with two plans", hint=f"show it with one plan: ffebm report PLAN {option} {path}"
            )


def _facts(plan: Path, run: Path | None, certificate: Path | None, sensitivity: Path | None) -> "Facts":
    from ffebm.report.facts.facts import facts
    from ffebm.report.facts.measured.certificate_facts import read_certificate
    from ffebm.report.facts.measured.run_facts import read_run
    from ffebm.report.facts.measured.sensitivity_facts import read_sensitivity

    loaded = load_plan(plan)
    return facts(
        loaded,
        read_run(loaded, run) if run is not None else None,
        read_certificate(loaded, certificate) if certificate is not None else None,
        read_sensitivity(loaded, sensitivity) if sensitivity is not None else None,
    )


def _compared(plan: Path, other: Path) -> "Comparison":
    from ffebm.report.facts.comparison import comparison

    return comparison(load_plan(plan), load_plan(other), (str(plan), str(other)))


def write_report(plan: Plan, path: Path) -> None:
    """Write a plan's page and say so."""
    from ffebm.report.facts.facts import facts
    from ffebm.report.page import page

    write_file(path, page(facts(plan)).encode("utf-8"))
    out.print(f"report written to {path}", markup=False)
