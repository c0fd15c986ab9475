"""Compiled loops against their plain forms, which find the same to the last bit."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from ffebm.plan.memory.demand import Demand, demand
from ffebm.plan.schedule import Cost, StepKind
from ffebm.scheduling.bounds import bounds
from ffebm.scheduling.bounds.net import Net
from ffebm.scheduling.in_flight import samples_in_flight
from ffebm.scheduling.kernels.spent import Spent
from ffebm.scheduling.list_schedule import Task, ordered
from ffebm.scheduling.memory import offsets
from ffebm.scheduling.order import workload
from tests.scheduling.lagging import lagging_tasks

ALWAYS, NEVER = Spent(-1), Spent(1 << 62)
KINDS: tuple[StepKind, ...] = ("digital", "update")
SECONDS = st.sampled_from([0.0, 1.0, 2.0, 0.1, 0.2, 0.3])


@st.composite
def task_lists(draw: st.DrawFn) -> list[Task]:
    """Tasks on up to four units, of which each may take several at once, for up to two samples."""
    tasks = []
    for number in range(draw(st.integers(0, 25))):
        after = draw(st.sets(st.integers(0, number - 1), max_size=3)) if number else set()
        units = draw(st.sets(st.sampled_from("abcd"), max_size=3))
        seconds, sample = draw(SECONDS), draw(st.integers(0, 1))
        name, kind = f"n{number}", draw(st.sampled_from(KINDS))
        tasks.append(
            Task(kind, name, tuple(sorted(units)), seconds, tuple(sorted(after)), Cost(), sample=sample)
        )
    return tasks


@given(st.integers(0, 10**6), st.integers(1, 3))
@settings(deadline=None)
def test_schedules_of_units_that_are_free_early_are_the_same(seed: int, samples: int) -> None:
    tasks = samples_in_flight(lagging_tasks(random.Random(seed)), samples)
    found: list[object] = []
    with pytest.MonkeyPatch.context() as patch:
        for spent in (NEVER, ALWAYS):
            patch.setattr(workload, "_SPENT", spent)
            patch.setattr(bounds, "_SPENT", spent)
            found.append((ordered(tasks), bounds.bounds_of(tasks, tasks)))
    assert found[0] == found[1]


@given(task_lists())
@settings(deadline=None)
def test_schedules_are_the_same(tasks: list[Task]) -> None:
    found = []
    with pytest.MonkeyPatch.context() as patch:
        for spent in (NEVER, ALWAYS):
            patch.setattr(workload, "_SPENT", spent)
            found.append(ordered(tasks))
    assert found[0] == found[1]


@given(task_lists(), st.booleans(), st.sampled_from([0, 3, bounds.VISITS]))
@settings(deadline=None)
def test_bounds_are_the_same(tasks: list[Task], cut: bool, visits: int) -> None:
    """Also where tasks are parts of uncut ones that take no less than all of them, or less."""
    tasks = [replace(task, name=f"n{number // 3}" if cut else task.name) for number, task in enumerate(tasks)]
    whole = [replace(task, seconds=0.9 * task.seconds, fixed_s=0.1 * task.seconds) for task in tasks]
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bounds, "VISITS", visits)
        for spent in (NEVER, ALWAYS):
            patch.setattr(bounds, "_SPENT", spent)
            found.append(bounds.bounds_of(tasks, whole if cut else ()))
    assert found[0] == found[1]


def test_bounds_of_busy_units_with_many_tasks_are_the_same() -> None:
    """More tasks of a unit than one number has bits, in layers that wait for all of the layer before."""
    rng = random.Random(0)
    tasks: list[Task] = []
    before: tuple[int, ...] = ()
    for layer in range(8):
        for _ in range(25):
            after = tuple(sorted(rng.sample(before, rng.randint(1, len(before))))) if before else ()
            units = tuple(sorted(rng.sample("abcdef", rng.randint(1, 2))))
            tasks.append(Task("digital", f"n{layer}", units, rng.choice((0.0, 0.1, 0.2, 0.7)), after, Cost()))
        before = tuple(range(len(tasks) - 25, len(tasks)))
    found = []
    with pytest.MonkeyPatch.context() as patch:
        for spent in (NEVER, ALWAYS):
            patch.setattr(bounds, "_SPENT", spent)
            found.append([bounds._heads(net, True) for net in (Net.of(tasks), Net.of(tasks, tasks))])
            found[-1].append(bounds._heads(Net.of(tasks, tasks).mirrored(), True))
    assert found[0] == found[1]
    assert found[0][0] != bounds._heads(Net.of(tasks), False)


@st.composite
def demands(draw: st.DrawFn) -> Demand:
    """Buffers in up to three sets of memories."""
    count = draw(st.integers(1, 20))
    sizes = draw(st.lists(st.integers(1, 9), min_size=count, max_size=count))
    begins = draw(st.lists(st.integers(0, 12), min_size=count, max_size=count))
    lives = [(begin, begin + draw(st.integers(0, 6))) for begin in begins]
    sets = [frozenset("a"), frozenset("ab"), frozenset("c")]
    return demand(sizes, lives, [draw(st.sampled_from(sets)) for _ in sizes])


@given(demands(), st.integers(5, 60), st.none() | st.integers(1, 40))
@settings(deadline=None)
def test_offsets_are_the_same(wanted: Demand, capacity: int, bound: int | None) -> None:
    found = []
    with pytest.MonkeyPatch.context() as patch:
        for spent in (NEVER, ALWAYS):
            patch.setattr(offsets, "_SPENT", spent)
            found.append(offsets.placed(wanted, capacity, bound))
    assert found[0].peak == found[1].peak
    np.testing.assert_array_equal(found[0].at, found[1].at)


def test_compiled_loops_take_over_when_plain_ones_have_done_enough() -> None:
    spent = Spent(10)
    assert [spent.is_much(rounds) for rounds in (6, 4, 1, 0)] == [False, False, True, True]


def test_what_comes_again_is_foreseen() -> None:
    spent = Spent(10, again=2)
    assert [spent.is_much(rounds) for rounds in (3, 1, 3, 0)] == [False, False, True, True]


def test_what_is_said_to_come_is_foreseen() -> None:
    spent = Spent(10)
    spent.is_much(4)
    spent.foresee(6)
    assert not spent.is_much(0)
    spent.foresee(7)
    assert spent.is_much(0)
