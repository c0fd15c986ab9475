"""Samples in flight: their tasks, and the interval at which they can follow each other."""

import random

import pytest
from msgspec.structs import replace
from onnx import ModelProto

from ffebm import compile as compile_plan
from ffebm.plan.schedule import Cost, Schedule, StepKind
from ffebm.scheduling import twin
from ffebm.scheduling.bounds.bounds import bounds_of, with_bound
from ffebm.scheduling.in_flight import (
    Interval,
    first_of,
    interval_of,
    pace_of,
    samples_in_flight,
    simulated_interval,
)
from ffebm.scheduling.list_schedule import Task, list_schedule
from tests.models import Builder
from tests.scheduling.test_exact import random_tasks
from tests.scheduling.test_twin import convolutions, dense


def task(name: str, unit: str, seconds: float, *after: int, kind: StepKind = "digital") -> Task:
    return Task(kind, name, (unit,), seconds, after, Cost(digital=1.0))


def test_a_further_sample_takes_what_units_are_busy_for() -> None:
    """Two bands of 5 s free their unit after 2 each: samples follow 4 s apart, 3 s are read at the end."""
    band = replace(task("l", "a", 5.0, kind="free"), block=0, rows=(0, 1), lag=3.0)
    tasks = [band, replace(band, after=(0,), rows=(1, 2))]
    assert interval_of(tasks).seconds == 4.0
    assert list_schedule(samples_in_flight(tasks, 4)).makespan_s == 4 * 4.0 + 3.0


def test_what_takes_turns_limits_samples_though_no_unit_does_all_of_it() -> None:
    """Each unit has 4 s to do; of three tasks that share units pairwise one works at a time."""
    pairs = {"x": ("a", "b"), "y": ("b", "c"), "z": ("a", "c")}
    tasks = [replace(task(name, "", 2.0), units=units) for name, units in pairs.items()]
    aside = task("w", "d", 5.0)
    found = interval_of([*tasks, aside])
    assert found == Interval(6.0, "a", ("x", "y", "z"))
    assert interval_of([*tasks, replace(aside, seconds=7.0)]) == Interval(7.0, "d")
    assert list_schedule(samples_in_flight(tasks, 4)).makespan_s == 4 * 6.0
    assert pace_of(list_schedule([*tasks, aside])) == 6.0


def test_turns_between_joins() -> None:
    """Updates come once: what is left of turns is less. Joined samples take 6 s before, 3 s behind."""
    pairs = {"x": ("a", "b"), "y": ("b", "c"), "z": ("a", "c")}
    tasks = [replace(task(name, "", 2.0), units=units) for name, units in pairs.items()]
    tasks += [task("norm", "n", 1.0, 0, 1, 2), task("last", "a", 3.0, 3)]
    assert interval_of(tasks, {"norm"}) == Interval(9.0, "a", ("x", "y", "z"))
    once = replace(task("u", "", 9.0, 0, kind="update"), units=("a", "b"), fixed_s=9.0)
    assert interval_of([*tasks[:3], once]) == Interval(6.0, "a", ("x", "y", "z"))


def test_samples_follow_each_other_at_the_pace_of_the_busiest_unit() -> None:
    """1 s on a, 5 s on b, 2 s on c: 8 s for the first, 5 for each further one."""
    tasks = [task("in", "a", 1.0), task("work", "b", 5.0, 0), task("out", "c", 2.0, 1)]
    found = interval_of(tasks)
    assert (found.seconds, found.unit) == (5.0, "b")
    four = samples_in_flight(tasks, 4)
    assert [(t.name, t.sample) for t in four[:4]] == [("in", 0), ("in", 1), ("in", 2), ("in", 3)]
    assert [t.after for t in four[4:8]] == [(0,), (1,), (2,), (3,)]
    schedule = list_schedule(four)
    assert schedule.makespan_s == 8.0 + 3 * 5.0
    ends = [step.end_s for step in schedule.steps if step.name == "out"]
    assert ends == [8.0, 13.0, 18.0, 23.0]
    assert simulated_interval(tasks, 4) == 5.0
    assert samples_in_flight(tasks, 1) == tasks


def test_updates_come_once_after_the_gradients_of_all() -> None:
    fixed = replace(task("w", "d", 3.0, 1, kind="update"), fixed_s=3.0)
    write = replace(task("w", "t", 4.0, 2, kind="update"), fixed_s=4.0)
    tasks = [task("b", "t", 1.0, kind="free"), task("b", "d", 2.0, 0, kind="contrast"), fixed, write]
    three = samples_in_flight(tasks, 3)
    assert [(t.kind, t.sample, t.after) for t in three[3:]] == [
        ("contrast", 0, (0,)),
        ("contrast", 1, (1,)),
        ("contrast", 2, (2,)),
        ("update", 2, (3, 4, 5)),
        ("update", 2, (6,)),
    ]
    assert list_schedule(three).makespan_s == 1 + 3 * 2 + 3 + 4
    assert (interval_of(tasks).seconds, interval_of(tasks).unit) == (
        2.0,
        "d",
    )  # what comes once does not count


def test_pulses_by_pairs_of_states_come_for_each_sample() -> None:
    """Cells that learn in place: no part of that update is done once for a batch."""
    tasks = [task("b", "t", 1.0, kind="nudged"), task("b", "t", 2.0, 0, kind="update")]
    three = samples_in_flight(tasks, 3)
    assert [(t.kind, t.seconds, t.cost.digital) for t in three[3:]] == [("update", 6.0, 3.0)]
    assert interval_of(tasks).seconds == 3.0
    assert simulated_interval(tasks, 5) == 3.0


def test_an_update_that_a_far_memory_lengthens_still_comes_once() -> None:
    """Its price is added to what a batch leaves as it is."""
    update = replace(task("w", "d", 5.0, 0, kind="update"), fixed_s=3.0)
    tasks = [task("b", "d", 1.0, kind="contrast"), update]
    assert interval_of(tasks).seconds == 1.0
    assert [t.seconds for t in samples_in_flight(tasks, 3)] == [1.0, 1.0, 1.0, 5.0]
    assert [t.seconds for t in first_of(samples_in_flight(tasks, 3))] == [1.0, 5.0]


def test_a_join_is_a_barrier() -> None:
    """All samples pass a before one may pass the join, and b comes only then: 3 + 4 s each, not 4."""
    tasks = [task("first", "a", 3.0), task("norm", "n", 1.0, 0), task("second", "b", 4.0, 1)]
    apart, together = interval_of(tasks), interval_of(tasks, {"norm"})
    assert (apart.seconds, apart.unit) == (4.0, "b")
    assert (together.seconds, together.unit) == (7.0, "b")
    joined = samples_in_flight(tasks, 3, {"norm"})
    assert {t.after for t in joined if t.name == "norm"} == {(0, 1, 2)}
    # the last sample's turn at the join is hidden behind the others' second task
    assert list_schedule(joined).makespan_s == 3 * 3.0 + 1.0 + 3 * 4.0
    assert simulated_interval(tasks, 5, {"norm"}) == 7.0


def test_what_may_be_done_on_either_side_of_a_barrier_fills_what_is_free() -> None:
    """2 s aside on b may wait until after the join, where b has only 1 s to do beside 3 s of a."""
    tasks = [task("x", "a", 3.0), task("norm", "n", 0.5, 0), task("y", "a", 3.0, 1), task("z", "b", 1.0, 1)]
    aside = [*tasks, task("aside", "b", 2.0, 0)]
    assert interval_of(tasks, {"norm"}).seconds == interval_of(aside, {"norm"}).seconds == 6.0
    much = [*tasks, task("aside", "b", 9.0)]
    assert (interval_of(much, {"norm"}).seconds, interval_of(much, {"norm"}).unit) == (10.0, "b")


def test_the_interval_is_never_more_than_a_schedule_adds_in_the_long_run() -> None:
    """As a bound: so many samples take at least so many intervals."""
    rng = random.Random(11)
    for _ in range(30):
        tasks = [replace(t, name=f"t{n}") for n, t in enumerate(random_tasks(rng))]
        joined = {t.name for t in tasks if rng.random() < 0.2}
        for joins in (frozenset[str](), joined):
            interval = interval_of(tasks, joins)
            alone = list_schedule(tasks)
            assert joins or pace_of(alone) == pytest.approx(interval_of(tasks).seconds, rel=1e-12)
            six = samples_in_flight(tasks, 6, joins)
            assert list_schedule(six).makespan_s >= 6 * interval.seconds * (1 - 1e-12)
            assert interval.seconds <= alone.makespan_s * (1 + 1e-12)


def test_the_first_of_several_samples() -> None:
    """What is done once for each of them has the share of one."""
    fixed = replace(task("w", "d", 3.0, 1, kind="update"), fixed_s=3.0)
    pulses = task("w", "t", 2.0, 2, kind="update")
    tasks = [task("b", "t", 1.0, kind="free"), task("b", "d", 2.0, 0, kind="contrast"), fixed, pulses]
    first = first_of(samples_in_flight(tasks, 4))
    assert [(t.kind, t.seconds, t.after, t.sample) for t in first] == [
        (t.kind, t.seconds, t.after, 0) for t in tasks
    ]
    assert first_of(tasks) == tasks


def test_no_units() -> None:
    assert interval_of([]).seconds == 0.0
    assert samples_in_flight([], 3) == []


# --- plans -------------------------------------------------------------------------------------------


def normalised() -> ModelProto:
    """Two convolutions with normalisations, so that samples join in training."""
    b = Builder()
    x = b.input("x", 1, 3, 8, 8)
    y = b.node("Relu", b.norm(b.conv(x, 3, 6), 6))
    y = b.node("Relu", b.norm(b.conv(y, 6, 6), 6))
    y = b.node("Flatten", b.node("GlobalAveragePool", y))
    return b.model(b.node("Gemm", y, b.weight(6, 4), b.weight(4)))


MODELS = {
    "dense": dense(1, 40, 40, 40, 40, 40, 10),
    "convolutions": convolutions(1),
    "normalised": normalised(),
}
MACHINES = ("reference", "isaac", "hermes", "pimcomp")


def tasks_of(
    monkeypatch: pytest.MonkeyPatch, model: ModelProto, machine: str
) -> tuple[list[Task], list[Task], frozenset[str]]:
    """Tasks of an inference and of a training step as a compilation makes them, and what joins samples."""
    made: list[list[Task]] = []

    def kept(schedule: Schedule, tasks: list[Task]) -> Schedule:
        made.append(tasks)
        return with_bound(schedule, tasks)

    monkeypatch.setattr(twin, "with_bound", kept)
    plan = compile_plan(model, hardware=machine, block_size=2, replicas=1)
    joins = frozenset(node.name for node in plan.nodes if node.op == "BatchNormalization")
    inference, training = made
    for schedule, tasks, joined in ((plan.inference, inference, ()), (plan.training, training, joins)):
        interval = interval_of(tasks, joined)
        assert (schedule.interval_s, schedule.interval_unit) == (interval.seconds, interval.unit)
        assert schedule.lower_bound_s >= max(schedule.critical_path_s, schedule.busiest_s)
    return inference, training, joins


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("model", MODELS)
def test_a_simulated_run_of_several_samples_reaches_the_interval(
    monkeypatch: pytest.MonkeyPatch, model: str, machine: str
) -> None:
    inference, training, joins = tasks_of(monkeypatch, MODELS[model], machine)
    assert bool(joins) == (model != "dense")
    for tasks, joined in ((inference, frozenset[str]()), (training, joins)):
        interval, samples = interval_of(tasks, joined).seconds, 16
        assert simulated_interval(tasks, samples, joined) <= 1.05 * interval
        alone = list_schedule(tasks).makespan_s
        batch = samples_in_flight(tasks, samples, joined)
        schedule = list_schedule(batch)
        assert schedule.makespan_s <= 1.10 * (alone + (samples - 1) * interval)
        assert schedule.makespan_s >= bounds_of(batch)[0].seconds * (1 - 1e-9)
