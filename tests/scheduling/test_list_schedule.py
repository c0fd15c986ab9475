import random
from itertools import pairwise, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffebm.plan.checks.schedules import schedule_problems
from ffebm.plan.schedule import Cost
from ffebm.scheduling import list_schedule as scheduling
from ffebm.scheduling.in_flight import samples_in_flight
from ffebm.scheduling.list_schedule import (
    Task,
    chains_behind,
    filling_chain,
    list_schedule,
    ordered,
    work_of_units,
)
from tests.scheduling.checker import running_problems
from tests.scheduling.exact import shortest
from tests.scheduling.lagging import lagging_tasks

UNITS = ("tile0", "tile1", "digital0", "network")


def task(units: tuple[str, ...], seconds: float, *after: int) -> Task:
    return Task("digital", "t", units, seconds, after, Cost(digital=1.0))


@st.composite
def task_lists(draw: st.DrawFn) -> list[Task]:
    tasks = []
    for index in range(draw(st.integers(0, 25))):
        units = draw(st.lists(st.sampled_from(UNITS), min_size=1, max_size=3, unique=True))
        seconds = draw(st.sampled_from([0.0, 0.0, 0.1, 1.0, 2.5, 1e-9]))
        after = draw(st.sets(st.integers(0, index - 1), max_size=3)) if index else set()
        tasks.append(task(tuple(units), seconds, *sorted(after)))
    return tasks


@given(task_lists())
def test_a_unit_does_one_thing_at_a_time_and_nothing_starts_too_early(tasks: list[Task]) -> None:
    schedule = list_schedule(tasks)
    steps = schedule.steps
    assert [step.id for step in steps] == list(range(len(tasks)))
    lengths = sorted(step.end_s - step.start_s for step in steps)
    assert lengths == pytest.approx(sorted(t.seconds for t in tasks), abs=1e-12)
    free: dict[str, float] = {}
    for step in steps:
        assert all(before < step.id and steps[before].end_s <= step.start_s for before in step.after)
        assert all(free.get(unit, 0.0) <= step.start_s for unit in step.units)
        free.update(dict.fromkeys(step.units, step.end_s))
    assert schedule.makespan_s >= schedule.lower_bound_s * (1 - 1e-12)
    assert schedule.makespan_s == max((s.end_s for s in steps), default=0.0)
    assert schedule.makespan_s <= sum(t.seconds for t in tasks) * (1 + 1e-12)
    assert schedule.cost.digital == len(tasks)


@given(task_lists())
def test_no_unit_idles_while_a_task_could_run(tasks: list[Task]) -> None:
    """List scheduling: a task starts at 0, when one that it waits for ends, or when a unit comes free."""
    steps = list_schedule(tasks).steps
    for step in steps:
        ends = {steps[before].end_s for before in step.after}
        ends |= {other.end_s for other in steps if set(other.units) & set(step.units)}
        assert step.start_s == 0.0 or step.start_s in ends


def test_the_longest_chain_goes_first() -> None:
    tasks = [task(("a",), 1.0), task(("a",), 1.0), task(("b",), 5.0, 1)]
    schedule = list_schedule(tasks)
    assert [(s.units, s.start_s, s.end_s, s.after) for s in schedule.steps] == [
        (("a",), 0.0, 1.0, ()),
        (("a",), 1.0, 2.0, ()),
        (("b",), 1.0, 6.0, (0,)),
    ]
    assert (schedule.makespan_s, schedule.critical_path_s) == (6.0, 6.0)
    assert (schedule.busiest_unit, schedule.busiest_s, schedule.ratio) == ("b", 5.0, 1.0)


def starts(tasks: list[Task]) -> list[tuple[str, float]]:
    """Name and start of every step."""
    return [(step.name, step.start_s) for step in list_schedule(tasks).steps]


def named(name: str, units: str, seconds: float, *after: int, sample: int = 0) -> Task:
    return Task("digital", name, tuple(units), seconds, after, Cost(), sample=sample)


def test_of_what_a_task_wakes_the_longest_chain_goes_first() -> None:
    """The order in which tasks are listed does not count: 12 s, not 17."""
    first, short = named("first", "a", 1.0), named("short", "a", 5.0, 0)
    tasks = [first, short, named("long", "a", 1.0, 0), named("behind", "b", 10.0, 2)]
    assert starts(tasks) == [("first", 0.0), ("long", 1.0), ("short", 2.0), ("behind", 2.0)]
    assert list_schedule(tasks).makespan_s == 12.0


def test_what_has_waited_goes_before_what_has_just_become_possible_if_its_chain_is_longer() -> None:
    """When the first two end together, one wakes a task for the unit that another waits for."""
    tasks = [
        named("x", "a", 1.0),
        named("y", "b", 1.0),
        named("woken", "b", 2.0, 0),
        named("waits", "b", 1.0),
    ]
    tasks += [named("behind y", "d", 20.0, 1), named("behind", "c", 9.0, 3)]
    found = dict(starts(tasks))
    assert (found["x"], found["y"], found["waits"], found["woken"]) == (0.0, 0.0, 1.0, 2.0)


def test_a_task_of_several_units_is_tried_in_its_turn_at_any_of_them() -> None:
    """It waits at the first of its units that is busy; when that comes free it goes before shorter chains."""
    tasks = [named("on a", "a", 1.0), named("on b", "b", 2.0), named("both", "ab", 5.0)]
    tasks += [named("small a", "a", 1.0), named("small b", "b", 1.0)]
    tasks += [named("behind a", "c", 20.0, 0), named("behind b", "d", 20.0, 1)]
    found = dict(starts(tasks))
    assert (found["on a"], found["on b"]) == (0.0, 0.0)
    assert (found["small a"], found["both"], found["small b"]) == (1.0, 2.0, 7.0)


def test_the_earlier_sample_goes_first_whatever_its_chain() -> None:
    tasks = [
        named("late", "a", 1.0, sample=1),
        named("behind", "b", 9.0, 0, sample=1),
        named("early", "a", 1.0),
    ]
    assert starts(tasks) == [("early", 0.0), ("late", 1.0), ("behind", 2.0)]
    assert [step.sample for step in list_schedule(tasks).steps] == [0, 1, 1]


def test_what_takes_no_time_delays_nothing_and_wakes_at_once() -> None:
    """Through it a longer chain reaches the unit at the same moment, and takes it."""
    tasks = [named("first", "a", 1.0), named("short", "b", 3.0, 0), named("nothing", "a", 0.0, 0)]
    tasks += [named("long", "b", 1.0, 2), named("behind", "c", 9.0, 3)]
    found = starts(tasks)
    assert found == [("first", 0.0), ("nothing", 1.0), ("long", 1.0), ("short", 2.0), ("behind", 2.0)]


def test_a_task_without_units_starts_when_it_may() -> None:
    assert starts([named("a", "a", 2.0), named("none", "", 1.0, 0)]) == [("a", 0.0), ("none", 2.0)]


@pytest.mark.parametrize("jobs", list(permutations([(3.0, 1.0), (2.0, 3.0), (1.0, 5.0)])))
def test_three_jobs_on_two_units_take_the_least_time_in_any_order(jobs: list[tuple[float, float]]) -> None:
    """10 s is the least of all orders; the longest task first takes 13 s, the worst order 15 s."""
    tasks = [task(("a",), first) for first, _ in jobs]
    tasks += [task(("b",), second, number) for number, (_, second) in enumerate(jobs)]
    assert list_schedule(tasks).makespan_s == 10.0


def test_what_is_long_and_has_time_does_not_hold_up_what_is_urgent() -> None:
    """Whatever may start on a free unit starts: 22 s. If `long` waits for what comes a second later: 13 s."""
    tasks = [named("long", "a", 10.0), named("first", "b", 1.0), named("urgent", "a", 1.0, 1)]
    tasks.append(named("behind", "c", 10.0, 2))
    found = starts(tasks)
    assert dict(found) == {"first": 0.0, "urgent": 1.0, "long": 2.0, "behind": 2.0}
    assert list_schedule(tasks).makespan_s == 12.0


@given(st.integers(0, 10**6), st.integers(1, 3))
def test_units_are_free_early_and_nothing_starts_before_what_it_reads_is_there(
    seed: int, samples: int
) -> None:
    tasks = samples_in_flight(lagging_tasks(random.Random(seed)), samples)
    schedule, order = ordered(tasks)
    assert list(running_problems(schedule)) == []
    assert list(schedule_problems(schedule, set("abc"), 3)) == []
    for step, index in zip(schedule.steps, order, strict=True):
        task = tasks[index]
        assert (step.seconds, step.lag, step.freed_s is None) == (task.seconds, task.lag, not task.lag)
    chain = filling_chain(schedule)
    starts = [schedule.steps[number].start_s for number in chain]
    assert starts == sorted(starts, reverse=True)
    assert not chain or starts[-1] == 0.0
    for later, number in pairwise(chain):
        step = schedule.steps[number]
        assert schedule.steps[later].start_s in (step.free_s, step.end_s)


def test_bands_follow_when_ports_are_free_and_readers_when_reads_are_done() -> None:
    """Three bands start 2 s apart and are read for 5; each reader takes 1 s."""
    bands = [
        Task("free", "l", ("core",), 5.0, (n - 1,) if n else (), Cost(), block=0, rows=(n, n + 1), lag=3.0)
        for n in range(3)
    ]
    readers = [task(("b",), 1.0, n) for n in range(3)]
    schedule = list_schedule([*bands, *readers])
    assert [(s.start_s, s.free_s, s.end_s) for s in schedule.steps if s.kind == "free"] == [
        (0.0, 2.0, 5.0),
        (2.0, 4.0, 7.0),
        (4.0, 6.0, 9.0),
    ]
    assert [s.start_s for s in schedule.steps if s.kind == "digital"] == [5.0, 7.0, 9.0]
    assert (schedule.makespan_s, schedule.critical_path_s, schedule.lower_bound_s) == (10.0, 10.0, 10.0)
    assert chains_behind([*bands, *readers]) == [10.0, 8.0, 6.0, 1.0, 1.0, 1.0]
    assert work_of_units([*bands, *readers]) == {"core": 6.0, "b": 3.0}
    between = list_schedule([*bands, *readers, task(("core",), 1.0), task(("c",), 9.0, 6)])
    assert (
        between.makespan_s == 11.0
    )  # before the bands, whose unit has 7 s to do, a read and a reader follow


def test_an_empty_schedule() -> None:
    schedule = list_schedule([])
    assert (schedule.steps, schedule.makespan_s, schedule.busiest_unit, schedule.ratio) == ((), 0.0, "", 1.0)


def test_what_is_long_may_come_after_all_that_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """The task of 8 s could start at 0, before one of 3 s that 8 s on another unit wait for."""
    monkeypatch.setattr(scheduling, "MOST_SEARCHED", 0)
    works = [("a", 1, ()), ("b", 2, (0,)), ("c", 1, (1,)), ("a", 8, ()), ("c", 1, ()), ("a", 3, (4,))]
    works += [("c", 8, (0, 5)), ("a", 1, (3,)), ("c", 3, (3,)), ("b", 1, ())]
    tasks = [Task("digital", f"n{n}", (u,), float(s), after, Cost()) for n, (u, s, after) in enumerate(works)]
    found = ordered(tasks)[0]
    assert found.makespan_s == 15.0
    assert shortest(tasks) == 15.0
    monkeypatch.setattr(scheduling, "LONG", 1.0)
    assert ordered(tasks)[0].makespan_s == 20.0
