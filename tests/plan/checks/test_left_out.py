"""Plans without weights: they say what plans with weights say, and are refused where these are needed."""

import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto

import ffebm
from ffebm import Plan, load_plan
from ffebm import compile as compile_plan
from ffebm.errors import ModelError, UsageError
from ffebm.exporters.catalogue import EXPORTERS, exporter
from ffebm.plan.checks.left_out import MOST_KEPT, NOTE
from ffebm.plan.schema import Manifest, TilePlan
from ffebm.runtime.save_onnx import save_onnx
from tests.models import Builder, random_models
from tests.plan.folders import refused, set_at

WORDS, WIDTH, TOKENS = 48, 32, 36


def language() -> ModelProto:
    """What depends on values: a tied embedding, positions by sines, a mask, and scales that were merged."""
    b = Builder()
    table = b.weight(WORDS, WIDTH, name="table")
    rates = 10.0 ** (-np.arange(WIDTH) / WIDTH)
    places = b.constant(np.sin(np.outer(np.arange(TOKENS), rates)).astype(np.float32), "places")
    ones = b.constant(np.ones(WIDTH * 40, np.float32), "ones")
    mask = b.constant(np.triu(np.full((TOKENS, TOKENS), -np.inf, np.float32), 1), "mask")
    x = b.node("Gather", table, b.input("ids", 1, TOKENS, dtype=onnx.TensorProto.INT64))
    x = b.node("Add", x, places)
    scores = b.node("MatMul", x, b.node("Transpose", x, perm=[0, 2, 1]))
    x = b.node("MatMul", b.node("Softmax", b.node("Add", scores, mask)), x)
    for name in ("first", "second"):
        x = b.node("MatMul", x, b.weight(WIDTH, WIDTH * 40, name=name))
        x = b.node("LayerNormalization", x, ones)
        x = b.node("MatMul", x, b.weight(WIDTH * 40, WIDTH, name=f"{name}_back"))
    return b.model(b.node("MatMul", x, b.node("Transpose", table, perm=[1, 0])))


def both(model: ModelProto | Path, **options: Any) -> tuple[Plan, Plan]:
    asked: dict[str, Any] = {"hardware": "reference", "effort": 50, **options}
    return compile_plan(model, **asked), compile_plan(model, **asked, no_weights=True)


def placed(tile: TilePlan) -> TilePlan:
    """A tile without what depends on weights."""
    pieces = (msgspec.structs.replace(p, scale=1.0, adc_range=0.0, adc_range_t=0.0) for p in tile.pieces)
    return msgspec.structs.replace(tile, pieces=tuple(pieces))


def check_alike(full: Plan, cost: Plan) -> None:
    for name in Manifest.__struct_fields__:
        if name not in {"options", "notes", "tiles", "left_out"}:
            assert getattr(cost, name) == getattr(full, name), name
    assert cost.options == msgspec.structs.replace(full.options, no_weights=True)
    assert cost.notes == (*full.notes, NOTE)
    assert cost.tiles == tuple(map(placed, full.tiles))
    assert cost.segments == full.segments
    assert cost.crossbars == {}
    assert cost.weights.keys() == full.weights.keys()
    weights = set(full.weight_names())
    for name, array in full.weights.items():
        assert (name in cost.left_out) == (name in weights and array.size > MOST_KEPT)
        if name not in cost.left_out:
            assert cost.weights[name] is array or cost.weights[name].tobytes() == array.tobytes()


@settings(max_examples=8, deadline=None)
@given(model=random_models(), block_size=st.integers(1, 2))
def test_all_is_as_with_weights(model: ModelProto, block_size: int) -> None:
    check_alike(*both(model, block_size=block_size))


def test_what_depends_on_values_is_as_with_weights(tmp_path: Path) -> None:
    path = tmp_path / "language.onnx"
    onnx.save(language(), path)
    full, cost = both(path)
    check_alike(full, cost)
    assert "table" in cost.left_out
    assert {"places", "mask"}.isdisjoint(cost.left_out)
    assert full.tied() == cost.tied() != []


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("cost")
    onnx.save(language(), where / "language.onnx")
    compile_plan(where / "language.onnx", hardware="reference", no_weights=True).save(where / "plan")
    return where / "plan"


def test_it_is_saved_and_loaded_without_weights(folder: Path) -> None:
    plan = load_plan(folder)
    assert plan.left_out
    assert all(plan.weights[name].strides == (0,) * plan.weights[name].ndim for name in plan.left_out)
    size = sum((folder / name).stat().st_size for name in ("weights.safetensors", "source.onnx"))
    kept = sum(array.nbytes for name, array in plan.weights.items() if name not in plan.left_out)
    assert size < kept + 8192 < sum(array.nbytes for array in plan.weights.values())


def test_the_plan_of_a_plan_is_the_same(folder: Path) -> None:
    plan = load_plan(folder)
    again = compile_plan(folder, hardware="reference", no_weights=True)
    assert plan.notes[0].startswith("each place that read ones has a constant of its own")
    assert again.notes == plan.notes[1:]  # its model holds them apart
    again.notes = plan.notes
    assert again == plan
    with pytest.raises(ModelError) as caught:
        compile_plan(folder, hardware="reference")
    assert str(caught.value) == (
        "the plan of language.onnx holds no weights; the model's own file, or --no-weights (no_weights=True)"
    )


def test_the_plan_of_a_plan_with_weights_is_the_same(tmp_path: Path) -> None:
    plan = compile_plan(language(), hardware="hermes")
    plan.save(tmp_path / "plan")
    again = compile_plan(tmp_path / "plan", hardware="hermes")
    again.notes = plan.notes
    assert again == plan


def test_where_weights_are_needed_it_is_refused(folder: Path, tmp_path: Path) -> None:
    plan = load_plan(folder)
    message = r"the plan of language.onnx holds no weights, and cannot run; what needs none: show, report,"
    with pytest.raises(UsageError, match=message) as caught:
        ffebm.Executor(plan)
    assert (
        caught.value.hint == "for a plan that runs, compile the model without --no-weights (no_weights=False)"
    )
    with pytest.raises(UsageError, match=message):
        save_onnx(plan, {}, tmp_path / "model.onnx")
    for name in EXPORTERS.keys() - {"zigzag"}:
        with pytest.raises(UsageError, match=message):
            exporter(name)(plan)
    assert exporter("zigzag")(plan).files


def test_a_torch_model_can_do_without_weights() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(48, 48), torch.nn.ReLU(), torch.nn.Linear(48, 4)).eval()
    full, cost = (
        compile_plan(module, torch.zeros(1, 48), hardware="reference", no_weights=off)
        for off in (False, True)
    )
    check_alike(full, cost)
    assert list(cost.left_out) == ["0.weight"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_at("options", "no_weights", to=False), "weight 'first' was left out of a plan with weights"),
        (set_at("left_out", "table", "shape", 0, to=47), "weight 'table' is float32[47x32], its type says "),
        (set_at("left_out", "table", "dtype", to="object"), "what was left out: object[48x32] holds no numb"),
        (set_at("left_out", "table", "dtype", to="number"), "what was left out: number[48x32] is of no know"),
        (set_at("left_out", "table", "shape", to=None), "what was left out: float32[?] has no sizes"),
        (set_at("left_out", "table", "shape", 0, to=-1), "what was left out: float32[-1x32] has no sizes"),
        (
            set_at("tiles", 0, "pieces", 0, "scale", to=2.0),
            "piece 30 is of a plan without weights, and has levels, a scale or ranges",
        ),
    ],
)
def test_a_contradiction_is_refused(folder: Path, tmp_path: Path, change: Any, message: str) -> None:
    shutil.copytree(folder, tmp_path / "plan")
    assert refused(tmp_path / "plan", change).startswith(message)
