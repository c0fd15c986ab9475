"""Mappings that fill the tiles."""

import pytest

from ffebm.mapping.search.goal import OBJECTIVES, Goal
from tests.mapping.search.graphs import search


def test_options_within_a_time_are_those_on_fewest_tiles() -> None:
    """Of the same group; where none is as fast, the fastest one."""
    for some in search(1, Goal("latency")).choosing:
        for number, option in enumerate(some.options):
            alike = [other for other in some.options if other.group == option.group]
            for seconds in (0.0, option.seconds, 1.0):
                found = some.options[some.within(number, seconds)]
                fast = [other for other in alike if other.seconds <= seconds]
                assert found in alike
                if not fast:
                    assert found.seconds == min(other.seconds for other in alike)
                elif option.group:
                    assert found in fast
                    rooms = [sum(other.prices[0].tiles.values()) for other in fast]
                    assert sum(found.prices[0].tiles.values()) == min(rooms)


def test_no_even_mapping_is_tried_that_does_not_pack(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half the least time that every block can keep asks for more tiles than there are."""
    some = [search(seed, Goal("latency")) for seed in range(40)]
    starts = [one.filling.densest() for one in some]
    found = [list(one.filling.even(start)) for one, start in zip(some, starts, strict=True)]
    assert any(found)
    assert all(
        one.filling.packs(even, apart=True) for one, evens in zip(some, found, strict=True) for even in evens
    )

    monkeypatch.setattr("ffebm.mapping.search.filling.SLOWER", (0.5,))
    faster = [list(one.filling.even(start)) for one, start in zip(some, starts, strict=True)]
    assert sum(map(len, faster)) < sum(map(bool, found))
    assert all(
        one.filling.packs(even, apart=True) for one, evens in zip(some, faster, strict=True) for even in evens
    )


def test_even_mappings_are_those_of_the_groups_alone() -> None:
    """With fewer copies on fewer tiles, the same for every objective."""
    count = 0
    for seed in range(10):
        found = []
        for objective in OBJECTIVES:
            filling = search(seed, Goal(objective)).filling
            densest = filling.densest()
            even = list(filling.even(densest))
            assert even == list(filling.even(filling.at_worth(densest, 0.0)))
            assert all(filling.groups(one) == filling.groups(densest) for one in even)
            tiles = [sum(sum(o.prices[0].tiles.values()) for o in filling.options(one)) for one in even]
            assert tiles == sorted(tiles, reverse=True)
            found.append(even)
        assert all(even == found[0] for even in found)
        count += len(found[0])
    assert count > 0
