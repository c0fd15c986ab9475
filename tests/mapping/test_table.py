"""The table of `benchmarks/mapping.py`, of a network that compiles in no time."""

import runpy
from pathlib import Path
from typing import Any

import pytest

import ffebm
from ffebm.plan.mapping import Objective
from ffebm.plan.summary import engineering, times_twin
from tests.models import Builder

BENCHMARK = str(Path(__file__).parents[2] / "benchmarks" / "mapping.py")
OBJECTIVES: tuple[Objective, ...] = ("analog", "latency")


def tiny() -> tuple[Any, None]:
    b = Builder()
    x = b.input("x", 1, 8, 6, 6)
    return b.model(b.node("Relu", b.conv(b.node("Relu", b.conv(x, 8, 8)), 8, 8))), None


def test_rows_say_what_the_plans_bill(tmp_path: Path) -> None:
    made = runpy.run_path(BENCHMARK)
    record = made["Record"](tmp_path / "rows.json")
    machines = [made["machine"]("reference", enough=enough) for enough in (False, True)]
    assert [machine.tile_count for machine in machines] == [64, 2000]

    head, line, analog, latency = made["table_lines"](
        made["rows_of"](record, {"tiny": tiny}, machines[:1], OBJECTIVES)
    )
    assert head.count("|") == line.count("|") == analog.count("|") == latency.count("|")

    for row, objective in zip((analog, latency), OBJECTIVES, strict=True):
        plan = ffebm.compile(tiny()[0], objective=objective)
        twin, inference = plan.twin["fp32"], plan.inference
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert cells[:5] == [
            "tiny",
            "reference, 64",
            objective,
            f"{engineering(inference.makespan_s, 's')} ({engineering(twin.inference_s, 's')})",
            times_twin(inference.makespan_s, twin.inference_s),
        ]
        assert cells[6] == times_twin(inference.cost.energy, twin.inference_j)
        assert cells[8] == str(len(plan.tiles))
        assert cells[9] == f"{len(plan.blocks)} of 2"  # at block size 1


def test_rows_that_are_kept_are_not_measured_anew(tmp_path: Path) -> None:
    made = runpy.run_path(BENCHMARK)
    machines, path = [made["machine"]("reference", enough=False)], tmp_path / "rows.json"
    first = list(made["rows_of"](made["Record"](path), {"tiny": tiny}, machines, ["analog"]))

    def never() -> None:
        pytest.fail("built although its rows are kept")

    again = made["rows_of"](made["Record"](path), {"tiny": never}, machines, ["analog"])
    assert [vars(row) for row in again] == [vars(row) for row in first]
