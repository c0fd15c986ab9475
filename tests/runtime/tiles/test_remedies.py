from typing import Any

import pytest
import torch
from msgspec.structs import replace
from torch import Tensor

from ffebm.hardware.description import Accumulate, Chopper, Crossbar, LinearStep, Stuck, Transfer
from ffebm.runtime.tiles.crossbar import CrossbarTile
from ffebm.runtime.tiles.projection import make_tile
from ffebm.runtime.tiles.remedies import AccumulatingTile, TransferTile
from ffebm.runtime.tiles.tile import Tile
from tests.machines import ratio
from tests.runtime.tiles.bench import crossbar, random, source, with_cell
from tests.runtime.tiles.devices.test_pulses import law


def described(remedy: Accumulate | Transfer | None = None, **changes: Any) -> Crossbar:
    """Cells of a million levels that learn in place."""
    return replace(crossbar(levels=2**20, bits=16), update=law(remedy=remedy, **changes))


def tile_of(kind: Crossbar, seed: int = 0) -> Tile:
    return make_tile(kind, source(seed), "tile")


TRANSFER = Transfer(every=2, rate=ratio(0.5))
CHOPPED = replace(TRANSFER, chopper=Chopper(inputs=ratio(0.3), outputs=ratio(0.2)))
KINDS = {"plain": None, "accumulate": Accumulate(), "transfer": TRANSFER, "chopped": CHOPPED}


def test_the_description_chooses_the_remedy() -> None:
    kinds = [type(tile_of(described(remedy))) for remedy in KINDS.values()]
    assert kinds == [CrossbarTile, AccumulatingTile, TransferTile, TransferTile]


@pytest.mark.parametrize("mapping", ["differential", "offset"])
def test_a_weight_has_room_to_grow(mapping: str) -> None:
    tile = tile_of(replace(described(pulses=10_000), mapping=mapping))
    weight = random(6, 8)
    tile.program(weight)
    torch.testing.assert_close(tile.read(), weight, rtol=0, atol=1e-4)
    tile.update(torch.full((6, 8), 100.0, dtype=torch.float64))
    # the end of the range: twice the largest weight
    torch.testing.assert_close(tile.read(), torch.full_like(weight, 2 * float(weight.abs().max())))
    x, y = random(3, 8, seed=1), random(3, 6, seed=2)
    torch.testing.assert_close(tile.mvm(x), x @ tile.read().T, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(tile.mvm_t(y), y @ tile.read(), rtol=1e-3, atol=1e-3)


def test_a_step_is_worth_what_the_device_makes_of_it() -> None:
    tile = tile_of(described(asymmetry=ratio(0.2)))
    weight = random(6, 8)
    tile.program(weight)
    reach = 2 * float(weight.abs().max())
    tile.update(torch.full((6, 8), 5 * 0.02 * reach, dtype=torch.float64))
    expected = reach * (1 - (1 - weight / reach) * (1 - 0.02 * 1.2) ** 5)
    torch.testing.assert_close(tile.read(), expected, rtol=1e-4, atol=1e-4)


def test_cells_that_are_stuck_do_not_learn() -> None:
    kind = with_cell(described(), stuck=Stuck(at_min=ratio(1.0), at_max=ratio(0.0)))
    tile = tile_of(kind)
    tile.program(random(6, 8))
    tile.update(torch.ones(6, 8, dtype=torch.float64))
    assert not tile.read().any()


def test_small_steps_add_up_to_whole_pulses() -> None:
    tile = tile_of(described(Accumulate(), bounds="hard"))
    weight = random(6, 8)
    tile.program(weight)
    pulse = 0.02 * 2 * float(weight.abs().max())
    held = tile.read()
    for _ in range(9):
        tile.update(torch.full((6, 8), 0.1 * pulse, dtype=torch.float64))
    torch.testing.assert_close(tile.read(), held)
    tile.update(torch.full((6, 8), 0.1 * pulse, dtype=torch.float64))
    torch.testing.assert_close(tile.read(), held + pulse)
    tile.update(torch.full((6, 8), -3.5 * pulse, dtype=torch.float64))
    torch.testing.assert_close(tile.read(), held - 2 * pulse)


def test_what_the_fast_array_holds_moves_on() -> None:
    tile = tile_of(described(TRANSFER, pulse=ratio(0.001), pulses=10_000, asymmetry=ratio(0.2)))
    weight = random(6, 8)
    tile.program(weight)
    reach = 2 * float(weight.abs().max())
    step = torch.full((6, 8), 0.01 * reach, dtype=torch.float64)
    tile.update(step)
    torch.testing.assert_close(tile.read(), weight, rtol=0, atol=1e-4)
    tile.update(step)
    # 10 pulses a step from the symmetric point, then half of it as pulses of the slow cells
    fast = 1 - 0.8 * (1 - 0.0012) ** 20
    n = 0.5 * (fast - 0.2) / 0.001
    expected = 1 - (1 - weight / reach) * (1 - 0.0012) ** n
    torch.testing.assert_close(tile.read() / reach, expected, rtol=0, atol=2e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_remapped_tile_holds_the_same_in_the_range_of_its_weights(kind: str) -> None:
    tile = tile_of(described(KINDS[kind], bounds="hard"))
    tile.program(torch.full((6, 8), 0.01, dtype=torch.float64))
    far = torch.full((6, 8), 100.0, dtype=torch.float64)
    for _ in range(50):
        tile.update(far)
    end = 2.0 / 8**0.5  # `spread` of 1
    assert float(tile.read().max()) <= end * 1.0001
    held = tile.read()
    tile.remap()  # type: ignore[attr-defined]
    torch.testing.assert_close(tile.read(), held, rtol=1e-3, atol=1e-4)
    assert tile.health().weights.clipped == 0
    for _ in range(200):
        tile.update(far)
    assert float(tile.read().max()) > 1.5 * end


def test_what_is_left_to_add_survives_a_remap() -> None:
    tile = tile_of(described(Accumulate(), bounds="hard"))
    tile.program(random(6, 8))
    reach = 2 * float(tile.read().abs().max())
    held = tile.read()
    for k in range(10):  # a tenth of a pulse each, with a remap between
        tile.update(torch.full((6, 8), 0.1 * 0.02 * reach, dtype=torch.float64))
        if k == 4:
            tile.remap()  # type: ignore[attr-defined]
    torch.testing.assert_close(tile.read(), held + 0.02 * reach, rtol=0, atol=2e-3 * reach)


def test_what_the_fast_array_has_collected_survives_a_remap() -> None:
    kind = described(TRANSFER, pulse=ratio(0.001), pulses=10_000, asymmetry=ratio(0.2))
    found = []
    for remaps in (False, True):
        tile = tile_of(kind)
        tile.program(random(6, 8))
        reach = 2 * float(tile.read().abs().max())
        for k in range(2):
            tile.update(torch.full((6, 8), 0.01 * reach, dtype=torch.float64))
            if remaps and k == 0:
                tile.remap()  # type: ignore[attr-defined]
        found.append(tile.read())
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=2e-3 * reach)


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_is_all_that_a_tile_goes_on_from(kind: str) -> None:
    def walk(tile: Tile, start: int) -> list[Tensor]:
        for k in range(start, start + 5):
            tile.update(0.05 * random(6, 8, seed=k))
        return [tile.read(), tile.mvm(random(3, 8))]

    one, other = (tile_of(described(KINDS[kind]), seed) for seed in (0, 0))
    one.program(random(6, 8))
    walk(one, 0)
    state = {key: tensor.clone() for key, tensor in one.state().items()}
    random_state = source(9)
    for tile in (one, other):
        tile.restore(state)
    first = make_tile(described(KINDS[kind]), random_state, "tile")
    second = make_tile(described(KINDS[kind]), source(9), "tile")
    first.restore(state)
    second.restore(state)
    for a, b in zip(walk(first, 5), walk(second, 5), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(one.read(), other.read())


def regression(kind: Crossbar, noise: float) -> Tensor:
    """Errors of late weights of a linear regression by noisy gradients, relative to what it should find."""
    wanted = random(6, 8) * 0.3
    tile = tile_of(kind)
    start = torch.zeros(6, 8, dtype=torch.float64)
    start[0, 0] = 1.0  # sets the range
    tile.program(start)
    late: list[Tensor] = []
    for k in range(1500):
        tile.update(-0.02 * (tile.read() - wanted + noise * random(6, 8, seed=k)))
        if k >= 1000:
            late.append(tile.read() - wanted)
    errors: Tensor = torch.stack(late) / wanted.norm()
    return errors


def bias(remedy: Accumulate | Transfer | None, asymmetry: float) -> float:
    """Relative error of the mean weights under large gradient noise."""
    kind = described(remedy, pulse=ratio(0.002), asymmetry=ratio(asymmetry), noise=ratio(0.3))
    return float(regression(kind, 0.5).mean(0).norm())


def test_a_transfer_undoes_what_asymmetry_does() -> None:
    """Plain pulses settle where gradient and asymmetry balance."""
    plain = bias(None, 0.4)
    assert plain > 0.5
    assert bias(None, 0.0) < 0.35 * plain
    for every, rate in ((1, 0.5), (5, 0.5)):
        assert bias(Transfer(every=every, rate=ratio(rate)), 0.4) < 0.25 * plain
    assert bias(Transfer(every=1, rate=ratio(0.5), buffered=True), 0.4) < 0.25 * plain


def test_a_chopper_undoes_what_cells_that_differ_do() -> None:
    """A transfer counts from one symmetric point; what cells of their own differ by adds up without steps."""
    step = LinearStep(up=ratio(1.0), down=ratio(1.0), spread=ratio(0.4))
    device = {"pulse": ratio(0.02), "asymmetry": ratio(0.4), "bounds": "hard", "step": step}
    strayed = []
    for chopper in (None, Chopper(inputs=ratio(0.01), regular=True), Chopper(inputs=ratio(0.01))):
        remedy = Transfer(every=1, rate=ratio(0.002), buffered=True, chopper=chopper)
        tile = tile_of(described(remedy, **device))
        tile.program(0.2 * random(6, 8))
        before = tile.read()
        pulse = 0.02 * 2 * float(before.abs().max())
        for k in range(800):
            tile.update(pulse * random(6, 8, seed=k).sign())
        strayed.append(float((tile.read() - before).norm()))
    assert max(strayed[1:]) < 0.6 * strayed[0], strayed


def test_a_buffer_holds_readings_until_they_are_worth_a_pulse() -> None:
    remedy = Transfer(every=1, rate=ratio(0.01), buffered=True)
    tile = tile_of(described(remedy, pulse=ratio(0.001), pulses=10_000))
    weight = random(6, 8)
    tile.program(weight)
    before, pulse = tile.read(), 0.001 * 2 * float(weight.abs().max())
    step = torch.full((6, 8), 30 * pulse, dtype=torch.float64)
    tile.update(step)  # a hundredth of it is .3 pulses, then .6 more, then .9
    torch.testing.assert_close(tile.read(), before, rtol=0, atol=1e-9)
    tile.update(step)
    torch.testing.assert_close(tile.read(), before, rtol=0, atol=1e-9)
    tile.update(step)
    moved = (tile.read() - before).abs() / pulse
    assert 0.5 < float(moved.median()) < 1.5
    again = tile_of(described(remedy, pulse=ratio(0.001), pulses=10_000), seed=4)
    again.program(random(6, 8, seed=9))
    again.restore(tile.state())
    assert torch.equal(again.read(), tile.read())
    assert torch.equal(again.state()["slow.rest"], tile.state()["slow.rest"])


def test_accumulated_steps_arrive_to_a_pulse_where_others_go_astray() -> None:
    """A pulse is ten times a step: given at random, pulses add up to a random walk."""
    errors = []
    for remedy in (None, Accumulate()):
        tile = tile_of(described(remedy, pulse=ratio(0.002), bounds="hard"))
        weight = random(6, 8)
        tile.program(weight)
        held, pulse = tile.read(), 0.002 * 2 * float(weight.abs().max())
        steps = [0.1 * pulse * random(6, 8, seed=k).sign() for k in range(400)]
        for step in steps:
            tile.update(step)
        errors.append((tile.read() - held - torch.stack(steps).sum(0)) / pulse)
    assert float(errors[1].abs().max()) <= 1.001
    # each update is one pulse with a chance of 0.1: a variance of 0.09
    assert float(errors[0].std()) == pytest.approx((400 * 0.09) ** 0.5, rel=0.3)


def test_a_layer_that_starts_at_zero_learns_as_one_that_does_not() -> None:
    """Its pulses have the size of a usual start; without a spread they would follow its first weights."""
    target = 0.1 * random(6, 8, seed=3)

    def distance(first: float, spread: float) -> float:
        tile = tile_of(described(spread=spread))
        tile.program(first * random(6, 8))
        for _ in range(200):
            tile.update(0.2 * (target - tile.read()))
        return float((tile.read() - target).norm() / target.norm())

    for first in (1e-3, 0.0):
        assert distance(first, spread=1.0) < 0.2
    assert distance(1e-3, spread=0.0) > 0.9
