"""What cells are programmed to."""

import numpy as np
import pytest
from msgspec.structs import replace

from ffebm.graph.graph import Part
from ffebm.hardware.description import Crossbar
from ffebm.plan.programming import (
    level_type,
    programmed,
    programming_problems,
    target_conductances,
    with_copies,
    without_copies,
)
from tests.runtime.tiles.bench import crossbar

LOW, HIGH = 0.25e-6, 25e-6  # siemens, of the reference cell
LEVELS = np.array([[3, -2], [0, 1], [-3, 2]], np.int8)  # three inputs, two outputs


def steps(conductances: np.ndarray) -> list[object]:
    """In steps of four levels above the lowest conductance."""
    found: list[object] = np.round((conductances - LOW) / (HIGH - LOW) * 3, 4).tolist()
    return found


def test_a_pair_of_cells_for_each_weight() -> None:
    plus, minus = target_conductances(LEVELS, crossbar(levels=4))
    assert steps(plus) == [[3, 0], [0, 1], [0, 2]]
    assert steps(minus) == [[0, 2], [0, 0], [3, 0]]
    assert min(plus.min(), minus.min()) == pytest.approx(LOW)


def test_an_offset_column() -> None:
    tile = replace(crossbar(levels=7), mapping="offset")
    assert tile.top_level == 3
    plus, minus = target_conductances(LEVELS, tile)
    assert steps(plus) == [[3, 0.5], [1.5, 2], [0, 2.5]]
    assert steps(minus) == [[1.5], [1.5], [1.5]]


def test_slices_stand_in_front_the_lowest_digit_first() -> None:
    tile = replace(crossbar(levels=4), slices=2)
    plus, minus = target_conductances(np.array([[7, -6], [0, 9]], np.int8), tile)
    assert steps(plus) == [[[3, 0], [0, 1]], [[1, 0], [0, 2]]]
    assert steps(minus) == [[[0, 2], [0, 0]], [[0, 1], [0, 0]]]


@pytest.mark.parametrize(
    ("levels", "slices", "expected"),
    [
        (128, 1, np.int8),
        (129, 1, np.int16),
        (16, 4, np.int32),
        (2**15, 1, np.int16),
        (2**15 + 1, 1, np.int32),
    ],
)
def test_the_smallest_integers_that_hold_a_level(levels: int, slices: int, expected: type) -> None:
    tile: Crossbar = replace(crossbar(levels=levels), slices=slices)
    assert level_type(tile) == expected


@pytest.mark.parametrize(("level", "problems"), [(0, []), (1, []), (2, ["levels"]), (-1, ["levels"])])
def test_at_a_tie_either_level_is_right(level: int, problems: list[str]) -> None:
    """A weight of a sixth of the largest lies in the middle between two of four levels."""
    tile, part = crossbar(levels=4), Part("w", 0, (0, 2), (0, 1))
    matrix = np.array([[[0.5, 0.5 / 6]]])
    arrays, settings = programmed(matrix, part, tile)
    assert arrays["levels"].tolist() == [[3], [0]]
    stored = {**arrays, "levels": np.array([[3], [level]], np.int8)}
    found = list(programming_problems(matrix, part, tile, stored, settings))
    assert [name for name in found if name == "levels"] == problems


def test_copies_of_a_part_are_held_once_and_come_back() -> None:
    part, other = ("w", 0, (0, 2), (0, 1)), ("w", 0, (2, 4), (0, 1))
    pieces = [(0, part), (1, part), (2, other), (3, part), (4, part)]
    levels = np.array([[1], [2]], np.int8)
    arrays = {f"piece{number}.levels": levels.copy() for number in range(4)}
    arrays |= {f"piece{number}.adc_range": np.ones(2, np.float32) for number in (0, 1)}
    arrays |= {"piece4.levels": levels + 1, "piece4.adc_range": np.ones(2, np.float32)}
    kept = without_copies(arrays, pieces)
    # 2 is of another part, 3 lacks a range, 4 holds other levels
    assert set(arrays) - set(kept) == {"piece1.levels", "piece1.adc_range"}
    back = with_copies(kept, pieces)
    assert back.keys() == arrays.keys()
    assert all(np.array_equal(back[name], array) for name, array in arrays.items())
    assert back["piece1.levels"] is kept["piece0.levels"]
