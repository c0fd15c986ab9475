"""Tasks as they come."""

import pytest
from msgspec.structs import replace

from ffebm.hardware.description import Core, Hardware
from ffebm.hardware.groups import DataType
from ffebm.mapping.digital_cost import DigitalWork
from ffebm.plan.schema import Options, Settle
from ffebm.scheduling.schedules import TaskLists, inference_tasks, training_tasks
from ffebm.scheduling.task_list import TaskList, apart, batch_of
from tests.machines import seconds, with_tiles
from tests.models import Builder
from tests.scheduling.graphs import REFERENCE, placed, two_convolutions


def tasks_on(machine: Hardware = REFERENCE) -> TaskList:
    return TaskList(placed(two_convolutions()), machine, Settle(), "fp32")


def test_samples_are_the_first_size_of_the_first_input() -> None:
    b = Builder()
    assert batch_of(placed(b.model(b.node("Relu", b.input("x", 5, 3))))) == 5
    b = Builder()
    assert batch_of(placed(b.model(b.node("Relu", b.input("x", "N", 3))))) == 1


def test_what_is_read_elsewhere_than_it_lies_is_carried() -> None:
    one, other = placed(two_convolutions()).blocks[:2]
    assert apart(one, other)
    assert not apart(one, one)
    assert apart(one, None)  # tiles send it to the host
    assert apart("a", "b")
    assert not apart("a", "a")
    assert not apart(None, "a")


def test_a_block_keeps_its_tiles_and_their_cores_busy() -> None:
    tasks = tasks_on()
    first, second = tasks.graph.blocks[:2]
    assert tasks.tiles(first) == tuple(f"tile{number}" for number in tasks.costs[first.id].tiles)
    assert not {*tasks.tiles(first)} & {*tasks.tiles(second)}
    cored = tasks_on(with_tiles(REFERENCE, core=Core(tiles=2, issue=seconds(1.0))))
    assert cored.units((0, 1, 5)) == ("core0", "core2", "tile0", "tile1", "tile5")


def test_work_goes_to_the_unit_that_has_least_to_do() -> None:
    machine = replace(REFERENCE, digital=(replace(REFERENCE.digital[0], count=2),))
    tasks = tasks_on(machine)
    numbers = [tasks.compute("digital", "a", (), DigitalWork(0, many, 0)) for many in (90, 10, 10, 100)]
    units = [tasks.tasks[number].units for number in numbers]
    first, second = (f"digital{number}" for number in machine.unit_numbers(machine.host.name))
    assert units == [(first,), (second,), (second,), (second,)]


def test_a_share_of_work_takes_a_share_of_all() -> None:
    tasks = tasks_on()
    run = tasks.digital_run(DigitalWork(10, 20, 40), tasks.hardware.host)
    whole, part = run.task("digital", "a", ()), run.task("digital", "a", (), (0, 2), 0.25)
    assert part.rows == (0, 2)
    assert part.seconds == pytest.approx(whole.seconds / 4)
    assert part.cost.energy == pytest.approx(whole.cost.energy / 4)
    assert whole.cost.energy > 0


def test_each_transfer_has_a_latency_and_so_many_elements() -> None:
    tasks = tasks_on()
    block = tasks.graph.blocks[0]
    whole = tasks.tasks[tasks.transfer("x", (-1,), (None, block))]
    half = tasks.tasks[tasks.transfer("x", (), (None, block), 64, rows=(0, 4))]
    assert whole.after == half.after == ()
    assert whole.fixed_s == half.fixed_s > 0
    assert half.seconds - half.fixed_s == pytest.approx((whole.seconds - whole.fixed_s) / 2)
    assert half.cost.energy == pytest.approx(whole.cost.energy / 2)


@pytest.mark.parametrize("dtype", ["bf16", "int8"])
def test_a_list_of_one_unit_in_another_type_is_what_that_type_lists(dtype: DataType) -> None:
    """Structure, seconds, joules and what a batch leaves as it is are all the same, to the last digit."""
    graph = placed(two_convolutions(), options=Options(digital=("*",)))
    lists = TaskLists(graph, REFERENCE, Settle())
    assert lists.inference("fp32") == inference_tasks(graph, REFERENCE, Settle())
    assert lists.training("fp32", 8, 900) == training_tasks(graph, REFERENCE, Settle(), "fp32", 8, 900)
    assert lists.inference(dtype) == inference_tasks(graph, REFERENCE, Settle(), dtype)
    found = lists.training(dtype, 8, 900)
    assert found == training_tasks(graph, REFERENCE, Settle(), dtype, 8, 900)
    assert {task.kind for task in found} == {"digital", "loss", "digital_backward", "update"}
    assert found != lists.training("fp32", 8, 900)


def test_with_tiles_each_type_has_its_own_list() -> None:
    """Transfers take as long as their type has bits, and bands follow from seconds."""
    graph = placed(two_convolutions())
    lists = TaskLists(graph, REFERENCE, Settle())
    for dtype in ("fp32", "int8"):
        assert lists.inference(dtype) == inference_tasks(graph, REFERENCE, Settle(), dtype)
