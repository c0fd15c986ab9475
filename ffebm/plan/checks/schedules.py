"""Contradictions of a schedule: times, units, who waits for whom, rows, samples."""

import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence

from ffebm.graph.energy_block import EnergyBlock
from ffebm.plan.memory.work import waits_for_units
from ffebm.plan.schedule import Schedule, Step
from ffebm.plan.schema import PlanData

PHASES = frozenset({"free", "nudged", "contrast"})
"""What a step does that works for a block."""
ROUNDING = 1e-9
"""Part of a time that sums in another order may differ by."""


def schedule_problems(schedule: Schedule, units: Collection[str], n_blocks: int) -> Iterator[str]:
    """Contradictions, as text.

    Args:
        schedule: Of a plan.
        units: What the machine has.
        n_blocks: How many energy blocks the plan has.
    """
    yield from number_problems(schedule)
    free: dict[str, float] = {}
    for position, step in enumerate(schedule.steps):
        if step.id != position or any(not 0 <= before < len(schedule.steps) for before in step.after):
            yield f"step {step.id} stands at position {position}, or waits for an unknown step"
            return
        yield from _step_problems(step, n_blocks)
        for unit in step.units:
            if unit not in units:
                yield f"step {step.id} runs on unknown unit {unit!r}"
            if free.get(unit, 0.0) > step.start_s:
                yield f"step {step.id} starts before {unit} is free"
            free[unit] = step.free_s
        if not all(_has_waited(step, schedule.steps[before]) for before in step.after):
            yield f"step {step.id} starts before a step that it waits for has ended"
    if schedule.makespan_s != max((step.end_s for step in schedule.steps), default=0.0):
        yield f"a schedule takes {schedule.makespan_s} s, which is not when its last step ends"
    if schedule.lower_bound_s > schedule.makespan_s * (1 + ROUNDING):
        yield f"a schedule takes {schedule.makespan_s} s, less than its bound of {schedule.lower_bound_s} s"
    yield from _interval_problems(schedule, units)


def band_problems(schedule: Schedule) -> Iterator[str]:
    """Bands of an inference that do not follow each other, and what is done twice, as text."""
    done: dict[tuple[str, str, int], int | None] = {}
    begun: dict[tuple[str, str, int], int] = {}
    for step in schedule.steps:
        if step.kind not in {"digital", "free"}:
            continue
        for name in step.nodes:
            what = step.kind, name, step.sample
            until = done.get(what, 0)
            if step.rows is None and what in done:
                yield f"step {step.id} runs {name!r}, which is unknown or has run already"
            elif step.rows is not None and step.rows[0] != until:
                made = "all" if until is None else f"those before {until}"
                yield f"step {step.id} makes rows {step.rows} of {name!r}, of which {made} are made"
            done[what] = None if step.rows is None else step.rows[1]
            begun[what] = max(begun.get(what, 0), step.begun)
    for (kind, name, sample), behind in begun.items():
        until = done[kind, name, sample]
        if until is not None and behind > until:
            yield f"rows up to {behind} of {name!r} are begun, of which there are {until}"


def begun_problems(blocks: Sequence[EnergyBlock], schedule: Schedule) -> Iterator[str]:
    """Bands whose reads make a part of further rows, which they do not say, as text.

    Vectors of a linear map are read row by row, each with as many conversions. So those that bands are billed
    tell how many vectors they have read, and how many rows have one among these. Where several maps drive a
    layer, or a transposed convolution, conversions do not tell whose rows they are of.

    Args:
        blocks: Of the plan, which hold.
        schedule: Bands of it follow each other.
    """
    bands: dict[tuple[int, int], list[Step]] = defaultdict(list)
    for step in schedule.steps:
        if step.kind == "free" and step.rows is not None and step.block is not None:
            bands[step.block, step.sample].append(step)
    for (block, _), steps in bands.items():
        yield from _begun_in_block(blocks[block], steps)


def _begun_in_block(block: EnergyBlock, bands: Sequence[Step]) -> Iterator[str]:
    """The same of the bands of a block for one sample, in order."""
    driving = [interaction for layer in block.layers for interaction in layer.interactions]
    linear = driving[0].linear if len(driving) == 1 else None
    if linear is None or linear.op == "ConvTranspose":
        return
    pool, shape = driving[0].pool, driving[0].linear_shape
    rows = shape[0] if linear.op == "MatMul" else shape[1]
    stride, pad = (1, 0) if pool is None else (pool.strides[0], pool.pads[0])
    whole, read = sum(_conversions(step) for step in bands), 0
    ends = [step.rows[1] for step in bands if step.rows is not None]
    for step, end in zip(bands, ends, strict=True):
        read += _conversions(step)
        behind = end
        while behind < ends[-1] and max(0, behind * stride - pad) * whole < read * rows:  # one of its vectors
            behind += 1
        if max(step.begun, end) < behind:
            told = f"up to {step.begun}" if step.begun else "of its own"
            yield f"step {step.id} reads for rows of {step.name!r} up to {behind}, and says {told}"


def _conversions(step: Step) -> int:
    return step.cost.dac_count or step.cost.adc_count


def lag_problems(plan: PlanData) -> Iterator[str]:
    """Steps that free their units before they have ended, where the machine does not allow it, as text.

    Arrays in cores are read again after their read, so for less than one; where blocks have an array in
    common, or read it backwards too, as in training, not before the end.

    Args:
        plan: Each of its schedules holds.
    """
    lagging = [(plan.inference, step) for step in plan.inference.steps if step.freed_s is not None]
    lagging += [(plan.training, step) for step in plan.training.steps if step.freed_s is not None]
    held: dict[str, set[int]] = defaultdict(set)
    if lagging:
        users: dict[str, list[int]] = defaultdict(list)
        for block in plan.blocks:
            for weight in block.weights():
                users[weight].append(block.id)
        for tile, piece in plan.pieces():
            held[f"tile{tile.id}"].update(users[piece.weight])
    for schedule, step in lagging:
        group = plan.hardware.analog_group(plan.blocks[step.block or 0].group)
        common = [unit for unit in step.units if len(held[unit]) > 1]
        if schedule is plan.training:
            yield f"step {step.id} of a training step frees its units before it ends; there none does"
        elif group.core is None or common:
            yield f"step {step.id} frees its units before it ends; only arrays of one block in cores are free"
        elif step.lag > group.tile.read_seconds * (1 + ROUNDING):
            yield f"step {step.id} frees its units {step.lag} s before it ends, longer than a read"


def _has_waited(step: Step, before: Step) -> bool:
    """Whether a step starts no earlier than another one lets it."""
    return (before.free_s if waits_for_units(step, before) else before.end_s) <= step.start_s


def _step_problems(step: Step, n_blocks: int) -> Iterator[str]:
    """Contradictions of a step alone."""
    if not step.start_s <= step.end_s:
        yield f"step {step.id} runs from {step.start_s} s to {step.end_s} s"
    if step.freed_s is not None:
        if not step.start_s < step.freed_s < step.end_s:
            times = f"from {step.start_s} s to {step.end_s} s"
            yield f"step {step.id} runs {times} and frees its units at {step.freed_s} s, which is not between"
        if step.kind != "free":
            yield f"step {step.id} is no free phase, and frees its units before it ends"
    known = step.block in range(n_blocks) if step.block is not None else step.kind not in PHASES
    if not known:
        yield f"step {step.id} works for block {step.block}, which there is not"
    if step.fused and step.kind != "digital":
        yield f"step {step.id} is no digital one, and does further nodes: {', '.join(step.fused)}"
    if step.begun and (step.kind != "free" or step.rows is None or step.begun <= step.rows[1]):
        yield f"step {step.id} begins rows up to {step.begun}, which are not behind {step.rows} of a block"
    if step.sample < 0 or (step.rows is not None and not 0 <= step.rows[0] < step.rows[1]):
        yield f"step {step.id} works for sample {step.sample}, rows {step.rows}"


def _interval_problems(schedule: Schedule, units: Collection[str]) -> Iterator[str]:
    interval, makespan = schedule.interval_s, schedule.makespan_s
    # a further sample takes no time where all that takes time is done once
    each = any(s.end_s > s.start_s for s in schedule.steps if s.kind not in {"update", "transfer"})
    if interval > makespan * (1 + ROUNDING) or (each and not interval):
        yield f"samples follow each other after {interval} s, and one takes {makespan} s"
    if schedule.steps and schedule.interval_unit not in units:
        yield f"unknown unit {schedule.interval_unit!r} limits how fast samples follow each other"
    done = {name for step in schedule.steps for name in step.nodes}
    for name in schedule.interval_turns:
        if name not in done:
            yield f"{name!r} limits how fast samples follow each other, and no step does anything to it"


def number_problems(schedule: Schedule) -> Iterator[str]:
    """Times and costs that are no finite numbers of at least 0, as text."""
    for name in ("makespan_s", "critical_path_s", "busiest_s", "lower_bound_s", "interval_s", "leakage"):
        if not 0 <= getattr(schedule, name) < math.inf:
            yield f"a schedule has a {name} of {getattr(schedule, name)}"
    for step in schedule.steps:
        if not (0 <= step.start_s < math.inf and 0 <= step.end_s < math.inf):
            yield f"step {step.id} ({step.name}) runs from {step.start_s} s to {step.end_s} s"
        for name in step.cost.__struct_fields__:
            if not 0 <= getattr(step.cost, name) < math.inf:
                yield f"step {step.id} ({step.name}) costs {getattr(step.cost, name)} in {name}"
