"""A plan's answers in the terminal, section by section: the page's own data as tables.

In a pipe everything is plain characters, and long tables and names wrap: nothing is cut off.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from rich.box import SIMPLE_HEAD, Box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from ffebm.plan.memory.held import Content
from ffebm.plan.schedule import Cost, one_after_the_other
from ffebm.plan.summary import binary, share
from ffebm.plan.twin import COMPUTED
from ffebm.report.facts.bill import Bill, Row
from ffebm.report.facts.choices import option_text, remarkable
from ffebm.report.facts.facts import Facts, quantity
from ffebm.report.facts.storage import Storage
from ffebm.report.facts.timeline import Timeline, layer_bands
from ffebm.report.plain import plain_fields
from ffebm.report.terminal.activity import activity, legend, words
from ffebm.report.terminal.diagram import diagram
from ffebm.report.terminal.marks import ENERGIES, MARK, Marks
from ffebm.report.units import ranges, unit_ranges, working_together
from ffebm.visible import visible

ROWS = 24
"""Rows that a long table shows unless all are asked for."""
MEMORY_ROWS = 8
"""Largest buffers that are shown unless all are asked for."""
COLUMNS = 6
"""Kinds of energy that stand side by side in 80 columns."""
UNITS_WIDTH = 24
"""Characters of names of units that stand in one line beside what they do."""
WIDE = 180
"""Columns from which the table of parts also holds energies by kind."""
PLAIN = Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)
"""Heads underlined by dashes: the tables of a pipe."""


@dataclass(frozen=True)
class View:
    """What is shown, where, and how much of it.

    Attributes:
        facts: The page's data.
        console: Where it is printed.
        whole: Show all rows of long tables, and every part of a large model.
    """

    facts: Facts
    console: Console
    whole: bool = False

    @cached_property
    def marks(self) -> Marks:
        """Writes quantities."""
        return Marks(self.facts)

    def table(self, *heads: str, texts: int = 1) -> Table:
        """A table; its first columns hold text that wraps, the others figures that do not."""
        box = SIMPLE_HEAD if self.console.is_terminal else PLAIN
        table = Table(box=box, pad_edge=False, show_edge=False, header_style="bold")
        for place, head in enumerate(heads):
            if place < texts:
                table.add_column(head, overflow="fold")
            else:
                table.add_column(head, justify="right", no_wrap=True)
        return table


def _name(text: str) -> Text:
    return Text(visible(text), overflow="fold")


def _count(number: int) -> str:
    return f"{number:,}"


# --- what it is --------------------------------------------------------------------------------------


def _summary(view: View) -> Iterator[RenderableType]:
    facts = view.facts
    yield _name(f"{facts.source.name} on {facts.hardware.name}")
    yield _name(f"batch of {facts.batch}, {facts.options.blocks}")
    table = view.table("figure", "value", "", texts=3)
    for figure in facts.figures:
        table.add_row(figure.name, view.marks.figure(figure), figure.note)
        for twin in figure.twin:
            table.add_row("", "", twin)
    yield table
    assumed = sum(constant.assumption for constant in facts.constants)
    yield Text()
    used = view.table("powered", "units", "area", "busy, inference", "training")
    for part in facts.utilisation:
        busy = ["-" if value is None else f"{100 * value:.1f} %" for value in (part.inference, part.training)]
        area = f"{part.area_used:.4g} of {part.area:.4g} mm²"
        used.add_row(f"{part.name}, {part.kind}", f"{part.used:,} of {part.count:,}", area, *busy)
    yield used
    yield Text(f"{MARK} rests on assumptions: {assumed} of {len(facts.constants)} constants are (see costs)")
    yield from (_name(f"note: {note}") for note in facts.notes)


def _flow(view: View) -> Iterator[RenderableType]:
    yield from diagram(view.facts, view.console, whole=view.whole)


def _tiles(view: View) -> Iterator[RenderableType]:
    tiles = view.facts.tiles
    if not tiles:
        yield Text("none in use")
        return
    shown = tiles if view.whole else tiles[:ROWS]
    table = view.table("held for", "tile", "cells", "used", "pieces")
    for tile in shown:
        blocks = {block for piece in tile.pieces for block in piece.blocks}
        held = f"{'block' if len(blocks) == 1 else 'blocks'} {ranges(blocks)}"
        used = share(tile.used, tile.rows * tile.cols)
        table.add_row(held, str(tile.id), f"{tile.rows} × {tile.cols}", used, str(len(tile.pieces)))
    if len(shown) < len(tiles):
        rest = tiles[len(shown) :]
        used = share(sum(tile.used for tile in rest), sum(tile.rows * tile.cols for tile in rest))
        pieces = sum(len(tile.pieces) for tile in rest)
        table.add_row(f"{len(rest)} more tiles: --all", "", "", used, str(pieces))
    yield table
    room = sum(tile.rows * tile.cols for tile in tiles)
    used = share(sum(tile.used for tile in tiles), room)
    yield Text(f"{len(tiles)} of {view.facts.hardware.tile_count} tiles in use, {used} of their cell pairs")


def _settling(view: View) -> Iterator[RenderableType]:
    machine = view.facts.hardware
    for group in machine.analog:
        relaxation = group.relaxation
        when = "in every sweep"
        if relaxation is not None:
            assumed = any(q.assumption for q in (relaxation.time_constant, relaxation.time_constants))
            when = f"once a phase of {quantity(relaxation.seconds, 's')}{MARK if assumed else ''}"
            if relaxation.accuracy is not None:
                share_left = f"{100 * relaxation.accuracy.value:g} %"
                when = f"once a phase, which comes to within {share_left} of where the block goes"
        named = machine.name if len(machine.analog) == 1 else f"{group.name} of {machine.name}"
        yield _name(f"{named} settles in {group.settling} mode: converters work {when}")
    coupled = [block for block in view.facts.blocks if len(block.layers) > 1]
    yield Text(f"blocks of more than one layer: {len(coupled)} of {len(view.facts.blocks)}")
    table = view.table("setting", "value", "", texts=3)
    for name, value in plain_fields("", view.facts.settle):
        table.add_row(name, value, SETTINGS[name])
    yield table


SETTINGS = {
    "free_sweeps": "most sweeps of a free phase; one updates every layer once",
    "nudged_sweeps": "most sweeps of a nudged phase",
    "tol": "residual at which settling stops; - runs all sweeps",
    "start": "state in which the free phase starts",
    "relaxation": "step towards the update; below 1 damps, above over-relaxes",
    "anderson": "states that Anderson acceleration remembers; 0 is off",
    "winners": "whether winners of a max-pooling that tie share what comes back",
    "strict": "a block that does not settle is an error",
    "settling": "simulated by sweeps, or as a circuit in continuous time",
}
"""What each setting of `Settle` means."""


def _digital(view: View) -> Iterator[RenderableType]:
    if not view.facts.reasons:
        yield Text("nothing: every node runs on tiles")
        return
    table = view.table("reason", "nodes", "MACs", "weights")
    for reason in view.facts.reasons:
        table.add_row(_name(reason.text), _count(reason.nodes), reason.share, reason.weight_share)
    yield table


def _options(view: View) -> Iterator[RenderableType]:
    """What each block could have been, and what that would cost."""
    found = view.facts.choices
    if found is None or not found.blocks:
        yield Text("nothing to choose: no block could be on tiles")
        return
    yield Text(f"one inference, with what is fetched for it; for {found.objective}; * is what was taken")
    table = view.table("block", "option", "tiles", "time", "energy", texts=2)
    shown = found.blocks if view.whole else found.blocks[:ROWS]
    for choice in shown:
        rows = range(len(choice.options)) if view.whole else remarkable(choice)
        for place, number in enumerate(rows):
            option = choice.options[number]
            table.add_row(
                _name(choice.name) if place == 0 else "",
                _name(f"{'*' if number == choice.taken else ' '} {option_text(option)}"),
                f"{option.tiles:.3g}",
                *view.marks.price(option),
            )
    yield table
    if not view.whole:
        left = f"; {len(found.blocks) - len(shown)} more blocks" if len(shown) < len(found.blocks) else ""
        yield Text(f"of each: digital, the quickest, that of least energy and what was taken{left}: --all")


# --- time --------------------------------------------------------------------------------------------


def _time(view: View) -> Iterator[RenderableType]:
    for name, line in (("inference", view.facts.inference), ("training step", view.facts.training)):
        yield Text(f"{name} of {view.facts.batch} sample(s), {_count(len(line.kind))} steps", "bold")
        lasts, critical, bound, interval = (
            view.marks.seconds(value, line.kinds)
            for value in (line.makespan_s, line.critical_path_s, line.lower_bound_s, line.interval_s)
        )
        yield Text(
            f"lasts {lasts}; critical path {critical}, busiest unit {line.busiest_unit or '-'}, "
            f"{line.ratio:.3f} × lower bound {bound} ({line.lower_bound})"
        )
        between = "between runs in flight" if line is view.facts.inference else "for each further run in it"
        yield Text(f"{interval} {between}, limited by {line.interval_limit or '-'}")
        if line.interval_turns:
            yield _name(f"no unit does all of that: {', '.join(line.interval_turns)} take turns")
        yield Text()
        yield from _units(view, line)
        yield from _critical(view, line)
        yield from _layers(view, line)
        if line is not view.facts.training:
            yield Text()


def _memory(view: View) -> Iterator[RenderableType]:
    facts = view.facts
    for name, held in (("inference", facts.inference_storage), ("training step", facts.training_storage)):
        yield Text(f"{name} of {facts.batch} sample(s), {_count(len(held.size))} buffers", "bold")
        table = view.table("memory", "buffers", "peak", "bound", "capacity", "peak / bound")
        for use in held.uses:
            inside = sum(held.homes[home][0] == use.memory for home in held.home)
            sizes = [binary(size) for size in (use.peak, use.bound, use.capacity)]
            table.add_row(use.memory, _count(inside), *sizes, f"{use.peak / use.bound:.3f}")
        yield table
        for way in held.spills:
            yield Text(
                f"{_count(way.count)} buffers found no room in {way.wanted}, and in {way.memory} move "
                f"{binary(way.traffic)} for {quantity(way.joules, 'J')}"
            )
        if held.unsized:
            yield Text(f"{_count(held.unsized)} values of unknown size are not counted")
        yield from _largest(view, held)
        if held is not facts.training_storage:
            yield Text()


def _largest(view: View, held: Storage) -> Iterator[RenderableType]:
    """The largest buffers: what they hold, where, and from which step to which."""
    order = sorted(range(len(held.size)), key=lambda n: (-held.size[n], n))
    shown = order if view.whole else order[:MEMORY_ROWS]
    yield Text()
    table = view.table("largest buffers", "of", "in", "size", "from byte", "steps", texts=3)
    for n in shown:
        memory, unit = held.homes[held.home[n]]
        steps = f"{max(0, held.first[n]):,} to {held.last[n]:,}"
        name, content = _name(held.names[held.name[n]]), HELD[held.contents[held.content[n]]]
        table.add_row(
            name, content, f"{memory} of {unit}", binary(held.size[n]), _count(held.offset[n]), steps
        )
    if len(shown) < len(order):
        table.add_row(f"{_count(len(order) - len(shown))} smaller ones: --all", "", "", "", "", "")
    yield table


HELD: dict[Content, str] = {
    "value": "value",
    "error": "error current",
    "plus": "state nudged up",
    "minus": "state nudged down",
    "gradient": "gradient",
}
"""What a buffer holds, in words."""


def _units(view: View, line: Timeline) -> Iterator[RenderableType]:
    """What units do when; those that always work together in one row."""
    number = {name: unit for unit, name in enumerate(line.units)}
    groups = working_together([line.units[unit] for unit in some] for some in line.unit_sets)
    first = [number[group[0]] for group in groups]
    order = sorted(range(len(groups)), key=lambda group: (-line.busy_s[first[group]], group))
    shown = sorted(order if view.whole else order[:ROWS])
    names = {group: unit_ranges(groups[group]) for group in shown}
    busy = {group: view.marks.seconds(line.busy_s[first[group]], line.kinds) for group in shown}
    # what the other columns, three gaps of three and the ends of the bar leave; longer names wrap
    widths = [max(4, *map(len, column)) for column in (names.values(), busy.values())]
    taken = min(widths[0], UNITS_WIDTH) + widths[1] + len("100.0 %") + 9 + 2
    bars = activity(line, max(16, view.console.width - taken))
    table = view.table("unit", "busy", "share", f"0 to {quantity(line.makespan_s, 's')}")
    for group in shown:
        part = share(line.busy_s[first[group]], line.makespan_s)
        table.add_row(names[group], busy[group], part, Text(f"|{bars[first[group]]}|"))
    yield table
    yield Text(legend(line.kinds))
    lagging = sum(line.lags_s[lag] > 0 for lag in line.lag)
    if lagging:
        until = f"up to {quantity(max(line.lags_s), 's')} before they end"
        yield Text(f"units of {_count(lagging)} steps are free {until}, while cores read their last products")
    if len(shown) < len(order):
        most = quantity(line.busy_s[first[order[ROWS]]], "s")
        left = sum(len(groups[group]) for group in order[ROWS:])
        yield Text(f"{_count(left)} more units, each busy for at most {most}: --all")


def _critical(view: View, line: Timeline) -> Iterator[RenderableType]:
    """What the longest chain is made of: by kind, and its longest steps in order."""
    lengths = dict(line.along_critical())
    yield Text()
    table = view.table("critical path", "steps", "time", "share")
    chains: dict[str, list[float]] = {}
    for step, seconds in lengths.items():
        chains.setdefault(line.kinds[line.kind[step]], []).append(seconds)
    for kind, taken in sorted(chains.items(), key=lambda entry: -sum(entry[1])):
        spent = sum(taken)
        time = view.marks.seconds(spent, [kind])
        table.add_row(words(kind), _count(len(taken)), time, share(spent, line.critical_path_s))
    yield table
    longest = sorted(lengths, key=lambda step: -lengths[step])
    shown = {*(longest if view.whole else longest[:8])}
    yield Text()
    table = view.table("its longest steps", "", "on", "starts", "lasts", texts=3)
    for step in (step for step in line.critical if step in shown):
        kind = line.kinds[line.kind[step]]
        units = unit_ranges(line.units[unit] for unit in line.unit_sets[line.unit[step]])
        start, lasts = quantity(line.start_s[step], "s"), view.marks.seconds(lengths[step], [kind])
        table.add_row(_name(line.names[line.name[step]]), words(kind), units, start, lasts)
    if len(shown) < len(longest):
        rest = sum(lengths[step] for step in longest if step not in shown)
        table.add_row(f"{len(longest) - len(shown)} shorter steps: --all", "", "", "", quantity(rest, "s"))
    yield table


def _layers(view: View, line: Timeline) -> Iterator[RenderableType]:
    """How layers are cut into bands, those first that limit the schedule most."""
    order = sorted(layer_bands(line), key=lambda layer: -layer.limits_s)
    shown = order if view.whole else order[:ROWS]
    yield Text()
    table = view.table("layer", "bands", "rows", "starts", "ends", "limits")
    for layer in shown:
        limits = share(layer.limits_s, line.makespan_s) if layer.limits_s else ""
        if layer.bands:
            times = [quantity(seconds, "s") for seconds in (layer.start_s, layer.end_s)]
            table.add_row(
                _name(layer.name),
                _count(layer.bands),
                _count(layer.rows) if layer.rows else "all",
                *times,
                limits,
            )
        else:
            table.add_row("transfers, loss and updates", "", "", "", "", limits)
    if len(shown) < len(order):
        table.add_row(f"{_count(len(order) - len(shown))} that limit no more: --all", "", "", "", "", "")
    yield table
    yield Text("limits: part of the time that goes to it in a chain of steps without a gap")


# --- costs -------------------------------------------------------------------------------------------


def _costs(view: View) -> Iterator[RenderableType]:
    facts = view.facts
    for name, bill in (("inference", facts.inference_bill), ("training step", facts.training_bill)):
        yield Text(f"{name} of {facts.batch} sample(s)", "bold")
        for part in _bill(view, bill):
            yield part
            yield Text()
    yield Text("time: lengths of steps together; units work side by side")
    yield from _here_and_there(view)
    assumed = [constant for constant in facts.constants if constant.assumption]
    if assumed:
        yield Text(f"{MARK} rests on at least one of these assumptions")
        yield Text()
        table = view.table("constant", "value", "where it comes from", texts=3)
        for constant in assumed:
            unit = "" if constant.unit == "1" else f" {constant.unit}"
            table.add_row(constant.name, f"{constant.value:.4g}{unit}", _name(constant.source))
        yield table


def _here_and_there(view: View) -> Iterator[RenderableType]:
    """What settling takes of each block, beside what its own work would take on digital units."""
    facts, computed = view.facts, view.facts.twin.get(COMPUTED)
    if computed is None or not facts.blocks:
        return
    line = facts.inference
    free: dict[str, list[int]] = {}
    for n, kind in enumerate(line.kind):
        if line.kinds[kind] == "free" and line.sample[n] == 0:
            free.setdefault(line.names[line.name[n]], []).append(n)
    names = list(computed.blocks) if view.whole else list(computed.blocks)[:ROWS]
    yield Text()
    table = view.table(
        "block, settling", "time", f"{COMPUTED} digital", "energy", f"{COMPUTED} digital", "loses"
    )
    for name in names:
        seconds, joules = computed.blocks[name]
        bands = free[name]
        times = [(line.free_s[n] - line.start_s[n], line.end_s[n] - line.free_s[n]) for n in bands]
        ours = view.marks.seconds(one_after_the_other(times), ["free"])
        spent = view.marks.joules(sum((line.costs[line.cost[n]] for n in bands), Cost()))
        loses = "both" if name in computed.losing else ""
        table.add_row(name, ours, quantity(seconds, "s"), spent, quantity(joules, "J"), loses)
    if len(names) < len(computed.blocks):
        table.add_row(f"{len(computed.blocks) - len(names)} more: --all", "", "", "", "", "")
    yield table


def _bill(view: View, bill: Bill) -> Iterator[RenderableType]:
    kinds = [row.name for row in bill.kinds]
    total = _together("together", bill.kinds)
    rows = sorted(bill.parts, key=lambda row: -row.energy)
    if not view.whole and len(rows) > ROWS:
        rows = [*rows[:ROWS], _together(f"{len(rows) - ROWS} more: --all", rows[ROWS:])]
    rows.append(total)
    if view.console.width >= WIDE:
        yield _rows(view, "by part", [(row, kinds) for row in rows], total, energies=True)
    else:
        yield _rows(view, "by part", [(row, kinds) for row in rows], total)
        yield from _energies(view, rows, total.cost)
    by_kind = [(row, [row.name]) for row in sorted(bill.kinds, key=lambda row: -row.energy)]
    yield _rows(view, "by kind", [*by_kind, (total, kinds)], total)
    table = view.table("by kind of energy", "energy", "share")
    for kind in _spent(total.cost):
        energy = view.marks.joules_of(kind, total.cost)
        table.add_row(ENERGIES[kind], energy, share(getattr(total.cost, kind), total.energy))
    yield table


def _together(name: str, rows: Sequence[Row]) -> Row:
    cost = sum((row.cost for row in rows), Cost())
    return Row(
        name=name,
        block=None,
        segment=None,
        steps=sum(row.steps for row in rows),
        seconds=sum(row.seconds for row in rows),
        cost=cost,
        energy=cost.energy,
    )


def _rows(
    view: View, head: str, rows: list[tuple[Row, list[str]]], total: Row, *, energies: bool = False
) -> Table:
    kinds = _spent(total.cost) if energies else []
    labels = [ENERGIES[kind] for kind in kinds]
    table = view.table(head, "steps", "time", "energy", "share", *labels, "D/A count", "A/D count")
    for row, behind in rows:
        table.add_row(
            words(row.name),
            _count(row.steps),
            view.marks.seconds(row.seconds, behind),
            view.marks.joules(row.cost),
            share(row.energy, total.energy),
            *(view.marks.joules_of(kind, row.cost) for kind in kinds),
            _count(row.cost.dac_count),
            _count(row.cost.adc_count),
        )
    return table


def _spent(cost: Cost) -> list[str]:
    """Kinds of energy that something is spent on."""
    return [kind for kind in ENERGIES if getattr(cost, kind)]


def _energies(view: View, rows: list[Row], total: Cost) -> Iterator[Table]:
    """Energies by kind, in as many tables as the width asks for."""
    kinds = _spent(total)
    for first in range(0, len(kinds), COLUMNS):
        shown = kinds[first : first + COLUMNS]
        table = view.table("energy", *(ENERGIES[kind] for kind in shown))
        for row in rows:
            table.add_row(row.name, *(view.marks.joules_of(kind, row.cost) for kind in shown))
        yield table


SECTIONS: dict[str, Callable[[View], Iterator[RenderableType]]] = {
    "summary": _summary,
    "flow": _flow,
    "tiles": _tiles,
    "time": _time,
    "memory": _memory,
    "costs": _costs,
    "settling": _settling,
    "options": _options,
    "digital": _digital,
}
"""In the order in which they are printed."""
