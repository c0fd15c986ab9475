"""Tasks of one training step behind its forward part."""

import pytest
from onnx import ModelProto

import ffebm
from ffebm.plan.memory.held import Rows
from ffebm.plan.schema import Settle
from ffebm.scheduling.backward import Backward
from ffebm.scheduling.forward import Forward
from ffebm.scheduling.in_flight import joining
from ffebm.scheduling.list_schedule import list_schedule
from tests.models import Builder
from tests.scheduling.graphs import REFERENCE, placed, two_convolutions
from tests.scheduling.test_forward import behind


def step(model: ModelProto) -> Backward:
    made = Backward(placed(model), REFERENCE, Settle(), "fp32", 1)
    made.forward()
    made.backward()
    return made


def shared() -> ModelProto:
    """One matrix in two layers."""
    b = Builder()
    weight = b.weight(6, 6)
    y = b.node("Relu", b.node("MatMul", b.input("x", 3, 6), weight))
    return b.model(b.node("Relu", b.node("MatMul", y, weight)))


def test_an_update_is_after_the_last_read() -> None:
    made = step(two_convolutions())
    updates = [n for n, t in enumerate(made.tasks) if t.kind == "update"]
    assert {made.tasks[n].block for n in updates} == {block.id for block in made.graph.blocks}
    for number in updates:
        waits = behind(made.tasks, number)
        reads = {
            n
            for n, t in enumerate(made.tasks)
            if t.kind in {"free", "nudged"} and t.block == made.tasks[number].block
        }
        assert len(reads) == 3  # free, + beta, - beta
        assert reads <= waits


def test_a_shared_weight_has_one_update_after_all_reads() -> None:
    made = step(shared())
    reads = {n for n, t in enumerate(made.tasks) if t.kind in {"free", "nudged"}}
    assert len(made.graph.blocks) == 2
    assert len(reads) == 6
    updates = [n for n, t in enumerate(made.tasks) if t.kind == "update"]
    on_digital = [n for n in updates if made.tasks[n].units[0].startswith("digital")]
    assert len(on_digital) == 1
    assert all(reads <= behind(made.tasks, n) for n in updates)


def test_phases_go_from_the_last_block_back() -> None:
    made = step(two_convolutions())
    (loss,) = (n for n, t in enumerate(made.tasks) if t.kind == "loss")
    nudged = [t.block for t in made.tasks if t.kind == "nudged"]
    assert nudged == [block.id for block in reversed(made.graph.blocks) for _ in range(2)]
    late = {"nudged", "contrast", "digital_backward", "update"}
    assert all(loss in behind(made.tasks, n) for n, t in enumerate(made.tasks) if t.kind in late)


# --- bands -------------------------------------------------------------------------------------------


def in_bands(model: ModelProto, most: int) -> Backward:
    made = Backward(placed(model), REFERENCE, Settle(), "fp32", most)
    made.forward()
    made.backward()
    return made


def nudged(made: Backward, block: int, sign: str) -> dict[Rows, int]:
    """The tasks of a nudged phase by their rows."""
    name = f"{made.graph.blocks[block].name} {sign}beta"
    return {t.rows: n for n, t in enumerate(made.tasks) if t.name == name and t.rows is not None}


def test_a_band_of_a_nudged_phase_waits_for_the_rows_that_its_rows_went_to() -> None:
    made = in_bands(two_convolutions(), 8)
    single = [(row, row + 1) for row in range(8)]
    first, second = (nudged(made, block, "-") for block in (0, 1))
    assert list(first) == list(second) == single
    for row in range(8):
        waits = behind(made.tasks, first[row, row + 1])
        needed = min(row + 2, 8)  # a kernel of three: the row further down has read it too
        assert {rows for rows, number in second.items() if number in waits} == set(single[:needed])


def test_the_second_phase_follows_the_first_band_by_band() -> None:
    made = in_bands(two_convolutions(), 8)
    for block in (0, 1):
        plus, minus = (nudged(made, block, sign) for sign in "+-")
        free = {t.rows: n for n, t in enumerate(made.tasks) if t.kind == "free" and t.block == block}
        for rows in minus:
            waits = behind(made.tasks, minus[rows])
            assert {r for r, number in plus.items() if number in waits} == {r for r in plus if r <= rows}
            assert free[rows] in made.tasks[minus[rows]].after


def test_what_bands_of_a_training_step_take_adds_up_to_what_it_takes_at_once() -> None:
    for model in (two_convolutions(), pooled()):
        whole, cut = in_bands(model, 1), in_bands(model, 4)
        assert len(cut.tasks) > len(whole.tasks)
        kinds = {task.kind for task in whole.tasks}
        assert kinds >= {"free", "nudged", "contrast", "update", "loss"}
        for kind in kinds:
            once, bands = ([t for t in made.tasks if t.kind == kind] for made in (whole, cut))
            joules = [sum(task.cost.energy for task in tasks) for tasks in (once, bands)]
            assert joules[1] == pytest.approx(joules[0], rel=1e-12)
            seconds = [sum(task.seconds - task.fixed_s for task in tasks) for tasks in (once, bands)]
            assert seconds[1] == pytest.approx(seconds[0], rel=1e-12)


def test_bands_shorten_a_training_step() -> None:
    whole, cut = (list_schedule(in_bands(two_convolutions(), most).tasks).makespan_s for most in (1, 8))
    assert cut < 0.9 * whole


def pooled() -> ModelProto:
    """Overlapping windows of pooling in a block, a digital sum, and pooling apart from blocks."""
    b = Builder()
    x = b.input("x", 1, 2, 9, 9)
    y = b.node("Relu", b.node("MaxPool", b.conv(x, 2, 4), kernel_shape=[3, 3], strides=[2, 2]))
    z = b.node("Relu", b.conv(y, 4, 4))
    both = b.node("AveragePool", b.node("Add", y, z), kernel_shape=[2, 2])
    return b.model(b.node("Relu", b.conv(both, 4, 2)))


def test_statistics_of_a_batch_need_all_rows_in_training_alone() -> None:
    b = Builder()
    y = b.norm(b.conv(b.input("x", 1, 2, 8, 8), 2, 4), 4)
    made = in_bands(b.model(b.node("Relu", b.conv(b.node("Relu", y), 4, 4))), 8)
    joins = [t for t in made.tasks if t.name in joining(made.graph)]
    assert {t.kind for t in joins} == {"digital", "digital_backward", "update"}
    assert all(t.rows is None for t in joins)
    inference = Forward(made.graph, REFERENCE, Settle(), "fp32", 8)
    inference.forward()
    assert all(t.rows is not None for t in inference.tasks if t.name in joining(made.graph))


def test_no_error_current_is_carried_of_outputs_that_no_weight_shapes() -> None:
    """The output is made on a vector unit, and the loss runs on the matrix unit before it."""
    b = Builder()
    plan = ffebm.compile(b.model(b.node("Relu", b.input("x", 1, 8))), hardware="heterogeneous")
    assert [step.kind for step in plan.training.steps] == ["digital", "transfer", "loss"]
