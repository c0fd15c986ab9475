"""Changes of mappings against every mapping."""

from ffebm.mapping.search.goal import Goal
from tests.mapping.search.graphs import every_mapping, search


def test_what_a_bound_rejects_costs_less_effort_and_takes_longer() -> None:
    """By the default objective at its default effort, which schedules alone would use up before the best."""
    one = search(9, Goal("analog"))
    found = one.best().found
    assert one.trials.key(found)[:2] == min(map(one.trials.key, every_mapping(search(9, Goal("analog")))))[:2]
    assert one.tries() == 23
    assert len(one.trials.above) > 10
    for picked, seconds in one.trials.above.items():
        assert one.trials.tried(picked).measured.seconds > seconds >= found.measured.seconds
