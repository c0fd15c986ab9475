"""Lower bounds: by hand, against the shortest schedule, under other cuts."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ffebm.plan.schedule import Cost
from ffebm.scheduling.bounds.bounds import bounds_of, one_machine, with_bound
from ffebm.scheduling.list_schedule import Task, list_schedule
from tests.scheduling.exact import shortest
from tests.scheduling.test_exact import random_tasks


def task(name: str, units: str, seconds: float, *after: int) -> Task:
    return Task("digital", name, tuple(units), seconds, after, Cost())


def named(tasks: list[Task], uncut: tuple[Task, ...] = ()) -> dict[str, float]:
    return {bound.name: bound.seconds for bound in bounds_of(tasks, uncut)}


def test_heads_and_tails_of_a_unit() -> None:
    """Two samples take 1 s on a, 5 s on b, 2 s on c: b starts after 1 s, and 2 s are left when it ends."""
    tasks = [task("in", "a", 1.0), task("work", "b", 5.0, 0), task("out", "c", 2.0, 1)]
    tasks += [task("in", "a", 1.0), task("work", "b", 5.0, 3), task("out", "c", 2.0, 4)]
    assert named(tasks) == {
        "work of b between heads and tails": 13.0,
        "work of b between heads and tails, raised at barriers": 13.0,
        "work of b": 10.0,
        "longest chain": 8.0,
    }
    assert [bound.seconds for bound in bounds_of(tasks)] == [13.0, 13.0, 10.0, 8.0]
    assert bounds_of(tasks)[0].name == "work of b between heads and tails"  # of equal ones the simplest
    assert list_schedule(tasks).makespan_s == 13.0


def test_a_barrier_raises_what_follows_it() -> None:
    """Four times 3 s on a, then, after all of them, four times 3 s on b: 24 s, where chains have 6."""
    tasks = [task(f"first{n}", "a", 3.0) for n in range(4)]
    tasks += [task(f"second{n}", "b", 3.0, 0, 1, 2, 3) for n in range(4)]
    assert named(tasks) == {
        "work of a between heads and tails, raised at barriers": 24.0,
        "work of a between heads and tails": 15.0,
        "work of a": 12.0,
        "longest chain": 6.0,
    }
    assert shortest(tasks) == 24


def test_a_barrier_counts_where_work_hangs_beside_it() -> None:
    """The last of three barriers, and what each leaves to do for a unit that nothing waits for."""
    tasks: list[Task] = []
    before: tuple[int, ...] = ()
    for n in range(3):
        stage = [task(f"work{n}", "a", 2.0, *before) for _ in range(3)]
        before = tuple(range(len(tasks), len(tasks) + 3))
        tasks += stage
        tasks.append(task(f"aside{n}", "b", 1.0, *before))
    assert bounds_of(tasks)[0].seconds == 3 * 6.0 + 1.0 == shortest(tasks)


@pytest.mark.parametrize(
    ("jobs", "least"),
    [
        ([], 0.0),
        ([(2.0, 3.0, 4.0)], 9.0),
        ([(0.0, 4.0, 0.0), (1.0, 1.0, 9.0)], 11.0),  # the second breaks off the first
        ([(0.0, 2.0, 5.0), (10.0, 1.0, 0.0)], 11.0),  # the unit waits
        ([(0.0, 3.0, 1.0), (0.0, 2.0, 8.0), (0.0, 1.0, 4.0)], 10.0),
    ],
)
def test_one_machine_by_hand(jobs: list[tuple[float, float, float]], least: float) -> None:
    assert one_machine(jobs) == least


JOBS = st.lists(st.tuples(*[st.integers(0, 9)] * 3), min_size=1, max_size=7)


@given(JOBS)
def test_one_machine_is_the_bound_over_all_subsets(jobs: list[tuple[int, int, int]]) -> None:
    """Least head, all work, least tail, at their most over all subsets (Carlier, 1982)."""
    most = 0
    for chosen in range(1, 1 << len(jobs)):
        heads, work, tails = zip(*(job for n, job in enumerate(jobs) if chosen >> n & 1), strict=True)
        most = max(most, min(heads) + sum(work) + min(tails))
    assert one_machine([(float(h), float(w), float(t)) for h, w, t in jobs]) == most


def test_no_bound_exceeds_the_shortest_schedule() -> None:
    rng = random.Random(3)
    _none_exceeds([random_tasks(rng) for _ in range(40)])


@pytest.mark.slow
def test_no_bound_exceeds_the_shortest_schedule_of_five_hundred() -> None:
    rng = random.Random(4)
    _none_exceeds([random_tasks(rng) for _ in range(500)])


def _none_exceeds(lists: list[list[Task]]) -> None:
    for tasks in lists:
        least = shortest(tasks)
        found = bounds_of(tasks)
        assert all(bound.seconds <= least for bound in found), (tasks, found, least)
        assert found[0].seconds >= list_schedule(tasks).lower_bound_s


Layer = tuple[str, int, int, int, int]
"""Unit, rows, seconds that some rows take, fixed seconds, and how many rows these are: copies of a weight."""


def cut(layers: list[Layer], bands: list[int]) -> list[Task]:
    """A chain of layers, each in bands of so many rows.

    A band waits for the band before it, and for the bands of the layer before that hold its rows.
    """
    tasks: list[Task] = []
    before: list[tuple[int, int, int]] = []
    for number, ((unit, rows, slope, fixed, copies), size) in enumerate(zip(layers, bands, strict=True)):
        made: list[tuple[int, int, int]] = []
        for start in range(0, rows, size):
            end = min(rows, start + size)
            after = [place for first, last, place in before if first < end and start < last]
            after += [place for *_, place in made[-1:]]
            made.append((start, end, len(tasks)))
            seconds = float(fixed + slope * -(-(end - start) // copies))
            made_of = replace(task(f"layer{number}", unit, seconds, *after), rows=(start, end))
            tasks.append(replace(made_of, fixed_s=float(fixed)))
        before = made
    return tasks


@st.composite
def layers(draw: st.DrawFn) -> tuple[list[Layer], list[int]]:
    rows = draw(st.integers(1, 6))
    count = draw(st.integers(1, 3))
    chain = [
        (
            draw(st.sampled_from("abc")),
            rows,
            draw(st.integers(1, 3)),
            draw(st.integers(0, 3)),
            draw(st.integers(1, 3)),
        )
        for _ in range(count)
    ]
    return chain, [draw(st.integers(1, rows)) for _ in range(count)]


@given(layers())
def test_bounds_of_the_finest_bands_and_the_whole_hold_for_every_cut(
    chosen: tuple[list[Layer], list[int]],
) -> None:
    chain, bands = chosen
    finest, whole = cut(chain, [1] * len(chain)), cut(chain, [layer[1] for layer in chain])
    bound = bounds_of(finest, whole)[0].seconds
    for tasks in (cut(chain, bands), finest, whole):
        assert bound <= list_schedule(tasks).makespan_s * (1 + 1e-12)  # shares are no whole seconds
    assert bound * (1 + 1e-12) >= max(sum(t.seconds for t in whole if unit in t.units) for unit in "abc")


@given(layers(), st.lists(st.integers(0, 2), min_size=3, max_size=3))
def test_so_do_they_where_units_are_free_early(
    chosen: tuple[list[Layer], list[int]], lags: list[int]
) -> None:
    """Bands whose copies have as much to do each free their units early, others do not."""
    chain, bands = chosen
    first, whole, any_cut = (
        [_lagging(one, chain, lags) for one in cut(chain, sizes)]
        for sizes in ([1] * len(chain), [layer[1] for layer in chain], bands)
    )
    bound = bounds_of(first, whole)[0].seconds
    for tasks in (first, whole, any_cut):
        assert bound <= list_schedule(tasks).makespan_s * (1 + 1e-12)
        assert bounds_of(tasks)[0].seconds <= list_schedule(tasks).makespan_s * (1 + 1e-12)


def _lagging(task: Task, chain: list[Layer], lags: list[int]) -> Task:
    number = int(task.name.removeprefix("layer"))
    first, behind = task.rows or (0, 0)
    even = (behind - first) % chain[number][4] == 0
    return replace(task, seconds=task.seconds + lags[number], lag=float(lags[number]) if even else 0.0)


def test_rows_stream_through_two_layers() -> None:
    """Six rows of 2 s on a, then of 1 s on b: 12 s and the last row of b; cut as a whole it takes 18."""
    chain = [("a", 6, 2, 0, 1), ("b", 6, 1, 0, 1)]
    finest, whole = cut(chain, [1, 1]), tuple(cut(chain, [6, 6]))
    assert list_schedule(finest).makespan_s == bounds_of(finest, whole)[0].seconds == 13.0
    assert list_schedule(list(whole)).makespan_s == bounds_of(whole)[0].seconds == 18.0


def test_what_single_rows_take_beside_counts_for_bands_of_them_once() -> None:
    """Three rows that take 1 s each and 5 s beside: 18 s row by row, 8 s together, and 8 s is the bound."""
    for copies, whole_s in ((1, 8.0), (2, 7.0)):
        chain = [("a", 3, 1, 5, copies)]
        finest, whole = cut(chain, [1]), cut(chain, [3])
        assert list_schedule(finest).makespan_s == 18.0
        assert list_schedule(whole).makespan_s == whole_s
        assert bounds_of(finest, whole)[0].seconds == pytest.approx(whole_s, rel=1e-12)


def test_a_schedule_takes_its_strongest_bound() -> None:
    tasks = [task("in", "a", 1.0), task("x", "b", 5.0, 0), task("in", "a", 1.0), task("x", "b", 5.0, 2)]
    schedule = list_schedule(tasks)
    assert (schedule.lower_bound_s, schedule.lower_bound) == (10.0, "work of b")
    better = with_bound(schedule, tasks)
    assert (better.lower_bound_s, better.lower_bound) == (11.0, "work of b between heads and tails")
    assert better.ratio == 1.0
    alone = [task("in", "a", 1.0), task("x", "b", 5.0, 0)]
    assert with_bound(list_schedule(alone), alone).lower_bound == "longest chain"


def test_bounds_of_nothing() -> None:
    assert [bound.seconds for bound in bounds_of([])] == [0.0]
    assert [bound.seconds for bound in bounds_of([task("x", "", 2.0)])] == [2.0]


def test_large_lists_are_raised_at_some_barriers_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a smaller allowance a bound is weaker, never wrong."""
    rng = random.Random(7)
    tasks = random_tasks(rng)
    full = bounds_of(tasks)[0].seconds
    found = []
    for visits in (0, 10, 30):
        monkeypatch.setattr("ffebm.scheduling.bounds.bounds.VISITS", visits)
        found.append(bounds_of(tasks)[0].seconds)
    assert max(found) <= full <= shortest(tasks)
    assert not math.isnan(full)


def test_the_search_for_bounds_ends_where_a_schedule_is_as_short() -> None:
    """A chain needs no more than its length; elsewhere the strongest bound is what all of them have."""
    chain = [task(f"t{n}", "a" if n % 2 else "b", 1.0, *([n - 1] if n else [])) for n in range(6)]
    assert len(bounds_of(chain, enough=6.0)) < len(bounds_of(chain))
    assert with_bound(list_schedule(chain), chain) == list_schedule(chain)
    for seed in range(30):
        tasks = random_tasks(random.Random(seed))
        schedule = list_schedule(tasks)
        strongest = bounds_of(tasks)[0]
        found = with_bound(schedule, tasks)
        assert found.lower_bound_s == pytest.approx(max(strongest.seconds, schedule.lower_bound_s))
