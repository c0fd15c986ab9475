"""Cells that a weight does not use are off: they conduct nothing, and nothing goes wrong with them."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from torch import Tensor

import ffebm
from ffebm.compiler.driver import compile_model
from ffebm.hardware.description import Crossbar, Statistics, Stuck, Wires
from ffebm.hardware.quantity import Resistance
from ffebm.plan.conductance import to_pair
from ffebm.plan.plan import Plan
from ffebm.runtime.tiles.crossbar import CrossbarTile
from ffebm.runtime.tiles.devices.statistics import STATISTICS
from ffebm.runtime.tiles.sliced import SlicedTile
from tests.machines import crossbars, ratio, seconds, with_tiles
from tests.models import Builder
from tests.runtime.tiles.bench import crossbar, random, source, with_adc, with_cell

SIGMA = 0.02


def off(kind: Crossbar) -> Crossbar:
    return replace(kind, unused="off")


def sparse() -> Tensor:
    """Weights, half of them zero."""
    weight = random(5, 7)
    return torch.where(random(5, 7, seed=3) > 0, weight, 0.0)


def written(kind: Crossbar, weight: Tensor) -> CrossbarTile:
    tile = CrossbarTile(kind, source(), "m")
    tile.program(weight)
    return tile


def test_a_used_cell_has_its_share_of_g_max_and_the_other_nothing() -> None:
    kind = off(crossbar())
    g_min, g_max, top = kind.cell.g_min.value, kind.cell.g_max.value, kind.top_level
    digits = np.arange(-top, top + 1.0)[None]
    plus, minus = to_pair(digits, kind)
    assert (np.minimum(plus, minus) == 0).all()
    wanted = digits / top * g_max
    near = np.abs(wanted) >= g_min
    np.testing.assert_allclose((plus - minus)[near], wanted[near])
    below = (plus + minus)[~near]
    assert set(below) <= {0.0, g_min}
    np.testing.assert_array_equal(below == 0, np.abs(wanted)[~near] < g_min / 2)


def test_zeros_stay_zero_whatever_goes_wrong_with_cells() -> None:
    kind = off(with_cell(
        crossbar(programming=0.05, reading=SIGMA, bits=24), variation=ratio(0.1),
        stuck=Stuck(at_min=ratio(0.0), at_max=ratio(0.5)),
    ))  # fmt: skip
    weight = sparse()
    weight[2] = 0.0
    tile = written(kind, weight)
    assert torch.equal(tile.read()[weight == 0], torch.zeros(int((weight == 0).sum()), dtype=torch.float64))
    assert not torch.equal(tile.read()[weight != 0], weight[weight != 0])
    assert not tile.mvm(random(50, 7))[:, 2].any()


def test_weights_are_held_to_half_a_level_or_to_what_is_below_g_min() -> None:
    kind, weight = off(crossbar()), sparse()
    largest = float(weight.abs().max())
    step = max(kind.cell.g_min.value / kind.cell.g_max.value, 1 / kind.top_level)
    assert float((written(kind, weight).read() - weight).abs().max()) <= 0.5001 * step * largest


@pytest.mark.parametrize("transposed", [False, True])
def test_only_used_cells_are_noisy(*, transposed: bool) -> None:
    """Of pairs of noisy cells the deviation of a line is sqrt(2) sigma of all; here sigma of the used."""
    weight = sparse()
    tile = written(off(crossbar(levels=2**20, bits=24, reading=SIGMA)), weight)
    x = random(5 if transposed else 7, seed=2)
    found = (tile.mvm_t if transposed else tile.mvm)(x.expand(20_000, -1)).std(0)
    lines = (weight.mT if transposed else weight) != 0
    span = (
        1 - crossbar().cell.g_min.value / crossbar().cell.g_max.value
    )  # noise is a share of the cells' range
    expected = SIGMA * span * float(weight.abs().max()) * (lines * x.square()).sum(-1).sqrt()
    assert found.tolist() == pytest.approx(expected.tolist(), rel=0.02)


def test_measured_noise_and_plain_noise_of_used_cells_add_in_quadrature() -> None:
    measured = Statistics(name="pcm", elapsed=seconds(3600.0), noise=1.0)
    kind = off(with_cell(
        crossbar(levels=2**20, bits=24, reading=SIGMA), programming_noise=None, statistics=measured
    ))  # fmt: skip
    weight = torch.tensor([[0.5, 0.0, -1.0]], dtype=torch.float64)
    tile = written(kind, weight)
    state, law, cell = tile.state(), STATISTICS["pcm"], kind.cell
    top, span = cell.g_max.value, cell.g_max.value - cell.g_min.value
    found = tile.mvm(torch.eye(3, dtype=torch.float64)[:, None].expand(3, 20_000, 3)[0]).std(0)
    g = state["plus"][0, :1]
    own = law.read_noise(g, top, 3600.0) * float(tile.read()[0, 0]) * top
    expected = math.hypot(float(own), SIGMA * span) / top
    assert float(found) == pytest.approx(expected, rel=0.03)


def test_slices_add_up() -> None:
    kind = off(replace(crossbar(levels=4, bits=24), slices=3))
    g_min = replace(kind.cell.g_min, value=kind.cell.g_max.value / 4)
    kind = with_cell(kind, g_min=g_min)
    tile = SlicedTile(kind, lambda index: CrossbarTile(kind, source(), "m", index))
    weight = sparse()
    tile.program(weight)
    assert float((tile.read() - weight).abs().max()) <= 0.5001 * float(weight.abs().max()) / kind.top_level
    x = random(4, 7)
    torch.testing.assert_close(tile.mvm(x), x @ tile.read().T, rtol=1e-4, atol=1e-4)


def test_wires_meet_no_current_of_cells_that_are_off() -> None:
    """As if these conducted next to nothing."""
    ohm = Resistance(value=10.0, unit="Ohm", source="test")
    kind = replace(with_adc(crossbar(levels=2**20, bits=24)), wires=Wires(row=ohm, column=ohm))
    faint = with_cell(kind, g_min=replace(kind.cell.g_min, value=kind.cell.g_max.value * 1e-9))
    weight = sparse()
    none, little = written(off(faint), weight).read(), written(faint, weight).read()
    torch.testing.assert_close(none, little, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(none, written(off(replace(faint, wires=None)), weight).read(), rtol=1e-5)


def dense(**fields: Any) -> Plan:
    base, b = crossbars(4, 16, 16), Builder()
    machine = with_tiles(base, tile=replace(base.analog[0].tile.crossbar(), **fields))
    return compile_model(b.model(b.node("MatMul", b.input("x", "N", 6), b.weight(6, 4))), hardware=machine)


def test_one_cell_a_weight_is_billed() -> None:
    both, one = dense(), dense(unused="off")
    for schedule in ("inference", "training"):
        costs = [getattr(plan, schedule).cost for plan in (both, one)]
        assert costs[1].array == pytest.approx(costs[0].array / 2, rel=1e-9, abs=0)
    assert one.hardware.analog[0].tile.crossbar().meaning.endswith("differential, unused cells off")
    ((_, piece),) = one.pieces()
    plus, minus = one.conductances(piece)
    assert (np.minimum(plus, minus) == 0).all()


def test_a_state_goes_on() -> None:
    plan, x = dense(unused="off"), torch.rand(5, 6)
    first, second = (ffebm.Executor(plan, seed=seed).eval() for seed in (1, 2))
    with torch.no_grad():
        first(x)
        second.load_state_dict(first.state_dict())
        assert torch.equal(first(x), second(x))
