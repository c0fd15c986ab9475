"""Rows whose windows replicas cannot share out evenly: each has its share of the work in any band."""

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from ffebm.hardware.description import load_hardware
from ffebm.plan.schema import Options, Settle
from ffebm.scheduling.bands import SINGLE_ROWS
from ffebm.scheduling.bounds.bounds import bounds_of
from ffebm.scheduling.list_schedule import Task, ordered
from ffebm.scheduling.schedules import inference_tasks, training_tasks
from tests.mapping.search.graphs import random_model
from tests.scheduling.graphs import placed, two_convolutions

SETTLE = Settle(free_sweeps=4, nudged_sweeps=2)


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
