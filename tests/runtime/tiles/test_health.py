from typing import Any

import pytest
import torch
from msgspec.structs import replace

from ffebm.errors import SmallStepWarning
from ffebm.hardware.description import Accumulate, Crossbar, Transfer
from ffebm.runtime.tiles.crossbar import CrossbarTile
from ffebm.runtime.tiles.projection import make_tile
from ffebm.runtime.tiles.split import SplitTile
from ffebm.runtime.tiles.tile import Health, Readings, Tile, limits_met
from tests.machines import ratio
from tests.runtime.tiles.bench import clipping, convert, crossbar, pieces, random, sized, source, with_dac
from tests.runtime.tiles.devices.test_pulses import law


def split(described: Crossbar, n_out: int, n_in: int) -> SplitTile:
    def make() -> Tile:
        return make_tile(described, source(), "tile")

    return SplitTile(pieces(1, n_out, n_in, described), make)


def test_a_fixed_range_clips_larger_inputs() -> None:
    kind = with_dac(sized(crossbar(bits=12), 3, 4), range="fixed", limit=0.5)
    tile, weight = CrossbarTile(kind, source()), torch.eye(3, 4).double()
    tile.program(weight)
    x = torch.tensor([[0.1, -0.25, 0.5, 9.0], [0.6, -7.0, 0.0, 0.3]]).double()
    expected = convert(x, 0.5, 12) @ weight.T
    limit = 1.05  # what a line of one weight reaches, with headroom
    assert (tile.mvm(x) - expected).abs().max() <= 0.5 * limit / 2047 / 2 * 1.001
    assert tile.health().inputs == Readings(8, 3)
    tile.mvm_t(9.0 * torch.ones(2, 3).double())  # by vector: nothing is clipped
    assert tile.health().inputs == Readings(8, 3)
    assert float(tile.mvm_t(torch.full((1, 3), 9.0).double())[0, 0]) == pytest.approx(9.0, rel=0.001)
    tile.program(weight)
    assert tile.health().inputs == Readings()


@pytest.mark.parametrize("sigmas", [1.5, 100.0])
def test_a_range_by_data_is_that_of_the_samples(sigmas: float) -> None:
    kind = with_dac(sized(clipping(crossbar(bits=12), 5.0), 20, 30), range="data", sigmas=sigmas)
    tile, weight, x = CrossbarTile(kind, source()), random(20, 30), 0.2 + random(500, 30, seed=1)
    tile.program(weight)
    by_vector = tile.mvm(9.0 * x)  # before data
    assert (by_vector - 9.0 * x @ weight.T).abs().max() < 0.02 * by_vector.abs().max()
    tile.calibrate("measure")
    tile.mvm(x)
    tile.calibrate("set")
    limit = min(float(x.mean().abs() + sigmas * x.std(correction=0)), float(x.abs().max()))
    clipped = x.clamp(-limit, limit)
    found = tile.mvm(x)
    health = tile.health()
    assert health.inputs == Readings(x.numel(), int((x.abs() > limit).sum()))
    # ADC ranges are for these inputs: five deviations of what lines carry
    assert health.readings.share < 0.001
    exact = clipped @ tile.read().T
    assert float((found - exact).norm() / exact.norm()) < 0.003


def test_a_calibration_that_is_dropped_leaves_the_range() -> None:
    kind = with_dac(sized(crossbar(), 2, 3), range="data")
    tile, x = CrossbarTile(kind, source()), random(5, 3)
    tile.program(random(2, 3))
    before = tile.mvm(x)
    tile.calibrate("measure")
    tile.mvm(100.0 * x)
    tile.calibrate("drop")
    assert torch.equal(tile.mvm(x), before)


@pytest.mark.parametrize(
    "settings", [{}, {"slices": 2}, {"scale": "column"}], ids=["plain", "sliced", "by column"]
)
def test_weights_beyond_the_range_are_counted(settings: dict[str, Any]) -> None:
    weight = torch.tensor([[[4.0, 1.0, 2.0, -4.0], [0.5, 0.5, 1.0, 0.25]]]).double()
    for omega, beyond in ((1.0, 0), (2.5, 6 if settings.get("scale") else 3)):
        tile = split(replace(crossbar(levels=16), omega=omega, **settings), 2, 4)
        tile.program(weight)
        assert tile.health().weights == Readings(8, beyond)


def test_cells_at_the_end_of_their_range() -> None:
    tile = split(replace(crossbar(levels=2**20), update=law(bounds="hard")), 2, 4)
    tile.program(torch.tensor([[[1.0, -1.0, 0.5, 0.5], [0.0, 0.0, 0.0, 0.0]]]).double())
    assert tile.health().weights == Readings(8, 0)
    tile.update(torch.tensor([[[9.0, -9.0, 0.1, 0.0], [0.0, 0.0, 0.0, -9.0]]]).double())
    assert tile.health().weights == Readings(8, 3)


@pytest.mark.parametrize("remedy", [None, Transfer(every=2, rate=ratio(0.5))])
def test_a_first_update_below_a_pulse_is_said_once(remedy: Transfer | None) -> None:
    tile = split(replace(crossbar(levels=2**20, bits=16), update=law(remedy=remedy)), 2, 4)
    tile.program(torch.ones(1, 2, 4).double())  # a pulse is 0.02 of a range of 2
    step = torch.full((1, 2, 4), 0.039).double()
    step[0, 0, 0] = 0.0
    with pytest.warns(SmallStepWarning) as caught:
        tile.update(step)
    assert [str(w.message) for w in caught] == [
        "'w' learns in place, and all 7 steps of its first update are below a pulse of its cells: few cells "
        "move, by whole pulses and at random; take a larger learning rate, or tiles.tile.update.remedy of "
        "type 'accumulate'"
    ]
    tile.update(step)
    assert tile.health().steps == Readings(14, 14)


def test_updates_that_are_not_small_say_nothing() -> None:
    for remedy, size in ((None, 0.05), (Accumulate(), 0.001)):
        tile = split(replace(crossbar(levels=2**20), update=law(remedy=remedy)), 2, 4)
        tile.program(torch.ones(1, 2, 4).double())
        tile.update(torch.full((1, 2, 4), size).double())
        assert tile.health().steps.clipped == 0


def test_what_is_said_of_limits() -> None:
    found = {
        "a": Health(Readings(1000, 1), Readings(10, 0), Readings(200, 25), Readings(4, 1)),
        "b": Health(readings=Readings(10_000, 9)),
    }
    assert list(limits_met(found)) == [
        "a: 0.1 % of weights at the end of their range, 12.5 % of readings clipped by ADCs, "
        "25.0 % of steps below a pulse"
    ]


def test_a_state_holds_the_range_of_inputs() -> None:
    described = with_dac(crossbar(), range="data")
    tile, weight, x = split(described, 11, 13), random(1, 11, 13), random(1, 50, 13, seed=1)
    for calibrated in (False, True):
        tile.program(weight)
        if calibrated:
            tile.calibrate("measure")
            tile.mvm(x)
            tile.calibrate("set")
        other = split(described, 11, 13)
        other.restore(tile.state())
        assert torch.equal(other.mvm(3.0 * x), tile.mvm(3.0 * x))
        assert other.health().inputs == tile.health().inputs
        assert (tile.health().inputs.clipped > 0) == calibrated


def test_a_state_holds_the_range_of_each_array() -> None:
    """Of two equal ones, of which one meets larger inputs."""
    described = with_dac(crossbar(), range="data")
    tile, other = split(described, 6, 16), split(described, 6, 16)
    x = random(1, 50, 16, seed=1) * torch.tensor([1.0] * 8 + [5.0] * 8).double()
    tile.program(random(1, 6, 16))
    tile.calibrate("measure")
    tile.mvm(x)
    tile.calibrate("set")
    other.restore(tile.state())
    assert torch.equal(other.mvm(3.0 * x), tile.mvm(3.0 * x))
