import math

import numpy as np
import pytest
import torch

from ffebm.errors import InternalError
from ffebm.graph.energy_block import Activation
from ffebm.runtime.blocks.physics.activation import activate, bounds, is_holomorphic, potential, slope
from tests.runtime.some_blocks import KINKED, SMOOTH

ALL = SMOOTH + KINKED
U = torch.linspace(-6, 6, 241, dtype=torch.float64) + 1e-3


@pytest.mark.parametrize("activation", ALL, ids=lambda a: a.op)
def test_activations_are_monotone_within_their_bounds(activation: Activation) -> None:
    s = activate(activation, U)
    low, high = bounds(activation)
    assert bool((s.diff() >= 0).all())
    assert low <= float(s.min())
    assert float(s.max()) <= high


@pytest.mark.parametrize("activation", ALL, ids=lambda a: a.op)
def test_the_slope_is_that_of_the_state_by_the_unscaled_drive(activation: Activation) -> None:
    h = 1e-6
    scaled = U * activation.scale
    up, down = (activate(activation, scaled + sign * h * activation.scale) for sign in (1, -1))
    torch.testing.assert_close(slope(activation, scaled), (up - down) / (2 * h), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("activation", [a for a in ALL if is_holomorphic(a)], ids=lambda a: a.op)
def test_smooth_activations_extend_to_complex_drives(activation: Activation) -> None:
    h = 1e-20
    derivative = activate(activation, U + 1j * h).imag / h
    torch.testing.assert_close(derivative * activation.scale, slope(activation, U))


def test_an_unknown_activation_is_a_fault_of_ours() -> None:
    with pytest.raises(InternalError, match="no activation is named 'Gelu'"):
        activate(Activation("Gelu"), U)


@pytest.mark.parametrize("activation", ALL, ids=lambda a: a.op)
def test_the_potential_is_the_integral_of_the_inverse(activation: Activation) -> None:
    """By Young's equality: G(s(u)) = u s(u) - integral of s up to u, with the integral by Gauss's rule."""
    nodes, weights = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(60))
    drive = torch.linspace(-5, 5, 41, dtype=torch.float64) + 1e-3
    pieces = 400  # a kink spoils one of them
    edges = drive[:, None] * torch.linspace(0, 1, pieces + 1, dtype=torch.float64)
    half, middle = edges.diff(dim=1)[..., None] / 2, (edges[:, 1:] + edges[:, :-1])[..., None] / 2
    at = middle + half * nodes
    integral = (half * weights * activate(activation, activation.scale * at)).sum((1, 2))
    state = activate(activation, activation.scale * drive)
    rest = potential(activation, activate(activation, torch.zeros(1, dtype=torch.float64)))
    expected = drive * state - integral
    torch.testing.assert_close(potential(activation, state) - rest, expected, rtol=1e-5, atol=1e-6)
    if activation in SMOOTH:
        torch.testing.assert_close(potential(activation, state) - rest, expected, rtol=1e-12, atol=1e-12)


def test_the_potential_of_softplus_where_its_two_forms_meet() -> None:
    """Li2(1/2) is pi^2 / 12 - log(2)^2 / 2; every term of the series counts there."""
    half = torch.tensor([math.log(2.0)], dtype=torch.float64)
    assert float(potential(Activation("Softplus"), half)) == pytest.approx(
        -(math.pi**2) / 12, rel=0, abs=4e-16
    )


@pytest.mark.parametrize("activation", ALL, ids=lambda a: a.op)
def test_the_gradient_of_the_potential_is_the_drive(activation: Activation) -> None:
    drive = torch.linspace(-8, 8, 161, dtype=torch.float64) + 1e-3
    state = activate(activation, activation.scale * drive).requires_grad_()
    (found,) = torch.autograd.grad(potential(activation, state).sum(), state)
    low, high = bounds(activation)
    inside = (state > low) & (state < high)
    assert int(inside.sum()) > 10
    torch.testing.assert_close(found[inside], drive[inside], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("alpha", [0.0, 1e-3, 2.0])
@pytest.mark.parametrize("op", ["LeakyRelu", "Elu", "HardSigmoid", "Selu"])
def test_potentials_at_the_ends_of_their_parameters(op: str, alpha: float) -> None:
    activation = Activation(op, 0.5, alpha=alpha, beta=0.25)
    drive = torch.linspace(-3, 3, 61, dtype=torch.float64)
    state = activate(activation, 0.5 * drive)
    low, high = bounds(activation)
    assert low <= float(state.min())
    assert bool(potential(activation, state).isfinite().all())
    # no other state has less, with the drive pulling
    grid = torch.linspace(max(low, -4), min(high, 4), 4001, dtype=torch.float64)
    least = (potential(activation, grid) - drive[:, None] * grid).amin(1)
    if op != "HardSigmoid" or alpha > 0:  # without a slope it has one state, which no potential here knows
        assert bool((potential(activation, state) - drive * state <= least + 1e-12).all())


@pytest.mark.parametrize("activation", ALL, ids=lambda a: a.op)
def test_out_of_range_the_potential_is_infinite(activation: Activation) -> None:
    low, high = bounds(activation)
    for edge, step in ((low, -0.1), (high, 0.1)):
        if math.isfinite(edge):
            outside = torch.tensor([edge + step], dtype=torch.float64)
            assert float(potential(activation, outside)) == math.inf
