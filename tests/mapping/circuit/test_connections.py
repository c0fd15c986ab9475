"""The lines of a block as one map: dense for small blocks, array by array for large ones, and by hand."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from ffebm.compiler.driver import compile_model
from ffebm.exporters.spice.circuit import block_circuit
from ffebm.mapping.circuit import connections
from ffebm.mapping.circuit.connections import Connections
from ffebm.plan.plan import Plan
from tests.exporters.spice.models import conv_plan, dense_plan
from tests.models import Builder


def skipping_plan() -> Plan:
    """A layer that drives the one after the next as it is, and a clamped input that drives one."""
    b = Builder(0)
    x = b.input("x", "N", 4)
    first = b.clip(b.node("Add", b.node("MatMul", x, b.weight(4, 4, gain=0.5)), x))
    second = b.clip(b.node("MatMul", first, b.weight(4, 4, gain=0.5)))
    return compile_model(b.model(b.node("Add", second, first)), hardware="resistive", block_size=3)


PLANS = [partial(dense_plan, [6, 5, 4], ["Clip", "Tanh"]), conv_plan, skipping_plan]


@pytest.mark.parametrize("make", PLANS)
def test_large_blocks_do_as_small_ones(make: Callable[[], Plan], monkeypatch: pytest.MonkeyPatch) -> None:
    circuit = block_circuit(plan := make(), plan.blocks[0])
    equations, amplifier = circuit.equations(), circuit.relaxation.amplifier
    small = Connections.of(equations, amplifier)
    monkeypatch.setattr(connections, "SMALL", 0)
    large = Connections.of(equations, amplifier)
    rng = np.random.default_rng(0)
    states, reads = rng.random((3, small.units + 1)), rng.random((3, small.count))
    np.testing.assert_allclose(small.asked(states), large.asked(states), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(small.spread(reads), large.spread(reads), rtol=1e-12)
    assert (small.lags == large.lags).all()


@pytest.mark.parametrize("make", PLANS)
def test_units_are_driven_by_their_cells(make: Callable[[], Plan]) -> None:
    circuit = block_circuit(plan := make(), plan.blocks[0])
    lines = Connections.of(circuit.equations(), None)
    rng = np.random.default_rng(0)
    states = rng.random((1, lines.units + 1))
    states[0, -1] = 0  # ground
    pushed, siemens = np.zeros(lines.free), 0.0
    for array in circuit.arrays:
        for drivers, sensed in zip(array.drivers, array.sensed, strict=True):
            volts = [states[0, lines.starts[array.source] + unit] if unit >= 0 else 0.0 for unit in drivers]
            siemens += np.square(volts) @ (array.plus + array.minus).sum(1)
            currents = volts @ (array.plus - array.minus) * array.ohms
            for unit, current in zip(sensed, currents, strict=True):
                if unit >= 0:
                    pushed[lines.starts[array.target] + unit] += current
    for link in circuit.links:
        read = states[0, lines.starts[link.source] + link.drivers]
        np.add.at(pushed, lines.starts[link.target] + link.driven, read)
    np.testing.assert_allclose(lines.spread(lines.asked(states))[0], pushed, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(lines.watts(states), siemens, rtol=1e-12)
