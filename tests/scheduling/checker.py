"""An independent check of schedules: a machine that runs their steps as events, sharing no code with ours.

Events are taken in order of time; at one time steps end before others start. A unit that works for a step is
taken. Beside that every step must wait for what makes and brings the values that its node or block reads, and
what reads of tiles make early must have a buffer.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator

from ffebm import Plan
from ffebm.plan.memory.memory_plan import Buffer
from ffebm.plan.schedule import ENERGY_KINDS, Schedule, Step
from tests.scheduling.early import read_early

Maker = tuple[str, str]
"""Kind and name of the steps that make a value."""
MOVES_NOTHING = (
    {"Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
    | {"Concat", "Expand", "Gather", "Pad", "Slice", "Split", "Tile"}
)  # fmt: skip
"""Ops that compute nothing: what they make of one digital value lies where that lies."""


def problems(plan: Plan, schedule: Schedule) -> Iterator[str]:
    """What is wrong with a schedule of a plan, as text."""
    yield from running_problems(schedule)
    yield from data_problems(plan, schedule)
    yield from early_problems(plan, schedule)
    yield from bill_problems(schedule)


def _events(schedule: Schedule) -> list[tuple[float, int, int]]:
    """Time, what happens and to which step.

    What happens is 0 an end, 1 that units are free, 2 all of a step that takes no time, 3 a start.
    """
    events = []
    for step in schedule.steps:
        if step.start_s == step.end_s:
            events.append((step.start_s, 2, step.id))
        else:
            free = step.end_s if step.freed_s is None else step.freed_s
            events += [(step.end_s, 0, step.id), (free, 1, step.id), (step.start_s, 3, step.id)]
    return sorted(events)


def running_problems(schedule: Schedule) -> Iterator[str]:
    """Units that would do two things at once; steps that start before what they wait for has ended.

    Of the band before it a step waits for the units alone, and must not end before that one has.
    """
    works_for: dict[str, int] = {}
    ended: set[int] = set()
    left: set[int] = set()
    for now, what, number in _events(schedule):
        step = schedule.steps[number]
        if what >= 2:
            done = ended | {n for n in step.after if n in left and _continues(step, schedule.steps[n])}
            missing = [before for before in step.after if before not in done]
            if missing:
                yield f"at {now} s step {number} starts, but {missing} have not ended"
            busy = {unit: works_for[unit] for unit in step.units if unit in works_for}
            if busy:
                yield f"at {now} s step {number} starts on units that work for others: {busy}"
        if what == 3:
            works_for.update(dict.fromkeys(step.units, number))
        elif what == 1:
            left.add(number)
            for unit in step.units:
                works_for.pop(unit, None)
        else:
            ended.add(number)
            early = [n for n in step.after if n not in ended]
            if early:
                yield f"at {now} s step {number} ends, but {early} have not ended"
    if len(ended) != len(schedule.steps):
        yield f"{len(schedule.steps) - len(ended)} steps never end"


def _continues(step: Step, before: Step) -> bool:
    """Whether a step makes the rows behind those of another one, of the same block and sample."""
    if step.rows is None or before.rows is None or step.block is None:
        return False
    one, other = ((s.kind, s.name, s.block, s.sample, s.units) for s in (step, before))
    return one == other and step.rows[0] == before.rows[1]


def data_problems(plan: Plan, schedule: Schedule) -> Iterator[str]:
    """Digital nodes and free phases that do not wait for their values to be made and brought.

    What covers all rows waits for all steps that make a value, what covers some for one of them at least.
    """
    made_by: dict[str, Maker] = {}
    reads: dict[Maker, list[str]] = {}
    outputs: dict[str, list[str]] = {}
    for node in plan.nodes:
        if node.block is None:
            made_by.update(dict.fromkeys(node.outputs, ("digital", node.name)))
            reads["digital", node.name] = list(node.inputs)
            outputs[node.name] = list(node.outputs)
    for block in plan.blocks:
        made_by.update(dict.fromkeys(block.outputs, ("free", block.name)))
        reads["free", block.name] = list(block.inputs)
    places = _places(plan, schedule)
    seats = {node.name: places.get(node.outputs[0]) for node in plan.nodes}
    there = {port.name for port in plan.inputs} | made_by.keys()  # the rest are constants
    for step in schedule.steps:
        if _scatters_nothing(plan, step):
            continue
        inside: set[str] = set()
        for name in (*step.fused, step.name):  # nodes of one step read what those before them have made
            for value in reads.get((step.kind, name), []):
                if value in there and value not in inside:
                    is_there = step.kind == "digital" and places.get(value) in {None, seats[name]}
                    yield from _value_problems(schedule, step, value, made_by.get(value), is_there)
            inside.update(outputs.get(name, []))


def _scatters_nothing(plan: Plan, step: Step) -> bool:
    """Whether no input row reaches a band of a transposed convolution, as between taps of a wide stride."""
    if step.kind != "free" or step.rows is None or step.block is None:
        return False
    (layer,) = plan.blocks[step.block].layers
    (only, *others) = layer.interactions
    linear = only.linear
    if others or only.pool is not None or linear is None or linear.op != "ConvTranspose":
        return False
    taps, stride = plan.weights[linear.weight].shape[2], (linear.strides or (1,))[0]
    apart, pad = (linear.dilations or (1,))[0], (linear.pads or (0,))[0]
    reached = {row * stride + tap * apart - pad for row in range(only.source_shape[1]) for tap in range(taps)}
    return reached.isdisjoint(range(*step.rows))


def _places(plan: Plan, schedule: Schedule) -> dict[str, str]:
    """The block or the digital units where a value lies; inputs are wherever a digital unit is.

    Digital units are a group, or of one in cores those that have made the value.
    """
    inside = {group.name for group in plan.hardware.digital if group.place == "core"}
    done_on = {name: step.units for step in schedule.steps if step.kind == "digital" for name in step.nodes}
    places = {value: block.name for block in plan.blocks for value in block.outputs}
    given = {port.name for port in plan.inputs}
    from_tiles = set(places)
    for node in plan.nodes:
        if node.block is None:
            sources = {value for value in node.inputs if value in given or value in places}
            stays = node.op in MOVES_NOTHING and len(sources) == 1 and not sources & from_tiles
            if stays and sources <= given:
                given.update(node.outputs)
            else:
                units = f" {done_on.get(node.name)}" if node.group in inside else ""
                place = places[sources.pop()] if stays else f"{node.group}{units}"
                places.update(dict.fromkeys(node.outputs, place))
    return places


def _value_problems(
    schedule: Schedule, step: Step, value: str, maker: Maker | None, is_there: bool
) -> Iterator[str]:
    """Whether a step waits for a value that it reads."""
    reader = f"step {step.id}, {step.kind} {step.name}"
    brought = [step]
    if not is_there:
        brought = _waited_for(schedule, [step], ("transfer", value))
        if not brought:
            yield f"{reader}, does not wait for {value} to be brought"
    if maker is not None:
        made = len({before.id for before in _waited_for(schedule, brought, maker)})
        wanted = 1 if step.rows is not None else _count(schedule, maker, step.sample)
        if made < wanted:
            yield f"{reader}, waits for {made} of {wanted} steps that make {value}"


def _count(schedule: Schedule, maker: Maker, sample: int) -> int:
    return sum(_makes(step, maker) and step.sample == sample for step in schedule.steps)


def _makes(step: Step, maker: Maker) -> bool:
    """Whether a step is of a kind and does what has a name, alone or with others."""
    return step.kind == maker[0] and maker[1] in (*step.fused, step.name)


def _waited_for(schedule: Schedule, steps: Iterable[Step], maker: Maker) -> list[Step]:
    """The steps of a kind and name that some steps wait for."""
    found = [schedule.steps[before] for step in steps for before in step.after]
    return [before for before in found if _makes(before, maker)]


def early_problems(plan: Plan, schedule: Schedule) -> Iterator[str]:
    """Bands that read vectors of further rows, and do not say so, or into no buffer."""
    memory = plan.memory.training if schedule is plan.training else plan.memory.inference
    early = dict(read_early(plan.blocks, schedule.steps))
    for number, (first, behind) in early.items():
        step = schedule.steps[number]
        if step.begun != behind:
            yield f"step {number} reads for rows up to {behind}, and says {step.begun}"
        assert step.block is not None
        values = {layer.value for layer in plan.blocks[step.block].layers}
        held = [buffer for buffer in memory.buffers if buffer.name in values and buffer.content == "value"]
        for row in range(first, behind):
            if not any(_holds(schedule, buffer, step, row) for buffer in held):
                yield f"step {number} reads for row {row}, which has no buffer then"


def _holds(schedule: Schedule, buffer: Buffer, step: Step, row: int) -> bool:
    """Whether a buffer for a row is there while a step runs."""
    first, behind = buffer.rows or (0, row + 1)
    begins = schedule.steps[buffer.first].start_s if buffer.first >= 0 else 0.0
    stays = buffer.last == len(schedule.steps) or schedule.steps[buffer.last].end_s >= step.end_s
    return first <= row < behind and buffer.sample == step.sample and begins <= step.start_s and stays


def bill_problems(schedule: Schedule) -> Iterator[str]:
    """Energies that are not the sums of the steps, a makespan or a busy unit that is not theirs."""
    total = schedule.cost
    for kind in ENERGY_KINDS:
        steps = math.fsum(getattr(step.cost, kind) for step in schedule.steps)
        expected = schedule.leakage if kind == "leakage" else steps
        if not math.isclose(getattr(total, kind), expected, rel_tol=1e-9):
            yield f"{kind} is {getattr(total, kind)} J, the steps take {expected} J"
    last = max((step.end_s for step in schedule.steps), default=0.0)
    if schedule.makespan_s != last:
        yield f"the makespan is {schedule.makespan_s} s, the last step ends at {last} s"
    busy: dict[str, float] = defaultdict(float)
    for step in schedule.steps:
        for unit in step.units:
            busy[unit] += (step.end_s if step.freed_s is None else step.freed_s) - step.start_s
    most = max(busy.values(), default=0.0)
    if not math.isclose(most, schedule.busiest_s, rel_tol=1e-9):
        yield f"a unit is busy for {most} s, the schedule says {schedule.busiest_s} s"
    if most > last * (1 + 1e-9) or schedule.lower_bound_s > last * (1 + 1e-9):
        yield f"{last} s is shorter than its bounds"
