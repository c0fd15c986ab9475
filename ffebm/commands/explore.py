"""`ffebm explore`."""

import importlib.util
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text
from typer import Argument, Option

from ffebm.commands.compile import SettleOptions
from ffebm.commands.compiling import Compiling
from ffebm.commands.console import DATA, LARGEST, DataFolder, err, out, print_tables, tables
from ffebm.commands.options import with_options
from ffebm.errors import UsageError
from ffebm.files.write_file import write_file
from ffebm.hardware.description import load_hardware
from ffebm.plan.schema import Options
from ffebm.plan.summary import engineering
from ffebm.visible import visible

if TYPE_CHECKING:
    from ffebm.exploration.knobs import Knob, Value
    from ffebm.exploration.metric import Metric
    from ffebm.exploration.request import Request, SamplerName
    from ffebm.exploration.table import ExploredPoint

NEEDED = ("optuna", "arro3.core", "arro3.io")
"""What the extra `explore` installs."""
BATCHES = (
    "inference_s and inference_j are of a whole batch; time_per_inference_s and\n"
    "energy_per_inference_j, what each of its inferences takes, compare batches"
)
"""Below a front of several batches."""
SHOWN = 40
"""Rows of the front that the terminal shows."""
GAP = 2
"""Blanks between columns, and beside the outer ones."""


@dataclass(frozen=True)
class MetricOptions:
    """What is measured at each point beside its price."""

    data: Annotated[str | None, DATA] = None
    data_folder: DataFolder = None
    metric: Annotated[
        str | None,
        Option(
            help="What is measured on the data at each point, with the model's weights: accuracy, or the "
            "cosine of its gradient with the exact one."
        ),
    ] = None
    samples: Annotated[
        int | None, Option(help="Test samples of an accuracy. [default: 1000]", min=1, max=LARGEST)
    ] = None
    probes: Annotated[
        int | None, Option(help="Training samples of a gradient. [default: 128]", min=1, max=LARGEST)
    ] = None
    seeds: Annotated[
        int | None, Option(help="Runs with noise of their own for one accuracy. [default: 1]", min=1)
    ] = None

    def metric_asked(self) -> "Metric | None":
        """The metric; None without.

        Raises:
            UsageError: If there is no such metric, or something is given that it does not look at.
        """
        from ffebm.exploration.metric import Metric

        figure, sizes = self.metric, {"samples": self.samples, "probes": self.probes, "seeds": self.seeds}
        given = {name: size for name, size in sizes.items() if size is not None}
        if figure is None or self.data is None:
            alone = {"data": self.data, "metric": figure, "data-folder": self.data_folder, **given}
            found = next((f"--{name} {value}" for name, value in alone.items() if value is not None), None)
            if found is None:
                return None
            raise UsageError(f"{found} alone", allowed="--data and --metric together")
        if figure not in {"accuracy", "cosine"}:
            raise UsageError(f"--metric {figure}", allowed="accuracy or cosine")
        used = ("samples", "seeds") if figure == "accuracy" else ("probes",)
        for name, size in given.items():
            if name not in used:
                raise UsageError(
                    f"--{name} {size} of --metric {figure}", allowed=" and ".join(f"--{n}" for n in used)
                )
        return Metric("accuracy" if figure == "accuracy" else "cosine", self.data, self.data_folder, **given)


@dataclass(frozen=True)
class SearchOptions:
    """Which points are looked at."""

    sampler: Annotated[
        str, Option(help="Which points: grid, all of them; nsga2 or tpe, a search for the front by Optuna.")
    ] = "grid"
    trials: Annotated[
        int | None, Option(help="Points that a search looks at. [default: 100]", min=1, max=LARGEST)
    ] = None
    seed: Annotated[int | None, Option(help="Of a search. [default: 0]", min=0, max=LARGEST)] = None

    def sampler_asked(self) -> "SamplerName":
        """The sampler.

        Raises:
            UsageError: If there is no such sampler, or a grid is given a seed.
        """
        from ffebm.exploration.request import sampler_of

        found = sampler_of(self.sampler)
        if found == "grid" and self.seed is not None:
            raise UsageError(
                f"--seed {self.seed} of a grid", allowed="--sampler nsga2 or tpe, which draw points"
            )
        return found


@with_options
def explore(  # noqa: PLR0913 - a command's options are its arguments
    model: Annotated[Path, Argument(metavar="MODEL", help="An ONNX file, or the plan of one.")],
    *,
    vary: Annotated[
        list[str],
        Option(
            metavar="KEY=a,b,c",
            help="What to vary: an option of ffebm compile (block_size) or a constant of the machine by its "
            "dotted name (analog.tiles.tile.adc.bits), and what it stands at; KEY+KEY: both at once; "
            "repeatable.",
        ),
    ],
    output: Annotated[
        Path | None, Option("-o", "--output", help="Folder of the exploration. [default: MODEL.explore]")
    ] = None,
    front: Annotated[
        str | None,
        Option(
            help="Figures whose Pareto front is shown, separated by commas. [default: inference_s, "
            "inference_j, area_mm2, and the metric; where the batch is varied, inference_s, "
            "time_per_inference_s, energy_per_inference_j, area_mm2]"
        ),
    ] = None,
    figures: Annotated[
        str,
        Option(
            metavar="WORDS",
            help="What is priced: inference,training; or inference, which schedules no training steps.",
        ),
    ] = "inference,training",
    jobs: Annotated[
        int | None,
        Option(help="Processes that work at it. [default: one a processor]", min=1),
    ] = None,
    asked: Compiling,
    settling: SettleOptions,
    measuring: MetricOptions,
    searching: SearchOptions,
    batch: Annotated[int, Option(help="Runs of the model that each schedule has in flight.", min=1)] = 1,
) -> None:
    """Price a model for many machines and options, and show which points no other one beats."""
    _check_installed()
    from ffebm.exploration.knobs import knobs_of
    from ffebm.exploration.request import Request, training_of

    folder = output or Path(f"{model.stem}.explore")
    knobs = knobs_of(vary)
    measured = measuring.metric_asked()
    _check_given(knobs, asked, settling, batch)
    request = Request(
        model=model,
        folder=folder,
        hardware=asked.hardware,
        settings=asked.settings(),
        settle=settling.checked(asked.free_sweeps),
        batch=batch,
        passes=tuple(asked.own_passes or ()),
        knobs=knobs,
        sampler=searching.sampler_asked(),
        trials=searching.trials,
        seed=searching.seed or 0,
        front=_front(front, knobs, measured),
        metric=measured,
        training=training_of(figures),
    )
    request.check()
    rows = _explored(request, jobs or len(os.sched_getaffinity(0)))
    console = tables()
    print_tables(console, _shown(request, rows, console.width))
    out.print(f"table written to {folder / 'table.csv'} and {folder / 'table.parquet'}", markup=False)
    out.print(f"page written to {folder / 'explore.html'}", markup=False)


def _front(text: str | None, knobs: "tuple[Knob, ...]", metric: "Metric | None") -> tuple[str, ...]:
    """What `--front` says."""
    from ffebm.exploration.figures import FRONT, FRONT_OF_BATCHES

    if text is None:
        usual = FRONT_OF_BATCHES if _varies_batch(knobs) else FRONT
        return (*usual, *([] if metric is None else [metric.figure]))
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def _varies_batch(knobs: "tuple[Knob, ...]") -> bool:
    """Points are batches of several sizes."""
    return any("batch" in knob.key.split("+") and len(knob.values) > 1 for knob in knobs)


def _check_installed() -> None:
    """The packages that only this command needs are here.

    Raises:
        UsageError: If not.
    """
    missing = [name for name in NEEDED if _is_missing(name)]
    if missing:
        raise UsageError(
            f"ffebm explore needs {missing[0].partition('.')[0]}, which is not installed",
            hint="pip install 'ffebm[explore]'",
        )


def _is_missing(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is None
    except ModuleNotFoundError:
        return True


def _check_given(knobs: "tuple[Knob, ...]", asked: Compiling, settling: SettleOptions, batch: int) -> None:
    """Nothing is both given and varied.

    Raises:
        UsageError: If something is.
    """
    given = {field.name for one in (asked, settling) for field in fields(one) if _is_given(one, field.name)}
    given |= {"batch"} if batch != Options().batch else set()
    for knob in knobs:
        for name in knob.key.split("+"):
            if name in given:
                option = f"--{name.replace('_', '-')}"
                raise UsageError(f"{option} and --vary {knob.key}", allowed="one of them")


def _is_given(one: Compiling | SettleOptions, name: str) -> bool:
    return bool(getattr(one, name) != type(one).__dataclass_fields__[name].default)


def _explored(request: "Request", jobs: int) -> "list[ExploredPoint]":
    """Do what is not done yet, and write what was found."""
    from ffebm.exploration.run import Exploration
    from ffebm.exploration.run import explore as run
    from ffebm.exploration.table import rows_of, write_tables
    from ffebm.report.facts.exploration_facts import exploration_facts
    from ffebm.report.page import exploration_page

    exploration = Exploration(request)
    exploration.open()
    columns = (TextColumn("points"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("points", total=exploration.ledger.total)
        try:
            run(exploration, jobs, lambda done: bar.update(task, completed=done))
        except KeyboardInterrupt:
            err.print(f"interrupted; the same command continues from {request.folder}", markup=False)
            raise
    rows = rows_of(request, exploration.entries(), exploration.variants)
    write_tables(request.folder, rows, request.knobs)
    hardware = [knob.values for knob in request.knobs if "hardware" in knob.key.split("+")]
    machine = "several machines" if hardware else load_hardware(request.hardware).name
    names = (exploration.variants.source.name, machine)
    facts = exploration_facts(names, len(request.grid), request.knobs, request.front, rows)
    write_file(request.folder / "explore.html", exploration_page(facts).encode())
    return rows


def _shown(request: "Request", rows: "list[ExploredPoint]", width: int) -> list[RenderableType]:
    """The front as a table, best first by its first figure; points with equal figures are one row.

    Args:
        request: What was asked for.
        rows: What was found.
        width: Columns that there are; names that need more take several lines.
    """
    from ffebm.exploration.figures import FIGURES
    from ffebm.exploration.table import idle_knobs

    refused = [row for row in rows if row.refused]
    alike: dict[tuple[float, ...], list[ExploredPoint]] = {}
    for row in rows:
        if row.front:
            same = tuple(row.figures[name] or 0.0 for name in request.front)
            alike.setdefault(same, []).append(row)
    sign = -1 if FIGURES[request.front[0]].better == "more" else 1
    best = sorted(alike.items(), key=lambda found: (sign * found[0][0], found[1][0].number))

    count = sum(row.front for row in rows)
    title = f"front: {count} of {len(rows) - len(refused)} points"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("point", no_wrap=True)
    names = ["point", *(_short(knob.key) for knob in request.knobs), *request.front]
    heading = str if sum(len(name) + GAP for name in names) <= width else _in_lines
    for knob in request.knobs:
        table.add_column(heading(_short(knob.key)), overflow="fold")
    for name in request.front:  # no number is parted from its unit
        table.add_column(heading(name), justify="right", no_wrap=True)
    for _, (row, *others) in best[:SHOWN]:
        knobs = [Text(_said(row.point[knob.key])) for knob in request.knobs]
        figures = [_figure(row, name) for name in request.front]
        table.add_row(f"{row.number}{f' +{len(others)}' if others else ''}", *knobs, *figures)
    parts: list[RenderableType] = [table]
    if _varies_batch(request.knobs):
        parts.append(Text(BATCHES))
    if len(best) > SHOWN:
        parts.append(Text(f"and {len(best) - SHOWN} more in the table"))
    for knob in idle_knobs(request.knobs, rows):
        values = ", ".join(_said(value) for value in knob.values)
        parts.append(Text(visible(f"{knob.key} = {values} changes no figure")))
    if refused:
        parts.append(Text(visible(f"{len(refused)} points refused; the first: {refused[0].refused}")))
    return parts


def _short(key: str) -> str:
    """A knob in few columns: the end of its first name, and how many it has besides."""
    first, *others = key.split("+")
    return visible(".".join(first.split(".")[-2:]) + (f"+{len(others)}" if others else ""))


def _in_lines(name: str) -> str:
    """A name as narrow as its longest part."""
    return name.replace("_", "\n_").replace(".", "\n.")


def _said(value: "Value") -> str:
    from ffebm.exploration.knobs import value_text

    return visible(value_text(value))


def _figure(row: "ExploredPoint", name: str) -> str:
    from ffebm.exploration.figures import FIGURES

    value = row.figures[name]
    if value is None:
        return "-"
    unit = FIGURES[name].unit
    if unit in {"s", "J"}:
        return engineering(value, unit)
    return f"{value:,.0f}" if name == "tiles" else f"{value:.4g}"
