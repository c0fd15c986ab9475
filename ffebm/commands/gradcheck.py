"""`ffebm gradcheck`."""

from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from typer import Option

from ffebm.commands.console import LARGEST, DataFolder, PlanPath, err, out
from ffebm.commands.settling import SettlingOption, settled_by
from ffebm.errors import UsageError
from ffebm.files.write_file import write_file
from ffebm.plan.plan import Plan, load_plan
from ffebm.studies.gradcheck.certificate import EXACT, Certificate, save_certificate
from ffebm.training.settings import Training, read_settings, strength, training_from
from ffebm.visible import visible

if TYPE_CHECKING:
    from ffebm.studies.gradcheck.bench import Bench
    from ffebm.studies.gradcheck.check import CheckSettings
    from ffebm.studies.gradcheck.probe import Probe


def gradcheck(  # noqa: PLR0913 - a command's options are its arguments
    plan: PlanPath,
    data: Annotated[
        str | None, Option(help="Labelled data as for train. [default: random inputs and a made-up loss]")
    ] = None,
    data_folder: DataFolder = None,
    input: Annotated[Path | None, Option("--input", help="Or an .npz with one array for each input.")] = None,  # noqa: A002
    settings: Annotated[Path | None, Option(help="Settings of training: data, estimator, scales.")] = None,
    samples: Annotated[int, Option(help="Samples that gradients are taken over.", min=1, max=LARGEST)] = 8,
    gradient: Annotated[
        str | None, Option(help="ep, implicit, unrolled, or a package's. [default: ep]")
    ] = None,
    beta: Annotated[str | None, Option(help="Nudging strength, or auto. [default: 0.1]")] = None,
    cost: Annotated[bool | None, Option("--cost/--linear", help="What nudges the last block.")] = None,
    single: Annotated[bool, Option(help="The estimator computes in 32 bits, as training does.")] = False,
    sweeps: Annotated[bool, Option(help="Also try nudging strengths and cut phases short.")] = True,
    target: Annotated[
        float | None, Option(help="Find the beta and ADC bits that reach this cosine in every weight.")
    ] = None,
    eval: Annotated[bool, Option(help="Batch normalisation uses its running statistics.")] = False,  # noqa: A002
    settling: SettlingOption = None,
    seed: Annotated[int, Option(help="Seed of noise and of random inputs.", min=0, max=LARGEST)] = 0,
    output: Annotated[
        Path | None, Option("-o", "--output", help="Certificate. [default: PLAN.gradcheck.json]")
    ] = None,
    svg: Annotated[Path | None, Option(help="Picture. [default: beside the certificate]")] = None,
) -> None:
    """Hold the gradients of a plan against the exact adjoint, weight by weight."""
    from ffebm.report.pictures.certificate import picture
    from ffebm.studies.gradcheck.bench import Bench
    from ffebm.studies.gradcheck.check import CheckSettings
    from ffebm.training.estimator import estimator

    if (data is not None) + (input is not None) > 1:
        raise UsageError("--data and --input", allowed="one of them")
    training = _training(settings, data, gradient, beta, cost)
    loaded = settled_by(load_plan(plan), settling or training.settling)
    probe = _probe(loaded, training, data_folder, input, samples, seed)
    chosen = CheckSettings(estimator(training), single, sweeps, target)
    certificate = _watched(Bench(loaded, probe, seed, not eval), chosen)
    for table in tables(certificate):
        out.print(table)
    for line in lines(certificate):
        out.print(visible(line), markup=False)
    path = output or plan.resolve().with_name(f"{plan.resolve().name}.gradcheck.json")
    save_certificate(certificate, path)
    drawn = svg or path.with_suffix(".svg")
    write_file(drawn, picture(certificate).encode())
    out.print(f"certificate written to {path}, picture to {drawn}", markup=False)


NO_DATA = ""
"""Name of data where there is none."""


def _training(
    settings: Path | None, data: str | None, gradient: str | None, beta: str | None, cost: bool | None
) -> Training:
    """The settings of a file, and what the options say instead."""
    chosen: dict[str, object] = {"data": NO_DATA}
    if settings is not None:
        chosen |= read_settings(settings)
    nudge = None if beta is None else strength(beta)
    given = {"data": data, "gradient": gradient, "beta": nudge, "cost": cost}
    return training_from(chosen | {name: value for name, value in given.items() if value is not None})


def _probe(
    plan: Plan, training: Training, folder: Path | None, file: Path | None, samples: int, seed: int
) -> "Probe":
    from ffebm.studies.gradcheck import probe
    from ffebm.training.classification import data_for

    if folder is not None and (file is not None or training.data == NO_DATA):
        raise UsageError("--data-folder without --data", hint="name the data with --data")
    if file is not None:
        return probe.from_file(plan, file, samples)
    if training.data == NO_DATA:
        return probe.random(plan, samples, seed)
    return probe.labelled(plan, data_for(plan, training.data, folder), training, samples)


def _watched(bench: "Bench", chosen: "CheckSettings") -> Certificate:
    from ffebm.studies.gradcheck.check import check

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("exact adjoint")

        def progress(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total)

        return check(bench, chosen, progress)


# --- what is printed -----------------------------------------------------------------------------------


def tables(certificate: Certificate) -> Iterator[Table]:
    """Weights and blocks, and what reaches the target."""
    yield _fidelity(certificate)
    yield _settling(certificate)
    if certificate.betas:
        yield _betas(certificate)
    if certificate.needs:
        yield _needs(certificate)


def _table(title: str, *heads: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for head in heads:
        is_name = head in {"weight", "block"}
        table.add_column(head, justify="left" if is_name else "right", overflow="fold")
    return table


def _fidelity(certificate: Certificate) -> Table:
    title = f"{certificate.estimator} against the exact adjoint in 64 bits"
    table = _table(title, "weight", "block", "cosine", "norm ratio", "error")
    for row in certificate.fidelity:
        figures = (_text(row.cosine, ".6f"), _text(row.norm, ".5f"), _text(row.error, ".2e"))
        table.add_row(_plain(row.weight), row.block or "digital", *figures)
    return table


def _settling(certificate: Certificate) -> Table:
    heads = ("block", "settled", "sweeps", "residual", "rate", "cycling", "nudged residual")
    table = _table("settling", *heads, "elsewhere", "together")
    for row in certificate.settling:
        table.add_row(
            row.block,
            f"{row.settled:.1%}",
            f"{row.sweeps:.1f}",
            f"{row.residual:.1e}",
            _text(row.rate, ".3f"),
            f"{row.cycling:.1%}",
            _text(row.nudged_residual, ".1e"),
            f"{row.elsewhere:.1%}",
            f"{row.together:.1%}",
        )
    return table


def _betas(certificate: Certificate) -> Table:
    table = _table("nudging strength", "beta", "largest error", "smallest cosine")
    rows = [((_error(p.error), f"{p.cosine:.6f}"), f"{p.beta:g}") for p in certificate.betas]
    for figures, alike in groupby(rows, key=itemgetter(0)):
        betas = [beta for _, beta in alike]
        table.add_row(betas[0] if len(betas) == 1 else f"{betas[0]} to {betas[-1]}", *figures)
    return table


def _error(value: float) -> str:
    """A relative error; what is left of one below rounding says nothing."""
    return f"{value:.2e}" if value >= EXACT else f"<{EXACT:.0e}"


def _needs(certificate: Certificate) -> Table:
    table = _table(
        f"what a cosine of {certificate.target:g} takes", "ADC bits", "best beta", "smallest cosine"
    )
    for need in certificate.needs:
        table.add_row(
            str(need.adc_bits) if need.adc_bits else "exact", f"{need.beta:g}", f"{need.cosine:.4f}"
        )
    return table


def lines(certificate: Certificate) -> Iterator[str]:
    """What the tables leave out."""
    yield f"{certificate.data}; batch normalisation in {certificate.mode} mode; {certificate.precision}"
    if certificate.calibration:
        yield certificate.calibration
    if certificate.slope is not None:
        yield f"error grows with beta to the power of {certificate.slope:.2f}"
    worst = certificate.worst
    if worst is not None:
        yield f"smallest cosine {worst.cosine:.6f}, of {worst.weight}"
    if certificate.needs and certificate.target is not None:
        best = certificate.needs[-1]
        bits = f"{best.adc_bits}-bit ADCs and " if best.adc_bits else ""
        if best.cosine >= certificate.target:
            yield f"a cosine of {certificate.target:g} takes {bits}beta {best.beta:g}"
        else:
            yield f"nothing tried reaches {certificate.target:g}; nearest are {bits}beta {best.beta:g}"
    yield from certificate.notes


def _text(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _plain(name: str) -> str:
    return visible(name).replace("[", "\\[")
