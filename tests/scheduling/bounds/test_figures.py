"""Bounds of what objectives make small, against schedules with all that memories add."""

import itertools

import pytest
from msgspec.structs import replace

from ffebm.hardware.description import Hardware, load_hardware
from ffebm.hardware.silicon import watts
from ffebm.mapping.search.goal import OBJECTIVES, SLACK, Measured, value_of
from ffebm.plan.schema import Options, Settle
from ffebm.scheduling.bounds.figures import least_value
from ffebm.scheduling.schedules import inference_tasks
from ffebm.scheduling.twin import inference_of
from tests.mapping.search.graphs import random_model
from tests.scheduling.graphs import activated_first, placed, two_convolutions
from tests.scheduling.memory.test_planned import levels

SETTLE = Settle(free_sweeps=4, nudged_sweeps=2)
MACHINES = [load_hardware("reference"), levels(300), levels(300, pads=40)]


@pytest.mark.parametrize("digital", [(), ("*",)], ids=["tiles", "no tiles"])
@pytest.mark.parametrize("machine", MACHINES, ids=["reference", "far memories", "beside tiles"])
def test_no_schedule_takes_less_wherever_values_lie(machine: Hardware, digital: tuple[str, ...]) -> None:
    """Of uncut layers, and of these in bands."""
    tight = 0
    for model in (two_convolutions(), activated_first(), *map(random_model, range(4))):
        graph = placed(model, machine, Options(replicas=2, digital=digital))
        uncut = inference_tasks(graph, machine, SETTLE, most_bands=1)
        cut = inference_tasks(graph, machine, SETTLE)
        found = inference_of(graph, machine, SETTLE)
        assert found is not None
        joules = found.cost.energy + watts(machine, found.units) * found.makespan_s
        measured = Measured(found.makespan_s, joules, found.busiest_s, leakage=watts(machine, found.units))
        for objective, runs in itertools.product(OBJECTIVES, (1, 5)):
            value = value_of(objective, measured.together(runs))
            least = least_value(objective, cut, machine, runs=runs)
            assert least_value(objective, uncut, machine, chains=False, runs=runs) <= least * (1 + SLACK)
            assert least <= value * (1 + SLACK)
            tight += least > 0.8 * value
    assert tight > 0


def test_what_is_done_in_one_step_may_be_shared_out_otherwise() -> None:
    """Of three units one may do two nodes in a step that two would do; no bound of the uncut counts on it."""
    machine = load_hardware("reference")
    machine = replace(machine, digital=(replace(machine.digital[0], count=3),))
    otherwise = 0
    for model in (activated_first(), *map(random_model, range(8))):
        graph = placed(model, machine, Options(replicas=1, digital=("*",)))
        uncut = inference_tasks(graph, machine, SETTLE, most_bands=1)
        cut = inference_tasks(graph, machine, SETTLE, most_steps=12)
        otherwise += any(task.fused for task in cut)
        for objective in OBJECTIVES:
            least = least_value(objective, uncut, machine, chains=False)
            assert least <= least_value(objective, cut, machine) * (1 + SLACK)
    assert otherwise > 0
