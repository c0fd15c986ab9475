"""The tables that `benchmarks/beyond.py` makes of its records."""

import importlib
import math
from pathlib import Path
from typing import Any

import pytest

from ffebm.training.runs.record import Epoch
from ffebm.training.settings import Training

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("beyond_table")


def record(made: Any, name: str, bits: list[float], probe: Any = None) -> Any:
    """A run of three epochs over a text that has got so far."""
    rows = []
    for number, found in enumerate(bits, 1):
        figures = Epoch(
            epoch=number,
            loss=1.0,
            train_accuracy=0.5,
            test_accuracy=0.5,
            test_loss=found * math.log(2),
            unsettled=0.25,
            seconds=9.0,
        )
        rows.append(made.Measured(figures=figures, step=0.1, probe=probe))
    training = Training(data="python-manual", epochs=3)
    return made.Record(run=name, text="0123", training=training, epochs=tuple(rows))


def test_methods_are_compared_seed_by_seed_at_the_epoch_that_all_have_reached(
    made: Any, tmp_path: Path
) -> None:
    probe = importlib.import_module("fashion_probe").Probe(
        norms={"a": 0.8, "b": 0.7}, cosines={"a": 0.5, "b": 0.9, "c": 1.0}, at_zero=0.25, at_top=0.25
    )
    for run in (
        record(made, "transformer-ep-seed0", [4.0, 2.1, 2.0], probe),
        record(made, "transformer-ep-seed1", [4.0, 2.3], probe),
        record(made, "transformer-bp-seed0", [4.0, 2.0, 1.9]),
        record(made, "transformer-bp-seed1", [4.0, 2.0, 1.9]),
    ):
        made.write(run, tmp_path)
    lines = made.table(list(made.by_name(tmp_path).values()))
    assert lines[2:4] == [
        "| backpropagation | 2 | 3 | 1.900 ± 0.000 |  |  |  |  | 100 |",
        "| EP | 2 | 2 of 3 | 2.200 ± 0.141 | 75 % | 50% | 0.80 | 0.500, 0.9000 | 100 |",
    ]
    assert lines[5] == (
        "- EP - backpropagation: +0.200 ± 0.100 bits a character, +10.00%, over 2 seeds, after epoch 2"
    )
    assert lines[-1] == "| transformer-ep-seed1 | 4.000 | 2.300 |  |"


def test_the_tables_go_between_their_markers(made: Any, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- begin beyond -->\nold\n<!-- end beyond -->\nb\n", encoding="utf-8")
    made.report(["new"], page)
    assert page.read_text(encoding="utf-8") == "a\n<!-- begin beyond -->\nnew\n<!-- end beyond -->\nb\n"
    with pytest.raises(SystemExit):
        made.report(["new"], BENCHMARKS / "ties.py")
