import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffebm.plan.schedule import Cost
from ffebm.scheduling.list_schedule import Task, list_schedule

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


def test_an_empty_schedule() -> None:
    schedule = list_schedule([])
    assert (schedule.steps, schedule.makespan_s, schedule.busiest_unit, schedule.ratio) == ((), 0.0, "", 1.0)
