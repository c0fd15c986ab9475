import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffebm import FfebmError, Plan, load_plan
from ffebm import compile as compile_plan
from ffebm.errors import InternalError, PlanError, UsageError
from ffebm.files.folder import SUMS
from ffebm.plan.schema import Options
from ffebm.plan.tensor_file import unpack
from tests.models import Builder
from tests.plan.folders import AGAIN, model, refused, set_at

SIZES = "a whole number of at least 1, or a list of such numbers"


def test_what_is_saved_is_loaded(plan: Plan, folder: Path) -> None:
    assert load_plan(folder) == plan
    assert (load_plan(folder) != plan) is False
    assert load_plan(str(folder)) == plan
    files = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    assert files == [
        "SHA256SUMS",
        "crossbars.safetensors",
        "digital/segment0000.json",
        "digital/segment0001.json",
        "plan.json",
        "source.onnx",
        "weights.safetensors",
    ]


@pytest.mark.parametrize("hardware", ["reference", "heterogeneous"])
def test_a_plan_that_is_loaded_is_saved_byte_for_byte(hardware: str, tmp_path: Path) -> None:
    compile_plan(model(), hardware=hardware, objective="energy").save(tmp_path / "first")
    load_plan(tmp_path / "first").save(tmp_path / "again")
    assert (tmp_path / "again" / SUMS).read_text() == (tmp_path / "first" / SUMS).read_text()


def test_plans_differ_where_their_weights_do(plan: Plan, folder: Path) -> None:
    other = load_plan(folder)
    name = plan.trainable[0]
    other.weights[name] = other.weights[name] + 1
    assert other != plan
    assert plan != "plan"


def test_a_plan_and_the_compiler_mean_the_same_by_what_is_not_said() -> None:
    assert compile_plan(model(), hardware="reference").options == Options()


def test_copies_of_a_weight_are_written_once(tmp_path: Path) -> None:
    plan = compile_plan(model(), hardware="reference")
    plan.save(tmp_path / "plan")
    assert any(piece.replica for _, piece in plan.pieces())
    content = (tmp_path / "plan" / "crossbars.safetensors").read_bytes()
    assert 0 < len(unpack(content)) < len(plan.crossbars)
    assert load_plan(tmp_path / "plan") == plan
    load_plan(tmp_path / "plan").save(tmp_path / "again")
    assert (tmp_path / "again" / "crossbars.safetensors").read_bytes() == content


def test_two_compilations_are_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    compile_plan(model(), hardware="reference", block_size=2, replicas=1).save(tmp_path / "again")
    assert (folder / SUMS).read_text() == (tmp_path / "again" / SUMS).read_text()


def test_two_processes_make_the_same_bytes(tmp_path: Path) -> None:
    onnx.save(model(), tmp_path / "model.onnx")
    code = "import sys, ffebm; ffebm.compile('model.onnx', block_size=3).save(sys.argv[1])"
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        subprocess.run([sys.executable, "-c", code, seed], check=True, cwd=tmp_path, env=environment)
    assert (tmp_path / "1" / SUMS).read_text() == (tmp_path / "2" / SUMS).read_text()


@settings(max_examples=60)
@given(data=st.data())
def test_one_flipped_byte_anywhere_is_refused(
    plan: Plan, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp() / "flipped"
    if not folder.exists():
        plan.save(folder)
    path = data.draw(st.sampled_from(sorted(p for p in folder.rglob("*") if p.is_file())))
    content = path.read_bytes()
    position = data.draw(st.integers(0, len(content) - 1))
    flipped = bytearray(content)
    flipped[position] ^= data.draw(st.integers(1, 255))
    path.write_bytes(flipped)
    try:
        with pytest.raises(PlanError):
            load_plan(folder)
    finally:
        path.write_bytes(content)
    assert load_plan(folder) == plan


@pytest.mark.parametrize(
    "name", ["plan.json", "weights.safetensors", "crossbars.safetensors", "digital/segment0000.json"]
)
def test_a_missing_file(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(PlanError) as caught:
        load_plan(folder)
    found = f"{name} is missing{AGAIN}" if name != "plan.json" else "it holds no plan.json: not a plan"
    assert str(caught.value) == f"{folder}: {found}"


def test_a_file_that_no_digest_asks_for(folder: Path) -> None:
    (folder / "weights.safetensors").unlink()
    sums = (folder / SUMS).read_text().splitlines(keepends=True)
    (folder / SUMS).write_text("".join(line for line in sums if "weights.safetensors" not in line))
    with pytest.raises(PlanError) as caught:
        load_plan(folder)
    assert str(caught.value) == f"{folder}: weights.safetensors is missing\n  hint: compile again"


def test_a_foreign_folder_is_not_overwritten(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(PlanError, match=r"it exists and holds no plan\.json"):
        plan.save(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_an_older_plan_is_replaced(plan: Plan, folder: Path) -> None:
    small = Builder()
    compile_plan(small.model(small.node("Relu", small.input("x", "N", 2))), hardware="ideal").save(folder)
    assert [p.name for p in (folder / "digital").iterdir()] == ["segment0000.json"]
    plan.save(folder)
    assert load_plan(folder) == plan


def test_an_unknown_version(folder: Path) -> None:
    assert refused(folder, set_at("schema", to=1)) == (
        "the plan is of version 1; this ffebm reads version 9\n"
        "  hint: compile the model again with this version"
    )


def test_no_version(folder: Path) -> None:
    assert refused(folder, lambda document: {"inputs": []}).startswith("cannot be read: ")


def test_an_unknown_key(folder: Path) -> None:
    assert refused(folder, lambda d: {**d, "extra": 1}).startswith(
        "cannot be read: Object contains unknown field `extra`"
    )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"block_size": 0}, "block size 0; a whole number of at least 1, or a list of such numbers"),
        ({"block_size": []}, "block size []; a whole number of at least 1, or a list of such numbers"),
        (
            {"block_size": [2, 0]},
            "block size [2, 0]; a whole number of at least 1, or a list of such numbers",
        ),
        ({"block_size": True}, "block size True; a whole number of at least 1, or a list of such numbers"),
        ({"block_size": 2.0}, f"block size 2.0; {SIZES}"),
        ({"effort": None}, "effort None; a whole number from 0 to 1000000000"),
        ({"feedback": "1"}, "feedback '1'; at least 0.001, and at most 1"),
        ({"feedback": None}, "feedback None; at least 0.001, and at most 1"),
        ({"boundary": "analog"}, "boundary 'analog'; 'tile' or 'digital'"),
        ({"dims": {"N": 0}}, "dimension 'N' is 0; a whole number of at least 1"),
        ({"dims": {"N": "two"}}, "dimension 'N' is 'two'; a whole number of at least 1"),
    ],
)
def test_options_of_the_compiler(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(UsageError) as caught:
        compile_plan(model(), hardware="ideal", **options)
    assert str(caught.value) == expected
    assert isinstance(caught.value, FfebmError)


def test_weights_are_not_copied_into_the_source(plan: Plan) -> None:
    source = onnx.ModelProto.FromString(plan.model)
    assert all(not t.HasField("raw_data") for t in source.graph.initializer)
    assert {t.name: tuple(t.dims) for t in source.graph.initializer} == {
        name: array.shape for name, array in plan.weights.items()
    }
    assert sum(np.prod(t.dims) for t in source.graph.initializer) > 500


@pytest.mark.parametrize("seconds", [float("inf"), float("nan"), -1.0])
def test_times_that_json_cannot_hold_are_not_saved(plan: Plan, tmp_path: Path, seconds: float) -> None:
    first, *others = plan.inference.steps
    steps = (msgspec.structs.replace(first, end_s=seconds), *others)
    inference = msgspec.structs.replace(plan.inference, steps=steps)
    with pytest.raises(InternalError) as caught:
        msgspec.structs.replace(plan, inference=inference).save(tmp_path / "plan")
    assert str(caught.value) == f"reference: step 0 (x) runs from 0.0 s to {seconds} s"
    assert not (tmp_path / "plan").exists()


def test_costs_that_json_cannot_hold_are_not_saved(plan: Plan, tmp_path: Path) -> None:
    *others, last = plan.training.steps
    cost = msgspec.structs.replace(last.cost, network=float("inf"))
    training = msgspec.structs.replace(
        plan.training, steps=(*others, msgspec.structs.replace(last, cost=cost))
    )
    with pytest.raises(InternalError) as caught:
        msgspec.structs.replace(plan, training=training).save(tmp_path / "plan")
    assert str(caught.value) == f"reference: step {last.id} ({last.name}) costs inf in network"


@pytest.mark.parametrize("path", [3, None])
def test_a_plan_s_folder_of_another_type(path: Any) -> None:
    with pytest.raises(UsageError) as caught:
        load_plan(path)
    assert str(caught.value) == f"a plan's folder is a {type(path).__name__}; a path"
