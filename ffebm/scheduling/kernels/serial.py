"""Serial scheduling as `serial_schedule` has it, compiled."""

import numpy as np

from ffebm.graph.tensor import Floats
from ffebm.plan.memory.demand import Integers
from ffebm.scheduling.kernels.heap import pop, push
from ffebm.scheduling.kernels.jit import compiled
from ffebm.scheduling.kernels.task_arrays import TaskArrays


def placed_in_turn(tasks: TaskArrays, keys: Floats) -> Floats:
    """Start of every task, seconds, [n].

    Args:
        tasks: The tasks.
        keys: Of what may be placed next, the least is, [n].
    """
    found: Floats = _run(
        tasks.seconds,
        (tasks.units.ends, tasks.units.items, tasks.room),
        (tasks.readers.ends, tasks.readers.items, tasks.waits),
        np.ascontiguousarray(keys),
    )
    return found


@compiled
def _run(
    seconds: Floats,
    work: tuple[Integers, Integers, Integers],
    net: tuple[Integers, Integers, Integers],
    keys: Floats,
) -> Floats:
    """Places one task after the other.

    Args:
        seconds: How long each takes.
        work: Where the units of each end, the units of all, and where the busy times of each unit end.
        net: Where the readers of each end, the readers of all, and what each waits for as a number.
        keys: Of what may be placed next, the least is.
    """
    unit_ends, units, room = work
    reader_ends, readers, waits = net
    n = len(seconds)
    starts, missing = np.zeros(n), waits.copy()
    begins, ends = np.empty(room[-1]), np.empty(room[-1])  # when each unit is busy, ascending
    count = np.zeros(len(room), np.int64)
    waiting, size = np.empty(n, np.int64), 0
    for task in np.flatnonzero(missing == 0):
        size = push(waiting, size, keys, task)
    while size:
        task = pop(waiting, size, keys)
        size -= 1
        own = units[unit_ends[task] : unit_ends[task + 1]]
        start = starts[task] = _all_free(own, (room, count, begins, ends), starts[task], seconds[task])
        end = start + seconds[task]
        for unit in own:
            first, behind = room[unit], room[unit] + count[unit]
            place = _place(ends, first, behind, end, seconds[task] > 0.0)
            for later in range(behind, place, -1):
                begins[later], ends[later] = begins[later - 1], ends[later - 1]
            begins[place], ends[place] = start, end
            count[unit] += 1
        for place in range(reader_ends[task], reader_ends[task + 1]):
            reader = readers[place]
            starts[reader] = max(starts[reader], end)
            missing[reader] -= 1
            if missing[reader] == 0:
                size = push(waiting, size, keys, reader)
    return starts


@compiled
def _all_free(
    own: Integers, busy: tuple[Integers, Integers, Floats, Floats], start: float, seconds: float
) -> float:
    """The earliest time from `start` on at which all units are free for so long.

    Args:
        own: Numbers of the units.
        busy: Where the busy times of each unit begin, how many it has, and when they begin and end.
        start: When the task may start.
        seconds: How long it takes.
    """
    room, count, begins, ends = busy
    moved = True
    while moved:
        moved = False
        for unit in own:
            behind = room[unit] + count[unit]
            place = _place(ends, room[unit], behind, start, False)
            while place < behind and begins[place] < start + seconds:
                start = ends[place]
                place += 1
                moved = len(own) > 1
    return start


@compiled
def _place(ends: Floats, first: int, behind: int, time: float, before: bool) -> int:
    """Where a time stands among ascending ones, before or behind equal ones."""
    while first < behind:
        middle = (first + behind) >> 1
        if ends[middle] < time or (ends[middle] == time and not before):
            first = middle + 1
        else:
            behind = middle
    return first
