"""The CrossSim export: what it holds, and that products there are ours to one ADC step.

CrossSim is on no package index. Where a checkout is on PYTHONPATH it is used; the formulas that it documents
stand in for it always.
"""

import importlib.util
import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from msgspec.structs import replace

from ffebm.backends.crosssim import export_crosssim
from ffebm.backends.export import held_matrix, linears
from ffebm.hardware import Crossbar
from ffebm.ir import Array
from ffebm.plan import Piece, Plan
from ffebm.runtime.tiles.crossbar import CrossbarTile
from ffebm.runtime.tiles.projection import crossbar_projection
from tests.backends.crosssim_formulas import stand_in
from tests.backends.exported import INPUTS, dense_plan, image_plan, written
from tests.machines import crossbars

Loader = dict[str, Any]


def has_crosssim() -> bool:
    found = importlib.util.find_spec("simulator")
    return found is not None and importlib.util.find_spec("simulator.cores") is not None


@pytest.fixture(params=["formulas", "crosssim"])
def simulator(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the exported loader imports."""
    if request.param == "formulas":
        stand_in(monkeypatch)
    elif not has_crosssim():
        pytest.skip("CrossSim is not installed: put a checkout of cross-sim on PYTHONPATH")


def loader(folder: Path) -> Loader:
    return runpy.run_path(str(folder / "load.py"))


def tile_of(plan: Plan, piece: Piece, held: Array) -> CrossbarTile:
    assert isinstance(plan.hardware.tiles.tile, Crossbar)
    tile = CrossbarTile(plan.hardware.tiles.tile, torch.Generator())
    tile.program(torch.from_numpy(held[piece.group, slice(*piece.outputs), slice(*piece.inputs)].copy()))
    return tile


@pytest.mark.parametrize("make", [dense_plan, image_plan])
def test_products_in_both_directions_are_ours_to_one_adc_step(
    make: Any, simulator: None, tmp_path: Path
) -> None:
    plan = make()
    folder = written(export_crosssim, plan, tmp_path / "x")
    cores = loader(folder)["cores"](folder)
    assert len(cores) == sum(1 for _ in plan.pieces()) >= 5
    rng = np.random.default_rng(0)
    maps = linears(plan)
    for place, piece in plan.pieces():
        held = held_matrix(plan, maps[piece.weight])
        tile = tile_of(plan, piece, held)
        x = rng.standard_normal((7, piece.n_in)).astype(np.float32)
        y = rng.standard_normal((7, piece.n_out)).astype(np.float32)
        core = cores[f"piece{piece.id}"]
        for vectors, product, ours, limit in (
            (x, core, tile.mvm, piece.adc_range),
            (y, core.T, tile.mvm_t, piece.adc_range_t),
        ):
            lines = np.zeros((7, core.shape[1] if product is core else core.shape[0]))
            lines[:, : vectors.shape[1]] = vectors
            expected = ours(torch.from_numpy(vectors)).numpy()
            found = (product @ lines.T).T[:, : expected.shape[1]]
            step = piece.scale * limit / (2 ** (place.adc_bits - 1) - 1) * np.abs(vectors).max(1)
            assert np.abs(found - expected).max(1) == pytest.approx(0, abs=float(1.001 * step.max()))
            assert (
                np.mean(np.abs(found - expected) > 0.01 * step[:, None]) < 0.02
            )  # nearly all: the same code


def test_pieces_of_a_weight_add_up(simulator: None, tmp_path: Path) -> None:
    plan = dense_plan()
    folder = written(export_crosssim, plan, tmp_path / "x")
    pieces = [piece for _, piece in plan.pieces() if piece.weight == "fc1.weight"]
    assert len(pieces) == 4  # two spans of inputs, two of outputs
    assert isinstance(plan.hardware.tiles.tile, Crossbar)
    linear = linears(plan)["fc1.weight"]
    ours = crossbar_projection(linear, pieces, plan.hardware.tiles.tile, torch.Generator())
    x = np.random.default_rng(0).standard_normal(INPUTS).astype(np.float32)
    weight = torch.from_numpy(plan.weights["fc1.weight"].copy())
    expected = ours.product(torch.from_numpy(x)[None], weight)[0].numpy()
    found = loader(folder)["product"](folder, "fc1.weight", x)
    step = max(piece.scale * piece.adc_range for piece in pieces) / 127 * np.abs(x).max()
    assert np.abs(found - expected).max() < 2.01 * step
    assert np.median(np.abs(found - expected)) < 0.01 * step


def test_exact_tiles_are_exact(simulator: None, tmp_path: Path) -> None:
    plan = dense_plan("ideal")
    folder = written(export_crosssim, plan, tmp_path / "x")
    x = np.random.default_rng(0).standard_normal((INPUTS, 3))
    found = loader(folder)["product"](folder, "fc1.weight", x)
    weight = plan.weights["fc1.weight"].astype(np.float64)
    np.testing.assert_allclose(found, weight.T @ x, rtol=1e-5, atol=1e-6)


def test_noise_is_in_units_of_the_largest_conductance() -> None:
    exported = export_crosssim(dense_plan(crossbars(16, 12, 8)))
    device = json.loads(exported.files["parameters.json"])["xbar"]["device"]
    assert device["Rmin"] == pytest.approx(1 / 25e-6)
    assert device["Rmax"] == pytest.approx(1 / 0.25e-6)
    assert device["read_noise"]["magnitude"] == pytest.approx(0.005 * 0.99)
    assert device["programming_error"]["magnitude"] == pytest.approx(0.01 * 0.99)
    assert any("at least 0 S" in note for note in exported.notes)


def test_levels_that_are_no_power_of_two_are_left_to_the_matrices() -> None:
    machine = crossbars(16, 12, 8)
    tile = machine.tiles.tile
    assert isinstance(tile, Crossbar)
    tile = replace(tile, cell=replace(tile.cell, levels=100))
    exported = export_crosssim(dense_plan(replace(machine, tiles=replace(machine.tiles, tile=tile))))
    assert json.loads(exported.files["parameters.json"])["xbar"]["device"]["cell_bits"] == 0
    assert "100 levels are no power of two; the matrices are on levels already" in exported.notes


def test_vectors_carry_a_line_of_zeros(tmp_path: Path) -> None:
    plan = dense_plan(crossbars(16, 12, 1))
    exported = export_crosssim(plan)
    assert any("no vectors" in note for note in exported.notes)
    folder = written(export_crosssim, plan, tmp_path / "x")
    with np.load(folder / "matrices.npz") as matrices:
        assert {matrices[name].shape[0] for name in matrices.files} == {2}


def test_the_index_says_where_every_piece_lies() -> None:
    plan = dense_plan()
    index = json.loads(export_crosssim(plan).files["pieces.json"])
    assert index["source"] == f"{plan.source.name} on reference, sha256 {plan.source.digest}"
    keys = ("name", "weight", "group", "inputs", "outputs", "tile", "row", "col")
    assert [tuple(entry[key] for key in keys) for entry in index["pieces"]] == [
        (f"piece{p.id}", p.weight, p.group, list(p.inputs), list(p.outputs), t.id, p.row, p.col)
        for t, p in plan.pieces()
    ]
