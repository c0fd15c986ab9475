"""The table that `benchmarks/fashion.py` makes of its records."""

import importlib
from pathlib import Path
from typing import Any

import pytest

from ffebm.training.runs.record import Epoch
from ffebm.training.settings import Training

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("fashion_table")


def record(made: Any, name: str, accuracies: list[float], step: float, **probe: Any) -> Any:
    """A run of ten epochs that has got so far."""
    rows = []
    for number, accuracy in enumerate(accuracies, 1):
        figures = Epoch(
            epoch=number, loss=1.0, train_accuracy=0.5, test_accuracy=accuracy, unsettled=0.25, seconds=9.0
        )
        seen = made.Probe(**probe) if probe else None
        rows.append(made.Measured(figures=figures, step=step, probe=seen))
    return made.Record(run=name, stop=10, training=Training(data="fashion-mnist"), epochs=tuple(rows))


def test_runs_that_differ_by_their_seed_share_a_line_at_the_epoch_that_all_have_reached(
    made: Any, tmp_path: Path
) -> None:
    probe = {"norms": {"a": 0.8, "b": 0.7}, "cosines": {"a": 0.5, "b": 0.9, "c": 1.0}}
    for run in (
        record(made, "ep-2-seed0", [0.8, 0.85, 0.9], 0.3, **probe, at_zero=0.25, at_top=0.25),
        record(made, "ep-2-seed1", [0.8, 0.87], 0.3, **probe, at_zero=0.25, at_top=0.25),
        record(made, "ep-2-seed0-free", [0.7], 0.3, **probe, at_zero=0.5, at_top=0.25),
        record(made, "ep-3-seed0-mirrored-val", [0.7], 0.3),
        record(made, "bp-1-seed0-held2", [0.8], 0.2),
        record(made, "bp-1-seed0", [0.5] * 9 + [0.91], 0.1),
    ):
        made.write(run, tmp_path)
    lines = made.table(made.read(tmp_path))
    assert lines[2:8] == [
        "| 1 | backpropagation | 1 | 10 | 91.00 |  |  |  |  | 100 | 1.0 |",
        "| 1 | backpropagation, held as at 2 | 1 | 1 of 10 | 80.00 |  |  |  |  | 200 | 2.0 |",
        "| 2 | EP | 2 | 2 of 10 | 86.00 ± 1.41 | 75 % | 50% | 0.80 | 0.50, 0.900 | 300 | 3.0 |",
        "| 2 | EP | 1 | 3 of 10 | 90.00 | 75 % | 50% | 0.80 | 0.50, 0.900 | 300 | 3.0 |",
        "| 2 | EP, not held | 1 | 1 of 10 | 70.00 | 75 % | 75% | 0.80 | 0.50, 0.900 | 300 | 3.0 |",
        "| 3 | EP, mirrored images, a tenth held out | 1 | 1 of 10 | 70.00 | 75 % |  |  |  | 300 | 3.0 |",
    ]
    assert "| ep-2-seed1 | 80.00 | 87.00 |  |  |  |  |  |  |  |  |" in lines


def test_twelve_layers_are_held_beside_backpropagation_through_twelve(made: Any, tmp_path: Path) -> None:
    for run in (
        record(made, "bp-1-seed0", [0.9], 0.1),
        record(made, "bp-2-depth12-seed0", [0.8], 0.2),
        record(made, "ep-2-depth12-seed0-feedback0.05", [0.7], 0.8),
        record(made, "ep-2-depth12-seed1-feedback0.05", [0.7], 0.8),
        record(made, "ep-2-seed0", [0.9], 0.3),
    ):
        made.write(run, tmp_path)
    lines = made.table(made.read(tmp_path))
    assert lines[2:6] == [
        "| 1 | backpropagation | 1 | 1 of 10 | 90.00 |  |  |  |  | 100 | 1.0 |",
        "| 2 | EP | 1 | 1 of 10 | 90.00 | 75 % |  |  |  | 300 | 3.0 |",
        "| 2 | backpropagation, 12 layers | 1 | 1 of 10 | 80.00 |  |  |  |  | 200 | 1.0 |",
        "| 2 | EP, 12 layers, feedback 0.05 | 2 | 1 of 10 | 70.00 ± 0.00 | 75 % |  |  |  | 800 | 4.0 |",
    ]


def test_a_ratio_needs_the_step_that_it_is_held_beside(made: Any) -> None:
    (line,) = made.table([record(made, "ep-2-depth12-seed0", [0.7], 0.8)])[2:3]
    assert line.endswith("| 800 |  |")


def test_the_table_goes_between_its_markers(made: Any, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- begin fashion -->\nold\n<!-- end fashion -->\nb\n", encoding="utf-8")
    made.report(["new"], page)
    assert page.read_text(encoding="utf-8") == ("a\n<!-- begin fashion -->\nnew\n<!-- end fashion -->\nb\n")
    with pytest.raises(SystemExit):
        made.report(["new"], BENCHMARKS / "ties.py")


def test_each_run_has_its_recipe(made: Any) -> None:
    fashion = importlib.import_module("fashion")
    assert all(set(run.recipe.block_size) == {run.block_size} for run in fashion.RUNS)
    assert all(sum(run.recipe.block_size) == run.depth for run in fashion.RUNS)
    assert len({run.name for run in fashion.RUNS}) == len(fashion.RUNS)
    assert "ep-2-depth12-seed0-feedback0.05" in {run.name for run in fashion.RUNS}
