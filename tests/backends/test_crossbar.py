from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from msgspec.structs import replace

from ffebm import Executor, Plan, load_plan
from ffebm import compile as compile_plan
from ffebm.hardware.description import Crossbar, load_hardware
from ffebm.plan.conductance import HEADROOM, to_matrix
from tests.machines import crossbars, with_tiles
from tests.models import Builder


def plan_of(dtype: str = "float32", **tile: Any) -> Plan:
    b = Builder()
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    x = b.input("x", "N", 5, dtype=kind)
    w = b.constant(np.random.default_rng(0).standard_normal((5, 7)).astype(dtype), "w")
    model = b.model(b.node("MatMul", x, w))
    model.graph.output[0].type.tensor_type.elem_type = kind
    machine = crossbars(8, 4, 3)
    changed = replace(machine.analog[0].tile, **tile)
    return compile_plan(model, hardware=with_tiles(machine, tile=changed))


def test_pairs_hold_the_weights_within_half_a_level() -> None:
    plan = plan_of()
    tile = plan.hardware.analog[0].tile
    assert isinstance(tile, Crossbar)
    low, high, top = tile.cell.g_min.value, tile.cell.g_max.value, tile.cell.levels - 1
    (linear,) = [i.linear for b in plan.blocks for _, i in b.interactions()]
    assert linear is not None
    matrix = to_matrix(linear, plan.weights["w"])
    pieces = [piece for _, piece in plan.pieces()]
    assert sorted((p.inputs, p.outputs) for p in pieces) == [
        (inputs, outputs) for inputs in ((0, 3), (3, 5)) for outputs in ((0, 3), (3, 5), (5, 7))
    ]
    for piece in pieces:
        plus, minus = plan.conductances(piece)
        assert plus.shape == (piece.n_in, piece.n_out)
        assert np.minimum(plus, minus).max() == pytest.approx(low)  # the unused cell of a pair rests
        held = (plus.astype(float) - minus.astype(float)).T * piece.scale / (high - low)
        wanted = matrix[0, slice(*piece.outputs), slice(*piece.inputs)]
        assert np.abs(held - wanted).max() <= 0.5 * piece.scale / top * 1.001
        assert piece.scale == pytest.approx(np.abs(wanted).max())
        assert 0 < piece.adc_range <= np.abs(wanted / piece.scale).sum(1).max() * HEADROOM * 1.01
        assert 0 < piece.adc_range_t <= np.abs(wanted / piece.scale).sum(0).max() * HEADROOM * 1.01


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_conductances_do_not_suffer_from_the_weights_type(dtype: str, tmp_path: object) -> None:
    plan = plan_of(dtype)
    assert plan.weights["w"].dtype == dtype
    assert {a.dtype for _, piece in plan.pieces() for a in plan.conductances(piece)} == {np.dtype(np.float32)}
    plan.save(f"{tmp_path}/plan")
    assert load_plan(f"{tmp_path}/plan") == plan
    x = torch.linspace(-1, 1, 10, dtype=getattr(torch, dtype)).reshape(2, 5)
    y = Executor(plan)(x)
    assert y.dtype == x.dtype
    exact = x.double() @ torch.from_numpy(plan.weights["w"].astype(float))
    torch.testing.assert_close(y.double(), exact, rtol=0.1, atol=0.1)


def test_an_exact_tile_has_no_conductances() -> None:
    b = Builder()
    plan = compile_plan(b.model(b.node("MatMul", b.input("x", "N", 5), b.weight(5, 700))), hardware="ideal")
    assert plan.crossbars == {}
    (tile,) = plan.tiles
    assert (tile.kind, tile.rows, tile.cols, tile.dac_bits, tile.used) == ("exact", 5, 700, 0, 3500)
    (piece,) = tile.pieces
    assert (piece.scale, piece.adc_range, piece.inputs, piece.outputs) == (1.0, 0.0, (0, 5), (0, 700))


def test_a_weight_of_zeros(tmp_path: Path) -> None:
    b = Builder()
    w = b.constant(np.zeros((3, 3), np.float32))
    plan = compile_plan(b.model(b.node("MatMul", b.input("x", "N", 3), w)), hardware="reference")
    (piece,) = [p for _, p in plan.pieces()]
    assert (piece.scale, piece.adc_range) == (0.0, 1.0)
    plan.save(tmp_path / "plan")
    assert load_plan(tmp_path / "plan") == plan
    assert not Executor(plan)(torch.ones(2, 3)).any()  # no noise of a range that is not there
    assert np.array_equal(*plan.conductances(piece))


def test_a_weight_that_blocks_share_is_placed_once() -> None:
    b = Builder()
    w = b.weight(4, 4, name="w")
    y = b.node("Relu", b.node("MatMul", b.input("x", "N", 4), w))
    plan = compile_plan(b.model(b.node("Relu", b.node("MatMul", y, w))), hardware="reference")
    assert len(plan.blocks) == 2
    assert [p.weight for _, p in plan.pieces()] == ["w"]


def test_scales_of_columns(tmp_path: Path) -> None:
    plan = plan_of(scale="column")
    plan.save(tmp_path / "plan")
    assert load_plan(tmp_path / "plan") == plan
    for _, piece in plan.pieces():
        scales = plan.crossbars[f"piece{piece.id}.scale"].astype(float)
        wanted = plan.weights["w"][slice(*piece.inputs), slice(*piece.outputs)]
        np.testing.assert_allclose(scales, np.abs(wanted).max(0), rtol=1e-6)
        assert piece.scale == pytest.approx(scales.max())
        plus, minus = (array.astype(float) for array in plan.conductances(piece))
        held = scales * (plus - minus) / (25e-6 - 0.25e-6)
        assert (np.abs(held - wanted) <= scales * (0.5 / 127 + 1e-6)).all()


@pytest.mark.parametrize("mapping", ["differential", "offset"])
@pytest.mark.parametrize("slices", [1, 2])
@pytest.mark.parametrize("by_column", [False, True])
def test_conductances_of_other_mappings(mapping: str, slices: int, by_column: bool, tmp_path: Path) -> None:
    tile = load_hardware("reference").analog[0].tile
    assert isinstance(tile, Crossbar)
    adc = replace(tile.adc, range="column" if by_column else "calibrated")
    plan = plan_of(mapping=mapping, slices=slices, adc=adc)
    plan.save(tmp_path / "plan")
    assert load_plan(tmp_path / "plan") == plan
    span = tile.cell.g_max.value - tile.cell.g_min.value
    for _, piece in plan.pieces():
        pair = plan.conductances(piece)
        down = 1 if mapping == "offset" else piece.n_out
        front = () if slices == 1 else (slices,)
        assert [a.shape for a in pair] == [(*front, piece.n_in, piece.n_out), (*front, piece.n_in, down)]
        digits = ((pair[0].astype(float) - pair[1]) / span).reshape(slices, piece.n_in, piece.n_out)
        held = sum(digits[k] * piece.scale * 128**k for k in range(slices))
        wanted = plan.weights["w"][slice(*piece.inputs), slice(*piece.outputs)]
        assert np.abs(held - wanted).max() <= np.abs(wanted).max() / (126 if slices == 1 else 8000)
        stored = plan.crossbars.get(f"piece{piece.id}.adc_range")
        if slices == 1 and not by_column:
            assert stored is None
        else:
            assert stored is not None
            assert stored.shape == (*front, piece.n_out if by_column else 1)
            assert piece.adc_range == pytest.approx(stored.max())
