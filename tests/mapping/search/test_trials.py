"""Mappings that are scheduled, and those that a bound rejects."""

from ffebm.mapping.search.goal import Goal
from tests.mapping.search.graphs import every_mapping, search


def test_a_bound_rejects_what_takes_longer_and_nothing_else() -> None:
    searches = (search(seed, Goal("latency")) for seed in range(3))
    one, everything = next((one, tried) for one in searches if (tried := every_mapping(one)))
    for found in everything[:20]:
        options, seconds = one.trials.options(found.picked), found.measured.seconds
        assert one.measure(options, seconds) == found.measured
        assert one.measure(options, 0.0) is None
