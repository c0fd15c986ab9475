"""List scheduling as `list_schedule` has it, compiled."""

import numpy as np

from ffebm.graph.tensor import Floats
from ffebm.plan.memory.demand import Integers
from ffebm.scheduling.kernels.heap import merged, pop, push
from ffebm.scheduling.kernels.jit import compiled
from ffebm.scheduling.kernels.task_arrays import TaskArrays


def simulated(tasks: TaskArrays, order: Integers) -> Floats:
    """Start of every task, seconds, [n].

    Args:
        tasks: The tasks.
        order: Their numbers in the order in which they are served, [n].
    """
    ranks = np.empty(len(order))
    ranks[order] = np.arange(len(order))
    found: Floats = _run(
        tasks.seconds,
        (tasks.units.ends, tasks.units.items, tasks.n_units),
        (tasks.readers.ends, tasks.readers.items, tasks.waits),
        ranks,
        order,
    )
    return found


@compiled
def _run(
    seconds: Floats,
    work: tuple[Integers, Integers, int],
    net: tuple[Integers, Integers, Integers],
    ranks: Floats,
    order: Integers,
) -> Floats:
    """Runs time forward over ends of tasks.

    Args:
        seconds: How long each takes.
        work: Where the units of each end, the units of all, and their number.
        net: Where the readers of each end, the readers of all, and what each waits for as a number.
        ranks: When each is served.
        order: Numbers of tasks in that order.
    """
    unit_ends, units, n_units = work
    n, missing = len(seconds), net[2].copy()
    starts, ends, now = np.zeros(n), np.zeros(n), 0.0
    occupied = np.zeros(n_units, np.bool_)
    # what waits for a unit, by rank: a skew heap for each, and where each task waited last
    queues, left, right, queue_of = np.full(n_units, -1), np.full(n, -1), np.full(n, -1), np.full(n, -1)
    able, n_able = np.empty(n, np.int64), 0
    running, n_running = np.empty(n, np.int64), 0
    for task in np.flatnonzero(missing == 0):
        n_able = push(able, n_able, ranks, task)
    while True:
        while n_able:
            task = pop(able, n_able, ranks)
            n_able -= 1
            queue, own = queue_of[task], units[unit_ends[task] : unit_ends[task + 1]]
            busy = _first_busy(own, occupied)
            if busy >= 0:
                rank = int(ranks[task])
                left[rank] = right[rank] = -1
                queues[busy], queue_of[task] = merged(left, right, queues[busy], rank), busy
            else:
                starts[task] = now
                if seconds[task] != 0.0:
                    occupied[own] = True
                    ends[task] = now + seconds[task]
                    n_running = push(running, n_running, ends, task)
                else:
                    n_able = _woken(net, missing, task, (able, n_able, ranks))
            if queue >= 0 and not occupied[queue]:  # its next one may start
                n_able = _called(queues, left, right, queue, order, (able, n_able, ranks))
        if not n_running:
            return starts
        now = ends[running[0]]
        while n_running and ends[running[0]] == now:
            task = pop(running, n_running, ends)
            n_running -= 1
            for unit in units[unit_ends[task] : unit_ends[task + 1]]:
                occupied[unit] = False
                n_able = _called(queues, left, right, unit, order, (able, n_able, ranks))
            n_able = _woken(net, missing, task, (able, n_able, ranks))


@compiled
def _first_busy(units: Integers, occupied: Integers) -> int:
    """The first of some units that is busy; -1 if all are free."""
    for unit in units:
        if occupied[unit]:
            return int(unit)
    return -1


@compiled
def _woken(
    net: tuple[Integers, Integers, Integers],
    missing: Integers,
    task: int,
    able: tuple[Integers, int, Floats],
) -> int:
    """What waited for a task alone may start; returns how many may."""
    reader_ends, readers, _ = net
    heap, size, ranks = able
    for reader in readers[reader_ends[task] : reader_ends[task + 1]]:
        missing[reader] -= 1
        if missing[reader] == 0:
            size = push(heap, size, ranks, reader)
    return size


@compiled
def _called(
    queues: Integers,
    left: Integers,
    right: Integers,
    unit: int,
    order: Integers,
    able: tuple[Integers, int, Floats],
) -> int:
    """The first in the queue of a unit may start, if there is one; returns how many may."""
    heap, size, ranks = able
    rank = queues[unit]
    if rank < 0:
        return size
    queues[unit] = merged(left, right, left[rank], right[rank])
    return int(push(heap, size, ranks, order[rank]))
