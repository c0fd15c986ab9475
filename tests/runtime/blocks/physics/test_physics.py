"""That a physics is one object: a resistive network runs, settles and learns without a change elsewhere."""

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ffebm.errors import UsageError
from ffebm.graph.energy_block import Activation, Linear
from ffebm.plan.schema import Settle
from ffebm.runtime.blocks.estimators.gradient import EP, Implicit, Unrolled
from tests.runtime.blocks.physics.resistive_example import Resistive
from tests.runtime.some_blocks import IDENTITY, Builder, Case, average_pool

EXACT = Settle(free_sweeps=2000, nudged_sweeps=2000, tol=1e-14)
PLUS, MINUS = Activation("Relu"), Activation("Clip", high=0.0)


def network(seed: int, gain: float, hidden: Activation = PLUS) -> Case:
    """Doubled inputs, two layers of either sign each, a convolution below and a linear output."""
    b = Builder(seed, batch=3)
    b.input("x", 4, 4, 4)
    b.inputs["x"][:, 2:] = -b.inputs["x"][:, :2]
    conv = Linear("Conv", "w+", "b+", (2, 2), (1, 1, 1, 1), (1, 1))
    b.layer("h+", hidden, b.drive("x", (3, 4, 3, 3), conv))
    b.layer("h-", MINUS, b.drive("x", (2, 4, 3, 3), Linear("Conv", "w-", None, (2, 2), (1, 1, 1, 1), (1, 1))))
    second = [
        b.drive(f"h{sign}", (3, n, 1, 1), Linear("Conv", f"u{sign}", None, (1, 1), (0, 0, 0, 0), (1, 1)))
        for sign, n in (("+", 3), ("-", 2))
    ]
    limit = 0.2 * gain**2
    b.layer("k", Activation("Clip", low=-limit, high=limit), *second)
    b.dense("y", "k", 5, IDENTITY)
    case = b.case()
    case.physics = Resistive(gain)
    for name, w in case.weights.items():
        if not name.endswith(("b", "b+")):
            w.abs_().add_(0.01)
    return case


@pytest.mark.parametrize("gain", [1.0, 4.0])
def test_currents_into_every_node_between_its_diodes_add_up_to_nothing(gain: float) -> None:
    """Kirchhoff's law, with amplifiers that divide what flows back by their gain."""
    b = Builder(1)
    b.input("x", 6)
    b.dense("h", "x", 5, PLUS)
    b.dense("y", "h", 4, IDENTITY)
    case = b.case()
    case.physics = Resistive(gain)
    for name in ("h.w", "y.w"):
        case.weights[name].abs_().add_(0.01)
    state = case.settled(EXACT).state
    x, h, y = case.inputs["x"], state["h"], state["y"]
    g, u = case.weights["h.w"], case.weights["y.w"]
    up = (g * (gain * x[:, None] - h[:, :, None])).sum(2)
    back = (u * (y[:, :, None] - gain * h[:, None])).sum(1) / gain
    hidden = up + back + case.weights["h.b"]
    free = h > 0
    assert 0 < int(free.sum()) < free.numel()
    assert float(hidden[free].abs().max()) < 1e-12
    assert float(hidden[~free].max()) < 1e-12
    # a bias is a current in the unit of the energy, which is one amplifier's gain squared down
    out = (u * (gain * h[:, None] - y[:, :, None])).sum(2) + gain**2 * case.weights["y.b"]
    assert float(out.abs().max()) < 1e-11


def test_the_energy_is_half_the_power_that_conductances_take() -> None:
    gain = 3.0
    b = Builder(1)
    b.input("x", 6)
    linear = [Linear("MatMul", name, transposed=True) for name in ("g", "u")]
    b.layer("h", PLUS, b.drive("x", (5, 6), linear[0]))
    b.layer("y", IDENTITY, b.drive("h", (4, 5), linear[1]))
    case = b.case()
    case.physics = Resistive(gain)
    h, y = b.random(3, 5).abs(), b.random(3, 4)
    below = (case.weights["g"] * (h[:, :, None] - gain * case.inputs["x"][:, None]).square()).sum((1, 2))
    above = (case.weights["u"] * (y[:, :, None] - gain * h[:, None]).square()).sum((1, 2))
    torch.testing.assert_close(case.energy({"h": h, "y": y}), below / 2 + above / (2 * gain**2))
    assert bool(case.energy({"h": h - 9, "y": y}).isinf().all())


@pytest.mark.parametrize("gain", [1.0, 2.0])
@settings(max_examples=8, derandomize=True, deadline=None)
@given(st.integers(0, 10**6))
def test_gradients_are_those_of_the_settled_loss(gain: float, seed: int) -> None:
    case = network(seed, gain)
    _, exact, equilibrium = case.run(Implicit(1e-14), EXACT)
    assert bool(equilibrium.converged.all())
    for name, grad in exact.items():
        generator = torch.Generator().manual_seed(2)
        step = {n: torch.zeros_like(g) for n, g in exact.items()}
        step[name] = torch.randn(grad.shape, generator=generator, dtype=grad.dtype)
        slopes = [
            (case.settled_loss(EXACT, step, h) - case.settled_loss(EXACT, step, -h)) / (2 * h)
            for h in (1e-4, 1e-5)
        ]
        found = float((grad * step[name]).sum())
        size = float(grad.norm() * step[name].norm()) + 1e-6
        # a diode that turns over inside the interval spoils one of the two
        assert min(abs(found - slope) for slope in slopes) < 1e-7 * size, name


@pytest.mark.parametrize("gain", [1.0, 4.0])
@pytest.mark.parametrize(
    ("estimator", "limit"), [(EP(1e-4), 1e-7), (EP(1e-5, points=1), 1e-3), (Unrolled(200), 1e-8)]
)
def test_every_estimator_finds_them(estimator: Any, limit: float, gain: float) -> None:
    case = network(3, gain)
    _, exact, _ = case.run(Implicit(1e-14), EXACT)
    _, found, _ = case.run(estimator, EXACT)
    assert exact.keys() == found.keys()
    for name, grad in exact.items():
        assert float((found[name] - grad).norm()) < limit * float(grad.norm()), name


@pytest.mark.parametrize("gain", [1.0, 4.0])
def test_the_settled_state_is_stationary_and_sweeps_never_raise_the_energy(gain: float) -> None:
    case = network(4, gain)
    energies = [case.energy(case.settled(Settle(free_sweeps=n)).state) for n in range(1, 12)]
    for before, after in itertools.pairwise(energies):
        assert bool((after <= before + 1e-12 * before.abs()).all())
    state = {name: s.requires_grad_() for name, s in case.settled(EXACT).state.items()}
    grads = torch.autograd.grad(case.energy(state).sum(), list(state.values()))
    for layer, s, grad in zip(case.block.layers, state.values(), grads, strict=True):
        low, high = Resistive().bounds(layer)
        assert float(grad[(s > low) & (s < high)].abs().max()) < 1e-12
        assert bool((grad[s == low] > -1e-12).all())
        assert bool((grad[s == high] < 1e-12).all())


def test_a_block_without_a_single_energy_is_refused() -> None:
    b = Builder()
    b.input("x", 3)
    b.dense("a", "x", 3, PLUS)
    b.dense("b", "a", 3, PLUS)
    linear = [Linear("MatMul", name, transposed=True) for name in ("u", "v")]
    b.layer("c", IDENTITY, b.drive("a", (2, 3), linear[0]), b.drive("b", (2, 3), linear[1]))
    case = b.case()
    case.physics = Resistive()
    with pytest.raises(UsageError, match="'c' is driven from 2 depths, and amplifiers add up"):
        case.runtime()


def test_negative_conductances_are_refused_until_they_are_constrained() -> None:
    case = network(0, 1.0)
    case.weights["u+"][0, 0] = -0.5
    with pytest.raises(UsageError, match=r"'u\+' has conductances down to -0\.5"):
        case.settled(EXACT)
    bias = case.weights["b+"].clone()
    case.runtime().constrain(case.weights)
    assert float(case.weights["u+"][0, 0]) == 1e-3
    assert torch.equal(case.weights["b+"], bias)
    assert bool(case.settled(EXACT).converged.all())


def test_squares_have_no_complex_nudge() -> None:
    with pytest.raises(UsageError, match="more than two nudging points"):
        network(0, 1.0).run(EP(0.1, points=4), EXACT)


def test_a_pooling_is_refused() -> None:
    b = Builder()
    b.input("x", 2, 4, 4)
    b.conv("s", "x", 2, PLUS, average_pool())
    case = b.case()
    case.physics = Resistive()
    with pytest.raises(UsageError, match="'s': a resistive network has no pooling"):
        case.runtime()
