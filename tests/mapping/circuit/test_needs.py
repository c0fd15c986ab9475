"""How long a phase of a circuit lasts, and what it takes: closed forms, and the runtime."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from msgspec.structs import replace

from ffebm.compiler.driver import compile_model
from ffebm.exporters.spice.circuit import block_circuit
from ffebm.graph.energy_block import PhaseKind
from ffebm.hardware.description import AnalogGroup, load_hardware
from ffebm.mapping.circuit import needs
from ffebm.mapping.circuit.dynamics import Dynamics
from ffebm.mapping.circuit.equations import nudges, output_shapes, seeded_currents, seeded_inputs
from ffebm.mapping.circuit.needs import relaxed, unknown
from ffebm.plan.plan import Plan
from tests.exporters.spice.models import conv_plan, dense_plan
from tests.machines import with_tiles
from tests.models import Builder


def group() -> AnalogGroup:
    return load_hardware("resistive").analog[0]


def test_one_linear_layer_needs_the_logarithm_of_the_accuracy() -> None:
    block = dense_plan([4, 3], [""]).blocks[0]
    assert block.relaxed is not None
    # and the lag of the grounds, less what the end is off
    assert np.log(125) - 0.01 < block.relaxed.time_constants < np.log(125) + 0.3


def test_one_linear_layer_is_nudged_for_the_logarithm_of_twice_the_answer_over_what_may_be_left() -> None:
    block = dense_plan([4, 3], [""]).blocks[0]
    needs_ = block.relaxed
    assert needs_ is not None
    assert needs_.nudged is not None
    assert needs_.before_nudge is not None
    # from one nudge to the other is twice the answer
    assert np.log(2 * 125) - 0.01 < needs_.nudged < np.log(2 * 125) + 0.05
    ratio = np.exp(needs_.before_nudge - needs_.time_constants)  # of the state over the answer to 0.1
    assert 2 < ratio < 30


def test_phases_before_a_contrast_leave_less_than_the_answer_in_each_layer() -> None:
    plan = dense_plan([6, 5, 4, 3], ["Tanh", "Tanh", ""])
    circuit = block_circuit(plan, plan.blocks[0])
    dynamics = Dynamics(circuit.equations(), circuit.relaxation, circuit.relaxation.amplifier)
    pushed = nudges(seeded_currents(output_shapes(circuit.block), 1), 0.1)
    ((free, plus, minus),) = dynamics.relax(seeded_inputs(circuit.inputs, 1), pushed)
    half = (plus.states[-1] - minus.states[-1]) / 2
    needs_ = plan.blocks[0].relaxed
    assert needs_ is not None
    kinds: tuple[PhaseKind, ...] = ("before nudge", "nudged", "nudged")
    for course, kind in zip((free, plus, minus), kinds, strict=True):
        at = round(needs_.lasting(kind) * 10e-9 / course.seconds)
        left = course.states[at] - course.states[-1]
        for units in dynamics.layers:
            assert np.linalg.norm(left[units]) <= 0.011 * np.linalg.norm(half[units])


SUPPLY = 9 * 30e-6 + 2 * (5 + 4 + 5) * 0.19e-3
"""Of the neurons and amplifiers of 6-5-4 on `resistive`, W."""


def test_a_training_step_bills_the_phases_of_a_contrast() -> None:
    plan = dense_plan([6, 5, 4], ["Clip", ""])
    tile, needs_ = plan.hardware.analog[0].tile.crossbar(), plan.blocks[0].relaxed
    assert needs_ is not None
    fixed = tile.dac.time.value + tile.adc.time.value
    (read,) = [s for s in plan.inference.steps if s.kind == "free"]
    (free,) = [s for s in plan.training.steps if s.kind == "free"]
    plus = next(s for s in plan.training.steps if s.name.endswith("+beta"))
    kinds: tuple[PhaseKind, ...] = ("free", "before nudge", "nudged")
    for step, kind in zip((read, free, plus), kinds, strict=True):
        seconds = needs_.lasting(kind) * 10e-9
        assert step.end_s - step.start_s == pytest.approx(plan.batch * (seconds + fixed))
        watts = needs_.siemens * 0.1**2 + SUPPLY
        assert step.cost.array == pytest.approx(plan.batch * watts * seconds)
    assert read.end_s - read.start_s < free.end_s - free.start_s


def test_without_a_response_every_phase_lasts_as_a_free_one() -> None:
    plan, plain = dense_plan([6, 5, 4], ["Clip", ""]), group()
    assert plain.relaxation is not None
    found = relaxed(
        plan.blocks[0], plan.weights, replace(plain, relaxation=replace(plain.relaxation, response=None))
    )
    assert found is not None
    assert (found.before_nudge, found.nudged) == (None, None)
    assert found.lasting("before nudge") == found.lasting("nudged") == found.time_constants


def test_layers_that_do_not_answer_are_not_waited_for() -> None:
    # units at the ends of their range: nothing comes back to the first layer
    block = dense_plan([6, 5, 4, 3], ["Tanh", "Clip", "Tanh"]).blocks[0]
    layer = replace(block.layers[1], activation=replace(block.layers[1].activation, low=0.5, high=0.5))
    shut = replace(block, layers=(block.layers[0], layer, block.layers[2]))
    plan = dense_plan([6, 5, 4, 3], ["Tanh", "Clip", "Tanh"])
    found = relaxed(shut, plan.weights, group())
    assert found is not None
    assert found.nudged is not None
    assert found.nudged < np.log(2 * 125) + 0.05


def test_the_power_is_that_of_the_driven_lines() -> None:
    plan = dense_plan([4, 3], [""])
    (circuit,) = [block_circuit(plan, block) for block in plan.blocks]
    (array,) = circuit.arrays
    x = seeded_inputs(circuit.inputs, needs.SAMPLES)["x"]
    siemens = float((x**2 @ (array.plus + array.minus).sum(1)).mean())
    assert plan.blocks[0].relaxed is not None
    assert plan.blocks[0].relaxed.siemens == pytest.approx(siemens, rel=0.01)  # levels are rounded


@pytest.mark.parametrize("make", [partial(dense_plan, [6, 5, 4, 3], ["Clip", "Tanh", ""]), conv_plan])
def test_what_is_estimated_before_placement_is_what_the_placed_circuit_does(make: Callable[[], Plan]) -> None:
    plan = make()
    block = plan.blocks[0]
    assert block.relaxed is not None
    circuit = block_circuit(plan, block)
    dynamics = Dynamics(circuit.equations(), circuit.relaxation, circuit.relaxation.amplifier)
    inputs = seeded_inputs(circuit.inputs, needs.SAMPLES)
    currents = seeded_currents(output_shapes(block), needs.SAMPLES)
    samples = dynamics.relax(inputs, nudges(currents, 0.1))
    free = [courses[0].siemens for courses in samples]
    slowest = max(course.time_to(needs.SHARE * 0.01) for courses in samples for course in courses) / 10e-9
    assert block.relaxed.time_constants == pytest.approx(slowest, rel=0.03, abs=0.2)
    assert block.relaxed.siemens == pytest.approx(np.mean(free), rel=0.02)


def test_stronger_coupling_and_slower_amplifiers_take_longer() -> None:
    weak, strong = (dense_plan([6, 8, 8], ["Clip", ""], gain=g).blocks[0].relaxed for g in (0.4, 1.0))
    assert weak is not None
    assert strong is not None
    assert weak.time_constants < strong.time_constants
    plan, slow = dense_plan([6, 8, 8], ["Clip", ""]), group()
    assert slow.relaxation is not None
    assert slow.relaxation.amplifier is not None
    width = replace(slow.relaxation.amplifier.gain_bandwidth, value=1e7)
    amplifier = replace(slow.relaxation.amplifier, gain_bandwidth=width)
    slow = replace(slow, relaxation=replace(slow.relaxation, amplifier=amplifier))
    found = relaxed(plan.blocks[0], plan.weights, slow)
    assert found is not None
    assert plan.blocks[0].relaxed is not None
    assert found.time_constants > 1.3 * plan.blocks[0].relaxed.time_constants


def test_phases_are_billed_as_long_as_they_need_to_be() -> None:
    plan = dense_plan([6, 5, 4], ["Clip", ""])
    block, machine = plan.blocks[0], plan.hardware.analog[0]
    (step,) = [step for step in plan.inference.steps if step.kind == "free"]
    tile = machine.tile.crossbar()
    assert machine.relaxation is not None
    assert block.relaxed is not None
    seconds = 10e-9 * block.relaxed.time_constants
    converted = tile.dac.time.value + tile.adc.time.value
    assert step.end_s - step.start_s == pytest.approx(plan.batch * (seconds + converted))
    joules = plan.batch * (block.relaxed.siemens * 0.1**2 + SUPPLY) * seconds
    assert step.cost.array == pytest.approx(joules)


def test_blocks_that_are_not_simulated_are_billed_by_the_description_and_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    b = Builder()
    pooled = b.node("MaxPool", b.conv(b.input("x", "N", 1, 4, 4), 1, 2), kernel_shape=[2, 2], strides=[2, 2])
    plan = compile_model(b.model(b.clip(pooled)), hardware="resistive")
    assert plan.blocks[0].relaxed is None
    assert any(
        "block0: its settling is not simulated ('v2': a MaxPool drives it, for which there is no circuit "
        "here); 10 time constants are billed" in note
        for note in plan.notes
    )
    monkeypatch.setattr(needs, "MOST_CONNECTIONS", 11)
    plan = dense_plan([4, 3], [""])
    assert unknown(plan.blocks[0], plan.weights, group()) == "it has 12 connections"
    assert plan.blocks[0].relaxed is None


def test_a_machine_that_states_no_accuracy_bills_its_time_constants() -> None:
    machine = load_hardware("resistive")
    relaxation = machine.analog[0].relaxation
    assert relaxation is not None
    plain = with_tiles(machine, relaxation=replace(relaxation, accuracy=None, response=None))
    b = Builder()
    y = b.node("MatMul", b.input("x", "N", 4), b.weight(4, 3))
    plan = compile_model(b.model(y), hardware=plain)
    assert plan.blocks[0].relaxed is None
    assert not any("simulated" in note for note in plan.notes)
