"""Rows of letters: a schedule of known lengths, and sums on a real one."""

from dataclasses import astuple
from typing import get_args

import pytest
from msgspec.structs import replace

from ffebm.plan.plan import Plan
from ffebm.plan.schedule import Cost, Schedule, Step, StepKind
from ffebm.report.facts.timeline import layer_bands, timeline
from ffebm.report.terminal.activity import LETTERS, activity, legend


def schedule(*steps: tuple[StepKind, str, float, float]) -> Schedule:
    made = tuple(
        Step(id=number, kind=kind, name="n", units=(unit,), start_s=start, end_s=end, after=(), cost=Cost())
        for number, (kind, unit, start, end) in enumerate(steps)
    )
    return Schedule(
        steps=made,
        makespan_s=max(step.end_s for step in made),
        critical_path_s=1.0,
        busiest_unit="tile0",
        busiest_s=1.0,
        lower_bound_s=1.0,
        lower_bound="longest chain",
        interval_s=1.0,
        interval_unit="tile0",
    )


def test_letters_stand_where_steps_do() -> None:
    line = timeline(
        schedule(
            ("digital", "digital0", 0.0, 0.5),  # half a column
            ("free", "tile0", 2.0, 5.0),
            ("transfer", "tile0", 5.0, 5.2),  # less than half
            ("nudged", "tile0", 7.0, 8.0),
            ("update", "tile0", 6.3, 6.4),
            ("contrast", "tile0", 6.4, 6.7),  # the longer of two in a column
        )
    )
    assert line.units == ("digital0", "tile0")
    assert activity(line, 8) == ["D.......", "..FFFtcN"]


def test_units_that_are_free_before_a_step_ends_do_nothing() -> None:
    """Two bands of 4 s that free their unit after 2: the chain of both waits for 2 s of the first."""
    made = schedule(
        ("free", "tile0", 0.0, 4.0), ("free", "tile0", 2.0, 6.0), ("digital", "digital0", 6.0, 8.0)
    )
    first, second, last = made.steps
    first = replace(first, freed_s=2.0, rows=(0, 1))
    second = replace(second, freed_s=4.0, rows=(1, 2), after=(0,))
    line = timeline(replace(made, steps=(first, second, replace(last, after=(1,)))))
    assert (line.free_s, line.end_s) == ((2.0, 4.0, 8.0), (4.0, 6.0, 8.0))
    assert activity(line, 8) == ["......DD", "FFFF...."]
    assert line.busy_s == (2.0, 4.0)
    assert (line.critical, line.filling) == ((0, 1, 2), (0, 1, 2))
    assert list(line.along_critical()) == list(line.along_filling()) == [(0, 2.0), (1, 4.0), (2, 2.0)]
    assert sum(layer.limits_s for layer in layer_bands(line)) == line.makespan_s == 8.0


def test_the_longest_chain_waits_for_units_also_where_other_work_has_them() -> None:
    """The second band might start after 2 s, and starts after 5, when another step is done."""
    made = schedule(
        ("free", "tile0", 0.0, 4.0),
        ("nudged", "tile0", 2.0, 5.0),
        ("free", "tile0", 5.0, 9.0),
    )
    first, other, second = made.steps
    first = replace(first, freed_s=2.0, rows=(0, 1))
    second = replace(second, freed_s=7.0, rows=(1, 2), after=(0,))
    line = timeline(replace(made, steps=(first, other, second)))
    assert line.critical == (0, 2)
    assert list(line.along_critical()) == [(0, 2.0), (2, 4.0)]
    assert list(line.along_filling()) == [(0, 2.0), (1, 3.0), (2, 4.0)]


def test_a_step_of_no_length_is_no_work() -> None:
    line = timeline(schedule(("digital", "digital0", 0.0, 0.0), ("free", "tile0", 0.0, 1.0)))
    assert activity(line, 4) == ["....", "FFFF"]
    nothing = timeline(schedule(("digital", "digital0", 0.0, 0.0)))
    assert activity(nothing, 4) == ["...."]


@pytest.mark.parametrize("columns", [16, 45, 137])
def test_a_unit_is_never_idle_where_it_works(digits: Plan, columns: int) -> None:
    line = timeline(digits.training)
    width = line.makespan_s / columns
    for row, letters in enumerate(activity(line, columns)):
        assert len(letters) == columns
        for start, end, place in zip(line.start_s, line.end_s, line.unit, strict=True):
            if row in line.unit_sets[place] and end > start:
                middle = min(columns - 1, int((start + end) / 2 / width))
                assert letters[middle] != "."


def test_every_kind_has_its_letter() -> None:
    assert set(LETTERS) == set(get_args(StepKind))
    assert len(set(LETTERS.values())) == len(LETTERS)
    assert legend(["free", "loss"]).startswith("F free phase, L loss, . idle; ")


def test_how_layers_are_cut_and_what_limits_by_hand() -> None:
    """One tile makes two bands for 3 s, which travel for 1 s to a node of 2 s and 1 s on the way back."""
    line = timeline(
        cut(
            ("free", "block0", "tile0", 0, 2, (), 0, (0, 2)),
            ("digital", "aside", "digital1", 0, 1, (), None, None),
            ("free", "block0", "tile0", 2, 3, (0,), 0, (2, 3)),
            ("transfer", "y", "network", 3, 4, (0, 2), None, None),
            ("digital", "node", "digital0", 4, 6, (3,), None, None),
            ("digital_backward", "node", "digital0", 6, 7, (4,), None, None),
        )
    )
    assert [astuple(layer) for layer in layer_bands(line)] == [
        ("block0", 2, 2, 0, 3, 3),
        ("aside", 1, 0, 0, 1, 0),
        ("node", 1, 0, 4, 6, 3),
        ("", 0, 0, 0, 0, 1),
    ]
    assert [line.bands[number] for number in line.band] == [(0, 2), None, (2, 3), None, None, None]


def test_times_tell_a_millionth_of_the_shortest_step() -> None:
    third = 1 / 3
    line = timeline(
        schedule(
            ("digital", "digital0", 0.0, third),
            ("free", "tile0", third, third),
            ("free", "tile0", third, third + 3e-5),
        )
    )
    # an end is a start and a length, both rounded so: their sum has the last digits of any sum
    assert line.end_s == pytest.approx((0.33333333333, 0.33333333333, 0.33336333333), abs=1e-15)
    assert line.start_s[1:] == line.end_s[:2]
    nothing = timeline(schedule(("digital", "digital0", third, third)))
    assert nothing.start_s == (third,)


Given = tuple[StepKind, str, str, float, float, tuple[int, ...], int | None, tuple[int, int] | None]
"""Kind, name, unit, start, end, what it waits for, block and rows."""


def cut(*steps: Given) -> Schedule:
    """A schedule of steps that wait for each other."""
    bare = schedule(*((kind, unit, start, end) for kind, _, unit, start, end, *_ in steps))
    made = (
        replace(step, name=name, after=after, block=block, rows=rows)
        for step, (_, name, _, _, _, after, block, rows) in zip(bare.steps, steps, strict=True)
    )
    return replace(bare, steps=tuple(made))
