"""The CrossSim export: what it holds, and that products there are ours to one ADC step.

CrossSim is on no package index. Where a checkout is on PYTHONPATH it is used; the formulas that it documents
stand in for it always.
"""

import importlib.util
import json
import runpy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from msgspec.structs import replace

from ffebm.exporters.crosssim import export_crosssim
from ffebm.exporters.export import held_matrix, linears, slice_ranges
from ffebm.graph.tensor import Array
from ffebm.hardware.description import Cell, Crossbar, Dac
from ffebm.plan.plan import Plan
from ffebm.plan.schema import Piece
from ffebm.runtime.tiles.crossbar import CrossbarTile
from ffebm.runtime.tiles.projection import crossbar_projection
from ffebm.runtime.tiles.sliced import SlicedTile
from ffebm.runtime.tiles.tile import Tile
from tests.backends.crosssim_formulas import stand_in
from tests.backends.exported import INPUTS, changed, dense_plan, image_plan, quiet, written
from tests.machines import crossbars, with_tiles

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


def four_levels() -> Cell:
    tile = quiet(crossbars(1, 1, 1)).analog[0].tile
    assert isinstance(tile, Crossbar)
    return replace(tile.cell, levels=4)


def sliced_inputs(bits: int) -> Dac:
    tile = crossbars(1, 1, 1).analog[0].tile
    assert isinstance(tile, Crossbar)
    return replace(tile.dac, slice_bits=bits)


def tile_of(plan: Plan, piece: Piece, held: Array) -> Tile:
    crossbar = plan.hardware.analog[0].tile
    assert isinstance(crossbar, Crossbar)
    tile: Tile = CrossbarTile(crossbar, torch.Generator())
    if crossbar.slices > 1:
        tile = SlicedTile(crossbar, lambda index: CrossbarTile(crossbar, torch.Generator(), index=index))
    tile.program(torch.from_numpy(held[piece.group, slice(*piece.outputs), slice(*piece.inputs)].copy()))
    return tile


SLICED = changed(quiet(crossbars(16, 12, 8)), slices=3, cell=four_levels())
OFFSET = changed(quiet(crossbars(16, 12, 8)), mapping="offset")
SERIAL = changed(quiet(crossbars(16, 12, 8)), dac=sliced_inputs(3))


@pytest.mark.parametrize(
    "make",
    [
        dense_plan,
        image_plan,
        partial(dense_plan, SLICED),
        partial(dense_plan, OFFSET),
        partial(dense_plan, SERIAL),
    ],
    ids=["dense", "images", "bit slices", "offset column", "input slices"],
)
def test_products_in_both_directions_are_ours_to_one_adc_step(
    make: Any, simulator: None, tmp_path: Path
) -> None:
    plan = make()
    folder = written(export_crosssim, plan, tmp_path / "x")
    cores = loader(folder)["cores"](folder)
    assert isinstance(plan.hardware.analog[0].tile, Crossbar)
    count = plan.hardware.analog[0].tile.slices
    assert len(cores) == count * sum(1 for _ in plan.pieces()) >= 5
    rng = np.random.default_rng(0)
    maps = linears(plan)
    for place, piece in plan.pieces():
        held = held_matrix(plan, maps[piece.weight])
        tile = tile_of(plan, piece, held)
        names = [f"piece{piece.id}.slice{k}" if count > 1 else f"piece{piece.id}" for k in range(count)]
        x = rng.standard_normal((7, piece.n_in)).astype(np.float32)
        y = rng.standard_normal((7, piece.n_out)).astype(np.float32)
        for transposed, vectors, ours in ((False, x, tile.mvm), (True, y, tile.mvm_t)):
            expected = ours(torch.from_numpy(vectors)).numpy()
            found, step = np.zeros_like(expected), np.zeros(7)
            limits = slice_ranges(plan, piece, transposed=transposed)
            for index, name in enumerate(names):
                core = cores[name]
                lines = np.zeros((7, core.shape[0 if transposed else 1]))
                lines[:, : vectors.shape[1]] = vectors
                product = lines @ core if transposed else (core @ lines.T).T
                found += product[:, : expected.shape[1]]
                scale = piece.scale * plan.hardware.analog[0].tile.cell.levels ** index
                step += scale * limits[index] / (2 ** (place.adc_bits - 1) - 1) * np.abs(vectors).max(1)
            assert np.abs(found - expected).max(1) == pytest.approx(0, abs=float(1.001 * step.max()))
            assert (
                np.mean(np.abs(found - expected) > 0.01 * step[:, None]) < 0.02
            )  # nearly all: the same code


def test_pieces_of_a_weight_add_up(simulator: None, tmp_path: Path) -> None:
    plan = dense_plan()
    folder = written(export_crosssim, plan, tmp_path / "x")
    pieces = [piece for _, piece in plan.pieces() if piece.weight == "fc1.weight"]
    assert len(pieces) == 4  # two spans of inputs, two of outputs
    assert isinstance(plan.hardware.analog[0].tile, Crossbar)
    linear = linears(plan)["fc1.weight"]
    ours = crossbar_projection(linear, pieces, plan.hardware.analog[0].tile, torch.Generator())
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
    assert any("at or above 0 S" in note for note in exported.notes)


def test_levels_that_are_no_power_of_two_are_left_to_the_matrices() -> None:
    machine = crossbars(16, 12, 8)
    tile = machine.analog[0].tile
    assert isinstance(tile, Crossbar)
    tile = replace(tile, cell=replace(tile.cell, levels=100))
    exported = export_crosssim(dense_plan(with_tiles(machine, tile=tile)))
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
