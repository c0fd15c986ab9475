"""Outer products on tiles. Vectors of equal magnitudes have certain coincidences, so all here is exact."""

from typing import Any

import pytest
import torch
from msgspec.structs import replace
from torch import Tensor

from ffebm.errors import InternalError
from ffebm.hardware.description import Chopper, Crossbar, Transfer
from ffebm.runtime.tiles.devices.pulses import pulsed
from ffebm.runtime.tiles.ideal import IdealTile
from ffebm.runtime.tiles.projection import make_tile
from ffebm.runtime.tiles.replicas import ReplicatedTile, TwoWayTile
from ffebm.runtime.tiles.split import SplitTile
from ffebm.runtime.tiles.tile import update_products
from tests.machines import ratio
from tests.runtime.tiles.bench import crossbar, pieces, random, sized, source
from tests.runtime.tiles.devices.test_pulses import STEPS, law, linear

CERTAIN = 1 - 1e-9
"""Whole pulses that rounding makes no more of, which a longer train would spread out."""


def described(n_out: int = 6, n_in: int = 8, **changes: Any) -> Crossbar:
    """Fine cells that take outer products, their range from -1 to 1 for weights up to 0.5."""
    settings: dict[str, Any] = {"spread": 0.0, "pulsed_by": "differences"}
    return replace(sized(crossbar(levels=2**24, bits=24), n_out, n_in), update=law(**(settings | changes)))


def start(n_out: int = 6, n_in: int = 8) -> Tensor:
    weight = random(n_out, n_in)
    return 0.5 * weight / weight.abs().max()


def signs(*shape: int, seed: int) -> Tensor:
    return random(*shape, seed=seed).sign()


def pulses_of(x: Tensor, d: Tensor, device: Any, weight: Tensor) -> Tensor:
    """One pair after the other by the law of the device, in whole pulses."""
    for a, b in zip(x, d, strict=True):
        change = b[:, None] * a * (1 + 2e-9)
        weight = pulsed(weight, change, device, source())
    return weight


@pytest.mark.parametrize("name", [*STEPS, "soft", "hard"])
def test_pairs_come_one_after_the_other_by_the_law_of_the_cells(name: str) -> None:
    kinds = {"soft": law(asymmetry=ratio(0.3)), "hard": law(bounds="hard"), **STEPS}
    device = replace(kinds[name], spread=0.0, pulsed_by="states")
    tile = make_tile(replace(described(), update=device), source(), "tile")
    tile.program(start())
    x, d = signs(9, 8, seed=1), 4 * 0.02 * signs(9, 6, seed=2)
    update_products(tile, x, d)
    torch.testing.assert_close(tile.read(), pulses_of(x, d, device, start()), rtol=0, atol=1e-5)


@pytest.mark.parametrize("bounds", ["soft", "hard"])
def test_no_pulse_leads_beyond_the_bounds(bounds: str) -> None:
    device = described(bounds=bounds, noise=ratio(0.5), asymmetry=ratio(0.2))
    tile = make_tile(device, source(), "tile")
    tile.program(start())
    for seed in range(40):
        update_products(tile, random(20, 8, seed=seed), 3 * random(20, 6, seed=seed + 99))
        assert float(tile.read().abs().max()) <= 1.0 + 1e-6


def test_noise_is_that_of_so_many_pulses() -> None:
    tile = make_tile(described(200, 300, bounds="hard", noise=ratio(0.3)), source(), "tile")
    tile.program(torch.zeros(200, 300, dtype=torch.float64).index_fill(0, torch.tensor([0]), 0.5))
    before = tile.read()
    ones = torch.ones(1, 300, dtype=torch.float64)
    update_products(tile, ones, torch.full((1, 200), 9 * 0.02, dtype=torch.float64))
    moved = (tile.read() - before)[1:]
    assert float(moved.mean()) == pytest.approx(9 * 0.02, rel=1e-2)
    assert float(moved.std()) == pytest.approx(0.3 * 3 * 0.02, rel=1e-2)


def test_pieces_take_what_is_on_their_own_lines() -> None:
    kind = described(3, 4)
    tile = SplitTile(pieces(2, 7, 9, kind, even=False), lambda: make_tile(kind, source(), "tile"))
    tile.program(torch.full((2, 7, 9), 0.25, dtype=torch.float64))  # all ranges are 0.5
    x, d = signs(2, 5, 9, seed=1), 3 * 0.02 * signs(2, 5, 7, seed=2) * CERTAIN
    update_products(tile, x, 0.5 * d)
    for group in range(2):
        held = torch.full((7, 9), 0.5, dtype=torch.float64)
        found = 0.5 * pulses_of(x[group], d[group], law(), held)
        torch.testing.assert_close(tile.read()[group], found, rtol=0, atol=1e-5)


def test_all_copies_take_all_products_and_both_ways_do() -> None:
    kind = described(6, 8)
    x, d = signs(1, 4, 8, seed=1), 0.02 * 2 * signs(1, 4, 6, seed=2)
    weight = start()[None]
    expected = pulses_of(x[0], d[0], law(), weight[0])
    copies = ReplicatedTile(make_tile(kind, source(), "copies"), 3)
    copies.program(weight)
    update_products(copies, x, d)
    for held in copies.each():
        torch.testing.assert_close(held[0], expected, rtol=0, atol=1e-5)
    turned = described(8, 6)
    ways = TwoWayTile(make_tile(kind, source(), "there"), make_tile(turned, source(), "back"))
    ways.program(weight)
    update_products(ways, x, d)
    torch.testing.assert_close(ways.forward.read()[0], expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(ways.back.read()[0], expected.T, rtol=0, atol=1e-5)


@pytest.mark.parametrize("buffered", [False, True])
def test_the_fast_array_takes_the_products_and_moves_on(buffered: bool) -> None:
    remedy = Transfer(every=2, rate=ratio(0.5), buffered=buffered)
    device = described(pulse=ratio(0.001), pulses=10_000, asymmetry=ratio(0.2), remedy=remedy)
    tile = make_tile(device, source(), "tile")
    tile.program(start())
    ones = torch.ones(1, 8, dtype=torch.float64)
    step = torch.full((1, 6), 0.01, dtype=torch.float64)
    update_products(tile, ones, step)
    torch.testing.assert_close(tile.read(), start(), rtol=0, atol=1e-5)
    update_products(tile, ones, step)
    # 10 pulses a step from the symmetric point, then half of it as pulses of the slow cells
    fast = 1 - 0.8 * (1 - 0.0012) ** 20
    n = 0.5 * (fast - 0.2) / 0.001
    expected = 1 - (1 - start()) * (1 - 0.0012) ** n
    torch.testing.assert_close(tile.read(), expected, rtol=0, atol=2e-3)


def test_a_chopper_turns_the_products_of_its_lines() -> None:
    chopper = Chopper(inputs=ratio(0.5), outputs=ratio(0.5))
    remedy = Transfer(every=1, rate=ratio(0.5), chopper=chopper)
    tile = make_tile(described(pulse=ratio(0.001), pulses=10_000, remedy=remedy), source(), "tile")
    tile.program(start())
    zero = torch.zeros(1, 8, dtype=torch.float64)
    update_products(tile, zero, torch.zeros(1, 6, dtype=torch.float64))  # a transfer of nothing: signs flip
    state = tile.state()
    turned = state["chopper.outputs"] * state["chopper.inputs"]
    assert set(turned.flatten().tolist()) == {-1.0, 1.0}
    x, d = signs(1, 8, seed=1), 0.01 * signs(1, 6, seed=2)
    update_products(tile, x, d)
    wanted = d.T @ x
    fast = tile.state()["fast.plus"] - tile.state()["fast.minus"]
    assert torch.equal(fast.sign(), (wanted * turned).sign())
    # what reaches the slow array has the sign that was asked for
    assert torch.equal((tile.read() - start()).sign(), wanted.sign())


def test_columns_of_their_own_range_count_their_own_pulses() -> None:
    tile = make_tile(replace(described(bounds="hard"), scale="column"), source(), "tile")
    weight = torch.linspace(0.1, 0.6, 6, dtype=torch.float64)[:, None].expand(6, 8)
    tile.program(weight)
    reach = 2 * weight[:, :1]
    d = 0.02 * 5 * reach.T * CERTAIN
    update_products(tile, torch.ones(1, 8, dtype=torch.float64), d)
    torch.testing.assert_close(tile.read(), weight + 5 * 0.02 * reach, rtol=0, atol=1e-5)


def test_slopes_of_cells_that_differ_stay_theirs() -> None:
    device = linear(0.3, 0.3, spread=0.2, pulsed_by="states")
    moves = []
    for way in ("matrix", "products"):
        tile = make_tile(replace(described(), update=replace(device, spread=0.0)), source(), "m")
        tile.program(start())
        if way == "matrix":
            tile.update(torch.full((6, 8), 0.02 * (1 + 1e-9), dtype=torch.float64))
        else:
            ones = torch.ones(1, 8, dtype=torch.float64)
            update_products(tile, ones, torch.full((1, 6), 0.02, dtype=torch.float64))
        moves.append(tile.read())
    torch.testing.assert_close(*moves, rtol=0, atol=1e-6)


def test_an_exact_tile_takes_none() -> None:
    with pytest.raises(InternalError, match="a IdealTile takes no outer products"):
        update_products(IdealTile(), torch.ones(1, 2), torch.ones(1, 2))
