"""Schedules that contradict themselves or the machine are refused, each with one message."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from ffebm import Plan, load_plan
from ffebm import compile as compile_plan
from ffebm.hardware.description import Core
from ffebm.plan.checks.schedules import band_problems, lag_problems, schedule_problems
from ffebm.plan.schedule import Cost, Schedule, Step
from tests.machines import round_numbers, seconds, with_tiles
from tests.plan.folders import refused, set_at
from tests.scheduling.graphs import two_convolutions


@dataclass(frozen=True)
class Change:
    """What is changed in a schedule of two steps, and what is said of it."""

    said: str
    step: dict[str, Any] | None = None
    whole: dict[str, Any] | None = None


def two_steps() -> Schedule:
    moves = Step(
        id=0, kind="transfer", name="x", units=("network",), start_s=0, end_s=1, after=(), cost=Cost()
    )
    settles = Step(
        id=1,
        kind="free",
        name="block0",
        units=("tile0",),
        start_s=1,
        end_s=3,
        after=(0,),
        cost=Cost(),
        block=0,
        rows=(0, 4),
    )
    return Schedule(
        steps=(moves, settles),
        makespan_s=3,
        critical_path_s=3,
        busiest_unit="tile0",
        busiest_s=2,
        lower_bound_s=3,
        lower_bound="longest chain",
        interval_s=2,
        interval_unit="tile0",
    )


CHANGES = [
    Change("works for sample -1", step={"sample": -1}),
    Change("rows (4, 4)", step={"rows": (4, 4)}),
    Change("rows (-1, 4)", step={"rows": (-1, 4)}),
    Change("begins rows up to 4, which are not behind (0, 4) of a block", step={"begun": 4}),
    Change("begins rows up to -1, which are not behind (0, 4)", step={"begun": -1}),
    Change("begins rows up to 5, which are not behind None", step={"begun": 5, "rows": None}),
    Change("begins rows up to 5", step={"begun": 5, "kind": "nudged"}),
    Change("works for block None", step={"block": None}),
    Change("works for block 1", step={"block": 1}),
    Change("runs from 1 s to 0 s", step={"end_s": 0}),
    Change("unknown unit 'tile9'", step={"units": ("tile9",)}),
    Change("waits for an unknown step", step={"after": (2,)}),
    Change("before a step that it waits for has ended", step={"start_s": 0}),
    Change("frees its units at 1 s, which is not between", step={"freed_s": 1}),
    Change("frees its units at 3 s, which is not between", step={"freed_s": 3}),
    Change("frees its units at nan s, which is not between", step={"freed_s": float("nan")}),
    Change("is no free phase, and frees its units before it ends", step={"freed_s": 2, "kind": "nudged"}),
    Change("costs nan in array", step={"cost": Cost(array=float("nan"))}),
    Change("takes 4 s, which is not when its last step ends", whole={"makespan_s": 4}),
    Change("less than its bound of 4 s", whole={"lower_bound_s": 4}),
    Change("follow each other after 0 s", whole={"interval_s": 0}),
    Change("follow each other after 4 s", whole={"interval_s": 4}),
    Change("unknown unit 'tile9' limits", whole={"interval_unit": "tile9"}),
    Change("'y' limits how fast samples follow each other", whole={"interval_turns": ("y",)}),
    Change("interval_s of inf", whole={"interval_s": float("inf")}),
]


def test_a_schedule_without_contradictions() -> None:
    assert not list(schedule_problems(two_steps(), {"network", "tile0"}, 1))


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.said)
def test_contradictions_are_named(change: Change) -> None:
    schedule = structs.replace(two_steps(), **(change.whole or {}))
    if change.step is not None:
        last = structs.replace(schedule.steps[1], **change.step)
        schedule = structs.replace(schedule, steps=(schedule.steps[0], last))
    assert any(change.said in text for text in schedule_problems(schedule, {"network", "tile0"}, 1))


def test_the_next_band_waits_for_units_and_others_for_the_end() -> None:
    schedule = two_steps()
    moves, settles = schedule.steps
    settles = structs.replace(settles, freed_s=2)
    band = structs.replace(settles, id=2, start_s=2, end_s=4, freed_s=None, after=(1,), rows=(4, 8))
    for change, said in (
        ({}, []),
        ({"start_s": 1.5}, ["step 2 starts before tile0 is free", "step 2 starts before a step that it"]),
        ({"rows": (5, 8)}, ["step 2 starts before a step that it"]),
        ({"sample": 1}, ["step 2 starts before a step that it"]),
        ({"end_s": 2.5}, ["step 2 starts before a step that it"]),  # there before the band before it
    ):
        last = structs.replace(band, **change)
        whole = structs.replace(schedule, steps=(moves, settles, last), makespan_s=max(3, last.end_s))
        found = list(schedule_problems(whole, {"network", "tile0"}, 1))
        assert len(found) == len(said)
        assert all(text.startswith(one) for text, one in zip(found, said, strict=True))


def cored(tiles: int) -> Plan:
    """Two layers of four copies in a core, which starts a product each 2.5 s; a read takes 10."""
    machine = with_tiles(round_numbers(tiles, 64, 64), core=Core(tiles=tiles, issue=seconds(2.5)))
    return compile_plan(two_convolutions(), hardware=machine, replicas=4)


def test_arrays_in_cores_are_free_for_less_than_a_read() -> None:
    """As a plan is loaded: a lag that its machine does not allow is refused."""
    plan = cored(16)
    first = next(step for step in plan.inference.steps if step.freed_s is not None)
    assert first.lag == 7.5
    assert list(lag_problems(plan)) == []
    long = structs.replace(first, freed_s=first.start_s + 1)
    steps = (*plan.inference.steps[: first.id], long, *plan.inference.steps[first.id + 1 :])
    damaged = structs.replace(plan, inference=structs.replace(plan.inference, steps=steps))
    said = f"step {first.id} frees its units 26.5 s before it ends, longer than a read"
    assert list(lag_problems(damaged)) == [said]


def test_arrays_of_several_blocks_and_of_training_are_not_free_early() -> None:
    plan, shared = cored(16), cored(4)
    assert all(step.freed_s is None for step in (*shared.inference.steps, *plan.training.steps))
    steps = list(shared.inference.steps)
    number = next(step.id for step in steps if step.kind == "free")
    steps[number] = structs.replace(steps[number], freed_s=steps[number].end_s - 1)
    damaged = structs.replace(shared, inference=structs.replace(shared.inference, steps=tuple(steps)))
    said = f"step {number} frees its units before it ends; only arrays of one block in cores are free"
    assert list(lag_problems(damaged)) == [said]
    training = structs.replace(plan, training=structs.replace(plan.inference))
    early = [step.id for step in plan.inference.steps if step.freed_s is not None]
    told = [n for n in lag_problems(training) if "of a training step" in n]
    assert told == [
        f"step {number} of a training step frees its units before it ends; there none does"
        for number in early
    ]


def test_a_damaged_plan_is_refused_by_a_lag_that_is_out_of_range(tmp_path: Path) -> None:
    plan = cored(16)
    number = next(step.id for step in plan.inference.steps if step.freed_s is not None)
    step = plan.inference.steps[number]
    plan.save(tmp_path / "plan")
    assert load_plan(tmp_path / "plan").inference == plan.inference
    found = refused(tmp_path / "plan", set_at("inference", "steps", number, "freed_s", to=step.end_s + 1))
    assert f"step {number} runs from {step.start_s} s to {step.end_s} s and frees its units at" in found


def test_rows_that_are_begun_are_some_that_there_are() -> None:
    schedule = two_steps()
    for behind, said in ((6, ["rows up to 6 of 'block0' are begun, of which there are 4"]), (0, [])):
        last = structs.replace(schedule.steps[1], begun=behind)
        assert list(band_problems(structs.replace(schedule, steps=(schedule.steps[0], last)))) == said
