"""Objectives and limits."""

import pytest

from ffebm.mapping.search.goal import OBJECTIVES, Goal, Measured, value_of


def test_what_each_objective_makes_small() -> None:
    measured = Measured(seconds=2.0, joules=3.0, interval=0.5)
    values = {objective: value_of(objective, measured) for objective in OBJECTIVES}
    assert values == {"analog": 2.0, "latency": 2.0, "throughput": 0.5, "energy": 3.0, "edp": 6.0}


def test_several_runs_take_an_interval_more_each_and_leak_for_so_long() -> None:
    measured = Measured(seconds=2.0, joules=3.0, interval=0.5, leakage=1.0)  # 1 J for what is done
    assert measured.together(1) is measured
    assert measured.together(3) == Measured(seconds=3.0, joules=6.0, interval=0.5, leakage=1.0)
    values = {objective: Goal(objective, runs=3).value(measured) for objective in OBJECTIVES}
    assert values == {"analog": 3.0, "latency": 3.0, "throughput": 0.5, "energy": 6.0, "edp": 18.0}


@pytest.mark.parametrize("limit", ["seconds", "joules", "area"])
def test_time_energy_and_area_are_limits_and_tiles_are_room(limit: str) -> None:
    goals = {"seconds": Goal(seconds=1.0), "joules": Goal(joules=1.0), "area": Goal(area=1.0)}
    assert goals[limit].limited
    assert not Goal(tiles=3).limited
