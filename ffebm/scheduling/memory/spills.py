"""What leaves a memory that cannot hold all that is alive."""

import numpy as np

from ffebm.plan.memory.demand import Demand, Integers, bound_of
from ffebm.scheduling.memory.offsets import NOWHERE, Offsets, placed


def fitted(wanted: Demand, capacity: int) -> Offsets:
    """Offsets for those buffers that a memory can hold; the others are `NOWHERE`.

    Where more is alive than fits, the buffer that ends last goes, and of several the largest (linear scan:
    Poletto & Sarkar, ACM TOPLAS 21, 1999).

    Args:
        wanted: The buffers.
        capacity: Bytes of each memory.
    """
    stays = wanted.sizes <= capacity
    for member in wanted.members:
        inside = np.flatnonzero(member[wanted.homes] & stays)
        stays[_crowded_out(wanted, inside, capacity)] = False
    kept = np.flatnonzero(stays)
    inner = Demand(
        wanted.sizes[kept], wanted.begins[kept], wanted.ends[kept], wanted.homes[kept], wanted.members
    )
    found = placed(inner, capacity, bound_of(inner))
    at = np.full(len(stays), NOWHERE, dtype=np.int64)
    at[kept] = found.at
    return Offsets(at, found.peak)


def _crowded_out(wanted: Demand, inside: Integers, capacity: int) -> list[int]:
    """Which of the buffers in a memory leave it, so that no more is alive at once than it holds."""
    gone: list[int] = []
    alive: list[int] = []
    load = 0
    for one in sorted(inside.tolist(), key=lambda n: (wanted.begins[n], n)):
        ended = [other for other in alive if wanted.ends[other] < wanted.begins[one]]
        load += int(wanted.sizes[one] - wanted.sizes[ended].sum())
        alive = [other for other in alive if wanted.ends[other] >= wanted.begins[one]] + [one]
        while load > capacity:
            out = max(alive, key=lambda n: (wanted.ends[n], wanted.sizes[n], n))
            alive.remove(out)
            gone.append(out)
            load -= int(wanted.sizes[out])
    return gone
