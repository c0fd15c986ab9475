"""Offsets by the smallest or the lowest gap as `memory.offsets` finds them, compiled."""

import numpy as np
from numpy.typing import NDArray

from ffebm.plan.memory.demand import Demand, Integers
from ffebm.scheduling.kernels.jit import compiled


def placed_by_gap(
    wanted: Demand, order: Integers, capacity: int, *, lowest: bool = False
) -> tuple[Integers, int]:
    """First byte of each buffer, -1 for what does not fit, and the end of the highest one.

    Args:
        wanted: The buffers.
        order: Their numbers in the order in which they are placed, [n].
        capacity: Bytes of each memory.
        lowest: Whether each goes into the lowest gap that holds it, not the smallest one.
    """
    lives = wanted.begins, wanted.ends
    at, peak = _run(wanted.sizes, lives, (wanted.homes, wanted.meets), order, capacity, lowest)
    return at, int(peak)


@compiled
def _run(
    sizes: Integers,
    lives: tuple[Integers, Integers],
    memories: tuple[Integers, NDArray[np.bool_]],
    order: Integers,
    capacity: int,
    lowest: bool,
) -> tuple[Integers, int]:
    """Each in turn into the smallest or the lowest gap that it fits, or behind all that is in its way."""
    (begins, ends), (homes, meets) = lives, memories
    at = np.full(len(order), -1)
    kept = np.empty(len(order), np.int64)  # what has a place, in order of its offset
    count = peak = 0
    for one in order:
        size, offset = sizes[one], -1
        least = reached = 0
        for other in kept[:count]:
            if begins[other] > ends[one] or ends[other] < begins[one] or not meets[homes[one], homes[other]]:
                continue
            gap = at[other] - reached
            if gap >= size and (offset < 0 or (gap < least and not lowest)):
                offset, least = reached, gap
            reached = max(reached, at[other] + sizes[other])
        if offset < 0:
            offset = reached
        if offset + size > capacity:
            continue
        place = count
        while place > 0 and at[kept[place - 1]] > offset:
            kept[place] = kept[place - 1]
            place -= 1
        kept[place] = one
        count += 1
        at[one] = offset
        peak = max(peak, offset + size)
    return at, peak
