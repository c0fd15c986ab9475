"""The search for shorter schedules: what it finds, that it ends, and that its schedules hold."""

import random

import numpy as np
import pytest

from ffebm.graph.tensor import Floats
from ffebm.scheduling import list_schedule as list_schedule_module
from ffebm.scheduling.list_schedule import list_schedule
from ffebm.scheduling.order.local_search import Placing, searched
from ffebm.scheduling.order.serial_schedule import serial_starts
from tests.scheduling.checker import running_problems
from tests.scheduling.test_exact import layers_on_shared_tiles


def placing(seconds: list[float], after: list[tuple[int, ...]], units: list[tuple[int, ...]]) -> Placing:
    last = len(seconds) - 1
    behind: list[list[int]] = [[] for _ in seconds]
    for number, earlier in enumerate(after):
        for before in earlier:
            behind[last - before].append(last - number)
    return Placing(
        np.array(seconds),
        lambda keys: np.array(serial_starts(seconds, after, units, keys.tolist())),
        lambda keys: np.array(serial_starts(seconds[::-1], behind, units[::-1], keys.tolist())),
    )


def test_tasks_placed_from_the_end_by_hand() -> None:
    """Of two tasks on a unit the second one has 5 s behind it; from the end, the first one goes last."""
    tasks = placing([1.0, 2.0, 5.0], [(), (), (1,)], [(0,), (0,), (1,)])
    assert tasks.from_end(np.array([0.0, 1.0, 2.0])).tolist() == [6.0, 0.0, 2.0]
    assert tasks.length(np.array([6.0, 0.0, 2.0])) == 7.0


def test_a_wrong_order_is_mended() -> None:
    """The task with 5 s behind it goes first: 7 s, not 8; what may start early does."""
    tasks = placing([1.0, 2.0, 5.0], [(), (), (1,)], [(0,), (0,), (1,)])
    assert tasks.length(np.array([0.0, 1.0, 3.0])) == 8.0
    assert searched(tasks, np.array([0.0, 1.0, 3.0]), [[0], [1], [2]], 20, 7.0).tolist() == [2.0, 0.0, 2.0]


def test_the_search_ends_where_nothing_is_shorter() -> None:
    counted: list[int] = []
    tasks = placing([1.0, 2.0], [(), (0,)], [(0,), (0,)])

    def forwards(keys: Floats) -> Floats:
        counted.append(len(keys))
        return tasks.forwards(keys)

    counting = Placing(tasks.seconds, forwards, tasks.backwards)
    assert searched(counting, np.array([0.0, 1.0]), [[0], [1]], 20, 3.0).tolist() == [0.0, 1.0]
    assert counted == [2]
    searched(counting, np.array([0.0, 1.0]), [[0], [1]], 20, 2.0)
    assert counted == [2] * 12


def test_layers_on_shared_tiles_take_less(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten layers in four bands: shorter in 8 lists of 20, by up to a tenth, and longer in none."""
    rng = random.Random(4)
    lists = [layers_on_shared_tiles(rng) for _ in range(20)]
    ours = [list_schedule(tasks) for tasks in lists]
    assert [list(running_problems(schedule)) for schedule in ours] == [[]] * 20
    assert ours == [list_schedule(tasks) for tasks in lists]
    monkeypatch.setattr(list_schedule_module, "MOST_SEARCHED", 0)
    without = [list_schedule(tasks).makespan_s for tasks in lists]
    gains = [one.makespan_s / other for one, other in zip(ours, without, strict=True)]
    assert max(gains) <= 1 + 1e-9
    assert sum(gain < 1 - 1e-9 for gain in gains) >= 6
    assert min(gains) < 0.93
