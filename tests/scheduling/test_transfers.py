"""What crosses the network: between groups of digital units, and out of the tiles."""

import pytest
from msgspec.structs import replace

from ffebm import Plan
from ffebm import compile as compile_plan
from ffebm.hardware.description import Hardware
from ffebm.plan.schedule import Cost, Schedule, Step
from tests.machines import joules, round_numbers
from tests.models import Builder


def two_groups(*, apart: bool = False) -> Hardware:
    """A matrix unit beside a vector unit, on one memory of 0.5 J a bit or with one each, of 0.5 and 3 J."""
    machine = round_numbers()
    unit, memory = machine.digital[0], machine.memory[0]
    others = ("Flatten", "Relu")  # so that nothing is left to choose
    digital = (replace(unit, name="matrix", ops=("MatMul",)), replace(unit, name="vector", ops=others))
    if not apart:
        return replace(machine, digital=digital, memory=(replace(memory, owner="chip"),))
    own = (
        replace(memory, name="near-matrix", owner="matrix"),
        replace(memory, name="near-vector", owner="vector", bit_energy=joules(3.0)),
    )
    return replace(machine, digital=digital, memory=own)


def by_turns(hardware: Hardware) -> Plan:
    """Product, view, product, Relu: all digital."""
    b = Builder()
    y = b.node("MatMul", b.input("x", 2, 3), b.weight(3, 4), out="first")
    y = b.node("MatMul", b.node("Flatten", y, out="view"), b.weight(4, 5), out="second")
    return compile_plan(b.model(b.node("Relu", y, out="last")), hardware=hardware, digital=["*"])


def crossings(schedule: Schedule) -> list[Step]:
    return [step for step in schedule.steps if step.kind == "transfer"]


def test_values_between_groups_cross_once_and_views_stay_where_they_are() -> None:
    (step,) = crossings(by_turns(two_groups()).inference)
    assert (step.name, step.units) == ("second", ("network",))
    assert step.end_s - step.start_s == pytest.approx(2 + 2 * 5 * 8 / 16)
    assert step.cost == Cost(network=80 * 0.25 * 2)  # either unit bills its own way to their one memory


def test_two_memories_bill_both_ends() -> None:
    (step,) = crossings(by_turns(two_groups(apart=True)).inference)
    assert step.cost == Cost(network=80 * 0.25 * 2, memory=80 * (0.5 + 3))


def test_training_brings_outputs_to_the_loss_and_currents_back() -> None:
    plan = by_turns(two_groups())
    names = [step.name for step in crossings(plan.training)]
    # the loss is the host's, which is the first group
    assert names == ["second", "last", "last", "second"]
    assert plan.twin["fp32"].training_s == plan.training.makespan_s


def test_one_group_moves_nothing() -> None:
    assert not crossings(by_turns(round_numbers()).training)


def test_an_output_leaves_the_tiles_once() -> None:
    b = Builder()
    y = b.node("Relu", b.node("MatMul", b.input("x", 5, 3), b.weight(3, 2)), out="s")
    plan = compile_plan(b.model(y), hardware=round_numbers())
    assert [step.name for step in crossings(plan.inference)] == ["x", "s"]
    out = crossings(plan.inference)[-1]
    assert out.cost == Cost(network=80 * 0.25 * 2, memory=80 * 0.5)
    assert out.end_s == plan.inference.makespan_s
    loss = next(step for step in plan.training.steps if step.kind == "loss")
    assert [plan.training.steps[before].name for before in loss.after] == ["s"]


def test_currents_of_two_readers_meet_at_the_host() -> None:
    """One layer's output is read by two others on tiles: two ways there, and one on to it."""
    b = Builder()
    s = b.node("Relu", b.node("MatMul", b.input("x", 1, 3), b.weight(3, 2)), out="s")
    t, u = (b.node("Relu", b.node("MatMul", s, b.weight(2, 2)), out=out) for out in "tu")
    plan = compile_plan(b.model(b.node("Add", t, u)), hardware=round_numbers())
    forward = [step.name for step in crossings(plan.inference)]
    steps = crossings(plan.training)
    back = [step.name for step in steps if step.block is None][len(forward) :]
    assert forward.count("s") == 2
    assert back.count("s") == 3
