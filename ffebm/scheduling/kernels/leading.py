"""What leads to a task, and how long units are busy with it, as `bounds.bounds` has them, compiled."""

import numpy as np

from ffebm.graph.tensor import Floats
from ffebm.plan.memory.demand import Integers
from ffebm.scheduling.kernels.heap import pop, push
from ffebm.scheduling.kernels.jit import compiled

Links = tuple[Floats, Integers, Integers, Integers]
"""How long each task takes, where what it waits for ends, what all wait for, and the last task that is on all
paths to it, or -1."""
UnitWork = tuple[Floats, Integers, Integers, Integers]
"""What each task takes in any cut or 0, where its units end, the units of all, and for each of these the
group of tasks that are put together there, or -1."""
Groups = tuple[Integers, Floats, Floats]
"""Of each group of tasks its unit, what they take uncut, and what all of their layer take; seconds."""


@compiled
def reached_from(links: Links, index: int, seen: Integers, between: Floats) -> Integers:
    """Tasks that lead to one, the last first; not what leads to the last one that is on all paths to it.

    Args:
        links: What leads to each task.
        index: The task.
        seen: For which task each was reached at last, changed here, [n].
        between: The least time between each that is reached and the task, written here, [n].
    """
    seconds, ends, items, dominators = links
    found, count = np.empty(index, np.int64), 0
    waiting, size = np.empty(index, np.int64), 0
    keys = -np.arange(index).astype(np.float64)
    for number in items[ends[index] : ends[index + 1]]:
        if seen[number] != index:
            seen[number], between[number] = index, 0.0
            size = push(waiting, size, keys, number)
    while size:
        number = pop(waiting, size, keys)
        size -= 1
        found[count] = number
        count += 1
        if number == dominators[index]:
            continue
        behind = between[number] + seconds[number]
        for earlier in items[ends[number] : ends[number + 1]]:
            if seen[earlier] != index:
                seen[earlier], between[earlier] = index, behind
                size = push(waiting, size, keys, earlier)
            elif between[earlier] < behind:
                between[earlier] = behind
    return found[:count]


@compiled
def most_of_a_unit(
    times: tuple[Floats, Floats, Floats],
    reached: Integers,
    work: UnitWork,
    groups: Groups,
    limits: tuple[int, float],
    best: float,
) -> float:
    """The largest bound that a unit alone gives for some tasks; one is known already.

    Args:
        times: The head, the tail and the seconds of each task.
        reached: The tasks.
        work: What units have to do for each.
        groups: What is put together.
        limits: How many units there are, and the factor above which a bound counts as larger.
        best: The bound that is known, seconds.
    """
    n_units, rounding = limits
    units, jobs = _jobs(times, reached, work, groups)
    ends = np.zeros(n_units + 1, np.int64)
    for unit in units:
        ends[unit + 1] += 1
    ends = np.cumsum(ends)
    place, order = ends.copy(), np.empty(len(units), np.int64)
    for number, unit in enumerate(units):
        order[place[unit]] = number
        place[unit] += 1
    for unit in range(n_units):
        own = jobs[order[ends[unit] : ends[unit + 1]]]
        if len(own) and (own[:, 1].sum() + (own[:, 0] + own[:, 2]).max()) * rounding > best:
            best = max(best, one_machine(own))
    return best


@compiled
def _jobs(
    times: tuple[Floats, Floats, Floats], reached: Integers, work: UnitWork, groups: Groups
) -> tuple[Integers, Floats]:
    """The unit of each job, and its head, work and tail, [jobs, 3]."""
    heads, tails, seconds = times
    share, ends, items, group_of = work
    owners, uncut, cut = groups
    most = 0
    for task in reached:
        most += ends[task + 1] - ends[task]
    units, jobs, count = np.empty(most, np.int64), np.empty((most, 3)), 0
    job_of = np.full(len(owners), -1)  # of each group
    sums, longest = np.zeros(len(owners)), np.zeros(len(owners))
    for task in reached:
        for place in range(ends[task], ends[task + 1]):
            group = group_of[place]
            job = count if group < 0 else job_of[group]
            if job < 0:
                job = job_of[group] = count
            if job == count:
                units[job], count = items[place], count + 1
                jobs[job] = heads[task], share[task], tails[task]
            if group >= 0:
                jobs[job, 0], jobs[job, 2] = min(jobs[job, 0], heads[task]), min(jobs[job, 2], tails[task])
                sums[group] += seconds[task]
                longest[group] = max(longest[group], seconds[task])
                jobs[job, 1] = max(longest[group], uncut[group] - (cut[group] - sums[group]), 0.0)
    return units[:count], jobs[:count]


@compiled
def one_machine(jobs: Floats) -> float:
    """The least makespan of one unit that may break off jobs: `bounds.one_machine`, of one job at least.

    Args:
        jobs: Head, work and tail of each, seconds, [jobs, 3].
    """
    n = len(jobs)
    heads = jobs[:, 0].copy()
    waiting, size = np.empty(n, np.int64), 0
    for job in range(n):
        size = push(waiting, size, heads, job)
    able, count = np.empty((n, 2)), 0  # what may run: less its tail, and what is left of it
    now, least = 0.0, -np.inf
    while size or count:
        if not count:
            now = max(now, heads[waiting[0]])
        while size and heads[waiting[0]] <= now:
            job = pop(waiting, size, heads)
            size -= 1
            count = _push(able, count, -jobs[job, 2], jobs[job, 1])
        tail, left = able[0]
        count = _pop(able, count)
        if size and heads[waiting[0]] < now + left:
            count = _push(able, count, tail, left - (heads[waiting[0]] - now))
            now = heads[waiting[0]]
        else:
            now += left
            least = max(least, now - tail)
    return least


@compiled
def _push(heap: Floats, size: int, first: float, second: float) -> int:
    """Add a pair to a heap of a size; returns the new size."""
    place = size
    while place > 0:
        above = (place - 1) >> 1
        one, other = heap[above]
        if one < first or (one == first and other <= second):
            break
        heap[place] = one, other
        place = above
    heap[place] = first, second
    return size + 1


@compiled
def _pop(heap: Floats, size: int) -> int:
    """Take the first pair off a heap of a size; returns the new size."""
    last = size - 1
    first, second = heap[last]
    place = 0
    while 2 * place + 1 < last:
        below = 2 * place + 1
        if below + 1 < last and (
            heap[below + 1, 0] < heap[below, 0]
            or (heap[below + 1, 0] == heap[below, 0] and heap[below + 1, 1] < heap[below, 1])
        ):
            below += 1
        one, other = heap[below]
        if first < one or (first == one and second <= other):
            break
        heap[place] = one, other
        place = below
    heap[place] = first, second
    return last
