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


def test_overlapping_pieces(folder: Path) -> None:
    b = Builder()
    y = b.node("Conv", b.input("x", "N", 4, 3, 3), b.weight(4, 1, 3, 3), group=4)
    depthwise = compile_plan(b.model(y), hardware="reference")
    assert [(p.row, p.col) for p in depthwise.tiles[0].pieces] == [(0, 0), (9, 1), (18, 2), (27, 3)]
    depthwise.save(folder)
    found = refused(folder, set_at("tiles", 0, "pieces", 2, to=lambda piece: piece | {"row": 10, "col": 1}))
    assert found == "pieces 1 and 2 overlap on tile 0" + AGAIN


def test_kernels_that_are_read_together_and_share_a_line(folder: Path) -> None:
    b = Builder()
    y = b.node("Conv", b.input("x", "N", 4, 3, 3), b.weight(4, 1, 3, 3), group=4)
    compile_plan(b.model(y), hardware="reference").save(folder)
    found = refused(folder, set_at("tiles", 0, "pieces", 1, "row", to=8))
    assert found == "pieces 0 and 1 are read together, and share a line of tile 0" + AGAIN


def test_a_weight_where_the_lines_of_a_bundle_cross(folder: Path) -> None:
    """Its cells would be read with the kernels."""
    b = Builder()
    y = b.node("Conv", b.input("x", "N", 4, 3, 3), b.weight(4, 1, 3, 3), group=4)
    y = b.node("MatMul", b.node("Flatten", b.node("Relu", y)), b.weight(4, 1))
    compile_plan(b.model(y), hardware="reference").save(folder)

    def moved(plan: dict[str, Any]) -> None:
        (piece,) = plan["tiles"].pop()["pieces"]
        plan["tiles"][0]["pieces"].append(piece | {"row": 9, "col": 0})

    found = refused(folder, moved)
    assert found == "pieces 0 and 4 overlap on tile 0" + AGAIN


def test_replicas_that_are_not_numbered_from_zero_on(folder: Path) -> None:
    b = Builder()
    model = b.model(b.node("MatMul", b.input("x", "N", 4), b.weight(4, 4, name="w")))
    compile_plan(model, hardware="reference").save(folder)
    found = refused(folder, set_at("tiles", 0, "pieces", 0, "replica", to=1))
    assert found == "'w' has replicas 1" + AGAIN


def test_a_bundle_on_two_tiles(folder: Path) -> None:
    b = Builder()
    model = b.model(b.node("MatMul", b.input("x", "N", 400), b.weight(400, 4, name="w")))
    compile_plan(model, hardware="reference").save(folder)
    found = refused(folder, set_at("tiles", 1, "pieces", 0, "bundle", to=0))
    assert found == "bundle 0 of 'w' lies on several tiles" + AGAIN


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


def test_a_scale_that_is_not_that_of_the_weights(folder: Path) -> None:
    found = refused(folder, set_at("tiles", 0, "pieces", 0, "scale", to=0.123))
    assert " is not what" in found
    assert found.startswith("scale of piece ")


def saved_with(plan: Plan, folder: Path, **changes: Any) -> str:
    """The refusal of a plan of other arrays."""
    msgspec.structs.replace(plan, **changes).save(folder)
    with pytest.raises(PlanError) as caught:
        load_plan(folder)
    return str(caught.value).removeprefix(f"{folder}: ").removesuffix(AGAIN)


def test_levels_that_are_not_those_of_the_weights(plan: Plan, folder: Path) -> None:
    flat = {name: np.full_like(a, a.mean()) for name, a in plan.crossbars.items()}
    assert saved_with(plan, folder, crossbars=flat) == "levels of piece 0 are not what 'c0' says"


@pytest.mark.parametrize("change", [-1, 1, 100])
def test_one_level_off(plan: Plan, folder: Path, change: int) -> None:
    name = "piece0.levels"
    levels = plan.crossbars[name].astype(np.int8)
    spot = np.unravel_index(np.abs(levels.astype(np.int64)).argmin(), levels.shape)
    levels[spot] += change
    found = saved_with(plan, folder, crossbars={**plan.crossbars, name: levels})
    assert found == "levels of piece 0 are not what 'c0' says"


def tie() -> Plan:
    """A weight that lies between the levels 0 and 1 of 127, up to its rounding."""
    b = Builder()
    w = b.constant(np.array([[1.0, 0.5 / 127]], np.float32), "w")
    return compile_plan(b.model(b.node("MatMul", b.input("x", "N", 1), w)), hardware="reference")


def test_at_a_tie_either_level_is_right(folder: Path) -> None:
    plan = tie()
    for level in (0, 1):
        levels = np.array([[127, level]], np.int8)
        changed = msgspec.structs.replace(plan, crossbars={**plan.crossbars, "piece0.levels": levels})
        changed = msgspec.structs.replace(changed, tiles=tiles_of(plan, levels))
        changed.save(folder)
        assert load_plan(folder) == changed


def tiles_of(plan: Plan, levels: np.ndarray[Any, Any]) -> tuple[Any, ...]:
    """The tiles with the ranges that follow from other levels."""
    from ffebm.plan.conductance import adc_range

    crossbar = plan.hardware.analog[0].tile.crossbar()
    down = levels.astype(np.float32)
    ranges = {
        "adc_range": float(adc_range(down.T, crossbar).max()),
        "adc_range_t": float(adc_range(down, crossbar).max()),
    }
    (tile,) = plan.tiles
    return (msgspec.structs.replace(tile, pieces=(msgspec.structs.replace(tile.pieces[0], **ranges),)),)


def test_levels_of_another_type(plan: Plan, folder: Path) -> None:
    wide = {name: a.astype(np.int16) for name, a in plan.crossbars.items()}
    assert saved_with(plan, folder, crossbars=wide) == "levels of piece 0 are not what 'c0' says"


def test_arrays_that_no_piece_names(plan: Plan, folder: Path) -> None:
    more = {**plan.crossbars, "piece99.levels": np.zeros((2, 2), np.int8)}
    assert saved_with(plan, folder, crossbars=more) == "'piece99.levels' belongs to no piece"


def test_weights_that_are_not_finite(folder: Path) -> None:
    plan = tie()
    weights = {"w": np.array([[np.nan, 1.0]], np.float32)}
    found = saved_with(plan, folder, weights=weights)
    assert found == "weight 'w' holds a NaN or an infinite number, which no cell holds"


def exact() -> Plan:
    b = Builder()
    return compile_plan(b.model(b.node("MatMul", b.input("x", "N", 4), b.weight(4, 3))), hardware="ideal")


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (("kind",), "crossbar", "tile 0 is of kind 'crossbar', those of ideal are 'exact'"),
        (("rows",), 2**40, "tile 0 is of 1099511627776 x 3 cells, its pieces use 4 x 3"),
        (("dac_bits",), 8, "tile 0 has converters of 8 and 0 bits"),
        (("pieces", 0, "scale"), 2.0, "piece 0 lies on an exact tile, and has levels, a scale or ranges"),
        (("pieces", 0, "group"), 1, "piece 0 is no part of 'c0'"),
        (("pieces", 0, "inputs"), [1, 5], "piece 0 is no part of 'c0'"),
        (("pieces", 0, "inputs"), [4, 0], "piece 0 has no valid place"),
        (("pieces",), [], "tile 0 is empty, or of 4 x 3 cells"),
    ],
)
def test_exact_tiles(folder: Path, path: tuple[str | int, ...], value: object, expected: str) -> None:
    exact().save(folder)
    assert refused(folder, set_at("tiles", 0, *path, to=value)) == expected + AGAIN
