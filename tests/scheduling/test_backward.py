"""Tasks of one training step behind its forward part."""

from onnx import ModelProto

from ffebm.plan.schema import Settle
from ffebm.scheduling.backward import Backward
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


def test_a_training_step_is_not_cut_into_bands() -> None:
    assert all(task.rows is None for task in step(two_convolutions()).tasks)
