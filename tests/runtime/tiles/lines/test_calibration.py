"""ADC ranges that follow data."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from ffebm.hardware.description import Accumulate, Crossbar, Transfer
from ffebm.runtime.tiles.crossbar import CrossbarTile
from ffebm.runtime.tiles.lines.calibration import LineMeter
from ffebm.runtime.tiles.projection import make_tile
from ffebm.runtime.tiles.split import SplitTile
from ffebm.runtime.tiles.tile import Tile
from tests.machines import ratio
from tests.runtime.tiles.bench import clipping, crossbar, fine, pieces, random, sized, source, with_adc
from tests.runtime.tiles.devices.test_pulses import law
from tests.runtime.tiles.test_tiles import EFFECTS

CALIBRATED = [name for name in EFFECTS if name != "maximal ranges"]


def seen(tile: Tile, x: torch.Tensor, y: torch.Tensor | None = None) -> None:
    """Calibrate on vectors, forward and, if there are any, backward."""
    tile.calibrate("measure")
    tile.mvm(x)
    if y is not None:
        tile.mvm_t(y)
    tile.calibrate("set")


def test_the_reach_of_a_line_is_its_mean_and_deviations() -> None:
    meter = LineMeter()
    assert meter.reach(3.0) is None
    inputs = torch.tensor([[1.0, 1.0, 0.0, 1.0]])
    meter.see(
        torch.tensor([[1.0, 3.0, 9.0, -1.0], [-2.0, -2.0, 9.0, -2.0]]), inputs
    )  # the third is not driven
    meter.see(torch.tensor([[1.0], [-2.0]]), torch.ones(1, 1))
    found = meter.reach(3.0)
    assert found is not None
    assert found.tolist() == pytest.approx([1 + 3 * 2**0.5, 2.0])


def test_a_range_ends_where_the_data_says() -> None:
    # outputs of 1 and 2: a mean of 1.5 and a deviation of 0.5
    tile = CrossbarTile(sized(clipping(fine(), 2.0), 1, 4), source())
    tile.program(torch.ones(1, 4).double())
    x = torch.tensor([[1.0, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]]).double()
    most = torch.ones(1, 4).double()
    uniform = 2 * (4 / 3) ** 0.5
    assert tile.mvm(most).item() == pytest.approx(uniform, rel=1e-6)
    seen(tile, x)
    assert tile.mvm(most).item() == pytest.approx(1.5 + 2 * 0.5, rel=1e-6)
    assert tile.mvm(x).flatten().tolist() == pytest.approx([1.0, 2.0, 0.0], abs=1e-6)
    assert tile.mvm(5 * most).item() == pytest.approx(5 * 2.5, rel=1e-6)


def test_ranges_follow_the_weights_and_each_direction_its_own_data() -> None:
    tile = CrossbarTile(sized(with_adc(clipping(fine(), 1.0), range="column"), 2, 3), source())
    tile.program(torch.tensor([[1.0, 1, 1], [0.5, 0.5, 0.5]]).double())
    before = tile.mvm_t(torch.ones(1, 2).double())
    seen(
        tile, torch.tensor([[1.0, 0, 0], [1, 1, 0]]).double()
    )  # 1.5 + 0.5 of the first line, half of the second
    x = torch.ones(1, 3).double()
    assert tile.mvm(x).flatten().tolist() == pytest.approx([2.0, 1.0], rel=1e-6)
    assert torch.equal(tile.mvm_t(torch.ones(1, 2).double()), before)
    tile.program(torch.tensor([[0.25, 0.25, 0.25], [1.0, 1, 1]]).double())
    assert tile.mvm(x).flatten().tolist() == pytest.approx([0.5, 2.0], rel=1e-6)


@pytest.mark.parametrize("kind", CALIBRATED)
@settings(max_examples=20)
@given(seed=st.integers(0, 2**20), sigmas=st.sampled_from([1.0, 2.0, 4.0]), tail=st.sampled_from([0, 3]))
def test_at_most_the_share_of_chebyshev_is_clipped(kind: str, seed: int, sigmas: float, tail: int) -> None:
    described = EFFECTS[kind](replace(crossbar(), adc_sigmas=ratio(sigmas)))
    tile = SplitTile(pieces(2, 9, 13, described, even=False), lambda: make_tile(described, source(), kind))
    tile.program(random(2, 9, 13, seed=seed))
    x, y = random(2, 40, 13, seed=seed + 1), random(2, 40, 9, seed=seed + 2)
    x, y = x * x.abs() ** tail, y * y.abs() ** tail  # few large values among many small ones
    seen(tile, x, y)
    assert tile.readings().total == 0
    tile.mvm(x)
    forward = tile.readings()
    tile.mvm_t(y)
    both = tile.readings()
    assert forward.share <= 1 / sigmas**2
    assert both.clipped - forward.clipped <= (both.total - forward.total) / sigmas**2


@pytest.mark.parametrize("kind", CALIBRATED)
def test_nothing_is_rounded_or_clipped_while_it_is_measured(kind: str) -> None:
    described = with_adc(EFFECTS[kind](clipping(crossbar(bits=16), 0.1)), bits=2)
    tile = SplitTile(pieces(2, 9, 13, described), lambda: make_tile(described, source(), kind))
    tile.program(random(2, 9, 13))
    x, y = random(2, 5, 13, seed=1), random(2, 5, 9, seed=2)
    assert not torch.allclose(tile.mvm(x), x @ tile.read().mT, rtol=0.1)
    tile.calibrate("measure")
    assert torch.allclose(tile.mvm(x), x @ tile.read().mT, atol=1e-2)
    assert torch.allclose(tile.mvm_t(y), y @ tile.read(), atol=1e-2)


@pytest.mark.parametrize("adc", [{"calibration": "uniform"}, {"range": "maximal"}, {"range": "level"}])
def test_other_ranges_do_not_follow_data(adc: dict[str, str]) -> None:
    described = sized(with_adc(clipping(crossbar(bits=4), 1.0), **adc), 5, 7)
    tile, other = CrossbarTile(described, source()), CrossbarTile(described, source())
    weight, x = random(5, 7), random(30, 7, seed=1)
    tile.program(weight)
    other.program(weight)
    seen(tile, x, x[:, :5])
    assert torch.equal(tile.mvm(x), other.mvm(x))
    assert torch.equal(tile.mvm_t(x[:, :5]), other.mvm_t(x[:, :5]))


def test_without_data_ranges_are_those_for_uniform_inputs() -> None:
    follows, uniform = (
        CrossbarTile(sized(with_adc(clipping(crossbar(), 1.0), calibration=name), 5, 7), source())
        for name in ("data", "uniform")
    )
    x = random(30, 7, seed=1)
    for tile in (follows, uniform):
        tile.program(random(5, 7))
    assert torch.equal(follows.mvm(x), uniform.mvm(x))
    seen(follows, torch.zeros(3, 7).double(), torch.zeros(3, 5).double())  # nothing to be seen
    assert torch.equal(follows.mvm(x), uniform.mvm(x))


@pytest.mark.parametrize("remedy", ["none", "accumulate", "transfer"])
def test_tiles_that_learn_are_calibrated_too(remedy: str) -> None:
    kinds = {"none": None, "accumulate": Accumulate(), "transfer": Transfer(every=2, rate=ratio(0.5))}
    described: Crossbar = replace(sized(clipping(crossbar(), 2.0), 1, 4), update=law(remedy=kinds[remedy]))
    tile = make_tile(described, source(), "tile", None)
    tile.program(torch.ones(1, 4).double())
    seen(tile, torch.tensor([[1.0, 0, 0, 0], [1, 1, 0, 0]]).double())
    reached = tile.read().mean()
    assert tile.mvm(torch.ones(1, 4).double()).item() == pytest.approx(2.5 * reached.item(), rel=0.02)
