"""Cells of several devices: what differs between devices shrinks with the root of their number."""

import math
from typing import Any

import pytest
import torch
from msgspec.structs import replace

import ffebm
from ffebm.compiler.driver import compile_model
from ffebm.hardware.description import Cell, Drift, Statistics, Stuck, Verify
from ffebm.hardware.formulas import FORMULAS
from ffebm.hardware.quantity import Time
from ffebm.plan.conductance import adc_range, to_levels
from ffebm.plan.plan import Plan
from ffebm.runtime.tiles.crossbar import CrossbarTile
from ffebm.runtime.tiles.devices.cell_array import CellArray
from ffebm.runtime.tiles.devices.statistics import STATISTICS
from ffebm.runtime.tiles.noise import machine_normals
from tests.machines import crossbars, ratio, with_tiles
from tests.models import Builder
from tests.runtime.tiles.bench import crossbar, fine, random, source, with_cell

SIZE = (300, 300)


def cells(devices: int, **effects: Any) -> CellArray:
    """Written to the middle of their range."""
    cell: Cell = replace(crossbar().cell, devices=devices, **effects)
    array = CellArray(cell, source(), "m")
    array.write(torch.full(SIZE, middle(cell), dtype=torch.float64))
    return array


def middle(cell: Cell) -> float:
    return float(cell.g_min.value + cell.g_max.value) / 2


def span(cell: Cell) -> float:
    return float(cell.g_max.value - cell.g_min.value)


@pytest.mark.parametrize("devices", [1, 2, 5])
def test_errors_of_writes_are_averaged(devices: int) -> None:
    cell = crossbar().cell
    noisy = cells(devices, programming_noise=ratio(0.01)).conductance - middle(cell)
    assert float(noisy.std()) == pytest.approx(0.01 * span(cell) / devices**0.5, rel=0.02)
    varied = cells(devices, variation=ratio(0.05)).conductance / middle(cell) - 1
    assert float(varied.std()) == pytest.approx(0.05 / devices**0.5, rel=0.02)


def test_each_device_is_verified_and_stuck_for_itself() -> None:
    cell, tolerance = crossbar().cell, 0.01
    verify = Verify(writes=1000, tolerance=ratio(tolerance))
    found = cells(3, programming_noise=ratio(0.02), verify=verify).each - middle(cell)
    assert found.shape == (3, *SIZE)
    assert float(found.abs().max()) <= tolerance * span(cell)
    stuck = cells(2, stuck=Stuck(at_min=ratio(0.2), at_max=ratio(0.0)))
    shares = [float((stuck.conductance < level * middle(cell)).double().mean()) for level in (0.1, 0.9)]
    # both devices at g_min, which is near 0 here; at least one of them
    assert shares == pytest.approx([0.2**2, 1 - 0.8**2], abs=0.01)


def test_devices_drift_by_their_own_exponents() -> None:
    array = cells(3, drift=Drift(
        exponent=ratio(0.05), spread=ratio(0.02), start=seconds(1.0), elapsed=seconds(1e4)
    ))  # fmt: skip
    drawn = machine_normals((3, *SIZE), array.conductance, "m/drift")
    expected = (array.each * torch.exp(-(0.05 + 0.02 * drawn) * math.log(1e4))).mean(0)
    torch.testing.assert_close(array.seen(), expected)


def seconds(value: float) -> Time:
    return Time(value=value, unit="s", source="test")


def test_measured_noise_of_a_read_is_averaged() -> None:
    measured = Statistics(name="hermes-1", elapsed=seconds(3600.0), noise=1.0)
    effects = {"programming_noise": None, "read_noise": None, "statistics": measured, "g_max": g_max(10e-6)}
    array = cells(2, **effects)
    law, top, drawn = STATISTICS["hermes-1"], 10e-6, machine_normals((2, *SIZE), array.each, "m/drift")
    nu = law.exponents(torch.full(SIZE, middle_of(effects), dtype=torch.float64), top, drawn)
    one = law.read_noise(array.each, top, 3600.0) * array.each * law.decay(nu, 3600.0)
    found = array.read_noise()
    assert found is not None
    torch.testing.assert_close(found, one.square().sum(0).sqrt() / 2)


def g_max(value: float) -> Any:
    return replace(crossbar().cell.g_max, value=value)


def middle_of(effects: dict[str, Any]) -> float:
    return middle(replace(crossbar().cell, **effects))


@pytest.mark.parametrize("mapping", ["differential", "offset"])
def test_read_noise_of_a_product_falls_with_the_root_of_the_devices(mapping: Any) -> None:
    deviations = []
    for devices in (1, 4):
        kind = replace(with_cell(crossbar(bits=24, reading=0.02), devices=devices), mapping=mapping)
        tile = CrossbarTile(kind, source())
        tile.program(random(5, 7))
        out = tile.mvm(random(7, seed=2).expand(20_000, -1))
        deviations.append(float(out.std(0).mean()))
    assert deviations[1] == pytest.approx(deviations[0] / 2, rel=0.02)


@pytest.mark.parametrize("transposed", [False, True])
def test_a_product_is_that_of_the_sum_of_all_devices(*, transposed: bool) -> None:
    """Brute force: every device is a resistor of its own; the other direction meets others."""
    kind = replace(with_cell(fine(), devices=3, programming_noise=ratio(0.02)), mismatch=ratio(0.1))
    tile = CrossbarTile(kind, source(), "m")
    tile.program(random(5, 7))
    x, state, held = random(4, 5 if transposed else 7), tile.state(), torch.zeros(5, 7, dtype=torch.float64)
    for side, sign in (("plus", 1.0), ("minus", -1.0)):
        each = state[side]
        if transposed:
            each = each * (1 + 0.1 * machine_normals(each.shape, each, f"m/mismatch {side}"))
        held += sign * each.sum(0)
    held *= float(state["scale"]) / (3 * span(kind.cell))
    found = tile.mvm_t(x) if transposed else tile.mvm(x)
    torch.testing.assert_close(found, x @ held if transposed else x @ held.T, rtol=1e-4, atol=1e-4)


def test_cells_that_stay_keep_their_devices() -> None:
    kind = with_cell(crossbar(levels=2**20), devices=3, programming_noise=ratio(0.02))
    tile = CrossbarTile(kind, source())
    tile.program(random(5, 6))
    before = tile.state()["plus"].clone()
    step = torch.zeros(5, 6, dtype=torch.float64)
    step[2, 3] = 0.1
    tile.update(step)
    moved = tile.state()["plus"] != before
    assert moved.any(0).nonzero().tolist() in ([[2, 3]], [])
    assert not moved[:, step == 0].any()


def dense(machine: Any) -> Plan:
    b = Builder()
    return compile_model(b.model(b.node("MatMul", b.input("x", "N", 6), b.weight(6, 4))), hardware=machine)


def machine(**effects: Any) -> Any:
    base = crossbars(4, 16, 16)
    tile = base.analog[0].tile.crossbar()
    return with_tiles(base, tile=replace(tile, cell=replace(tile.cell, **effects)))


def test_reads_and_writes_are_billed_by_the_device() -> None:
    one, three = dense(machine()), dense(machine(devices=3))
    for schedule in ("inference", "training"):
        costs = [getattr(plan, schedule).cost for plan in (one, three)]
        assert costs[1].array == pytest.approx(3 * costs[0].array, rel=1e-9, abs=0)
        assert costs[1].adc == costs[0].adc
    assert len(one.tiles) == len(three.tiles)
    assert three.hardware.analog[0].tile.crossbar().meaning.endswith("differential, 3 devices a cell")


def test_formulas_of_an_area_count_the_devices() -> None:
    text = FORMULAS["tile_area"].text
    assert "arrays" in text
    from ffebm.hardware.derived import _of_tile

    cell = {"devices": 4}
    assert _of_tile({"rows": 8, "cols": 8, "slices": 2, "cell": cell})["arrays"] == 16
    assert _of_tile({"rows": 8, "cols": 8, "mapping": "offset", "cell": {}})["arrays"] == 1


def test_a_state_holds_every_device() -> None:
    plan = dense(machine(devices=3))
    first = ffebm.Executor(plan, seed=1).eval()
    x = torch.rand(5, 6)
    with torch.no_grad():
        first(x)
        second = ffebm.Executor(plan, seed=2).eval()
        second.load_state_dict(first.state_dict())
        assert torch.equal(first(x), second(x))
    (name,) = [key for key in first.state_dict() if key.endswith(".plus")]
    assert first.state_dict()[name].shape[0] == 3


def test_ranges_do_not_depend_on_the_devices() -> None:
    weight = random(5, 7)
    kinds = [with_cell(crossbar(), devices=devices) for devices in (1, 4)]
    scale = weight.abs().max().reshape(1, 1)
    limits = [adc_range(to_levels(weight, scale, kind), kind) for kind in kinds]
    assert torch.equal(*limits)
