"""Mappings that are scheduled, and those that a bound rejects."""

from dataclasses import replace

import pytest

from ffebm.mapping.search.goal import OBJECTIVES, SLACK, AtMost, Goal, value_of
from ffebm.plan.mapping import Objective
from tests.mapping.search.graphs import every_mapping, search


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_bound_rejects_what_takes_more_and_nothing_else(objective: Objective) -> None:
    """What is small then is the figure of the objective, whatever the mapping takes of others."""
    searches = (search(seed, Goal(objective)) for seed in range(3))
    one, everything = next((one, tried) for one in searches if (tried := every_mapping(one)))
    rejected = 0
    for found in everything[:: max(1, len(everything) // 40)]:
        options, value = one.trials.options(found.picked), value_of(objective, found.measured)
        for doubtful in (False, True):
            assert one.measure(options, AtMost(objective, value * (1 + SLACK), doubtful)) == found.measured
            assert one.measure(options, AtMost(objective, 0.0, doubtful)) is None
        rejected += one.measure(options, AtMost(objective, value * 0.9)) is None
    assert rejected > 0


def test_objectives_for_time_share_what_a_bound_rejects_and_others_do_not() -> None:
    first = search(0, Goal("latency"))
    picked = first.filling.densest()
    assert first.trials.within(picked, 1e-12) is None
    asked: list[AtMost] = []
    for objective in OBJECTIVES:
        other = search(0, Goal(objective))
        trials = replace(
            other.trials, known=first.known.schedules, measure=lambda _, most: asked.append(most)
        )
        assert trials.within(picked, 1e-13) is None
    assert asked == [AtMost(objective, 1e-13) for objective in ("throughput", "energy", "edp")]
