"""`ffebm sensitivity`."""

import math
import shlex
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text
from typer import Option

from ffebm.commands.console import DATA, LARGEST, DataFolder, PlanPath, err, out
from ffebm.errors import UsageError
from ffebm.files.lock import claimed
from ffebm.files.write_file import write_file
from ffebm.plan.plan import Plan, load_plan
from ffebm.plan.summary import share
from ffebm.report.terminal.words import compile_words
from ffebm.training.settings import strength
from ffebm.visible import visible

if TYPE_CHECKING:
    from ffebm.studies.sensitivity.effects import Axis
    from ffebm.studies.sensitivity.meter import Effort
    from ffebm.studies.sensitivity.record import Offer
    from ffebm.studies.sensitivity.study import Levels, Method, Study
    from ffebm.studies.sensitivity.units import By
    from ffebm.training.data import Data

HEADS: "dict[Axis, str]" = {"noise": "noise x", "bits": "bits "}
"""In front of a level at the head of a column."""


def sensitivity(  # noqa: PLR0913 - a command's options are its arguments
    plan: PlanPath,
    data: Annotated[str, DATA],
    data_folder: DataFolder = None,
    by: Annotated[str, Option(help="What goes on tiles on its own: block or projection.")] = "block",
    noise: Annotated[
        str, Option(help="Factors of the machine's own noise; empty: not varied.")
    ] = "0,1,2,4,8",
    bits: Annotated[str, Option(help="Bits of the converters; empty: not varied.")] = "2,3,4,6,8",
    keep: Annotated[float | None, Option(help="Accuracy that a partition is to keep, in per cent.")] = None,
    drop: Annotated[float | None, Option(help="Or what it may lose, in points. [default: 1]", min=0)] = None,
    baseline: Annotated[bool, Option(help="Also search in the order of work.")] = True,
    samples: Annotated[int, Option(help="Test samples of one accuracy.", min=1, max=LARGEST)] = 1000,
    probes: Annotated[int, Option(help="Training samples of one gradient.", min=1, max=LARGEST)] = 128,
    seeds: Annotated[int, Option(help="Runs with noise of their own for one accuracy.", min=1)] = 1,
    beta: Annotated[str, Option(help="Nudging strength of equilibrium propagation, or auto.")] = "auto",
    output: Annotated[
        Path | None, Option("-o", "--output", help="Record of the study. [default: PLAN.sensitivity.json]")
    ] = None,
    svg: Annotated[Path | None, Option(help="Picture. [default: beside the record]")] = None,
) -> None:
    """Find what noise and converters do to each block, and the partition that keeps an accuracy."""
    from ffebm.report.pictures.sensitivity import picture
    from ffebm.studies.sensitivity.meter import Effort
    from ffebm.training.classification import data_for

    levels: Levels = {
        "noise": _numbers("noise", noise, lambda level: 0 <= level < math.inf, "0 or more"),
        "bits": _numbers("bits", bits, lambda level: level in range(2, 25), "2 to 24, whole"),
    }
    if keep is not None and drop is not None:
        raise UsageError("--keep and --drop", allowed="one of them")
    if keep is not None and not 0 <= keep <= 100:
        raise UsageError(f"--keep {keep}", allowed="0 to 100 per cent")
    path = output or plan.resolve().with_name(f"{plan.resolve().name}.sensitivity.json")
    drawn = svg or path.with_suffix(".svg")
    effort = Effort(samples=samples, probes=probes, seeds=seeds, beta=strength(beta))
    with claimed(path, "continues the study", "wait until it ends, or name another file with -o"):
        loaded = load_plan(plan)
        study = _study(loaded, data_for(loaded, data, data_folder), _by(by), effort, path)
        if study.record.setup.calibration:
            out.print(study.record.setup.calibration, markup=False)
        try:
            _profile(study, _fitting(study, levels))
            if study.record.points:
                write_file(drawn, picture(study.record).encode())
                out.print(f"picture written to {drawn}", markup=False)
            offers = _search(study, keep, 1.0 if drop is None else drop, baseline)
        except KeyboardInterrupt:
            err.print(f"interrupted; the same command continues from {path}", markup=False)
            raise
        name = plan.resolve().name.removesuffix(".plan")
        _advise(study.meter.plan, offers, plan.resolve().with_name(f"{name}.partition.plan"))
        out.print(f"record written to {path}", markup=False)


def _study(plan: Plan, data: "Data", by: "By", effort: "Effort", path: Path) -> "Study":
    from ffebm.studies.sensitivity.meter import Meter
    from ffebm.studies.sensitivity.record import load_record, save_record, setup_of
    from ffebm.studies.sensitivity.study import Study
    from ffebm.studies.sensitivity.units import units_of
    from ffebm.training.classification import fitted

    fit = fitted(plan, data)
    record = load_record(path, setup_of(plan, fit, by, effort), units_of(plan, by))
    return Study(Meter(plan, fit, effort), record, lambda record: save_record(record, path))


def _fitting(study: "Study", levels: "Levels") -> "Levels":
    """The levels without noise if the machine has none: multiples of nothing tell nothing."""
    from ffebm.studies.sensitivity.effects import has_noise

    if any(map(has_noise, study.crossbars.values())) or not levels["noise"]:
        return levels
    out.print(f"{study.meter.plan.hardware.name} has no noise, so noise is not varied", markup=False)
    return {**levels, "noise": ()}


def _profile(study: "Study", levels: "Levels") -> None:
    """Measure what is missing, and print all of it."""
    columns = (TextColumn("profile"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("profile", total=len(study.missing(levels)))
        study.exact()
        for _ in study.profile(levels):
            bar.advance(task)
    for axis in levels:
        if levels[axis]:
            out.print(_table(study, axis, levels[axis]))


def _table(study: "Study", axis: "Axis", levels: Sequence[float]) -> Table:
    """Accuracy and cosine of each unit at each level."""
    by = study.record.setup.by
    table = Table(title=f"one {by} at a time on tiles: accuracy in %, gradient cosine", title_justify="left")
    table.add_column(by)
    table.add_column("work", justify="right")
    for level in levels:
        table.add_column(f"{HEADS[axis]}{level:g}", justify="right")
    held = {(p.unit, p.level): p for p in study.record.points if p.axis == axis}
    for unit in study.record.units:
        points = [held[unit.name, level] for level in levels]
        cells = [f"{100 * p.accuracy:.1f} {p.cosine:.2f}" for p in points]
        table.add_row(Text(visible(unit.name)), share(unit.macs, study.work), *cells)
    return table


def _search(study: "Study", keep: float | None, drop: float, baseline: bool) -> "list[Offer]":
    """Look for a partition, and print what was found."""
    out.print(f"accuracy with everything exact: {100 * study.exact():.2f} %", markup=False)
    target = keep / 100 if keep is not None else study.exact() - drop / 100
    methods: tuple[Method, ...] = ("by superposition", "by work") if baseline else ("by superposition",)
    columns = (TextColumn("partition {task.description}: evaluation {task.completed}"), TimeElapsedColumn())
    offers = []
    with Progress(*columns, console=err, transient=True) as bar:
        for method in methods:
            task = bar.add_task(method, total=None)
            offers.append(study.offer(method, target, partial(_show, bar, task)))
    out.print(_offers_table(offers))
    return offers


def _advise(plan: Plan, offers: "Sequence[Offer]", folder: Path) -> None:
    """How to compile the partition with the most work on tiles, as a plan in that folder."""
    best = max(offers, key=lambda offer: offer.work)  # the first of equal ones
    held = f"{100 * best.target:.2f} % kept with {100 * best.work:.1f} % of the work on tiles"
    if plan.source.format == "onnx":
        words = shlex.join([*compile_words(plan, best.digital), "-o", str(folder)])
        how = f"in the folder of the model and the machine, compile it with\n{visible(words)}"
    else:
        how = f"compile the model as before, with digital={visible(str(best.digital))}"
    out.print(f"{held}; {how}", markup=False)
    if best.digital and any(len(block.layers) > 1 for block in plan.blocks):
        out.print(
            "note: kept digital, a block of several layers computes them one after the other and no longer "
            "settles; train the new plan",
            markup=False,
        )
    if best.confirmed < best.target:
        out.print(
            "note: the whole test set, with fresh noise, falls short; ask with more --samples or --seeds",
            markup=False,
        )


def _show(bar: Progress, task: TaskID, number: int) -> None:
    bar.update(task, completed=number)


def _offers_table(offers: "Sequence[Offer]") -> Table:
    table = Table(title="partitions that keep the accuracy", title_justify="left")
    heads = ("found", "work on tiles", "accuracy", "whole test set", "evaluations", "samples run")
    for head in heads:
        table.add_column(head, justify="left" if head == "found" else "right", no_wrap=head == "found")
    for offer in offers:
        name = offer.method + (" (baseline)" if offer.method == "by work" else "")
        figures = (100 * offer.work, 100 * offer.accuracy, 100 * offer.confirmed)
        shares = [f"{figure:.2f} %" for figure in figures]
        table.add_row(name, *shares, str(offer.evaluations), f"{offer.passes:,}")
    return table


def _by(text: str) -> "By":
    if text not in {"block", "projection"}:
        raise UsageError(f"--by {text}", allowed="block or projection")
    return "block" if text == "block" else "projection"


def _numbers(name: str, text: str, fits: Callable[[float], bool], allowed: str) -> tuple[float, ...]:
    """Numbers separated by commas, each once."""
    try:
        numbers = tuple(dict.fromkeys(float(part) for part in text.split(",") if text.strip()))
    except ValueError:
        numbers = (math.nan,)
    if not all(map(fits, numbers)):
        raise UsageError(f"--{name} {text}", allowed=f"numbers separated by commas, each {allowed}")
    return numbers
