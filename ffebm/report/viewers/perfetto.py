"""Schedules in the trace event format that Perfetto (ui.perfetto.dev) and chrome://tracing open.

One process a schedule, one thread for units that always work together, one slice for a step on these, as long
as it occupies them, arrows where a transfer brings something. Times are whole nanoseconds, the resolution of
the format's readers; arguments have them in full.
"""

from collections.abc import Iterator, Mapping
from typing import TypeAlias

import msgspec

from ffebm.plan.plan import Plan
from ffebm.plan.schedule import ENERGY_KINDS, Schedule, Step
from ffebm.report.units import unit_ranges, working_together
from ffebm.visible import visible

Event: TypeAlias = "dict[str, int | float | str | dict[str, Argument]]"
Argument: TypeAlias = "int | float | str"
FIRST_THREAD = 1_000_000
"""Thread ids are unique over processes, as Perfetto wants them: a process takes this many."""


def trace(plan: Plan) -> bytes:
    """Both schedules of a plan as a JSON trace.

    Energy and conversions of a step stand on the slice of its first units, so that sums count them once.
    """
    events: list[Event] = []
    for process, (name, schedule) in enumerate(schedules(plan).items(), 1):
        events.extend(_metadata(plan, process, name, schedule))
        events.extend(_arrows(process, schedule))
        events.extend(_slices(plan, process, schedule))
    document = {
        "displayTimeUnit": "ns",
        "otherData": {
            "model": visible(plan.source.name),
            "hardware": visible(plan.hardware.name),
            "samples": plan.samples,
        },
        "traceEvents": events,
    }
    return msgspec.json.encode(document) + b"\n"


def schedules(plan: Plan) -> dict[str, Schedule]:
    """The schedules of a plan by name."""
    return {"inference": plan.inference, "training": plan.training}


def nanoseconds(seconds: float) -> int:
    """A time as the trace holds it."""
    return round(seconds * 1e9)


def _metadata(plan: Plan, process: int, name: str, schedule: Schedule) -> Iterator[Event]:
    text = f"{visible(plan.hardware.name)}: {name}"
    yield {"ph": "M", "name": "process_name", "pid": process, "args": {"name": text}}
    yield {"ph": "M", "name": "process_sort_index", "pid": process, "args": {"sort_index": process}}
    for position, (thread, units) in enumerate(_threads(process, schedule).items()):
        here: Event = {"ph": "M", "pid": process, "tid": thread}
        yield here | {"name": "thread_name", "args": {"name": unit_ranges(units)}}
        yield here | {"name": "thread_sort_index", "args": {"sort_index": position}}


def _threads(process: int, schedule: Schedule) -> dict[int, tuple[str, ...]]:
    """Units that always work together by their thread's id, in the order in which they are shown."""
    groups = working_together(step.units for step in schedule.steps)
    return {process * FIRST_THREAD + n: units for n, units in enumerate(groups, 1)}


def _by_unit(threads: Mapping[int, tuple[str, ...]]) -> dict[str, int]:
    return {unit: thread for thread, units in threads.items() for unit in units}


def _slices(plan: Plan, process: int, schedule: Schedule) -> Iterator[Event]:
    threads, makers = _threads(process, schedule), _makers(plan)
    thread_of = _by_unit(threads)
    names: dict[int | None, str] = {block.id: block.name for block in plan.blocks}
    for step in schedule.steps:
        block = names.get(_block_of(step, makers))
        start, end = nanoseconds(step.start_s), nanoseconds(step.free_s)
        taken = list(dict.fromkeys(thread_of[unit] for unit in step.units))
        counted = unit_ranges(threads[taken[0]])
        for thread in taken:
            yield {
                "ph": "X",
                "name": visible(f"{step.kind} {step.name}"),
                "cat": step.kind,
                "pid": process,
                "tid": thread,
                "ts": start / 1000,
                "dur": (end - start) / 1000,
                "args": _arguments(step, block, None if thread == taken[0] else counted),
            }


def _makers(plan: Plan) -> dict[str, int]:
    """The id of the block that makes each value, by the value's name."""
    return {
        value: node.block for node in plan.nodes if node.block is not None for value in node.outputs if value
    }


def _block_of(step: Step, makers: Mapping[str, int]) -> int | None:
    """The block that a step works for, or whose value it moves."""
    return makers.get(step.name) if step.block is None and step.kind == "transfer" else step.block


def _arguments(step: Step, block: str | None, counted: str | None) -> dict[str, Argument]:
    """What a slice tells of its step, whose cost may be `counted` on the slice of other units."""
    found: dict[str, Argument] = {"step": step.id, "units": unit_ranges(step.units)}
    if step.rows is not None:
        found["rows"] = f"{step.rows[0]} to {step.rows[1] - 1}"
    if step.begun and step.rows is not None:
        found["begins"] = f"{step.rows[1]} to {step.begun - 1}"
    if step.fused:
        found["first"] = visible(", ".join(step.fused))
    if step.sample:
        found["sample"] = step.sample
    if block is not None:
        found["block"] = block
    found |= {"start_s": _rounded(step.start_s), "end_s": _rounded(step.end_s)}
    if step.freed_s is not None:
        found["freed_s"] = _rounded(step.freed_s)
    if counted is not None:
        return found | {"cost": f"counted on {counted}"}
    cost = step.cost
    found["energy_joules"] = _rounded(cost.energy)
    for kind in ENERGY_KINDS:
        if getattr(cost, kind):
            found[f"{kind}_joules"] = _rounded(getattr(cost, kind))
    return found | {"dac_conversions": cost.dac_count, "adc_conversions": cost.adc_count}


def _rounded(value: float) -> float:
    """Twelve digits: readers take numbers with many more for others."""
    return float(f"{value:.12g}")


def _arrows(process: int, schedule: Schedule) -> Iterator[Event]:
    """From what a transfer waits for to the transfer, and from there to what waits for it.

    An arrow belongs to the slice that is open at its time. Of slices that start together readers open the
    longest first, and keep the order of the file otherwise; so arrows stand before slices without a length.
    """
    thread_of = _by_unit(_threads(process, schedule))
    number = process * FIRST_THREAD
    for before, after in transfers(schedule):
        number += 1
        end: Event = {"name": "transfer", "cat": "transfer", "id": number, "pid": process}
        for phase, step in (("s", before), ("f", after)):
            time = nanoseconds(step.start_s) / 1000
            there: Event = {"ph": phase, "tid": thread_of[step.units[0]], "ts": time}
            yield end | there | ({"bp": "e"} if phase == "f" else {})


def transfers(schedule: Schedule) -> Iterator[tuple[Step, Step]]:
    """Pairs of steps with a length, one of them a transfer, of which the second waits for the first."""
    for step in schedule.steps:
        for position in step.after:
            before = schedule.steps[position]
            if "transfer" in {before.kind, step.kind} and _length(before) and _length(step):
                yield before, step


def _length(step: Step) -> int:
    return nanoseconds(step.end_s) - nanoseconds(step.start_s)
