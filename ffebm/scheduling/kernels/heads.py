"""Heads raised at barriers and by busy units as `bounds.bounds` has them, compiled."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ffebm.graph.tensor import Floats
from ffebm.plan.memory.demand import Integers
from ffebm.scheduling.kernels.jit import compiled
from ffebm.scheduling.kernels.leading import Groups, Links, UnitWork, most_of_a_unit, reached_from
from ffebm.scheduling.kernels.task_arrays import Lists

WORD = 62
"""Tasks of a busy unit in one number, whose sign is left alone."""
Queues = tuple[Floats, Integers, Integers, Integers, Integers]
"""Of busy units what each has to do for each task, [units, n], where a task stands among its own or -1,
[units, n], its own tasks, [units, n], where its words begin, [units + 1], and of each task the words of all,
[n, words]."""


@dataclass(frozen=True)
class Raising:
    """What raises heads.

    Attributes:
        barriers: Tasks whose heads are raised by what all units do.
        dominators: Of each task the last one on all paths to it, or -1, [n].
        shares: What each busy unit has to do for each task at least, seconds, [busy units, n].
        visits: Tasks that raising at barriers may visit.
        rounding: Times a bound that is no difference.
    """

    barriers: Sequence[int]
    dominators: Sequence[int]
    shares: Sequence[Sequence[float]]
    visits: int
    rounding: float


def raised_heads(
    tasks: tuple[Sequence[float], Sequence[Sequence[int]], Sequence[Sequence[int]]],
    share: Sequence[float],
    parts: tuple[Sequence[int], Sequence[float], Sequence[float]],
    raising: Raising,
) -> list[float]:
    """The earliest start of each task, seconds.

    Args:
        tasks: How long each takes, what it waits for, and its units.
        share: What each takes at least in any cut, or 0.
        parts: The uncut task of each, what each of these takes, and what its parts do.
        raising: What raises them.
    """
    seconds, before, units = tasks
    part_of, uncut_s, cut_s = parts
    ends, on = Lists.of(before), Lists.of(units)
    groups: dict[tuple[int, int], int] = {}
    group_of = [
        -1 if known else groups.setdefault((unit, part), len(groups))
        for own, known, part in zip(units, share, part_of, strict=True)
        for unit in own
    ]
    of_group = np.array([part for _, part in groups], np.int64)
    at = np.zeros(len(seconds), np.bool_)
    at[np.array(raising.barriers, np.int64)] = True
    found: list[float] = _run(
        (_floats(seconds), ends.ends, ends.items, np.array(raising.dominators, np.int64)),
        (_floats(share), on.ends, on.items, np.array(group_of, np.int64)),
        (
            np.array([unit for unit, _ in groups], np.int64),
            _floats(uncut_s)[of_group],
            _floats(cut_s)[of_group],
        ),
        at,
        _queues(_floats(raising.shares).reshape(len(raising.shares), len(seconds))),
        (1 + int(on.items.max(initial=-1)), raising.visits, raising.rounding),
    ).tolist()
    return found


def _floats(values: Sequence[float] | Sequence[Sequence[float]]) -> Floats:
    return np.array(values, np.float64)


def _queues(shares: Floats) -> Queues:
    """Of what busy units have to do."""
    place, own = np.full(shares.shape, -1), np.full(shares.shape, -1)
    words = np.zeros(len(shares) + 1, np.int64)
    for unit, share in enumerate(shares):
        tasks = np.flatnonzero(share > 0)
        place[unit, tasks] = np.arange(len(tasks))
        own[unit, : len(tasks)] = tasks
        words[unit + 1] = words[unit] - (-len(tasks) // WORD)
    return shares, place, own, words, np.zeros((shares.shape[1], int(words[-1])), np.int64)


@compiled
def _run(
    links: Links,
    work: UnitWork,
    groups: Groups,
    at: NDArray[np.bool_],
    queues: Queues,
    limits: tuple[int, int, float],
) -> Floats:
    """Heads, task by task.

    Args:
        links: What leads to each task.
        work: What units have to do for it.
        groups: What is put together.
        at: Whether it is a barrier, [n].
        queues: What busy units have to do.
        limits: How many units there are, tasks that may be visited, and the factor of rounding.
    """
    seconds, ends, items, _ = links
    n_units, visits, rounding = limits
    n, n_queues = len(seconds), len(queues[0])
    heads, between, seen = np.empty(n), np.zeros(n), np.full(n, -1)
    states = np.zeros((n_queues, n, 4))  # until, since, between, and 1 if the unit has anything to do before
    for index in range(n):
        earlier = items[ends[index] : ends[index + 1]]
        head = -np.inf if len(earlier) else 0.0
        for other in earlier:
            head = max(head, heads[other] + seconds[other])
        for queue in range(n_queues):
            state = states[queue]
            _before(index, earlier, queue, queues, state, heads)
            if state[index, 3]:
                head = max(head, state[index, 0] + state[index, 2])
        if at[index] and visits > 0:
            reached = reached_from(links, index, seen, between)
            visits -= len(reached)
            times = heads, between, seconds
            head = most_of_a_unit(times, reached, work, groups, (n_units, rounding), head)
        heads[index] = head
        for queue in range(n_queues):
            _add(index, queue, queues, states[queue], head, seconds[index])
    return heads


@compiled
def _before(index: int, earlier: Integers, queue: int, queues: Queues, state: Floats, heads: Floats) -> None:
    """What a unit must have done before a task that waits for earlier ones: `UnitQueue.before`."""
    share, _, own, words, bits = queues
    begin, end = words[queue], words[queue + 1]
    base = -1
    for other in earlier:
        if state[other, 3] and (base < 0 or state[other, 0] > state[base, 0]):
            base = other
    if base < 0:
        return
    state[index] = state[base]
    bits[index, begin:end] = bits[base, begin:end]
    for other in earlier:
        if other != base and state[other, 3]:
            bits[index, begin:end] |= bits[other, begin:end]
            state[index, 2] = min(state[index, 2], state[other, 2])
    since = state[base, 1]
    for word in range(end - 1, begin - 1, -1):
        new = bits[index, word] & ~bits[base, word]
        bit = WORD - 1
        while new:
            if (new >> bit) & 1:
                new ^= 1 << bit
                task = own[queue, (word - begin) * WORD + bit]
                state[index, 0] += share[queue, task] if heads[task] >= since else 0.0
            bit -= 1


@compiled
def _add(index: int, queue: int, queues: Queues, state: Floats, head: float, seconds: float) -> None:
    """The next task: `UnitQueue.add`."""
    share, places, _, words, bits = queues
    place = places[queue, index]
    if place < 0:
        if state[index, 3]:
            state[index, 2] += seconds
        return
    if not (state[index, 3] and head <= state[index, 0]):
        state[index, 1] = head
    state[index, 0], state[index, 2], state[index, 3] = head + share[queue, index], 0.0, 1.0
    bits[index, words[queue] + place // WORD] |= 1 << (place % WORD)
