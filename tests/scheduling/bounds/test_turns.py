"""Tasks of which each two share a unit: found where no unit does all of them, and bounded as if one did."""

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from ffebm.plan.schedule import Cost
from ffebm.scheduling.bounds.bounds import bounds_of
from ffebm.scheduling.bounds.turns import MOST_CLIQUES, taking_turns
from ffebm.scheduling.list_schedule import Task
from tests.scheduling.exact import shortest


def test_three_that_share_units_pairwise_take_turns() -> None:
    assert taking_turns({(0, 1): 1.0, (1, 2): 2.0, (0, 2): 3.0, (3,): 9.0}) == [((0, 2), (1, 2), (0, 1))]


def test_what_one_unit_does_alone_is_no_news() -> None:
    assert taking_turns({(0, 1): 1.0, (0, 2): 2.0, (0,): 3.0, (): 4.0, (4,): 0.0}) == []


def test_their_bound_is_their_sum() -> None:
    """Each unit has 4 s to do, all three tasks take 6 s one after the other."""
    tasks = [
        Task("digital", f"task{n}", units, 2.0, (), Cost())
        for n, units in enumerate(map(tuple, ("ab", "bc", "ca")))
    ]
    strongest = bounds_of(tasks)[0]
    assert strongest.seconds == 6.0 == shortest(tasks)
    assert strongest.name == "work of a and units that share its tasks between heads and tails"


SETS = st.dictionaries(
    st.sets(st.integers(0, 5), min_size=1, max_size=3).map(lambda units: tuple(sorted(units))),
    st.integers(0, 9).map(float),
    max_size=9,
)


@settings(max_examples=60)
@given(SETS)
def test_each_two_of_a_clique_share_a_unit_and_not_all_the_same(work: dict[tuple[int, ...], float]) -> None:
    found = taking_turns(work)
    assert len(found) <= MOST_CLIQUES
    for clique in found:
        assert all(set(one) & set(other) for one, other in combinations(clique, 2))
        assert not set.intersection(*(set(units) for units in clique))
    sums = [sum(work[units] for units in clique) for clique in found]
    assert sums == sorted(sums, reverse=True)
