"""Serial scheduling: gaps, units all at once, keys; and that no unit does two things at a time."""

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from ffebm.scheduling.order.serial_schedule import serial_starts


def test_a_gap_that_is_long_enough_is_filled() -> None:
    seconds, after = [2.0, 3.0, 4.0, 2.0, 1.0], [(), (0,), (), (), ()]
    units = [(0,), (1,), (1,), (1,), (1,)]
    # unit 1 is free for two seconds, then for what follows at 5 s: 4 s do not fit before, 2 s do
    assert serial_starts(seconds, after, units, [0, 1, 2, 3, 4]) == [0.0, 2.0, 5.0, 0.0, 9.0]


def test_a_task_of_several_units_waits_until_all_are_free() -> None:
    seconds, units = [1.0, 3.0, 1.0, 2.0], [(0,), (1,), (0,), (0, 1)]
    assert serial_starts(seconds, [(), (), (0,), ()], units, [0, 1, 2, 3]) == [0.0, 0.0, 1.0, 3.0]


def test_the_least_key_of_what_may_be_placed_goes_first() -> None:
    assert serial_starts([1.0, 1.0, 1.0], [(), (), (1,)], [(0,)] * 3, [2, 1, 0]) == [2.0, 0.0, 1.0]


def test_what_takes_no_time_waits_for_its_unit_and_takes_none() -> None:
    assert serial_starts([2.0, 0.0, 1.0], [(), (), (1,)], [(0,), (0,), (1,)], [0, 1, 2]) == [0.0, 0.0, 0.0]
    assert serial_starts([1.0, 2.0, 0.0], [(), (), (0,)], [(1,), (0,), (0,)], [0, 1, 2]) == [0.0, 0.0, 2.0]


def test_nothing() -> None:
    assert serial_starts([], [], [], []) == []


@settings(max_examples=60)
@given(st.data())
def test_no_unit_does_two_things_and_nothing_starts_too_early(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 12))
    seconds = data.draw(st.lists(st.integers(0, 5).map(float), min_size=count, max_size=count))
    after = [tuple(data.draw(st.sets(st.integers(0, n - 1), max_size=2))) if n else () for n in range(count)]
    units = [tuple(data.draw(st.sets(st.integers(0, 3), max_size=3))) for _ in range(count)]
    keys = data.draw(st.lists(st.integers(0, 9), min_size=count, max_size=count))
    starts = serial_starts(seconds, after, units, keys)
    ends = [start + lasting for start, lasting in zip(starts, seconds, strict=True)]
    assert all(starts[n] >= ends[before] for n in range(count) for before in after[n])
    for one, other in combinations(range(count), 2):
        if set(units[one]) & set(units[other]):
            apart = ends[one] <= starts[other] or ends[other] <= starts[one]
            assert apart
