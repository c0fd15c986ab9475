"""What leaves a memory that cannot hold all that is alive."""

import heapq

import numpy as np

from ffebm.plan.memory.demand import Demand, Integers


def crowded_out(wanted: Demand, capacity: int) -> Integers:
    """Which buffers leave a memory, so that no more is alive at once than it holds.

    Where more is alive, the buffer that ends last goes, and of several the largest (linear scan: Poletto &
    Sarkar, ACM TOPLAS 21, 1999).

    Args:
        wanted: The buffers.
        capacity: Bytes of each memory.
    """
    stays = wanted.sizes <= capacity
    for member in wanted.members:
        inside = np.flatnonzero(member[wanted.homes] & stays)
        stays[_out_of_one(wanted, inside, capacity)] = False
    return np.flatnonzero(~stays)


def _out_of_one(wanted: Demand, inside: Integers, capacity: int) -> list[int]:
    """Which of the buffers in one memory leave it."""
    sizes, begins, ends = (each.tolist() for each in (wanted.sizes, wanted.begins, wanted.ends))
    gone: set[int] = set()
    ending: list[tuple[int, int]] = []
    lasting: list[tuple[int, int, int]] = []
    load = 0
    for one in sorted(inside.tolist(), key=lambda n: (begins[n], n)):
        while ending and ending[0][0] < begins[one]:
            _, ended = heapq.heappop(ending)
            load -= 0 if ended in gone else sizes[ended]
        heapq.heappush(ending, (ends[one], one))
        heapq.heappush(lasting, (-ends[one], -sizes[one], -one))
        load += sizes[one]
        while load > capacity:  # all that has ended ends before what is alive
            out = -heapq.heappop(lasting)[2]
            gone.add(out)
            load -= sizes[out]
    return sorted(gone)
