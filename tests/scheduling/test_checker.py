"""Schedules of plans run as events on the machine; the checker finds what is put wrong."""

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from onnx import ModelProto

from ffebm import Executor, Plan
from ffebm import compile as compile_plan
from ffebm.plan.mapping import Objective
from ffebm.plan.schedule import Schedule
from tests.machines import products_apart, three_groups
from tests.models import Builder, as_tuple, oracle, random_feeds, random_models, relative_error, tensors
from tests.scheduling.checker import problems
from tests.scheduling.graphs import activated_first, few_steps
from tests.scheduling.test_in_flight import MODELS

LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"
MACHINES = ("reference", "isaac", "hermes", "hermes-fast", "pimcomp", "heterogeneous", "resistive", "ideal")


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("model", MODELS)
def test_schedules_of_small_plans_run(model: str, machine: str) -> None:
    for block_size in (1, 2):
        plan = compile_plan(MODELS[model], hardware=machine, block_size=block_size, replicas=1)
        for schedule in (plan.inference, plan.training):
            assert list(problems(plan, schedule)) == []


@pytest.mark.parametrize("machine", MACHINES)
def test_schedules_whose_steps_are_several_nodes_run(machine: str) -> None:
    with few_steps(40):
        plan = compile_plan(activated_first(), hardware=machine, replicas=1)
    assert any(step.fused for step in plan.inference.steps)
    assert not any(step.fused for step in plan.training.steps)
    for schedule in (plan.inference, plan.training):
        assert list(problems(plan, schedule)) == []


def test_values_between_two_groups_of_digital_units_are_carried() -> None:
    """A transfer brings what a matrix unit makes to a vector unit; who does not wait for it is found."""
    plan = compile_plan(MODELS["dense"], hardware=products_apart(), digital=["*"])
    makers = {step.units for step in plan.inference.steps if step.kind == "digital"}
    assert makers == {("digital0",), ("digital1",)}
    assert list(problems(plan, plan.inference)) == []
    steps = list(plan.inference.steps)
    transfer = next(step for step in steps if step.kind == "transfer" and step.after)
    reader = next(step for step in steps if step.kind == "digital" and transfer.id in step.after)
    steps[reader.id] = replace(reader, after=transfer.after)
    found = list(problems(plan, replace(plan.inference, steps=tuple(steps))))
    assert any("to be brought" in problem for problem in found)


def test_what_only_moves_one_value_stays_where_that_lies() -> None:
    """Also between several units of a group, which share what the group holds."""
    b = Builder()
    y = b.node("MatMul", b.node("Transpose", b.input("x", 3, 2), perm=[1, 0]), b.weight(3, 4))
    y = b.node("Flatten", y)
    y = b.node("Relu", b.node("MatMul", b.node("Concat", y, y, axis=1), b.weight(8, 5)))
    plan = compile_plan(b.model(y), hardware=three_groups(units=2), digital=["*"], batch=3)
    carried = {step.name for step in plan.inference.steps if step.kind == "transfer"}
    assert carried == {plan.nodes[-2].outputs[0]}  # from the matrix units to those of Relu
    for schedule in (plan.inference, plan.training):
        assert list(problems(plan, schedule)) == []


def check_in_fp32(model: ModelProto, objective: Objective, batch: int, tiles: int | None) -> None:
    """Shorter types are prices only, however cheap: without them the plan is the same, and exact."""
    machine = three_groups(units=2)
    alone = replace(machine, digital=tuple(replace(g, bf16=None, int8=None) for g in machine.digital))
    plan, same = (
        compile_plan(model, hardware=known, objective=objective, batch=batch, tiles=tiles, effort=100)
        for known in (machine, alone)
    )
    for schedule in (plan.inference, plan.training):
        assert list(problems(plan, schedule)) == []
    assert (plan.nodes, plan.tiles) == (same.nodes, same.tiles)
    assert (plan.inference, plan.training) == (same.inference, same.training)
    feeds = random_feeds(model)
    net = Executor(plan, tiles=dict.fromkeys(plan.groups_of_weights(), "ideal"))
    assert relative_error(as_tuple(net(**tensors(feeds))), oracle(model, feeds)) < 1e-4


cases = {
    "model": random_models(8),
    "objective": st.sampled_from(get_args(Objective)),
    "batch": st.integers(1, 16),
    "tiles": st.sampled_from([None, 0]),
}


@settings(max_examples=5, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(**cases)
def test_random_models_on_three_groups(
    model: ModelProto, objective: Objective, batch: int, tiles: int | None
) -> None:
    check_in_fp32(model, objective, batch, tiles)


@pytest.mark.slow
@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(**cases)
def test_many_random_models_on_three_groups(
    model: ModelProto, objective: Objective, batch: int, tiles: int | None
) -> None:
    check_in_fp32(model, objective, batch, tiles)


@pytest.mark.parametrize("machine", ["reference", pytest.param("isaac", marks=pytest.mark.slow)])
def test_schedules_of_a_large_plan_run(machine: str) -> None:
    plan = compile_plan(LIGHT / "light_squeezenet.onnx", hardware=machine)
    for schedule in (plan.inference, plan.training):
        assert list(problems(plan, schedule)) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet50", "densenet121", "shufflenet", "inception_v2"])
@pytest.mark.parametrize("machine", ["reference", "isaac", "hermes", "pimcomp"])
def test_schedules_of_known_networks_run(name: str, machine: str) -> None:
    plan = compile_plan(LIGHT / f"light_{name}.onnx", hardware=machine, objective="latency")
    for schedule in (plan.inference, plan.training):
        assert list(problems(plan, schedule)) == []


@pytest.fixture(scope="module")
def plan() -> Plan:
    return compile_plan(MODELS["dense"], hardware="reference")


def last_but(schedule: Schedule, kind: str) -> int:
    """The last step of a kind."""
    return max(step.id for step in schedule.steps if step.kind == kind)


def early(schedule: Schedule) -> Schedule:
    """The last free phase starts with the inference."""
    return _changed(schedule, last_but(schedule, "free"), start_s=0.0)


def unasked(schedule: Schedule) -> Schedule:
    """The last free phase waits for nothing, and starts with the inference."""
    return _changed(schedule, last_but(schedule, "free"), start_s=0.0, after=())


def twice(schedule: Schedule) -> Schedule:
    """A transfer starts while another is on its way."""
    first, second = (step for step in schedule.steps if step.kind == "transfer" and step.id < 4)
    return _changed(schedule, second.id, start_s=(first.start_s + first.end_s) / 2, after=())


def _changed(schedule: Schedule, step: int, **fields: object) -> Schedule:
    steps = list(schedule.steps)
    steps[step] = replace(steps[step], **fields)
    return replace(schedule, steps=tuple(steps))


def cheap(schedule: Schedule) -> Schedule:
    """The bill leaves something out: a schedule that says it is busier than it is."""
    return replace(schedule, busiest_s=schedule.busiest_s / 2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (early, "have not ended"),
        (unasked, "does not wait for"),
        (twice, "work for others"),
        (cheap, "busy for"),
        (lambda s: replace(s, makespan_s=2 * s.makespan_s), "the last step ends"),
        (lambda s: replace(s, lower_bound_s=2 * s.makespan_s), "shorter than its bounds"),
    ],
)
def test_what_is_put_wrong_is_found(plan: Plan, change: Callable[[Schedule], Schedule], said: str) -> None:
    assert any(said in text for text in problems(plan, change(plan.inference)))
