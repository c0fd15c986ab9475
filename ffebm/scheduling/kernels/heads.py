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
MOST_WORDS = 1 << 24
"""Such numbers that are kept at most: 128 MiB. Heads of what comes then are raised by chains and barriers."""
Queues = tuple[Floats, Integers, Integers, Integers]
"""Of busy units what each has to do for each task, [units, n], where a task stands among its own or -1,
[units, n], its own tasks, [units, n], and how many words these take, [units]."""
UnitDone = tuple[Floats, Integers, Integers, int]
"""Of one unit what it must have done before each task: no earlier than when, and the least time between its
end and the task, seconds, [n, 2]; where the words begin in which these tasks are bits, or 0, [n]; the words
of all units, and how many of them are in use."""
UnitTasks = tuple[Integers, Floats, Floats]
"""Tasks of one busy unit in the order of their bits, what it has to do for each task, and heads."""


@dataclass(frozen=True)
class Raising:
    """What raises heads.

    Attributes:
        barriers: Tasks whose heads are raised by what all units do.
        dominators: Of each task the last one on all paths to it, or -1, [n].
        shares: What each busy unit has to do for each task at least, seconds, [busy units, n].
        chains: How long the longest chain is that leads to each task, seconds, [n].
        visits: Tasks that raising at barriers may visit.
        rounding: Times a bound that is no difference.
    """

    barriers: Sequence[int]
    dominators: Sequence[int]
    shares: Sequence[Sequence[float]]
    chains: Sequence[float]
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
        _queues(_floats(raising.shares).reshape(len(raising.shares), len(seconds)), _floats(raising.chains)),
        (1 + int(on.items.max(initial=-1)), raising.visits, raising.rounding),
    ).tolist()
    return found


def _floats(values: Sequence[float] | Sequence[Sequence[float]]) -> Floats:
    return np.array(values, np.float64)


def _queues(shares: Floats, chains: Floats) -> Queues:
    """Of what busy units have to do, and the longest chains to it."""
    place, own = np.full(shares.shape, -1), np.full(shares.shape, -1)
    words = np.zeros(len(shares), np.int64)
    for unit, share in enumerate(shares):
        tasks = np.flatnonzero(share > 0)
        tasks = tasks[np.argsort(chains[tasks], kind="stable")]
        place[unit, tasks] = np.arange(len(tasks))
        own[unit, : len(tasks)] = tasks
        words[unit] = -(-len(tasks) // WORD)
    return shares, place, own, words


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
    n, n_queues, words = len(seconds), len(queues[0]), queues[3]
    heads, between, seen = np.empty(n), np.zeros(n), np.full(n, -1)
    states = np.zeros((n_queues, n, 2))  # until, between
    # where the words of each task begin: the same for those before which the same is done; 0: nothing
    at_words, bits, used = np.zeros((n_queues, n), np.int64), np.zeros(1 << 10, np.int64), 1
    for index in range(n):
        earlier = items[ends[index] : ends[index + 1]]
        head = -np.inf if len(earlier) else 0.0
        for other in earlier:
            head = max(head, heads[other] + seconds[other])
        for queue in range(n_queues):
            bits = _with_room(bits, used + 2 * words[queue])
            known = heads, head
            used = _before(index, earlier, queue, queues, (states[queue], at_words[queue], bits, used), known)
            if at_words[queue, index]:
                head = max(head, states[queue, index, 0] + states[queue, index, 1])
        if at[index] and visits > 0:
            reached = reached_from(links, index, seen, between)
            visits -= len(reached)
            times = heads, between, seconds
            head = most_of_a_unit(times, reached, work, groups, (n_units, rounding), head)
        heads[index] = head
        for queue in range(n_queues):
            bits = _with_room(bits, used + 2 * words[queue])
            done = states[queue], at_words[queue], bits, used
            used = _add(index, queue, queues, done, head, seconds[index])
    return heads


@compiled
def _with_room(bits: Integers, wanted: int) -> Integers:
    """Words, more of them if so many are wanted and may be kept."""
    if wanted <= len(bits) or len(bits) >= MOST_WORDS:
        return bits
    more = np.zeros(2 * max(len(bits), wanted), np.int64)
    more[: len(bits)] = bits
    return more


@compiled
def _before(
    index: int, earlier: Integers, queue: int, queues: Queues, done: UnitDone, known: tuple[Floats, float]
) -> int:
    """What a unit must have done before a task that waits for earlier ones: `UnitQueue.before`.

    Args:
        index: The task.
        earlier: The tasks it waits for.
        queue: The unit.
        queues: What busy units have to do.
        done: What it must have done before each task so far; that of the task is written here.
        known: Heads of earlier tasks, and what is known of its own.

    Returns:
        How many words are in use.
    """
    share, _, own, words = queues
    state, at_words, bits, used = done
    heads, head = known
    base = -1
    for other in earlier:
        if at_words[other] and (base < 0 or state[other, 0] > state[base, 0]):
            base = other
    if base < 0:
        return used
    state[index], at_words[index] = state[base], at_words[base]
    first, count = at_words[base], words[queue]
    if used + count > len(bits):
        at_words[index] = 0
        return used
    together = bits[used : used + count]
    together[:] = bits[first : first + count]
    for other in earlier:
        place = at_words[other]
        if place:
            state[index, 1] = min(state[index, 1], state[other, 1])
            together |= bits[place : place + count]
    more = _summed(together, bits[first : first + count], state[base, 0], (own[queue], share[queue], heads))
    if more > state[base, 0]:
        at_words[index], used = used, used + count
    if more + state[index, 1] > head:
        more = _until(together, (own[queue], share[queue], heads))
    state[index, 0] = more
    return used


@compiled
def _summed(bits: Integers, others: Integers, until: float, tasks: UnitTasks) -> float:
    """When a unit has done some of its tasks at the latest that `_until` may find: others, then the rest.

    Args:
        bits: Its tasks.
        others: Some of them.
        until: The same of these, seconds.
        tasks: Of the unit.
    """
    own, share, heads = tasks
    latest, work = until, 0.0
    for word in range(len(bits) - 1, -1, -1):
        new = bits[word] & ~others[word]
        bit = WORD - 1
        while new:
            if (new >> bit) & 1:
                new ^= 1 << bit
                task = own[word * WORD + bit]
                latest, work = max(latest, heads[task]), work + share[task]
            bit -= 1
    return latest + work


@compiled
def _until(bits: Integers, tasks: UnitTasks) -> float:
    """When a unit has done some of its tasks at the earliest: `UnitQueue._until`."""
    own, share, heads = tasks
    until, work, since = 0.0, 0.0, np.inf
    for word in range(len(bits) - 1, -1, -1):
        left = bits[word]
        bit = WORD - 1
        while left:
            if (left >> bit) & 1:
                left ^= 1 << bit
                task = own[word * WORD + bit]
                work, since = work + share[task], min(since, heads[task])
                until = max(until, since + work)
            bit -= 1
    return until


@compiled
def _add(index: int, queue: int, queues: Queues, done: UnitDone, head: float, seconds: float) -> int:
    """The next task: `UnitQueue.add`. Returns how many words are in use."""
    share, places, _, words = queues
    state, at_words, bits, used = done
    place, count = places[queue, index], words[queue]
    if place < 0:
        if at_words[index]:
            state[index, 1] += seconds
        return used
    first = at_words[index]
    state[index, 0], state[index, 1], at_words[index] = head + share[queue, index], 0.0, 0
    if used + count > len(bits):
        return used
    if first:
        bits[used : used + count] = bits[first : first + count]
    else:
        bits[used : used + count] = 0
    bits[used + place // WORD] |= 1 << (place % WORD)
    at_words[index] = used
    return used + int(count)
