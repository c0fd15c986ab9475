"""Searches by Optuna's samplers."""

from pathlib import Path

import pytest

from ffebm.exploration.run import Exploration, explore
from ffebm.exploration.search import SEARCHERS, Searcher
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


def test_a_search_of_more_than_there_is_ends(tmp_path: Path) -> None:
    found = explored(request_of(tmp_path, "objective=analog,latency", sampler="nsga2", trials=5))
    assert len(found.entries()) == 2


def test_a_killed_point_of_a_search_is_claimed_again(tmp_path: Path) -> None:
    request = request_of(tmp_path, *VARIED, sampler="tpe", trials=4)
    lost = Exploration(request)
    with lost.ledger.working():
        claim = lost.ledger.claim()
        assert claim is not None
    entries = explored(request).entries()
    assert len(entries) == 4
    assert claim.point in [entry.point for entry in entries]
