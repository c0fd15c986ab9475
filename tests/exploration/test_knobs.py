"""What is varied, and its grid."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffebm.errors import UsageError
from ffebm.exploration.knobs import Grid, Knob, Value, knobs_of, settings_of, value_text


def test_values_are_numbers_words_and_nothing() -> None:
    (knob,) = knobs_of(["k=1,2.5,1e-12,true,false,none,latency,1"])
    assert knob.values == (1, 2.5, 1e-12, False, None, "latency")  # true is 1, and each comes once


def test_values_are_read_as_they_are_written() -> None:
    values = (3, 0.5, 1e-12, False, None, "energy", "nan")
    (knob,) = knobs_of([f"k={','.join(map(value_text, values))}"])
    assert knob.values == values


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([], "nothing is varied; at least one --vary KEY=a,b,c"),
        (["bits"], "--vary bits; KEY=a,b,c: an option or a constant, and what it stands at"),
        (["=1"], "--vary =1; KEY=a,b,c: an option or a constant, and what it stands at"),
        (["bits=1,,2"], "--vary bits=1,,2; KEY=a,b,c: an option or a constant, and what it stands at"),
        (["a+=1"], "--vary a+=1; KEY=a,b,c: an option or a constant, and what it stands at"),
        (["a=1", "b+a=2"], "--vary a comes twice; all values of a knob in one --vary"),
    ],
)
def test_what_is_no_knob_is_refused(entries: list[str], message: str) -> None:
    with pytest.raises(UsageError) as refused:
        knobs_of(entries)
    assert str(refused.value) == message


def test_a_grid_without_end_is_refused() -> None:
    knobs = [Knob(name, tuple(range(1000))) for name in "abc"]
    with pytest.raises(UsageError) as refused:
        Grid(knobs)
    assert str(refused.value) == "a grid of 1,000,000,000 points; at most 1,000,000\n  hint: vary less"


@given(sizes=st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_a_grid_is_the_product(sizes: list[int]) -> None:
    grid = Grid([Knob(f"k{i}", tuple(range(10, 10 + size))) for i, size in enumerate(sizes)])
    points = list(grid)
    assert len(points) == len(grid) == len({tuple(point.values()) for point in points})
    assert [grid[index] for index in range(len(grid))] == points
    assert [grid.index_of(point) for point in points] == list(range(len(grid)))


def test_keys_that_are_joined_stand_at_the_same_value() -> None:
    found: dict[str, Value] = settings_of({"a.rows+a.cols": 64, "batch": None})
    assert found == {"a.rows": 64, "a.cols": 64, "batch": None}
