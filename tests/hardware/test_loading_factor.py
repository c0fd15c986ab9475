import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ffebm import load_hardware
from ffebm.hardware.description import Crossbar
from ffebm.hardware.loading_factor import loading_factor
from tests.machines import ratio


def error(reach: float, bits: int) -> float:
    """Mean squared error of the codes -top ... top for a normally distributed input, cell by cell."""
    top = 2 ** (bits - 1) - 1
    codes = torch.arange(1, top + 1, dtype=torch.float64)
    step = reach / top
    edges = (codes - 0.5) * step
    density = torch.exp(-edges.square() / 2) / math.sqrt(2 * math.pi)
    tail = torch.special.erfc(edges / math.sqrt(2)) / 2
    return float(1 - 4 * step * density.sum() + 2 * step**2 * ((2 * codes - 1) * tail).sum())


@pytest.mark.parametrize(("bits", "step"), [(2, 1.224), (3, 0.6508), (4, 0.3534), (5, 0.1932)])
def test_published_steps(bits: int, step: float) -> None:
    """Max 1960, table II, for 3, 7, 15 and 31 levels."""
    assert loading_factor(bits) / (2 ** (bits - 1) - 1) == pytest.approx(step, rel=2.5e-3)


@given(st.integers(2, 14), st.floats(0.02, 0.5))
def test_ranges_beside_it_are_worse(bits: int, off: float) -> None:
    best = error(loading_factor(bits), bits)
    assert best < error(loading_factor(bits) * (1 + off), bits)
    assert best < error(loading_factor(bits) * (1 - off), bits)
    assert best <= 1.0001 * min(error(loading_factor(bits) * (1 + k / 500), bits) for k in range(-10, 11))


def test_more_bits_reach_further() -> None:
    factors = [loading_factor(bits) for bits in range(2, 25)]
    assert factors == sorted(set(factors))
    assert 7 < factors[-1] < 8


def test_a_description_without_a_range_takes_it() -> None:
    tile = load_hardware("reference").analog[0].tile
    assert isinstance(tile, Crossbar)
    assert tile.adc_sigmas is None
    assert tile.deviations == loading_factor(8) == 3.9205
    assert replace(tile, adc=replace(tile.adc, bits=4)).deviations == loading_factor(4)
    assert replace(tile, adc_sigmas=ratio(2.5)).deviations == 2.5
