"""Contradictions of a plan: what its files say against each other and against the machine."""

import math
from collections.abc import Iterator

from ffebm.graph.energy_block import EnergyBlock
from ffebm.graph.tensor import TensorType, holds_floats
from ffebm.graph.work import sizes
from ffebm.hardware.routes import network_units
from ffebm.hardware.silicon import watts
from ffebm.limits import VALUE_ELEMENTS
from ffebm.plan.checks.blocks import block_problems
from ffebm.plan.checks.memory import memory_problems
from ffebm.plan.checks.options import option_problems
from ffebm.plan.checks.programs import program_problems
from ffebm.plan.checks.schedules import (
    band_problems,
    begun_problems,
    lag_problems,
    schedule_problems,
)
from ffebm.plan.checks.source import source_problems
from ffebm.plan.checks.tiles import tile_problems
from ffebm.plan.mapping import mapping_problems
from ffebm.plan.program import Instruction, Segment, values_read
from ffebm.plan.schedule import Schedule
from ffebm.plan.schema import PlanData
from ffebm.plan.structure import structure_problems
from ffebm.plan.twin import twin_problems

Runner = Instruction | EnergyBlock
"""What a step forward runs."""


def plan_problems(plan: PlanData) -> Iterator[str]:
    """Every contradiction in a plan, as text; later ones rely on the absence of earlier ones."""
    known = {*plan.weights, *(port.name for port in plan.inputs)}
    if plan.batch < 1:
        yield f"a batch of {plan.batch}"
    yield from _weight_problems(plan)
    yield from _type_problems(plan)
    yield from block_problems(plan.blocks, plan.weights, plan.types)
    yield from program_problems(plan.segments, plan.weights)
    yield from _order_problems(plan, known)
    yield from _training_problems(plan)
    yield from structure_problems(plan.structure, {*plan.weights, *(port.name for port in plan.outputs)})
    yield from _node_problems(plan)
    yield from _segment_problems(plan)
    yield from _group_problems(plan)
    yield from tile_problems(plan)
    yield from option_problems(plan)
    units = {f"tile{t.id}" for t in plan.tiles} | {f"digital{i}" for i in range(plan.hardware.unit_count)}
    units |= {f"core{plan.hardware.core_of_tile(t.id)}" for t in plan.tiles} - {"coreNone"}
    for schedule in (plan.inference, plan.training):
        known_units = units | network_units(plan.hardware, schedule.units)
        yield from schedule_problems(schedule, known_units, len(plan.blocks))
        leakage = watts(plan.hardware, schedule.units) * schedule.makespan_s
        if not math.isclose(schedule.leakage, leakage, rel_tol=1e-9):
            yield f"a schedule leaks {schedule.leakage:g} J; what it powers leaks {leakage:g} J"
    yield from lag_problems(plan)
    yield from memory_problems(plan)
    if plan.mapping is not None:
        yield from mapping_problems(plan.mapping, {node.name for node in plan.nodes})
    yield from twin_problems(plan.twin, tuple(block.name for block in plan.blocks))
    yield from source_problems(plan)


def _group_problems(plan: PlanData) -> Iterator[str]:
    """Blocks and nodes run on groups of the machine: a node of a block on the block's."""
    analog = {group.name for group in plan.hardware.analog}
    digital = {group.name: group for group in plan.hardware.digital}
    for block in plan.blocks:
        if block.group not in analog:
            yield f"{block.name} lies on group {block.group!r}, the tiles are {', '.join(sorted(analog))}"
            return
    for node in plan.nodes:
        if node.block is not None:
            right = node.group == plan.blocks[node.block].group
        else:
            right = node.group in digital and digital[node.group].runs(node.op)
        if not right:
            yield f"node {node.name!r} does not run on group {node.group!r}"
            return


def _weight_problems(plan: PlanData) -> Iterator[str]:
    """What trains is floats, and no running statistic; each is named once."""
    if plan.left_out and not plan.options.no_weights:
        yield f"weight {min(plan.left_out)!r} was left out of a plan with weights"
    names = [*plan.trainable, *plan.buffers]
    for name in names:
        if name not in plan.weights:
            yield f"weight {name!r} has no values"
    for name in plan.trainable:
        if not holds_floats(plan.weights[name]) and plan.weights[name].dtype.kind != "c":
            yield f"weight {name!r} trains and is of type {plan.weights[name].dtype}"
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        yield f"weight {twice!r} is named twice among what trains and running statistics"


def _type_problems(plan: PlanData) -> Iterator[str]:
    """Types are those of the arrays and ports, and no value is larger than it may be."""
    for name, kind in [*plan.types.items(), *((port.name, port.type) for port in plan.ports())]:
        yield from _size_problems(name, kind)
    for name, array in plan.weights.items():
        kind = plan.types.get(name, TensorType("unknown"))
        sizes = kind.shape is not None and all(isinstance(size, int) for size in kind.shape)
        if kind.dtype not in {"unknown", array.dtype.name} or (sizes and kind.shape != array.shape):
            yield f"weight {name!r} is {TensorType(array.dtype.name, array.shape)}, its type says {kind}"
    names = [port.name for port in plan.inputs]
    if len(set(names)) < len(names):
        yield f"two inputs are named {next(name for name in names if names.count(name) > 1)!r}"
    for port in plan.ports():
        if plan.types.get(port.name, port.type) != port.type:
            yield f"{port.name!r} is {port.type}, its type says {plan.types[port.name]}"
    for node in plan.nodes:
        if node.macs < 0 or node.weights < 0 or any(d < 0 for d in node.shape or () if isinstance(d, int)):
            yield f"node {node.name!r} counts less than nothing"


def _size_problems(name: str, kind: TensorType) -> Iterator[str]:
    sizes = [size for size in kind.shape or () if isinstance(size, int)]
    if any(size < 0 for size in sizes):
        yield f"{name!r} is {kind}; sizes of at least 0 are allowed"
    elif math.prod(sizes) > VALUE_ELEMENTS.value:
        yield f"{name!r} is {kind}; {VALUE_ELEMENTS.allowed} are allowed"


def _node_problems(plan: PlanData) -> Iterator[str]:
    """Every node has a reason, and is what runs: on the tiles of a block, or as a digital instruction."""
    runs = {i.name: (i, s.id) for s in plan.segments for i in s.program.instructions}
    names = [node.name for node in plan.nodes]
    for node in plan.nodes:
        if not node.reason:
            yield f"node {node.name!r} has no reason"
        on_tile = node.block is not None and 0 <= node.block < len(plan.blocks)
        if on_tile != (node.unit == "tile") or (node.unit == "digital") != (node.name in runs):
            yield f"node {node.name!r} does not run where it says: {node.unit}, block {node.block}"
            return
        if on_tile and node.segment is not None:
            yield f"node {node.name!r} runs on tiles, and in segment {node.segment}"
        if on_tile:
            continue
        run, segment = runs[node.name]
        if (node.op, node.inputs, node.outputs, node.segment) != (run.op, run.inputs, run.outputs, segment):
            yield f"node {node.name!r} is not what segment {segment} runs"
    missing = runs.keys() - {*names}
    if missing:
        yield f"instruction {min(missing)!r} is no node of the plan"
    if len({*names}) < len(names):
        yield f"two nodes are named {next(name for name in names if names.count(name) > 1)!r}"


def _segment_problems(plan: PlanData) -> Iterator[str]:
    """What enters and leaves a program is what it reads and what others read of it."""
    read_by: dict[str, set[int]] = {port.name: {-1} for port in plan.outputs}
    for block in plan.blocks:
        for value in block.inputs:
            read_by.setdefault(value, set()).add(-1)
    for segment in plan.segments:
        for value in _read(segment):
            read_by.setdefault(value, set()).add(segment.id)
    for segment in plan.segments:
        made = _made(segment)
        reads = [value for value in _read(segment) if value not in made and value not in plan.weights]
        leaves = [value for value in made if read_by.get(value, set()) - {segment.id}]
        program = segment.program
        if sorted(program.inputs) != sorted(reads) or sorted(program.outputs) != sorted(leaves):
            yield f"the inputs or outputs of segment {segment.id} are not what it reads and others read of it"
        yield from _program_order_problems(segment)


def _program_order_problems(segment: Segment) -> Iterator[str]:
    """A program reads nothing that only a later instruction of its own makes."""
    later = _made(segment)
    for instruction in segment.program.instructions:
        early = sorted(later & set(values_read(instruction)))
        if early:
            yield f"instruction {instruction.name!r} reads {early[0]!r} before it is made"
        later.difference_update(instruction.outputs)


def _read(segment: Segment) -> set[str]:
    return {value for i in segment.program.instructions for value in values_read(i)}


def _made(segment: Segment) -> set[str]:
    return {value for i in segment.program.instructions for value in i.outputs if value}


def _runners(plan: PlanData) -> dict[tuple[str, str], Runner]:
    """What steps forward run, by the kind of step and its name."""
    found: dict[tuple[str, str], Runner] = {}
    found |= {("digital", i.name): i for segment in plan.segments for i in segment.program.instructions}
    found |= {("free", block.name): block for block in plan.blocks}
    return found


def _order_problems(plan: PlanData, known: set[str]) -> Iterator[str]:
    """The inference runs every digital node and block once, each after what it reads."""
    runners = _runners(plan)
    for step in plan.inference.runs:
        runner = runners.get((step.kind, step.name))
        if runner is None:
            break
        reads = runner.inputs if isinstance(runner, EnergyBlock) else sorted(values_read(runner))
        for value in reads:
            if value not in known:
                yield f"step {step.id} ({step.name}) reads {value!r} before it is made"
        known.update(runner.outputs)
    yield from _forward_problems(plan, plan.inference)
    for port in plan.outputs:
        if port.name not in known:
            yield f"output {port.name!r} is never made"


def _training_problems(plan: PlanData) -> Iterator[str]:
    """A training step, where there is one, runs forward what the inference runs, in bands of its own."""
    if plan.training.steps:
        yield from (f"training: {problem}" for problem in _forward_problems(plan, plan.training))


def _forward_problems(plan: PlanData, schedule: Schedule) -> Iterator[str]:
    """A schedule runs every digital node and block forward once, in bands that make all rows."""
    left = _runners(plan)
    for step in schedule.runs:
        runner = left.pop((step.kind, step.name), None)
        if runner is None or (isinstance(runner, EnergyBlock) and runner.id != step.block):
            yield f"step {step.id} runs {step.name!r}, which is unknown or has run already"
            return
        made = [sizes(plan.types[value].shape) for value in runner.outputs if value in plan.types]
        if step.rows is not None and any(step.rows[1] not in (shape or ()) for shape in made):
            yield f"step {step.id} makes the last rows {step.rows} of {step.name!r}, which has others"
    yield from band_problems(schedule)
    yield from begun_problems(plan.blocks, schedule)
    if left:
        yield f"no step runs {min(str(runner.name) for runner in left.values())!r}"
