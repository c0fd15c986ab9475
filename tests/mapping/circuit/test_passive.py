"""How deep resistive blocks settle: closed forms, small steps, and ngspice."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from msgspec.structs import replace

from ffebm.compiler.driver import compile_model
from ffebm.exporters.spice.export import passive_circuits, passive_seeded
from ffebm.exporters.spice.passive import passive_netlist
from ffebm.graph.energy_block import PhaseKind
from ffebm.graph.tensor import Floats
from ffebm.hardware.description import Hardware, load_hardware
from ffebm.mapping.circuit import needs
from ffebm.mapping.circuit.dynamics import Course
from ffebm.mapping.circuit.equations import (
    clamped_inputs,
    nudges,
    output_shapes,
    seeded_currents,
    seeded_inputs,
)
from ffebm.mapping.circuit.needs import relaxed, unknown
from ffebm.mapping.circuit.passive import PassiveCircuit, PassiveDynamics
from ffebm.plan.plan import Plan
from ffebm.studies.passive_circuits import passive_compare, passive_expected
from tests.exporters.spice.models import needs_ngspice
from tests.exporters.spice.test_passive import conductances, convolution, network
from tests.machines import with_tiles
from tests.models import Builder

SINGLE = "resistive-single"
C = 10e-9 * 10e-6
"""Capacitance of a node of the shipped machine, F."""


def circuit_of(plan: Plan) -> PassiveCircuit:
    (circuit,) = passive_circuits(plan)
    return circuit


def drawn(plan: Plan, samples: int = needs.SAMPLES) -> tuple[dict[str, Floats], list[dict[str, Floats]]]:
    """The inputs and nudges by which a block is billed."""
    block = plan.blocks[0]
    inputs = {name: 2 * x - 1 for name, x in seeded_inputs(clamped_inputs(block), samples).items()}
    return inputs, nudges(seeded_currents(output_shapes(block), samples), 0.1)


def relax(plan: Plan, samples: int = needs.SAMPLES) -> list[list[Course]]:
    return PassiveDynamics(circuit_of(plan)).relax(*drawn(plan, samples), still=1e-9)


def bisected(falls: Callable[[float], float], level: float) -> float:
    """Where a falling function of time has a value."""
    low, high = 0.0, 1e-3
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if falls(middle) > level else (low, middle)
    return high


def test_a_layer_alone_charges_each_node_through_the_conductances_that_meet_there() -> None:
    plan = network((7, 3), 1.0, hardware=SINGLE)
    circuit = circuit_of(plan)
    rates = circuit.incident(circuit.block.layers[0]) / C
    for (free, *_), *_ in zip(relax(plan), strict=True):
        end = free.states[-1]

        def left(second: float, end: Floats = end) -> float:
            return float(np.linalg.norm(end * np.exp(-rates * second)) / np.linalg.norm(end))

        assert free.time_to(0.01) == pytest.approx(bisected(left, 0.01), rel=2e-3)
    slowest = max(bisected(lambda t, r=rate: math.exp(-r * t), 0.008) for rate in rates)  # type: ignore[misc]
    known = plan.blocks[0].relaxed
    assert known is not None
    assert known.time_constants * 10e-9 < slowest


def by_small_steps(circuit: PassiveCircuit, inputs: dict[str, Floats], seconds: float, steps: int) -> Floats:
    """States after each of many plain Euler steps from rest, [steps, units], of the first sample."""
    gains = {layer.value: layer.activation.scale for layer in circuit.block.layers}
    v = {layer.value: np.zeros(math.prod(layer.shape)) for layer in circuit.block.layers}
    held = {name: x[0].reshape(-1) for name, x in inputs.items()}
    course = []
    for _ in range(steps):
        into = {
            layer.value: circuit.nudging(layer) * circuit.currents[layer.value]
            for layer in circuit.block.layers
        }
        for joint in circuit.joints:
            below = held.get(joint.source)
            source = gains[joint.source] * v[joint.source] if below is None else below
            current = joint.siemens * (source[joint.sources] - v[joint.target][joint.targets])
            np.add.at(into[joint.target], joint.targets, current)
            if below is None:
                np.add.at(into[joint.source], joint.sources, -current / gains[joint.source])
        for layer in circuit.block.layers:
            activation = layer.activation
            low = 0.0 if activation.op == "Relu" else activation.low
            low = -math.inf if low is None else low / activation.scale
            high = math.inf if activation.high is None else activation.high / activation.scale
            moved = v[layer.value] + into[layer.value] * (seconds / steps / C)
            v[layer.value] = np.clip(moved, low, high)
        course.append(np.concatenate([gains[la.value] * v[la.value] for la in circuit.block.layers]))
    return np.stack(course)


@pytest.mark.parametrize(
    ("sizes", "gain", "limit"), [((6, 5, 3), 1.0, None), ((6, 5, 3), 4.0, None), ((5, 4, 4, 3), 2.0, 0.3)]
)
def test_the_way_is_that_of_small_steps(sizes: tuple[int, ...], gain: float, limit: float | None) -> None:
    plan = network(sizes, gain, limit=limit, hardware=SINGLE)
    inputs, _ = drawn(plan, 1)
    free = relax(plan, 1)[0][0]
    seconds, steps = len(free.states) * free.seconds, 40_000
    small = by_small_steps(circuit_of(plan), inputs, seconds, steps)
    assert np.abs(free.states[-1] - small[-1]).max() < 1e-6 * np.abs(small[-1]).max()
    exact = Course(seconds / steps, small, settled=True, siemens=0.0)
    for accuracy in (0.2, 0.05, 0.01, 0.001):
        assert free.time_to(accuracy) == pytest.approx(exact.time_to(accuracy), rel=0.01)


@pytest.mark.parametrize("plan", [network((6, 5, 3), 4.0, hardware=SINGLE), convolution(SINGLE)])
def test_what_is_estimated_before_placement_is_what_the_placed_circuit_does(plan: Plan) -> None:
    known, found = plan.blocks[0].relaxed, relax(plan)
    assert known is not None
    assert known.siemens == pytest.approx(np.mean([courses[0].siemens for courses in found]), rel=1e-5)
    slowest = max(course.time_to(needs.SHARE * 0.01) for courses in found for course in courses)
    assert known.time_constants == pytest.approx(slowest / 10e-9, rel=1e-3)


def test_phases_before_a_contrast_leave_less_than_the_answer_in_each_layer() -> None:
    plan = network((6, 5, 3), 4.0, hardware=SINGLE)
    known, dynamics = plan.blocks[0].relaxed, PassiveDynamics(circuit_of(plan))
    assert known is not None
    kinds: tuple[PhaseKind, ...] = ("before nudge", "nudged", "nudged")
    for courses in relax(plan):
        half = (courses[1].states[-1] - courses[2].states[-1]) / 2
        for course, kind in zip(courses, kinds, strict=True):
            at = math.ceil(known.lasting(kind) * 10e-9 / course.seconds)
            left = course.states[min(at, len(course.states)) - 1] - course.states[-1]
            for units in dynamics.layers:
                assert np.linalg.norm(left[units]) <= 0.009 * max(
                    float(np.linalg.norm(half[units])), needs.SILENT * 0.1
                )


def test_times_go_with_the_capacitance_and_power_with_the_conductances() -> None:
    plan, group = network((6, 5, 3), 4.0, hardware=SINGLE), load_hardware(SINGLE).analog[0]
    assert group.relaxation is not None
    twice = replace(group.relaxation.conductance, value=20e-6)
    slower = replace(group, relaxation=replace(group.relaxation, conductance=twice))
    before, after = plan.blocks[0].relaxed, relaxed(plan.blocks[0], plan.weights, slower)
    assert before is not None
    assert after is not None
    assert after.time_constants == pytest.approx(2 * before.time_constants, rel=1e-4)
    assert after.siemens == before.siemens
    assert [note for note in plan.notes if "inputs within 1" in note] == [
        "block0: its time and power are those of clamped inputs within 1; power goes with their square"
    ]


def test_what_is_not_simulated_says_why() -> None:
    plan = network((6, 5, 3), 4.0)
    assert unknown(plan.blocks[0], plan.weights, plan.hardware.analog[0]) == (
        "its weights lie on pairs of cells, of which one would do"
    )
    machine: Hardware = load_hardware(SINGLE)
    tile = machine.analog[0].tile.crossbar()
    zero = replace(tile.cell.g_min, value=0.0)
    floats = with_tiles(machine, tile=replace(tile, cell=replace(tile.cell, g_min=zero)))
    notes = network((6, 5, 3), 4.0, hardware=floats).notes
    assert [note for note in notes if "simulated" in note] == [
        "block0: its settling is not simulated (its cells go down to 0 S, where nodes float); 10 time "
        "constants are billed"
    ]
    b = Builder()
    h = b.node("Relu", b.node("MatMul", b.input("x", "N", 4), conductances(b, 4, 4)))
    model = b.model(b.node("MatMul", h, conductances(b, 4, 3)))
    digital = compile_model(
        model, hardware=SINGLE, block_size=2, physics="deep-resistive", boundary="digital"
    )
    assert "a digital unit drives" in next(note for note in digital.notes if "not simulated" in note)


def check_times(plan: Plan) -> None:
    """Within 1 % when ngspice is, to a twentieth, and as accurate as billed when phases end as billed."""
    circuit = circuit_of(plan)
    stimulus = passive_seeded(circuit)
    known = passive_expected(plan, circuit, stimulus)
    found = passive_compare(plan, passive_netlist(plan, circuit, known.stimulus), known)
    ((free, *_),) = PassiveDynamics(circuit).relax(
        stimulus.inputs, nudges(stimulus.currents, stimulus.beta), still=1e-9
    )
    assert free.time_to(0.01) == pytest.approx(found.seconds, rel=0.05)
    assert found.late["free"] <= 0.01
    assert found.late_cosine > 0.999
    assert found.watts[0] == pytest.approx(free.siemens * circuit.volts**2, rel=1e-4)


@needs_ngspice
@pytest.mark.parametrize(
    "plan",
    [
        network((6, 5, 3), 1.0, hardware=SINGLE),
        network((5, 4, 4, 3), 2.0, limit=0.3, hardware=SINGLE),
        convolution(SINGLE),
    ],
)
def test_ngspice_takes_as_long(plan: Plan) -> None:
    check_times(plan)


@needs_ngspice
@pytest.mark.slow
def test_ngspice_takes_as_long_in_10_random_blocks() -> None:
    rng = np.random.default_rng(7)
    for seed in range(10):
        sizes = tuple(rng.integers(4, 25, size=rng.integers(2, 5)).tolist())
        gain, limit = float(rng.choice([1.0, 2.0, 4.0])), float(rng.choice([0.2, 1.0]))
        check_times(network(sizes, gain, seed, limit, SINGLE))
