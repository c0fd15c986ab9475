"""Plans of memory: replays of schedules find nothing lost, capacities hold, spills cost what they move."""

from collections import defaultdict
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from onnx import ModelProto

from ffebm import Plan, load_plan
from ffebm.compiler.driver import compile_model as compile_any
from ffebm.errors import PlanError, UsageError
from ffebm.hardware.description import Capacity, Hardware, load_hardware
from ffebm.hardware.groups import Memory
from ffebm.plan.memory.held import Rows
from ffebm.plan.memory.lives import lives
from ffebm.plan.memory.memory_plan import Buffer
from ffebm.plan.memory.plan_flow import plan_flow
from ffebm.plan.schema import Settle
from ffebm.scheduling.forward import Forward
from ffebm.scheduling.in_flight import joining, samples_in_flight
from ffebm.scheduling.list_schedule import Task, early_results, ordered
from ffebm.scheduling.memory.flow_of import flow_of
from ffebm.scheduling.memory.planned import Remembered, planned, priced, settled, timed
from ffebm.scheduling.memory.pricing import Pricing
from ffebm.scheduling.schedules import inference_tasks, training_tasks
from ffebm.scheduling.streams import Stream
from tests.machines import joules, rate, round_numbers, with_signs, with_tiles
from tests.models import Builder, random_models, random_sharing_models
from tests.scheduling.checker import problems
from tests.scheduling.graphs import activated_first, few_steps, placed, two_convolutions
from tests.scheduling.memory.replay import faults, over_capacity
from tests.scheduling.test_schedules import learning

SETTLE = Settle(free_sweeps=4, nudged_sweeps=2)
ROOM = 10**6


def memory(
    machine: Hardware, name: str, owner: str, level: int, room: int, bandwidth: float = 1e12
) -> Memory:
    """A memory of so many bytes; a bit takes as many joules as its level is high."""
    return replace(
        machine.memory[0],
        name=name,
        owner=owner,
        level=level,
        capacity=Capacity(value=8 * room, source="chosen for a test", unit="bit"),
        bandwidth=rate(bandwidth),
        bit_energy=joules(float(level)),
    )


compile_model = partial(compile_any, replicas=1)
"""With one copy of each weight, which is compiled sooner."""


def levels(near: int, pads: int = 0, far: int = ROOM, **others: Any) -> Hardware:
    """Round numbers: bytes of the digital unit's own memory, of each tile's, and of the chip's."""
    machine = round_numbers(**others)
    found = [memory(machine, "near", "engine", 1, near)]
    found += [memory(machine, "pad", "tiles", 2, pads)] if pads else []
    found += [memory(machine, "far", "chip", 3, far)] if far else []
    return replace(machine, memory=tuple(found))


def check(plan: Plan) -> None:
    """Nothing is read that is not whole, and nothing lies over the end of a memory."""
    flow = plan_flow(plan)
    for schedule, held in (
        (plan.inference, plan.memory.inference),
        (plan.training, plan.memory.training),
    ):
        assert faults(flow, schedule.steps, held) == []
        assert over_capacity(held, plan.hardware) == []
        for use in held.uses:
            assert use.bound <= use.peak <= use.capacity


def small_network() -> ModelProto:
    b = Builder()
    x = b.node("Relu", b.norm(b.conv(b.input("x", 1, 1, 8, 8), 1, 4), 4))
    y = b.node("Add", b.conv(b.node("Relu", b.conv(x, 4, 4)), 4, 4), x)
    y = b.node("MaxPool", b.node("Relu", y), kernel_shape=[2, 2], strides=[2, 2])
    return b.model(b.node("Gemm", b.node("Flatten", y), b.weight(64, 5), b.weight(5)))


def replayed(model: ModelProto, near: int, pads: int, block_size: int, copies: int) -> None:
    machine = levels(near, pads, count=12, rows=40, cols=20)
    compiled = partial(compile_model, model, hardware=machine, block_size=block_size, settle=SETTLE)
    check(compiled(objective="latency", replicas=copies))
    check(compiled(replicas=copies))
    with few_steps(10):
        check(compiled())


cases = {
    "model": random_models(),
    "near": st.sampled_from([64, 300, 1200, ROOM]),
    "pads": st.sampled_from([0, 40, 400]),
    "block_size": st.integers(1, 3),
    "copies": st.sampled_from([1, 3]),
}
SLOW = [HealthCheck.too_slow]


@settings(max_examples=8, derandomize=True, suppress_health_check=SLOW)
@given(**cases)
def test_random_models_replayed(
    model: ModelProto, near: int, pads: int, block_size: int, copies: int
) -> None:
    replayed(model, near, pads, block_size, copies)


@settings(max_examples=8, derandomize=True, suppress_health_check=SLOW)
@given(**cases | {"model": random_sharing_models()})
def test_random_models_with_shared_weights_replayed(
    model: ModelProto, near: int, pads: int, block_size: int, copies: int
) -> None:
    replayed(model, near, pads, block_size, copies)


@pytest.mark.slow
@settings(max_examples=200, suppress_health_check=SLOW)
@given(**cases | {"model": random_sharing_models()})
def test_many_random_models_with_shared_weights_replayed(
    model: ModelProto, near: int, pads: int, block_size: int, copies: int
) -> None:
    replayed(model, near, pads, block_size, copies)


@pytest.mark.slow
@settings(max_examples=1000, suppress_health_check=SLOW)
@given(**cases)
def test_many_random_models_replayed(
    model: ModelProto, near: int, pads: int, block_size: int, copies: int
) -> None:
    replayed(model, near, pads, block_size, copies)


@pytest.mark.slow
@settings(max_examples=200, suppress_health_check=SLOW)
@given(
    model=random_models(),
    machine=st.sampled_from(["reference", "scratchpads", "isaac-edram", "hermes", "heterogeneous"]),
    batch=st.integers(2, 16),
    block_size=st.integers(1, 3),
)
def test_many_batches_of_random_models_run_and_are_replayed(
    model: ModelProto, machine: str, batch: int, block_size: int
) -> None:
    """No unit does two things at once, and no buffer is overwritten by another sample."""
    plan = compile_model(model, hardware=machine, batch=batch, block_size=block_size, settle=SETTLE)
    for schedule in (plan.inference, plan.training):
        assert list(problems(plan, schedule)) == []
    check(plan)


# --- by hand ------------------------------------------------------------------------------------------


def chain(widths: tuple[int, ...] = (4, 8, 6, 2)) -> ModelProto:
    """Products, each followed by a softmax, which stays digital: values of 1 byte a number."""
    b = Builder()
    x = b.input("x", 1, widths[0])
    for low, high in pairwise(widths):
        x = b.node("Softmax", b.node("MatMul", x, b.weight(low, high)))
    return b.model(x)


def buffers(plan: Plan) -> dict[str, Buffer]:
    return {buffer.name: buffer for buffer in plan.memory.inference.buffers}


def test_lives_of_a_chain_by_hand() -> None:
    """All digital: each product reads the value before it; the fullest moment holds 8 and 8 bytes."""
    plan = compile_model(chain(), hardware=levels(ROOM), digital=["*"])
    names = [node.outputs[0] for node in plan.nodes]
    found = buffers(plan)
    assert list(found) == ["x", *names]
    assert [found[name].size for name in found] == [4, 8, 8, 6, 6, 2, 2]
    assert [(found[name].first, found[name].last) for name in found] == [
        (-1, 0), (0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6)
    ]  # fmt: skip
    (use,) = plan.memory.inference.uses
    assert (use.memory, use.peak, use.bound, use.capacity) == ("near", 16, 16, ROOM)
    check(plan)


def test_what_training_still_needs() -> None:
    """Input, free state and nudged states of a block stay until its contrast, a gradient until its update."""
    b = Builder()
    y = b.node("Relu", b.node("MatMul", b.input("x", 1, 4), b.weight(4, 3, name="w")))
    plan = compile_model(b.model(y), hardware=levels(ROOM), settle=SETTLE)
    steps = plan.training.steps
    at = {(step.kind, step.name): step.id for step in steps}
    lives = {(x.content, x.name): (x.first, x.last) for x in plan.memory.training.buffers}
    contrast, free = at["contrast", "block0"], at["free", "block0"]
    down, up = at["nudged", "block0 -beta"], at["nudged", "block0 +beta"]
    update = next(s.id for s in steps if s.kind == "update" and s.units == ("digital0",))
    assert lives == {
        ("value", "x"): (-1, contrast),
        ("value", y): (free, down),
        ("error", y): (at["loss", "loss"], down),
        ("plus", y): (up, contrast),
        ("minus", y): (down, contrast),
        ("gradient", "w"): (contrast, update),
    }
    sizes = {x.content: x.size for x in plan.memory.training.buffers}
    assert sizes == {"value": 3, "error": 3, "plus": 3, "minus": 3, "gradient": 12}
    check(plan)


def test_error_currents_lie_in_bands_from_the_first_reader_to_the_maker() -> None:
    """3 x 3 kernels over eight rows, each a band: row r is added to by rows r - 1 to r + 1 of the reader.

    These run from the first row down. What a dense layer has read all of gets all its error current at once.
    """
    machine = levels(ROOM, count=12, rows=40, cols=20)
    graph = placed(two_convolutions(), machine)
    tasks = training_tasks(graph, machine, SETTLE, most_bands=8)
    found = planned(flow_of(graph), machine, tasks, ordered)
    steps = found.schedule.steps
    second = {s.rows: s for s in steps if s.kind == "nudged" and s.name.startswith("block1 -")}
    first = {s.rows: s for s in steps if s.kind == "nudged" and s.name.startswith("block0 -")}
    errors = {b.rows: b for b in found.memory.buffers if (b.content, b.name) == ("error", "first")}
    assert list(errors) == list(first) == [(row, row + 1) for row in range(8)]
    for row in range(8):
        band = errors[row, row + 1]
        above = max(0, row - 1)
        assert steps[band.first] == second[above, above + 1]
        assert steps[band.last] == first[row, row + 1]
    behind = [b for b in found.memory.buffers if (b.content, b.name) == ("error", "second")]
    assert [b.rows for b in behind] == list(second)
    assert len({b.first for b in behind}) == 1
    assert [steps[b.last] for b in behind] == list(second.values())


def test_a_view_has_no_bytes_of_its_own() -> None:
    b = Builder()
    x = b.node("Softmax", b.input("x", 1, 2, 6))
    y = b.node("Softmax", b.node("Flatten", x))
    plan = compile_model(b.model(y), hardware=levels(ROOM))
    found = buffers(plan)
    assert list(found) == ["x", x, y]
    assert found[x].last == next(s.id for s in plan.inference.steps if s.name == plan.nodes[-1].name)
    check(plan)


def test_a_shape_that_is_computed_lives_until_it_is_read() -> None:
    """As where a Softmax over channels has been written by an exporter that flattens for it."""
    b = Builder()
    x = b.input("x", "N", 4, 1, 1)
    shape = b.node("Shape", x)
    flat = b.node("Softmax", b.node("Flatten", x))
    plan = compile_model(b.model(b.node("Reshape", flat, shape, name="back")), hardware=levels(ROOM))
    last = next(s.id for s in plan.inference.steps if "back" in {s.name, *s.fused})
    assert buffers(plan)[shape].last == last
    check(plan)


# --- what does not fit --------------------------------------------------------------------------------


def test_a_spill_costs_its_bits_in_the_next_level() -> None:
    """Of 8 + 8 bytes at once, 12 fit: the value that ends last goes, is written once there and read once."""
    model = chain()
    roomy, tight = (compile_model(model, hardware=levels(room), digital=["*"]) for room in (ROOM, 12))
    spills = tight.memory.inference.spills
    moved = {spill.name: spill.traffic for spill in spills}
    assert {spill.wanted for spill in spills} == {"near"}
    assert {spill.memory for spill in spills} == {"far"}
    found = buffers(tight)
    assert all(found[name].memory == "far" for name in moved)
    assert all(moved[name] == 2 * found[name].size for name in moved)
    assert [spill.joules for spill in spills] == [8 * 3.0 * spill.traffic for spill in spills]
    added = tight.inference.cost.memory - roomy.inference.cost.memory
    assert added == pytest.approx(sum(spill.joules for spill in spills))
    check(tight)


def test_a_step_takes_no_less_time_than_far_memory_allows() -> None:
    """A bit a second: a step that reads 8 and writes 8 bytes there takes 128 s."""
    machine = levels(0)
    slow = replace(machine, memory=(machine.memory[0], memory(machine, "far", "chip", 3, ROOM, 1.0)))
    plan = compile_model(chain(), hardware=slow, digital=["*"])
    taken = [step.end_s - step.start_s for step in plan.inference.steps]
    assert taken == pytest.approx([8 * (4 + 8), 8 * 16, 8 * (8 + 6), 8 * 12, 8 * (6 + 2), 8 * 4])
    assert len(plan.memory.inference.spills) == 7
    check(plan)


@pytest.mark.parametrize("tasks", [inference_tasks, training_tasks])
def test_bands_pass_far_memory_as_often_as_all_rows_at_once(tasks: Callable[..., list[Task]]) -> None:
    """Kernels of 3 x 3 reach into three bands of single rows, and each row is passed once all the same."""
    machine = levels(0, count=12, rows=40, cols=20)
    graph = placed(two_convolutions(), machine)
    traffic = []
    for most in (1, 8):
        found = planned(flow_of(graph), machine, tasks(graph, machine, SETTLE, most_bands=most), ordered)
        moved: dict[tuple[str, str], int] = defaultdict(int)
        for spill in found.memory.spills:
            moved[spill.content, spill.name] += spill.traffic
        traffic.append(moved)
        assert any(buffer.rows is not None for buffer in found.memory.buffers) == (most > 1)
    once, bands = traffic
    assert once.keys() == bands.keys()
    # whole bytes a band: eight of them, which several steps pass
    assert all(0 <= bands[name] - once[name] <= 4 * 8 for name in once)


def test_what_a_step_hands_from_node_to_node_lives_as_long_as_the_step() -> None:
    """Far memories take from a step the time and energy that they take from its nodes apart."""
    machine = levels(0, count=12, rows=40, cols=20)
    slow = replace(machine, memory=(machine.memory[0], memory(machine, "far", "chip", 3, ROOM, 1.0)))
    graph = placed(activated_first(), slow)
    flow = flow_of(graph)
    tasks = inference_tasks(graph, slow, SETTLE, most_bands=8)
    most = Forward(graph, slow, SETTLE, "fp32", 8).steps(8) - 1
    fewer = inference_tasks(graph, slow, SETTLE, most_bands=8, most_steps=most)
    found = [planned(flow, slow, some, ordered) for some in (tasks, fewer)]
    usual, shared = found
    together = [task for task in shared.tasks if task.fused]
    names = set(together[0].nodes)
    assert len(together) == len([task for task in usual.tasks if task.name in names]) / 2 > 1
    apart = [task for task in usual.tasks if task.name in names]
    assert sum(t.seconds for t in together) == pytest.approx(sum(t.seconds for t in apart), rel=1e-12)
    assert sum(t.cost.energy for t in together) == pytest.approx(sum(t.cost.energy for t in apart), rel=1e-12)
    inside = {value for name in together[0].fused for value in flow.nodes[name].makes}
    held = [buffer for buffer in shared.memory.buffers if buffer.name in inside]
    assert [buffer.rows for buffer in held] == [task.rows for task in together]
    assert all(buffer.first == buffer.last for buffer in held)
    assert Pricing(shared.places).binding().keys() >= {s.id for s in shared.schedule.steps if s.fused}
    for one in found:
        assert faults(flow, one.schedule.steps, one.memory) == []


def test_what_is_seen_of_a_weight_has_a_buffer_until_its_last_read() -> None:
    """As in DenseNet, whose normalisations are followed by scales that are weights in another shape."""
    b = Builder()
    y = b.conv(b.input("x", 1, 2, 8, 8), 2, 4)
    scale = b.node("Unsqueeze", b.weight(4), b.shape(1, 2), out="scale")
    y = b.node("Relu", b.node("Mul", b.norm(y, 4), scale), out="risen")
    model = b.model(b.conv(y, 4, 4))
    with few_steps(20):
        plan = compile_model(model, hardware="reference", settle=SETTLE)
    readers = [step for step in plan.inference.steps if step.fused]
    assert readers
    assert len(readers[-1].nodes) == 3
    (held,) = (buffer for buffer in plan.memory.inference.buffers if buffer.name == "scale")
    assert held.rows is None
    assert held.last == readers[-1].id
    check(plan)


def test_what_was_looked_at_is_taken_up_once() -> None:
    """Where values leave the near memory: the plan is the one that is made from nothing."""
    machine = levels(64, count=12, rows=40, cols=20)
    graph = placed(two_convolutions(), machine)
    flow, tasks = flow_of(graph), inference_tasks(graph, machine, SETTLE)
    tried = Remembered()
    schedule = timed(flow, machine, tasks, ordered, tried)
    ((_, kept, by, looked),) = tried.kept
    assert kept == tasks != looked.tasks
    assert tried.take(flow, tasks[:-1], by) is None
    assert tried.take(flow, tasks, early_results) is None
    found = planned(flow_of(graph), machine, [*tasks], ordered, tried=tried)
    fresh = planned(flow, machine, tasks, ordered)
    assert not tried.kept
    assert found.schedule == schedule == fresh.schedule
    assert (found.tasks, found.order, found.memory) == (fresh.tasks, fresh.order, fresh.memory)
    assert settled(priced(flow, machine, tasks, ordered), tasks, ordered).memory == fresh.memory


def test_what_has_only_a_price_can_be_taken_up_again() -> None:
    machine = levels(64, count=12, rows=40, cols=20)
    graph = placed(two_convolutions(), machine)
    flow, tasks = flow_of(graph), inference_tasks(graph, machine, SETTLE)
    tried = Remembered()
    once = priced(flow, machine, tasks, ordered, tried=tried)
    again = priced(flow, machine, tasks, ordered, tried=tried)
    fresh = priced(flow, machine, tasks, ordered)
    assert again is once
    assert once.tasks != tasks
    assert (once.schedule, once.order, once.tasks) == (fresh.schedule, fresh.order, fresh.tasks)


def test_what_fits_nowhere_is_refused_by_name() -> None:
    with pytest.raises(UsageError) as raised:
        compile_model(chain(), hardware=levels(12, far=0), digital=["*"])
    assert str(raised.value) == (
        "value 'v1' takes 8 bytes, for which near of round has no room; at most 12 bytes at once in "
        "the last level\n  hint: a smaller batch, or a [[memory]] of a higher level: docs/hardware.md"
    )


# --- beside tiles -------------------------------------------------------------------------------------


def two_blocks(wide: int = 8) -> ModelProto:
    b = Builder()
    x = b.node("Relu", b.node("MatMul", b.input("x", 1, 4), b.weight(4, wide)))
    return b.model(b.node("Relu", b.node("MatMul", x, b.weight(wide, 4))))


def test_values_of_blocks_lie_beside_their_tiles() -> None:
    """4 x 8 weights lie on two tiles of 4 x 4, which take even shares; the next block has a copy."""
    plan = compile_model(two_blocks(), hardware=levels(ROOM, pads=16), settle=SETTLE)
    found = {(x.name, x.at): x for x in plan.memory.inference.buffers}
    (made,) = plan.blocks[0].outputs
    assert found["x", ""].memory == "near"
    assert found["x", "block0"].size == 2  # 4 bytes on two tiles
    assert found[made, "block0"].size == found[made, "block1"].size == 4
    assert ("", made) not in found
    carried = next(s for s in plan.inference.steps if s.kind == "transfer" and s.name == made)
    assert (carried.cost.memory, carried.cost.buffer) == (0.0, 8 * 2.0 * (8 + 8))
    free = next(s for s in plan.inference.steps if s.kind == "free")
    bare = compile_model(two_blocks(), hardware=levels(ROOM), settle=SETTLE)
    lines = next(s for s in bare.inference.steps if s.kind == "free")
    # without registers, what lines carry is written and read beside the tiles: 4 inputs on two tiles, 8 sums
    assert free.cost.buffer == 2 * 8 * 2.0 * free.cost.adc_count + 2 * 8 * 2.0 * free.cost.dac_count
    assert replace(free.cost, buffer=0.0) == lines.cost
    check(plan)


def test_registers_nearer_to_tiles_hold_no_values() -> None:
    """What a block takes from beside its tiles is then read there once more, and what it makes written."""
    machine = levels(ROOM, pads=16)
    registers = memory(machine, "registers", "tiles", 1, 4)
    plan = compile_model(
        two_blocks(), hardware=replace(machine, memory=(*machine.memory, registers)), settle=SETTLE
    )
    assert {buffer.memory for buffer in plan.memory.training.buffers} == {"near", "pad"}
    free = next(s for s in plan.inference.steps if s.kind == "free")
    lines = 2 * 8 * 1.0 * (free.cost.adc_count + free.cost.dac_count)
    assert free.cost.buffer == lines + 8 * 2.0 * (4 + 8)
    check(plan)


def test_a_replay_sees_what_is_lost() -> None:
    """Two buffers that live at once and are moved onto each other; a buffer that ends a step early."""
    plan = compile_model(chain(), hardware=levels(ROOM), digital=["*"])
    held, flow = plan.memory.inference, plan_flow(plan)
    first, second, *rest = held.buffers
    onto = replace(held, buffers=(first, replace(second, offset=first.offset), *rest))
    assert faults(flow, plan.inference.steps, held) == []
    assert faults(flow, plan.inference.steps, onto) != []
    swapped = replace(held, buffers=tuple(replace(b, offset=0) for b in held.buffers))
    assert len(faults(flow, plan.inference.steps, swapped)) >= len(plan.nodes) - 1


def test_what_finds_no_room_beside_tiles_lies_with_the_digital_units() -> None:
    plan = compile_model(two_blocks(), hardware=levels(ROOM, pads=5), settle=SETTLE)
    (made,) = plan.blocks[0].outputs
    spilt = {(spill.name, spill.at): spill for spill in plan.memory.inference.spills}
    assert {(spill.wanted, spill.memory) for spill in spilt.values()} == {("pad", "near")}
    assert any(name == made for name, _ in spilt)
    check(plan)


def test_bands_that_leave_a_memory_beside_tiles_for_the_next_are_told() -> None:
    """An image and its map of 8 rows, each in a buffer of its own, leave 8 bytes a tile for 1,000,000."""
    machine = levels(ROOM, pads=8, count=4, rows=40, cols=20)
    machine = replace(machine, memory=(*machine.memory, memory(machine, "wide", "tiles", 4, ROOM)))
    b = Builder()
    model = b.model(b.node("Relu", b.conv(b.input("x", 1, 1, 8, 8), 1, 4)))
    plan = compile_model(model, hardware=machine, settle=SETTLE)
    held = plan.memory.inference
    assert len({buffer.rows for buffer in held.buffers if buffer.memory == "wide"}) > 1
    assert {(spill.name, spill.wanted, spill.memory) for spill in held.spills if spill.at} == {
        (buffer.name, "pad", "wide") for buffer in held.buffers if buffer.memory == "wide"
    }
    assert all(spill.traffic > 0 for spill in held.spills)
    check(plan)


# --- reads of further rows ----------------------------------------------------------------------------


def pooled() -> ModelProto:
    """3 x 3 kernels over nine rows of nine pixels; behind the second one windows of three rows by two."""
    b = Builder()
    y = b.node("Relu", b.conv(b.input("x", 1, 2, 9, 9), 2, 4))
    y = b.node("Relu", b.node("MaxPool", b.conv(y, 4, 4), kernel_shape=[3, 3], strides=[2, 2]))
    return b.model(b.node("Gemm", b.node("Flatten", y), b.weight(64, 3)))


def begun(plan: Plan) -> list[tuple[str, Rows | None]]:
    """Values and rows of them whose buffers live before the step that makes the rest of them."""
    steps = plan.inference.steps
    first = ((buffer, steps[buffer.first].rows) for buffer in plan.memory.inference.buffers)
    return [
        (buffer.name, buffer.rows)
        for buffer, rows in first
        if rows is not None and buffer.rows is not None and rows[1] <= buffer.rows[0]
    ]


@pytest.mark.parametrize("machine", ["reference", "isaac-edram"])
@pytest.mark.parametrize("copies", [1, 7])
def test_what_reads_of_tiles_make_of_further_rows_has_a_buffer(machine: str, copies: int) -> None:
    """Copies take some of nine windows of a row at once; some rows that are pooled are in two windows."""
    plan = compile_model(pooled(), hardware=machine, settle=SETTLE, replicas=copies)
    check(plan)
    for schedule in (plan.inference, plan.training):
        assert list(problems(plan, schedule)) == []
    made, least, *_ = (layer.value for block in plan.blocks for layer in block.layers)
    rows = dict.fromkeys(made for made in begun(plan))
    assert [one for name, one in rows if name == least] == [(1, 2), (2, 3), (3, 4)]
    assert plan.mapping is not None
    first = plan.mapping.blocks[0]
    number = first.options[first.taken].replicas
    assert (number > 1) == (copies > 1)
    read = [-(-9 * row // number) * number for row in range(1, 9)]
    assert [one for name, one in rows if name == made] == [(n // 9, n // 9 + 1) for n in read if n % 9]


def test_a_replay_sees_reads_into_no_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same plan as if reads made nothing of further rows."""
    monkeypatch.setattr(Stream, "begun", lambda _, row: row)
    plan = compile_model(pooled(), hardware="reference", settle=SETTLE, replicas=7)
    assert not begun(plan)
    found = faults(plan_flow(plan), plan.inference.steps, plan.memory.inference)
    assert "free block0 reads for rows [1], which have no buffer" in found
    step = next(step for step in plan.inference.steps if step.kind == "free" and step.rows == (0, 1))
    assert f"step {step.id} reads for row 1, which has no buffer then" in problems(plan, plan.inference)


def test_a_replay_sees_that_what_was_read_early_is_lost() -> None:
    """Something else is put onto the buffer of a row before the row is whole."""
    plan = compile_model(pooled(), hardware="reference", settle=SETTLE, replicas=7)
    steps, held = plan.inference.steps, plan.memory.inference
    whole = {(s.block, s.rows): s.id for s in steps if s.kind == "free"}
    row, other = next(
        (row, other)
        for row in held.buffers
        if (row.name, row.rows) in begun(plan)
        for other in held.buffers
        if row.first < other.first < whole[steps[row.first].block, row.rows]
    )
    onto = [replace(b, offset=row.offset) if b is other else b for b in held.buffers]
    found = faults(plan_flow(plan), steps, replace(held, buffers=tuple(onto)))
    assert f"free {steps[row.first].name} completes {('value', row.name)}, whose first part is lost" in found


def test_bands_that_do_not_say_what_they_read_early_are_found() -> None:
    plan = compile_model(pooled(), hardware="reference", settle=SETTLE, replicas=7)
    steps = plan.inference.steps
    silent = replace(plan.inference, steps=tuple(replace(step, begun=0) for step in steps))
    first = next(step for step in steps if step.begun)
    assert f"step {first.id} reads for rows up to {first.begun}, and says 0" in problems(plan, silent)


@pytest.mark.parametrize(("copies", "block", "row"), [(7, 0, 2), (1, 1, 2)])
def test_plans_that_are_silent_of_rows_that_reads_begin_are_refused(
    copies: int, block: int, row: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that is begun is taken out, with its buffers: seven copies, and windows that a pooling shares."""
    plan = compile_model(pooled(), hardware="reference", settle=SETTLE, replicas=copies)
    plan.save(tmp_path / "whole")
    assert load_plan(tmp_path / "whole") == plan
    monkeypatch.setattr(Stream, "begun", lambda _, row: row)
    plan = compile_model(pooled(), hardware="reference", settle=SETTLE, replicas=copies)
    plan.save(tmp_path / "silent")
    name = plan.blocks[block].name
    step = next(s for s in plan.inference.steps if s.name == name and s.rows == (row - 2, row - 1))
    with pytest.raises(PlanError) as refused:
        load_plan(tmp_path / "silent")
    assert str(refused.value) == (
        f"{tmp_path / 'silent'}: step {step.id} reads for rows of {name!r} up to {row}, and says of its own\n"
        "  hint: compile the model again"
    )


def test_what_is_read_early_is_billed_once() -> None:
    """A far memory passes each row once, with the step that makes the rest of it."""
    machine = levels(10, count=64, rows=40, cols=20)
    plan = compile_model(pooled(), hardware=machine, settle=SETTLE, replicas=7)
    assert any(step.begun for step in plan.inference.steps)
    (made, *_), far = (layer.value for block in plan.blocks for layer in block.layers), 9 * 9 * 4
    spilt = [spill for spill in plan.memory.inference.spills if spill.name == made]
    assert sum(spill.traffic for spill in spilt) == 2 * far  # written once, read once, a byte each


def test_a_replay_tells_values_from_errors_that_go_back() -> None:
    """A Relu goes back band by band after its error has come from a block, and reads its own band alone."""
    b = Builder()
    y = b.node("Relu", b.conv(b.input("x", 1, 2, 6, 6), 2, 4))
    y = b.node("Relu", b.node("Add", y, y))
    y = b.node("Gemm", b.node("Flatten", y), b.weight(144, 3))
    plan = compile_model(b.model(y), hardware="reference", settle=SETTLE)
    back = [step for step in plan.training.steps if step.kind == "digital_backward"]
    assert len({step.rows for step in back if step.rows}) > 1
    check(plan)


def test_bands_that_nothing_is_scattered_to_wait_for_nothing() -> None:
    """Kernels of two rows by three: every third row holds biases alone."""
    b = Builder()
    x = b.node("Relu", b.conv(b.input("x", 1, 2, 4, 4), 2, 4))
    y = b.node("ConvTranspose", x, b.weight(4, 2, 2, 2), b.weight(2), strides=[3, 3])
    plan = compile_model(b.model(b.node("Relu", y)), hardware="isaac", settle=SETTLE)
    assert {(2, 3), (5, 6), (8, 9)} <= {step.rows for step in plan.inference.steps if step.block == 1}
    for schedule in (plan.inference, plan.training):
        assert list(problems(plan, schedule)) == []
    check(plan)


# --- shipped machines ---------------------------------------------------------------------------------


@pytest.mark.parametrize("machine", with_signs())
@pytest.mark.parametrize("block_size", [1, 2])
def test_shipped_machines_replayed(machine: str, block_size: int) -> None:
    """A network with convolutions, a normalisation, a pooling and a residual sum, which trains."""
    plan = compile_model(small_network(), hardware=machine, block_size=block_size, settle=SETTLE)
    check(plan)
    assert not plan.memory.inference.spills
    beside = {buffer.memory for buffer in plan.memory.training.buffers if buffer.at}
    assert beside == {"scratchpads": {"scratchpad"}, "isaac-edram": {"buffer"}}.get(machine, set())


@pytest.mark.parametrize("machine", ["reference", "scratchpads", "resistive"])
def test_several_runs_in_flight_replayed(machine: str) -> None:
    """Each run has buffers of its own; gradients are added up, and cells in place take the states of all."""
    plan = compile_model(small_network(), hardware=machine, block_size=2, settle=SETTLE, batch=3)
    check(plan)
    for held in (plan.memory.inference, plan.memory.training):
        given = [
            (buffer.first, buffer.sample) for buffer in held.buffers if buffer.name == "x" and not buffer.at
        ]
        assert given == [(-1, 0), (-1, 1), (-1, 2)]
    steps = plan.training.steps
    for update in (step for step in steps if step.kind == "update" and step.units[0].startswith("tile")):
        if any(steps[before].kind == "nudged" for before in update.after):
            assert update.block is not None
            layers = {layer.value for layer in plan.blocks[update.block].layers}
            states = [b for b in plan.memory.training.buffers if b.content == "minus" and b.name in layers]
            assert {b.sample for b in states} == {0, 1, 2}
            assert all(b.last >= update.id for b in states)


def shared_weight() -> ModelProto:
    """Three layers, two of which have one weight."""
    b = Builder()
    shared = b.weight(8, 8, 3, 3)
    y = b.node("Relu", b.conv(b.input("x", 1, 8, 6, 6), 8, 8))
    for _ in range(2):
        y = b.node("Relu", b.node("Conv", y, shared, pads=[1] * 4))
    return b.model(y)


@pytest.mark.parametrize("runs", [1, 2])
@pytest.mark.parametrize("machine", ["reference", "scratchpads", "pimcomp"])
def test_the_gradient_of_a_weight_of_several_blocks_replayed(machine: str, runs: int) -> None:
    """It is added to by the contrasts of both, and stays until its one update."""
    plan = compile_model(shared_weight(), hardware=machine, settle=SETTLE, replicas=1, batch=runs)
    check(plan)
    (weight,) = plan.blocks[1].weights()
    assert [weight in block.weights() for block in plan.blocks] == [False, True, True]
    (buffer,) = [b for b in plan.memory.training.buffers if (b.content, b.name) == ("gradient", weight)]
    contrasts = [s.id for s in plan.training.steps if s.kind == "contrast" and s.block in {1, 2}]
    assert buffer.first == min(contrasts)
    assert buffer.last > max(contrasts)
    assert plan.training.steps[buffer.last].kind == "update"


@pytest.mark.parametrize("runs", [1, 2])
def test_cells_in_place_take_the_states_of_all_blocks_of_their_weight(runs: int) -> None:
    b = Builder()
    shared = b.weight(3, 3)
    y = b.node("Relu", b.node("MatMul", b.input("x", 1, 3), b.weight(3, 3)))
    for _ in range(2):
        y = b.node("Relu", b.node("MatMul", y, shared))
    tile = replace(round_numbers().analog[0].tile, update=learning(None, "differences"))
    machine = with_tiles(round_numbers(), tile=tile)
    plan = compile_model(b.model(y), hardware=machine, settle=SETTLE, replicas=1, batch=runs)
    check(plan)
    steps, buffers = plan.training.steps, plan.memory.training.buffers
    (update,) = (s for s in steps if s.kind == "update" and {steps[n].block for n in s.after} == {1, 2})
    assert {steps[n].kind for n in update.after} == {"nudged"}
    states = {layer.value for block in plan.blocks[1:3] for layer in block.layers}
    held = [buffer for buffer in buffers if buffer.content == "minus" and buffer.name in states]
    assert len(held) == 2 * runs
    assert all(buffer.last >= update.id for buffer in held)


@pytest.mark.parametrize(("bare", "padded"), [("reference", "scratchpads"), ("isaac", "isaac-edram")])
def test_machines_with_scratchpads_differ_by_them_alone(bare: str, padded: str) -> None:
    ours, theirs = load_hardware(bare), load_hardware(padded)
    (pad,) = (m for m in theirs.memory if m.name not in {memory.name for memory in ours.memory})
    assert (pad.owner, pad.level) == ("tiles", 2)
    rest = tuple(memory for memory in theirs.memory if memory is not pad)
    assert replace(theirs, name=ours.name, description=ours.description, memory=rest) == ours


def test_a_map_that_is_too_large_for_its_tiles_lies_on_the_chip() -> None:
    """128 x 128 x 16 values of 2 bytes, bands of two rows of 8 KiB, beside a single tile of 5,461 bytes."""
    b = Builder()
    x = b.node("Relu", b.conv(b.input("x", 1, 1, 128, 128), 1, 16))
    plan = compile_model(b.model(b.node("Relu", b.conv(x, 16, 4))), hardware="isaac-edram")
    check(plan)
    spilt = {spill.name: spill for spill in plan.memory.inference.spills}
    assert (spilt[x].wanted, spilt[x].memory) == ("buffer", "edram")
    assert spilt[x].traffic >= 128 * 128 * 16 * 2


@settings(max_examples=10, derandomize=True, suppress_health_check=SLOW)
@given(
    model=random_models(),
    near=st.integers(300, 3000),
    pads=st.sampled_from([0, 20, 200]),
    runs=st.integers(1, 2),
)
def test_prices_of_what_has_moved_are_those_of_everything(
    model: ModelProto, near: int, pads: int, runs: int
) -> None:
    """Each round prices what has moved; so does a look at the whole, in the order of steps too."""
    machine = levels(near, pads)
    graph = placed(model, machine)
    flow = flow_of(graph)
    tasks = samples_in_flight(training_tasks(graph, machine, SETTLE), runs, joining(graph))
    found = priced(flow, machine, tasks, ordered)
    assert found.tasks == Pricing(found.places).tasks(tasks)
    by_steps = lives(flow, found.schedule.steps, found.places._beside)
    sized = [(held, life) for held, life in by_steps.items() if found.places.sizes.each(held)]
    assert list(found.places.lives.items()) == sized
