"""Searches by Optuna's samplers."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, IntDistribution

from ffebm.exploration.knobs import knobs_of
from ffebm.exploration.run import Exploration, explore
from ffebm.exploration.search import SEARCHERS, SampledSearch, Searcher, Space
from tests.exploration.models import BITS, request_of
from tests.exploration.test_run import explored, trials

VARIED = (f"{BITS}=4,5,6,7,8", "analog.tiles.count=1,4,16,64", "objective=analog,latency", "effort=0")


@pytest.mark.parametrize("sampler", SEARCHERS)
def test_a_search_looks_at_so_many_points_each_once(sampler: Searcher, tmp_path: Path) -> None:
    found = explored(request_of(tmp_path, *VARIED, sampler=sampler, trials=8))
    points = [tuple(entry.point.values()) for entry in found.entries()]
    assert len(points) == len(set(points)) == 8
    done = [
        trial for trial in trials(tmp_path) if trial.state.name == "COMPLETE" and "owner" in trial.user_attrs
    ]
    assert len(done) == 8


@pytest.mark.parametrize("sampler", SEARCHERS)
def test_a_search_depends_on_its_seed_alone(sampler: Searcher, tmp_path: Path) -> None:
    """Interrupted and resumed, and asked for more afterwards: the same points as in one go."""
    whole = explored(request_of(tmp_path / "a", *VARIED, sampler=sampler, trials=9, seed=1))
    half = Exploration(request_of(tmp_path / "b", *VARIED, sampler=sampler, trials=9, seed=1))
    with half.ledger.working():
        for _ in range(4):
            claim = half.ledger.claim()
            assert claim is not None
            half._do(claim)
    explore(half, 1, lambda done: None)
    assert [entry.point for entry in half.entries()] == [entry.point for entry in whole.entries()]
    other = explored(request_of(tmp_path / "c", *VARIED, sampler=sampler, trials=9, seed=2))
    assert [entry.point for entry in other.entries()] != [entry.point for entry in whole.entries()]


@given(seed=st.integers(0, 1000), count=st.integers(3, 200))
def test_a_search_begins_where_knobs_end(seed: int, count: int) -> None:
    knobs = knobs_of(["batch=4,1,2", "objective=analog,latency,energy", "tiles=none,3,5"])
    asked = SampledSearch("tpe", count, seed)
    first = asked.first_points(knobs)
    assert first == SampledSearch("nsga2", count, seed).first_points(knobs)
    assert 0 < len(first) <= asked.count_of_first == min(8, max(2, count // 3))
    assert all(point not in first[:place] for place, point in enumerate(first))
    assert {point["batch"] for point in first} <= {1, 4}
    if len(first) == asked.count_of_first:  # no two were alike
        for key, ends in (("batch", 2), ("objective", 3), ("tiles", 3)):
            often = Counter(point[key] for point in first).values()
            assert max(often) - (min(often) if len(often) == ends else 0) <= 1


@pytest.mark.parametrize("sampler", SEARCHERS)
def test_its_first_points_are_claimed_first(sampler: Searcher, tmp_path: Path) -> None:
    request = request_of(tmp_path, *VARIED, sampler=sampler, trials=9)
    assert request.search is not None
    first = request.search.first_points(request.knobs)
    ledger = Exploration(request).ledger
    with ledger.working():
        claims = [ledger.claim() for _ in first]
    assert [None if claim is None else claim.point for claim in claims] == first


def test_a_search_of_more_than_there_is_ends(tmp_path: Path) -> None:
    found = explored(request_of(tmp_path, "objective=analog,latency", sampler="nsga2", trials=5))
    assert len(found.entries()) == 2


def test_numbers_have_an_order() -> None:
    knobs = knobs_of(["batch=4,1,2", "objective=analog,latency", "tiles=none,3,5", "strict=true,false"])
    space = SampledSearch("nsga2", 9, 0).space(knobs)
    assert space.ordered == {"batch"}
    assert space.distributions["batch"] == IntDistribution(0, 2)
    for place, value in enumerate((1, 2, 4)):
        said = {"batch": place, "objective": "latency", "tiles": None, "strict": True}
        assert space.point(said) == {**said, "batch": value}
        assert space.said(space.point(said)) == said
    assert SampledSearch("tpe", 9, 0).space(knobs).ordered == frozenset()


def test_a_search_that_was_begun_with_names_goes_on_with_them(tmp_path: Path) -> None:
    """As folders of before numbers had an order hold them."""
    request = request_of(tmp_path, *VARIED, sampler="nsga2", trials=9)
    search = SampledSearch("nsga2", 9, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SampledSearch, "space", lambda _, knobs: Space(tuple(knobs)))
        half = Exploration(request)
        with half.ledger.working():
            for _ in range(4):
                claim = half.ledger.claim()
                assert claim is not None
                half._do(claim)
        begun = [entry.point for entry in half.entries()]
    assert search.space(request.knobs).ordered  # what it would begin with now
    whole = explored(request)
    assert len(whole.entries()) == 9
    assert all(point in [entry.point for entry in whole.entries()] for point in begun)
    kinds = {type(d) for t in trials(tmp_path) for d in t.distributions.values()}
    assert kinds == {CategoricalDistribution}


def test_a_killed_point_of_a_search_is_claimed_again(tmp_path: Path) -> None:
    request = request_of(tmp_path, *VARIED, sampler="tpe", trials=4)
    lost = Exploration(request)
    with lost.ledger.working():
        claim = lost.ledger.claim()
        assert claim is not None
    entries = explored(request).entries()
    assert len(entries) == 4
    assert claim.point in [entry.point for entry in entries]
