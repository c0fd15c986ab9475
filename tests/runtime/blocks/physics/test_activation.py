import pytest
import torch

from ffebm.errors import InternalError
from ffebm.graph.graph import Activation
from ffebm.runtime.blocks.physics.activation import activate, bounds, is_holomorphic, slope
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
