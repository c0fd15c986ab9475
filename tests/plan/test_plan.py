import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
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
from ffebm.errors import PlanError, UsageError
from ffebm.files.folder import SUMS
from ffebm.plan.plan import engineering, share
from tests.models import Builder

SIZES = "a whole number of at least 1, or a list of such numbers"
AGAIN = "\n  hint: compile the model again"


def model() -> onnx.ModelProto:
    b = Builder()
    x = b.input("x", "N", 1, 8, 8)
    y = b.node("Relu", b.norm(b.conv(x, 1, 4), 4), out="act")
    y = b.clip(b.node("MaxPool", b.conv(y, 4, 4), kernel_shape=[2, 2], strides=[2, 2]))
    y = b.node("Gemm", b.node("Flatten", y), b.weight(64, 5), b.weight(5))
    return b.model(b.node("Softmax", y, name="soft", out="p"))


@pytest.fixture(scope="module")
def plan() -> Plan:
    return compile_plan(model(), hardware="reference", block_size=2)


@pytest.fixture
def folder(plan: Plan, tmp_path: Path) -> Path:
    plan.save(tmp_path / "plan")
    return tmp_path / "plan"


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


def test_plans_differ_where_their_weights_do(plan: Plan, folder: Path) -> None:
    other = load_plan(folder)
    name = plan.trainable[0]
    other.weights[name] = other.weights[name] + 1
    assert other != plan
    assert plan != "plan"


def test_two_compilations_are_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    compile_plan(model(), hardware="reference", block_size=2).save(tmp_path / "again")
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


# --- contradictions that no digest shows -------------------------------------------------------------


def rewrite(folder: Path, name: str, change: Callable[[Any], Any]) -> None:
    """Change a JSON file and its digest."""
    document = json.loads((folder / name).read_bytes())
    document = change(document) or document
    content = json.dumps(document).encode()
    lines = (folder / SUMS).read_text().splitlines()
    lines = [f"{hashlib.sha256(content).hexdigest()}  {name}" if li.endswith(name) else li for li in lines]
    (folder / name).write_bytes(content)
    (folder / SUMS).write_text("\n".join(lines) + "\n")


def refused(folder: Path, change: Callable[[Any], Any], name: str = "plan.json") -> str:
    rewrite(folder, name, change)
    with pytest.raises(PlanError) as caught:
        load_plan(folder)
    return str(caught.value).removeprefix(f"{folder}: ")


def set_at(*path: str | int, to: Any) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        for key in path[:-1]:
            document = document[key]
        document[path[-1]] = to(document[path[-1]]) if callable(to) else to

    return change


def test_an_unknown_version(folder: Path) -> None:
    assert refused(folder, set_at("schema", to=1)) == (
        "the plan is of version 1; this ffebm reads version 2\n"
        "  hint: compile the model again with this version"
    )


def test_no_version(folder: Path) -> None:
    assert refused(folder, lambda document: {"inputs": []}).startswith("cannot be read: ")


def test_an_unknown_key(folder: Path) -> None:
    assert refused(folder, lambda d: {**d, "extra": 1}).startswith(
        "cannot be read: Object contains unknown field `extra`"
    )


def swap_steps(document: Any) -> None:
    """Run the last digital node first."""
    steps = document["inference"]["steps"]
    runs = [s for s in steps if s["kind"] in {"digital", "free"}]
    first, last = runs[0], runs[-1]
    first["kind"], last["kind"] = last["kind"], first["kind"]
    first["name"], last["name"] = last["name"], first["name"]


CONTRADICTIONS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "tile": (
        set_at("tiles", 0, "id", to=64),
        "tile 64 is not one of the machine's 64 tiles, each once",
    ),
    "tile twice": (
        set_at("tiles", 1, "id", to=0),
        "tile 0 is not one of the machine's 64 tiles, each once",
    ),
    "row": (set_at("tiles", 0, "pieces", 0, "row", to=250), "reaches over the edge of tile 0"),
    "negative row": (set_at("tiles", 0, "pieces", 0, "row", to=-1), "has no valid place"),
    "weight": (set_at("tiles", 0, "pieces", 0, "weight", to="no"), "holds unknown weight 'no'"),
    "piece twice": (
        set_at("tiles", 0, "pieces", to=lambda pieces: pieces * 2),
        "overlap on tile 0",
    ),
    "part missing": (
        set_at("tiles", 0, "pieces", 0, "outputs", to=lambda span: [span[0], span[1] - 1]),
        "are missing or of another size",
    ),
    "block number": (set_at("blocks", 0, "id", to=7), "block7 stands at position 0"),
    "trainable": (set_at("trainable", 0, to="no"), "weight 'no' has no values"),
    "order": (swap_steps, "before it is made"),
    "step twice": (
        lambda d: set_at("inference", "steps", to=lambda s: [*s, {**s[-1], "id": len(s)}])(d),
        "runs 'soft', which is unknown or has run already",
    ),
    "unknown step": (
        lambda d: [s.update(name="no") for s in d["inference"]["steps"] if s["kind"] == "free"][:0],
        "runs 'no', which is unknown or has run already",
    ),
    "output": (set_at("outputs", 0, "name", to="no"), "output 'no' is never made"),
    "unit": (set_at("inference", "steps", 0, "units", to=["tile63"]), "runs on unknown unit 'tile63'"),
    "time": (set_at("inference", "steps", -1, "start_s", to=0.0), "is free"),
    "after": (set_at("inference", "steps", 0, "after", to=[999]), "waits for an unknown step"),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_a_contradiction(folder: Path, case: str) -> None:
    change, expected = CONTRADICTIONS[case]
    found = refused(folder, change)
    assert expected in found
    assert found.endswith(AGAIN)


def test_overlapping_pieces(folder: Path) -> None:
    b = Builder()
    y = b.node("Conv", b.input("x", "N", 4, 3, 3), b.weight(4, 1, 3, 3), group=4)
    depthwise = compile_plan(b.model(y), hardware="reference")
    assert [(p.row, p.col) for p in depthwise.tiles[0].pieces] == [(0, 0), (0, 1), (0, 2), (0, 3)]
    depthwise.save(folder)
    found = refused(folder, set_at("tiles", 0, "pieces", 2, "col", to=1))
    assert found == "pieces 1 and 2 overlap on tile 0" + AGAIN


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (("nodes", 0, "reason"), "", " has no reason"),
        (("nodes", 0, "unit"), "digital", "does not run where it says: digital, block 0"),
        (("nodes", 0, "block"), 77, "does not run where it says: tile, block 77"),
        (("batch",), 0, "a batch of 0"),
        (("tiles", 0, "pieces", 0, "scale"), -1.0, " has a scale of -1.0"),
        (("inference", "steps", 0, "start_s"), -1.0, "step 0 runs from -1.0 s to "),
    ],
)
def test_contradictions_with_right_digests(
    folder: Path, path: tuple[str | int, ...], value: object, expected: str
) -> None:
    assert expected in refused(folder, set_at(*path, to=value))


def test_an_element_that_lies_on_tiles_twice(folder: Path) -> None:
    b = Builder()
    wide = compile_plan(
        b.model(b.node("MatMul", b.input("x", "N", 400), b.weight(400, 4))), hardware="reference"
    )
    assert [p.inputs for _, p in wide.pieces()] == [(0, 200), (200, 400)]
    wide.save(folder)
    pieces = [(t, n) for t, tile in enumerate(wide.tiles) for n, p in enumerate(tile.pieces) if p.id == 1]
    tile, number = pieces[0]
    found = refused(folder, set_at("tiles", tile, "pieces", number, "inputs", to=[0, 200]))
    assert "lies on tiles twice" in found


def test_a_step_that_no_segment_holds(folder: Path) -> None:
    found = refused(folder, set_at("program", "instructions", to=[]), "digital/segment0001.json")
    assert found.endswith("runs 'soft', which is unknown or has run already" + AGAIN)


def test_conductances_outside_the_cells_range(folder: Path, plan: Plan) -> None:
    found = refused(folder, set_at("hardware", "tiles", "tile", "cell", "g_max", "value", to=1e-6))
    assert "leave the range of the cells" in found


def test_hardware_that_no_description_may_hold(folder: Path) -> None:
    found = refused(folder, set_at("hardware", "network", "bit_rate", "value", to=5e-324))
    assert found.endswith(
        "plan:network.bit_rate: its hardware: a value of 4.94066e-324 1/s; 0, or 1e-30 to 1e+30"
    )


def test_conductances_that_are_not_those_of_the_weights(plan: Plan, folder: Path) -> None:
    flat = {name: np.full_like(a, a.mean()) for name, a in plan.crossbars.items()}
    msgspec.structs.replace(plan, crossbars=flat).save(folder)
    with pytest.raises(PlanError, match="minus of piece 1 is not what 'c6' says"):
        load_plan(folder)


def test_a_scale_that_is_not_that_of_the_weights(folder: Path) -> None:
    found = refused(folder, set_at("tiles", 0, "pieces", 0, "scale", to=0.123))
    assert " is not what" in found
    assert found.startswith("scale of piece ")


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


def test_the_summary(golden: Callable[[str], None], plan: Plan) -> None:
    text = plan.summary()
    golden(text)
    assert max(map(len, text.splitlines())) <= 80 or "note" in max(text.splitlines(), key=len)
    assert repr(plan) == "<Plan of model for reference: 9 nodes, 3 blocks>"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.0, "0 J"),
        (1.5, "1.5 J"),
        (2e-3, "2 mJ"),
        (1234e-9, "1.234 uJ"),
        (5e-16, "5e-16 J"),
        (12e-12, "12 pJ"),
        (float(np.nextafter(1e-9, 0)), "1 nJ"),
        (0.9999e-9, "999.9 pJ"),
    ],
)
def test_quantities_with_prefixes(value: float, expected: str) -> None:
    assert engineering(value, "J") == expected


def test_shares() -> None:
    assert (share(1, 3), share(1, 0)) == ("33.3 %", "-")


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
