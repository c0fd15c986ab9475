from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from ffebm import Plan, load_plan
from ffebm import compile as compile_plan
from ffebm.errors import PlanError
from tests.models import Builder
from tests.plan.folders import AGAIN, refused, set_at


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
