"""How circuits move: closed forms, and samples together as each alone."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from ffebm.exporters.spice.circuit import block_circuit
from ffebm.mapping.circuit import dynamics as circuit_dynamics
from ffebm.mapping.circuit.dynamics import Course, Dynamics
from ffebm.mapping.circuit.equations import nudges, output_shapes, seeded_currents, seeded_inputs
from ffebm.plan.plan import Plan
from tests.exporters.spice.models import conv_plan, dense_plan


def same(found: list[Course], expected: list[Course]) -> None:
    """Courses with as many steps, at the same states."""
    for a, b in zip(found, expected, strict=True):
        assert (a.settled, a.seconds) == (b.settled, b.seconds)
        np.testing.assert_allclose(a.states, b.states, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(a.siemens, b.siemens, rtol=1e-12)


@pytest.mark.parametrize("make", [partial(dense_plan, [6, 5, 4], ["Clip", "Tanh"]), conv_plan])
def test_samples_move_together_as_each_alone(
    make: Callable[[], Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    circuit = block_circuit(plan := make(), plan.blocks[0])
    dynamics = Dynamics(circuit.equations(), circuit.relaxation, circuit.relaxation.amplifier, 5)
    inputs, currents = seeded_inputs(circuit.inputs, 3), seeded_currents(output_shapes(circuit.block), 3)
    together = dynamics.relax(inputs, nudges(currents, 0.1))
    assert len({len(courses[0].states) for courses in together}) > 1  # each stops when it is still
    for k, courses in enumerate(together):
        one = {name: x[k : k + 1] for name, x in inputs.items()}
        pushed = nudges({name: c[k : k + 1] for name, c in currents.items()}, 0.1)
        same(courses, *dynamics.relax(one, pushed))
    monkeypatch.setattr(circuit_dynamics, "MOST_TOGETHER", 1)
    for courses, expected in zip(dynamics.relax(inputs, nudges(currents, 0.1)), together, strict=True):
        same(courses, expected)


def test_a_relaxation_ends_where_a_linear_layer_is_driven_to() -> None:
    plan = dense_plan([4, 3], [""])
    circuit = block_circuit(plan, plan.blocks[0])
    inputs = seeded_inputs(circuit.inputs, 1)
    ((course,),) = Dynamics(circuit.equations(), circuit.relaxation, None).relax(inputs)
    (array,) = circuit.arrays
    drive = (
        inputs["x"][0] @ ((array.plus - array.minus) * array.ohms)
        + circuit.constants[plan.blocks[0].layers[0].value]
    )
    np.testing.assert_allclose(course.states[-1], drive, rtol=1e-7)
    assert course.settled
