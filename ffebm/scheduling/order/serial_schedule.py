"""Serial scheduling: each task in turn goes where its units are free for as long as it takes.

A schedule that runs time forwards starts whatever may start on a unit that is free; then something long that
has time holds up what is urgent and comes a moment later. Here urgent tasks are placed first, and others fill
the gaps that these leave (serial schedule generation scheme: R. Kolisch, "Serial and parallel
resource-constrained project scheduling methods revisited", EJOR 90, 1996).
"""

import heapq
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

_Busy = tuple[list[float], list[float]]
"""When a unit is busy: begins and ends of its tasks, ascending."""


def serial_starts(
    seconds: Sequence[float],
    after: Sequence[Sequence[int]],
    units: Sequence[Sequence[int]],
    keys: Sequence[float],
) -> list[float]:
    """Start of every task, seconds.

    Args:
        seconds: How long each takes.
        after: What each waits for.
        units: Numbers of the units of each, all of which it occupies at once.
        keys: Of what may be placed next, the least is.
    """
    missing = [len(earlier) for earlier in after]
    readers: list[list[int]] = [[] for _ in after]
    for number, earlier in enumerate(after):
        for before in earlier:
            readers[before].append(number)
    count = 1 + max((max(some, default=-1) for some in units), default=-1)
    busy: list[_Busy] = [([], []) for _ in range(count)]
    starts = [0.0] * len(after)
    waiting = [(keys[number], number) for number, count in enumerate(missing) if not count]
    heapq.heapify(waiting)
    while waiting:
        _, number = heapq.heappop(waiting)
        lasting, own = seconds[number], [busy[unit] for unit in units[number]]
        start = starts[number] = _all_free(own, starts[number], lasting)
        end = start + lasting
        for begins, ends in own:
            place = bisect_left(ends, end) if lasting else bisect_right(ends, end)
            begins.insert(place, start)
            ends.insert(place, end)
        for reader in readers[number]:
            if end > starts[reader]:
                starts[reader] = end
            missing[reader] -= 1
            if not missing[reader]:
                heapq.heappush(waiting, (keys[reader], reader))
    return starts


def _all_free(units: Sequence[_Busy], start: float, seconds: float) -> float:
    """The earliest time from `start` on at which all units are free for so long."""
    moved = True
    while moved:
        moved = False
        for begins, ends in units:
            place = bisect_right(ends, start)
            while place < len(begins) and begins[place] < start + seconds:
                start = ends[place]
                place += 1
                moved = len(units) > 1
    return start
