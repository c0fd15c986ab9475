"""Contradictions of where values lie: against the schedules, the machine's memories, and each other."""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from ffebm.hardware.description import Hardware
from ffebm.plan.memory.dataflow import Dataflow
from ffebm.plan.memory.demand import bound_of, demand
from ffebm.plan.memory.held import HOST
from ffebm.plan.memory.levels import capacity, host_unit, levels_of, scratchpads
from ffebm.plan.memory.lives import Life, lives, moments, spans
from ffebm.plan.memory.memory_plan import Buffer, MemoryPlan, Spill
from ffebm.plan.memory.plan_flow import plan_flow
from ffebm.plan.memory.sizes import Sizes
from ffebm.plan.schedule import Schedule, Step
from ffebm.plan.schema import PlanData


def memory_problems(plan: PlanData) -> Iterator[str]:
    """Contradictions of both schedules' buffers, as text; the schedules themselves hold."""
    flow = plan_flow(plan)
    for name, schedule, memory in (
        ("inference", plan.inference, plan.memory.inference),
        ("training", plan.training, plan.memory.training),
    ):
        for problem in _of_one(plan.hardware, flow, schedule, memory):
            yield f"memory of {name}: {problem}"


def _of_one(hardware: Hardware, flow: Dataflow, schedule: Schedule, memory: MemoryPlan) -> Iterator[str]:
    unknown = next(_name_problems(hardware, flow, schedule.steps, memory), None)
    if unknown is not None:
        yield unknown
        return  # what follows looks names up
    beside = {(buffer.content, buffer.name, buffer.at) for buffer in memory.buffers if buffer.at != HOST}
    found = lives(flow, schedule.steps, lambda content, name, block: (content, name, block) in beside)
    sizes = Sizes(flow, hardware.host.fp32.value_bits, found)
    right = {held: life for held, life in found.items() if sizes.each(held)}
    listed = [buffer.held for buffer in memory.buffers]
    wanted, known = list(right), {*listed}
    if listed != wanted:
        odd = [held for held in (*wanted, *listed) if held not in right or held not in known]
        # else one stands elsewhere, or twice
        odd = odd or [held for at, held in enumerate(listed) if wanted[at : at + 1] != [held]]
        yield f"its buffers are not what steps read and write, as for {odd[0].name!r}"
        return
    for buffer in memory.buffers:
        yield from _buffer_problems(buffer, right[buffer.held], sizes)
        yield from _place_problems(hardware, flow, schedule.steps, buffer)
    yield from _together_problems(hardware, flow, schedule.steps, memory)
    yield from _spill_problems(hardware, memory)
    if memory.unsized != tuple(name for name, count in flow.elements.items() if not count):
        yield "the values without a known size are others"


def _name_problems(
    hardware: Hardware, flow: Dataflow, steps: Sequence[Step], memory: MemoryPlan
) -> Iterator[str]:
    """Names that stand for nothing."""
    memories = {held.name for held in hardware.memory}
    blocks = {block.name for block in flow.blocks}
    digital = (step for step in steps if step.kind in {"digital", "digital_backward"})
    for number, name in ((step.id, name) for step in digital for name in step.nodes):
        if name not in flow.nodes:
            yield f"step {number} runs {name!r}, which is no digital node"
    entries: tuple[Buffer | Spill, ...] = (*memory.buffers, *memory.spills)
    for entry in entries:
        if entry.memory not in memories:
            yield f"{entry.name!r} lies in {entry.memory!r}, which is no memory of the machine"
        if entry.at and entry.at not in blocks:
            yield f"{entry.name!r} lies beside the tiles of {entry.at!r}, which is no block"
    for use in memory.uses:
        if use.memory not in memories:
            yield f"{use.memory!r} is no memory of the machine"
    for spill in memory.spills:
        if spill.wanted not in memories:
            yield f"{spill.name!r} is wanted in {spill.wanted!r}, which is no memory of the machine"


def _buffer_problems(buffer: Buffer, life: Life, sizes: Sizes) -> Iterator[str]:
    """A buffer is there from the first write to the last read, and as large as what it holds."""
    if (buffer.first, buffer.last) != (life.first, life.last):
        yield (
            f"the buffer of {buffer.name!r} lives from step {buffer.first} to {buffer.last}; it is written "
            f"from step {life.first} on and needed up to {life.last}"
        )
    if buffer.size != sizes.each(buffer.held):
        yield f"the buffer of {buffer.name!r} has {buffer.size} bytes, not {sizes.each(buffer.held)}"


def _place_problems(
    hardware: Hardware, flow: Dataflow, steps: Sequence[Step], buffer: Buffer
) -> Iterator[str]:
    """A buffer lies in a memory of its unit, and not over its end."""
    if buffer.at != HOST:
        group = next(block.group for block in flow.blocks if block.name == buffer.at)
        allowed = {(memory.name, buffer.at) for memory in scratchpads(hardware, group)}
    else:
        units = steps[buffer.first].units if 0 <= buffer.first < len(steps) else ()
        makers = [unit for unit in units if unit.startswith("digital")]
        levels = levels_of(hardware, makers[0] if makers else host_unit(hardware))
        allowed = {(level.memory.name, level.unit) for level in levels}
    if (buffer.memory, buffer.unit) not in allowed:
        yield f"the buffer of {buffer.name!r} lies in {buffer.memory} of {buffer.unit}, which it cannot reach"
    room = next(capacity(memory) for memory in hardware.memory if memory.name == buffer.memory)
    if buffer.offset + buffer.size > room:
        yield (
            f"the buffer of {buffer.name!r} ends at byte {buffer.offset + buffer.size} of {buffer.memory}, "
            f"which has {room}"
        )


def _spill_problems(hardware: Hardware, memory: MemoryPlan) -> Iterator[str]:
    """What a spill takes is what its bits take in the memory where it lies."""
    bits = {held.name: held.bit_energy.value for held in hardware.memory}
    for spill in memory.spills:
        joules = 8 * spill.traffic * bits[spill.memory]
        if not math.isclose(spill.joules, joules, rel_tol=1e-9):
            yield f"the spill of {spill.name!r} takes {spill.joules:g} J; its bits take {joules:g} J"


def _together_problems(
    hardware: Hardware, flow: Dataflow, steps: Sequence[Step], memory: MemoryPlan
) -> Iterator[str]:
    """No two buffers share a byte while both live; peaks and bounds are theirs."""
    tiles = {block.name: frozenset(f"tile{n}" for n in flow.tiles_of(block.id)) for block in flow.blocks}
    used = {use.memory: use for use in memory.uses}
    if len(used) < len(memory.uses) or used.keys() != {buffer.memory for buffer in memory.buffers}:
        yield "the memories in use are not those with buffers"
        return
    at = moments(steps)
    for held in hardware.memory:
        here = [buffer for buffer in memory.buffers if buffer.memory == held.name]
        if not here:
            continue
        lived = spans(at, [Life(buffer.first, buffer.last) for buffer in here])
        homes = [tiles.get(buffer.at) or frozenset({buffer.unit}) for buffer in here]
        wanted = demand((buffer.size for buffer in here), lived, homes)
        starts = np.array([buffer.offset for buffer in here], dtype=np.int64)
        for one in range(len(here)):
            clash = (wanted.begins[:one] <= wanted.ends[one]) & (wanted.ends[:one] >= wanted.begins[one])
            clash &= starts[:one] < starts[one] + wanted.sizes[one]
            clash &= starts[:one] + wanted.sizes[:one] > starts[one]
            clash &= wanted.meets[wanted.homes[one], wanted.homes[:one]]
            if clash.any():
                other = here[int(np.flatnonzero(clash)[0])]
                yield f"the buffers of {other.name!r} and {here[one].name!r} overlap in {held.name}"
        use = used[held.name]
        right = int((starts + wanted.sizes).max()), bound_of(wanted), capacity(held)
        if (use.peak, use.bound, use.capacity) != right:
            yield f"{held.name} is said to be filled up to {use.peak} of {use.capacity}, bound {use.bound}"
