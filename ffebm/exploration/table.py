"""The table of an exploration: a row a point, with the command that compiles its plan."""

import csv
import io
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from arro3.core import Array, DataType, Table
from arro3.core.types import ArrayInput, ArrowStreamExportable
from arro3.io import write_parquet
from msgspec.structs import replace

from ffebm.compiler.command import option_words
from ffebm.compiler.variants import Variants
from ffebm.exploration.figures import FIGURES
from ffebm.exploration.front import on_front
from ffebm.exploration.knobs import Knob, Point, Value
from ffebm.exploration.ledger import Entry
from ffebm.exploration.machine import machine_toml, named
from ffebm.exploration.request import Request
from ffebm.files.write_file import write_file

MACHINES = "machines"
"""Folder of the machines of an exploration."""


class ExploredPoint(msgspec.Struct, frozen=True, kw_only=True):
    """A point of an exploration.

    Attributes:
        number: Of the point, in the order of the grid.
        point: What each knob stands at.
        figures: By name; all None where the point was refused.
        front: No other point is better in what the front is of.
        refused: Why it has no figures; empty if it has.
        summary: What else there is to know, in lines.
        command: What compiles the plan of the point again; empty if nothing does.
    """

    number: int
    point: dict[str, Value]
    figures: dict[str, float | None]
    front: bool
    refused: str
    summary: list[str]
    command: str


def rows_of(request: Request, entries: Sequence[Entry], variants: Variants) -> list[ExploredPoint]:
    """The rows of what was found; the machines that their commands name are written.

    Args:
        request: What was asked for.
        entries: What was found.
        variants: The model.

    Raises:
        UsageError: If the disk refuses.
    """
    none: dict[str, float | None] = dict.fromkeys(request.figures)
    figures = [none if entry.figures is None else entry.figures for entry in entries]
    machines = _Machines(request)
    return [
        ExploredPoint(
            number=request.grid.index_of(entry.point),
            point=dict(entry.point),
            figures=dict(found),
            front=front,
            refused=entry.refused,
            summary=entry.summary,
            command="" if entry.refused else shlex.join(_words(request, entry.point, variants, machines)),
        )
        for entry, found, front in zip(entries, figures, on_front(figures, request.front), strict=True)
    ]


def idle_knobs(knobs: Sequence[Knob], rows: Sequence[ExploredPoint]) -> list[Knob]:
    """Knobs of several values that change no figure: where nothing else differs, neither do figures.

    Args:
        knobs: What was varied.
        rows: What was found; of a search some points, none of which may differ in a knob alone.
    """
    found = []
    for knob in knobs:
        alike: dict[tuple[Value, ...], list[ExploredPoint]] = {}
        for row in rows:
            if not row.refused:
                others = tuple(value for key, value in row.point.items() if key != knob.key)
                alike.setdefault(others, []).append(row)
        turned = [group for group in alike.values() if len(group) > 1]
        if turned and all(row.figures == group[0].figures for group in turned for row in group):
            found.append(knob)
    return found


def _words(request: Request, point: Point, variants: Variants, machines: "_Machines") -> list[str]:
    variant = request.variant(point, variants.pass_names)
    options = replace(variant.options, no_weights=variants.no_weights)
    words = ["ffebm-compile", str(request.model), "--hardware", machines.of(point)]
    return words + option_words(options, variant.settle)


class _Machines:
    """The machines of points, each written once."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._written: dict[tuple[tuple[str, Value], ...], str] = {}
        self._names = self._numbered()

    def _numbered(self) -> dict[tuple[tuple[str, Value], ...], str]:
        """A name for each machine that the whole grid has, in its order; so a name stays what it is."""
        found: dict[tuple[tuple[str, Value], ...], str] = {}
        for point in self._request.grid:
            key = self._key(point)
            if key not in found:
                found[key] = f"{len(found):03}"
        return found

    def _key(self, point: Point) -> tuple[tuple[str, Value], ...]:
        hardware = point.get("hardware", self._request.hardware)
        return (("hardware", hardware), *self._request.constants(point).items())

    def of(self, point: Point) -> str:
        """What `--hardware` is to say for a point."""
        key = self._key(point)
        changed = dict(key[1:])
        if not changed:
            return str(key[0][1])
        if key not in self._written:
            machine = self._request.machine(point)
            name = f"{machine.name}-{self._names[key]}"
            path = self._request.folder / MACHINES / f"{name}.toml"
            write_file(path, machine_toml(named(machine, name, changed)).encode())
            self._written[key] = str(path)
        return self._written[key]


# --- files -------------------------------------------------------------------------------------------


def columns_of(rows: Sequence[ExploredPoint], knobs: Sequence[Knob]) -> dict[str, list[Any]]:
    """The table, column by column: number, knobs, figures, front, why a point was refused, command."""
    return {
        "point": [row.number for row in rows],
        **{knob.key: [row.point[knob.key] for row in rows] for knob in knobs},
        **{name: [row.figures[name] for row in rows] for name in (rows[0].figures if rows else ())},
        "front": [row.front for row in rows],
        "refused": [row.refused for row in rows],
        "command": [row.command for row in rows],
    }


def csv_bytes(columns: Mapping[str, Sequence[Any]]) -> bytes:
    """A table as CSV (RFC 4180): what is not known is empty, numbers are as exact as they are."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(columns)
    for values in zip(*columns.values(), strict=True):
        writer.writerow(["" if v is None else str(v).lower() if isinstance(v, bool) else v for v in values])
    return text.getvalue().encode()


def parquet_bytes(columns: Mapping[str, Sequence[Any]]) -> bytes:
    """A table as Parquet, with the unit and the meaning of each figure among its metadata."""
    arrays: dict[str, ArrayInput | ArrowStreamExportable] = {
        name: _array(values) for name, values in columns.items()
    }
    told = {name: f"{FIGURES[name].meaning}, {FIGURES[name].unit}" for name in columns if name in FIGURES}
    file = io.BytesIO()
    write_parquet(Table.from_pydict(arrays, metadata=told), file)
    return file.getvalue()


def _array(values: Sequence[Any]) -> Array:
    """A column of one type; values of several kinds become text."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        return Array(values, DataType.bool())
    if kinds == {int}:
        return Array(values, DataType.int64())
    if kinds <= {int, float}:
        return Array([None if v is None else float(v) for v in values], DataType.float64())
    return Array([None if v is None else str(v) for v in values], DataType.string())


def write_tables(folder: Path, rows: Sequence[ExploredPoint], knobs: Sequence[Knob]) -> None:
    """Write the table as CSV and as Parquet.

    Raises:
        UsageError: If the disk refuses.
    """
    columns = columns_of(rows, knobs)
    write_file(folder / "table.csv", csv_bytes(columns))
    write_file(folder / "table.parquet", parquet_bytes(columns))
