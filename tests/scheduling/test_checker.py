"""Schedules of plans run as events on the machine; the checker finds what is put wrong."""

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from msgspec.structs import replace

from ffebm import Plan
from ffebm import compile as compile_plan
from ffebm.plan.schedule import Schedule
from tests.machines import products_apart
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
