"""What a unit must have done before a task, by hand."""

from ffebm.scheduling.bounds.bounds import bounds_of
from ffebm.scheduling.bounds.unit_queue import NOTHING, UnitQueue
from tests.scheduling.bounds.test_bounds import task
from tests.scheduling.exact import shortest


def test_what_leads_to_a_task_along_two_ways_is_done_once() -> None:
    """0 and 1 on the unit, 2 and 3 elsewhere for 4 s and 5 s after both, 4 after these."""
    queue = UnitQueue([2.0, 3.0, 0.0, 0.0, 0.0], [0.0, 0.0, 3.0, 3.0, 8.0])
    for seconds in (2.0, 3.0):
        assert queue.before((), 0.0) == NOTHING
        queue.add(NOTHING, 0.0, seconds)
    for seconds in (4.0, 5.0):
        both = queue.before((0, 1), 3.0)
        assert (both.tasks, both.until, both.start) == (0b11, 5.0, 5.0)
        queue.add(both, both.start, seconds)
    last = queue.before((2, 3), 10.0)
    assert (last.tasks, last.until, last.between, last.start) == (0b11, 5.0, 4.0, 9.0)


def test_what_may_start_early_may_be_done_in_a_break() -> None:
    """The second task cannot start before 10 s: the first, and the third, may be over by then."""
    queue = UnitQueue([2.0, 3.0, 3.0], [0.0, 10.0, 1.0])
    queue.add(NOTHING, 0.0, 2.0)
    queue.add(queue.before((0,), 10.0), 10.0, 3.0)
    queue.add(NOTHING, 1.0, 3.0)
    assert queue.before((1, 2), 13.0).until == 13.0


def test_a_break_too_short_for_what_may_start_early_is_seen() -> None:
    """After 10 s the unit waits 1 s for the second task; the third, of 5 s, does not fit in there."""
    tasks = [task("first", "a", 10.0), task("elsewhere", "b", 1.0, 0), task("second", "a", 1.0, 1)]
    tasks += [task("third", "a", 5.0), task("both", "c", 7.0, 2, 3)]
    queue = UnitQueue([10.0, 0.0, 1.0, 5.0, 0.0], [0.0, 10.0, 11.0, 0.0, 12.0])
    queue.add(NOTHING, 0.0, 10.0)
    queue.add(queue.before((0,), 10.0), 10.0, 1.0)
    queue.add(queue.before((1,), 11.0), 11.0, 1.0)
    queue.add(NOTHING, 0.0, 5.0)
    assert queue.before((2, 3), 12.0).until == 0 + 10 + 1 + 5
    assert bounds_of(tasks)[0].seconds == shortest(tasks) == 10 + 5 + 1 + 7


def test_sums_that_tell_nothing_new_are_not_added_up() -> None:
    """Of what is known to start at 20 s it is enough that the unit is done by then."""
    queue = UnitQueue([2.0, 3.0, 3.0], [0.0, 10.0, 1.0])
    queue.add(NOTHING, 0.0, 2.0)
    queue.add(queue.before((0,), 10.0), 10.0, 3.0)
    queue.add(NOTHING, 1.0, 3.0)
    assert queue.before((1, 2), 20.0).until == 10 + 3 + 3


def test_the_last_row_waits_for_all_that_its_unit_has_to_do_before() -> None:
    """Two layers share a; rows of the second need those of the first; 6 s follow the last row."""
    tasks = [task("first", "a", 2.0) for _ in range(3)]
    tasks += [task("second", "a", 1.0, n) for n in range(3)]
    # a row of the third layer needs its row and the one before it
    tasks += [task("third", "b", 0.0, *range(3, 4 + n)) for n in range(3)]
    tasks.append(task("after", "c", 6.0, 8))
    assert bounds_of(tasks)[0].seconds == shortest(tasks) == 3 * 2 + 3 * 1 + 6
