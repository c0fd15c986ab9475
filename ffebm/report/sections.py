"""A plan's answers in the terminal, section by section: the figures of the page, as tables.

Everything is plain characters, so it reads the same in a pipe; long names wrap, none is cut off.
"""

from collections.abc import Callable, Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from ffebm.plan import Plan, engineering, share
from ffebm.report.bill import Row, bill, constants, energy_basis, time_basis
from ffebm.report.terminal import flow_lines, reason_rows
from ffebm.report.timeline import Timeline, timeline
from ffebm.report.visible import visible
from ffebm.step import Cost, Schedule, StepKind

BINS = 32
"""Columns of a unit's row in a timeline."""
ROWS = 24
"""Most units of a timeline; tiles beyond them are named as left out."""
SHADES = " .:=#"
"""How much of its time a unit works in a column: not at all, up to a quarter, a half, three quarters, all."""
ENERGIES = ("array", "dac", "adc", "digital", "memory", "network")


def _table(*heads: str) -> Table:
    """Names on the left, figures on the right."""
    table = Table(box=None, pad_edge=False, show_edge=False)
    for k, head in enumerate(heads):
        table.add_column(head, justify="left" if k == 0 else "right", overflow="fold")
    return table


def _name(text: str) -> Text:
    return Text(visible(text))


def _summary(plan: Plan) -> Iterator[RenderableType]:
    yield Text(plan.summary().rstrip("\n"))


def _flow(plan: Plan) -> Iterator[RenderableType]:
    yield Text("\n".join(map(visible, flow_lines(plan))))


def _tiles(plan: Plan) -> Iterator[RenderableType]:
    names = {weight: block.name for block in plan.blocks for weight in block.weights()}
    table = _table("tile", "cells", "used", "pieces", "held for")
    for tile in plan.tiles:
        blocks = sorted({names[piece.weight] for piece in tile.pieces}, key=lambda n: (len(n), n))
        used = share(tile.used, tile.rows * tile.cols)
        table.add_row(
            f"tile{tile.id}",
            f"{tile.rows} x {tile.cols}",
            used,
            str(len(tile.pieces)),
            _name(", ".join(blocks)),
        )
    yield table if plan.tiles else Text("none in use")


def _settling(plan: Plan) -> Iterator[RenderableType]:
    table = _table("setting", "value")
    for name in plan.settle.__struct_fields__:
        table.add_row(name, str(getattr(plan.settle, name)))
    yield table
    tiles = plan.hardware.tiles
    yield Text(f"{plan.hardware.name} settles in {tiles.settling} mode")


def _digital(plan: Plan) -> Iterator[RenderableType]:
    rows = list(reason_rows(plan))
    if not rows:
        yield Text("nothing")
        return
    table = _table("reason", "nodes", "MACs", "weights")
    for reason, nodes, macs, weights in rows:
        table.add_row(_name(reason), str(nodes), macs, weights)
    yield table


# --- time ------------------------------------------------------------------------------------------------


def _time(plan: Plan) -> Iterator[RenderableType]:
    for name, schedule in (("inference", plan.inference), ("training", plan.training)):
        line = timeline(schedule)
        yield Text(
            f"{name}: {engineering(line.makespan_s, 's')}, critical path "
            f"{engineering(line.critical_path_s, 's')}, {len(schedule.steps)} steps"
        )
        yield from _units(line)
        yield _critical(line)


def _units(line: Timeline) -> Iterator[RenderableType]:
    order = sorted(range(len(line.units)), key=lambda u: (-line.busy_s[u], u))
    table = _table("unit", "busy", "share", f"0 to {engineering(line.makespan_s, 's')}")
    bars = _bars(line)
    for unit in sorted(order[:ROWS]):
        busy = line.busy_s[unit]
        table.add_row(
            line.units[unit], engineering(busy, "s"), share(busy, line.makespan_s), Text(bars[unit])
        )
    yield table
    if len(order) > ROWS:
        most = engineering(line.busy_s[order[ROWS]], "s")
        yield Text(f"{len(order) - ROWS} more units, each busy for at most {most}")


def _bars(line: Timeline) -> list[str]:
    """For each unit, how much it works in each column of the makespan."""
    work = [[0.0] * BINS for _ in line.units]
    width = line.makespan_s / BINS if line.makespan_s else 1.0
    for start, end, units in zip(line.start_s, line.end_s, line.unit, strict=True):
        first, last = int(start / width), min(BINS - 1, int(end / width))
        for column in range(min(first, BINS - 1), last + 1):
            inside = min(end, (column + 1) * width) - max(start, column * width)
            for unit in units:
                work[unit][column] += max(0.0, inside)
    return ["".join(_shade(part / width) for part in row) for row in work]


def _shade(part: float) -> str:
    return SHADES[0] if part < 1e-9 else SHADES[min(len(SHADES) - 1, 1 + int(4 * part - 1e-9))]


def _critical(line: Timeline) -> Table:
    seconds: dict[StepKind, float] = {}
    for step in line.critical:
        kind = line.kinds[line.kind[step]]
        seconds[kind] = seconds.get(kind, 0.0) + line.end_s[step] - line.start_s[step]
    table = _table("critical path", "time", "share")
    for name, taken in sorted(seconds.items(), key=lambda entry: -entry[1]):
        table.add_row(name, engineering(taken, "s"), share(taken, line.critical_path_s))
    return table


# --- costs -----------------------------------------------------------------------------------------------


def _costs(plan: Plan) -> Iterator[RenderableType]:
    assumed = {c.name for c in constants(plan.hardware) if c.assumption}
    energies = {k: bool(assumed & {*names}) for k, names in energy_basis(plan.hardware).items()}
    times = {k: bool(assumed & {*names}) for k, names in time_basis(plan.hardware).items()}
    for name, schedule in (("inference", plan.inference), ("training", plan.training)):
        yield Text(f"{name} of {plan.batch} sample(s)")
        yield from _bill(plan, schedule, energies, times)
    yield Text("+ rests on constants that are assumptions; units work side by side")


def _bill(
    plan: Plan, schedule: Schedule, energies: dict[str, bool], times: dict[str, bool]
) -> Iterator[RenderableType]:
    found = bill(plan, schedule)
    total = sum((row.cost for row in found.kinds), Cost())
    yield _rows("by part", found.parts, total, {}, any(energies.values()))
    yield _rows("by kind of step", found.kinds, total, times, any(energies.values()))
    table = _table("energy", "joules", "share")
    for kind in ENERGIES:
        joules = getattr(total, kind)
        table.add_row(kind, engineering(joules, "J") + _mark(energies.get(kind)), share(joules, total.energy))
    yield table


def _rows(head: str, rows: tuple[Row, ...], total: Cost, times: dict[str, bool], assumed: bool) -> Table:
    table = _table(head, "steps", "time", "energy", "share", "D to A", "A to D")
    for row in rows:
        table.add_row(
            _name(row.name),
            str(row.steps),
            engineering(row.seconds, "s") + _mark(times.get(row.name)),
            engineering(row.energy, "J") + _mark(assumed),
            share(row.energy, total.energy),
            f"{row.cost.dac_count:,}",
            f"{row.cost.adc_count:,}",
        )
    return table


def _mark(assumed: bool | None) -> str:
    return "+" if assumed else ""


SECTIONS: dict[str, Callable[[Plan], Iterator[RenderableType]]] = {
    "summary": _summary,
    "flow": _flow,
    "tiles": _tiles,
    "time": _time,
    "costs": _costs,
    "settling": _settling,
    "digital": _digital,
}
"""In the order in which they are printed."""
