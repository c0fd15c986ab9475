"""Schedules that contradict themselves or the machine are refused, each with one message."""

from dataclasses import dataclass
from typing import Any

import pytest
from msgspec import structs

from ffebm.plan.checks.schedules import band_problems, schedule_problems
from ffebm.plan.schedule import Cost, Schedule, Step


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
    Change("costs nan in array", step={"cost": Cost(array=float("nan"))}),
    Change("takes 4 s, which is not when its last step ends", whole={"makespan_s": 4}),
    Change("less than its bound of 4 s", whole={"lower_bound_s": 4}),
    Change("follow each other after 0 s", whole={"interval_s": 0}),
    Change("follow each other after 4 s", whole={"interval_s": 4}),
    Change("unknown unit 'tile9' limits", whole={"interval_unit": "tile9"}),
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


def test_rows_that_are_begun_are_some_that_there_are() -> None:
    schedule = two_steps()
    for behind, said in ((6, ["rows up to 6 of 'block0' are begun, of which there are 4"]), (0, [])):
        last = structs.replace(schedule.steps[1], begun=behind)
        assert list(band_problems(structs.replace(schedule, steps=(schedule.steps[0], last)))) == said
