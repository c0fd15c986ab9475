"""Rows whose windows replicas cannot share out evenly: each has its share of the work in any band."""

from collections.abc import Callable

import pytest
from msgspec.structs import replace
from onnx import ModelProto

from ffebm.hardware.description import load_hardware
from ffebm.plan.schema import Options, Settle
from ffebm.scheduling.bands import SINGLE_ROWS
from ffebm.scheduling.bounds.bounds import bounds_of
from ffebm.scheduling.list_schedule import Task, ordered
from ffebm.scheduling.schedules import inference_tasks, training_tasks
from tests.mapping.search.graphs import random_model
from tests.models import Builder
from tests.scheduling.graphs import placed, two_convolutions

SETTLE = Settle(free_sweeps=4, nudged_sweeps=2)


def pooled() -> ModelProto:
    """Windows of 3 rows, 2 apart: rows of the pooling share rows of the convolution."""
    b = Builder()
    y = b.node("Relu", b.conv(b.input("x", 1, 2, 15, 15), 2, 4))
    y = b.node("MaxPool", y, kernel_shape=[3, 3], strides=[2, 2])
    return b.model(b.node("Relu", b.conv(y, 4, 6)))


@pytest.mark.parametrize("tasks", [inference_tasks, training_tasks])
@pytest.mark.parametrize("copies", [1, 3, 5])
def test_a_band_takes_no_less_than_the_shares_of_its_rows(
    tasks: Callable[..., list[Task]], copies: int
) -> None:
    """Whatever bands there are; where copies come out even they are all that it takes."""
    machine, held = load_hardware("reference"), 0.0
    for model in (pooled(), two_convolutions(), *map(random_model, range(3))):
        graph = placed(model, machine, Options(replicas=copies))
        rows: dict[tuple[object, ...], list[Task]] = {}
        for task in tasks(graph, machine, SETTLE, most_bands=SINGLE_ROWS, most_steps=SINGLE_ROWS):
            rows.setdefault((task.kind, task.name, task.units), []).append(task)
        for most in (1, 2, 3, 5, 8):
            for task in tasks(graph, machine, SETTLE, most_bands=most, most_steps=SINGLE_ROWS):
                first, behind = task.rows or (0, SINGLE_ROWS)
                shares = sum(
                    row.share_s
                    for row in rows.get((task.kind, task.name, task.units), [])
                    if row.rows and first <= row.rows[0] and row.rows[1] <= behind
                )
                assert shares <= task.busy_s * (1 + 1e-9)
                held = max(held, shares / task.busy_s if task.busy_s else 0.0)
    assert held > 0.99


@pytest.mark.parametrize("tasks", [inference_tasks, training_tasks])
def test_shares_of_rows_raise_the_bound_of_every_cut_and_no_cut_beats_it(
    tasks: Callable[..., list[Task]],
) -> None:
    machine, higher = load_hardware("reference"), 0
    for model in (two_convolutions(), *map(random_model, range(4))):
        graph = placed(model, machine, Options(replicas=3))
        rows = tasks(graph, machine, SETTLE, most_bands=SINGLE_ROWS, most_steps=SINGLE_ROWS)
        uncut = tasks(graph, machine, SETTLE, most_bands=1)
        bound = bounds_of(rows, uncut)[0].seconds
        cuts = [tasks(graph, machine, SETTLE, most_bands=n, most_steps=SINGLE_ROWS) for n in range(1, 9)]
        assert bound <= min(ordered(cut)[0].makespan_s for cut in cuts) * (1 + 1e-9)
        higher += bound > 1.005 * bounds_of([replace(task, share_s=0.0) for task in rows], uncut)[0].seconds
    assert higher > 0
