"""The check of objectives against each other, on rows that are written down here."""

import importlib
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def mapping(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The benchmark of mappings, as a module."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    return importlib.import_module("mapping")


def row(mapping: Any, objective: str, seconds: float, joules: float, work: int = 9, gap: float = 0.0) -> Any:
    """One row of a network and a machine whose twin takes 2 s and 2 J."""
    return mapping.Row(
        network="net",
        machine="here",
        count=4,
        objective=objective,
        seconds=seconds,
        joules=joules,
        twin_seconds=2.0,
        twin_joules=2.0,
        tiles=4,
        on_tiles=1,
        blocks=2,
        gap=gap,
        cpu=0.0,
        interval=seconds / 2,
        work=work,
        revision="abcdef0",
    )


def test_each_objective_is_held_against_all_plans_in_its_own_figure(mapping: Any) -> None:
    rows = [
        row(mapping, "analog", 3.0, 1.0),
        row(mapping, "latency", 1.5, 1.6, work=1),  # less work on tiles: no rival of analog
        row(mapping, "throughput", 1.0, 2.0, work=1),
        row(mapping, "energy", 2.0, 0.5, work=1),
        row(mapping, "edp", 1.01, 1.0, work=1, gap=0.02),
    ]
    found = {one.row.objective: one for one in mapping.checked(rows)}
    assert {name: one.best.objective for name, one in found.items()} == {
        "analog": "analog",
        "latency": "throughput",
        "throughput": "throughput",
        "energy": "energy",
        "edp": "energy",
    }
    assert [name for name, one in found.items() if one.loses] == ["latency"]
    assert found["latency"].behind == pytest.approx(0.5)
    assert found["edp"].behind == pytest.approx(0.01)
    assert found["latency"].verdict == "behind"


def test_only_a_plan_for_latency_may_not_be_slower_than_the_twin(mapping: Any) -> None:
    rows = [row(mapping, "latency", 2.05, 1.0), row(mapping, "energy", 9.0, 0.9)]
    verdicts = [one.verdict for one in mapping.checked(rows)]
    assert verdicts == ["slower than the twin", "holds"]
    assert [one.verdict for one in mapping.checked([row(mapping, "latency", 2.03, 1.0)])] == ["holds"]


def test_the_table_says_how_many_hold(mapping: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert not mapping.print_check([row(mapping, "latency", 2.05, 1.0)])
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "0 of 1 hold"
    assert mapping.print_check([row(mapping, "latency", 1.0, 1.0)])
