"""Offsets of buffers in one memory, or in memories side by side.

Buffers that live at the same time in the same memory must not overlap; the peak is the end of the highest
one. No placement has a lower peak than the most bytes alive at once, the bound. Buffers are placed one after
the other, each in the smallest gap between those that are in its way ("greedy by size for offset
calculation", Pisarchyk & Lee, Efficient Memory Management for Deep Neural Net Inference, arXiv 2001.03288,
2020; TensorFlow Lite's planner). If some order leaves the peak above the bound, others are tried: by the
breadth of the moment (the same paper), by the start or end of lives, and with what ends at the peak, or near
it, moved to the front (squeaky wheel optimization, Joslin & Clements, JAIR 10, 1999). Where the peak stays
far above, each goes into the lowest gap that holds it instead (first fit), in such orders once more.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np

from ffebm.plan.memory.demand import Demand, Integers, loads_of
from ffebm.scheduling.kernels.spent import Spent

PLACED = 8000
"""Buffers placed in all orders together, which bounds the time; four orders at least, sixteen at most."""
NEAR = 1.01
"""A peak that is no more times the bound ends the search."""
FAR, PLACED_MORE = 1.08, 150_000
"""While a peak is more times the bound than this, up to 64 orders are tried, sixteen at least, as long as no
more buffers than these are placed in all: DenseNet-121's 6,898 bands want it, at 0.04 s an order. Then as
many by the lowest gap: the 6,162 buffers of Inception v2 on `isaac-edram` come from 1.112 to 1.086 so."""
MOST_PLAIN = 30_000
"""Buffers that a process places by plain loops, in all orders: that takes about as long as loading the
compiled ones, which are quicker by ten times."""
AGAIN = 13
"""How often buffers of one model are placed again at least while it is compiled: 13 (DenseNet-121) to 42
(SqueezeNet) times on `reference`, in the orders of an inference, a training step and twins."""
NOWHERE = -1
"""The offset of a buffer that does not fit."""
_SPENT = Spent(MOST_PLAIN, AGAIN)


@dataclass(frozen=True)
class Offsets:
    """Where buffers lie.

    Attributes:
        at: First byte of each, [n]; `NOWHERE` if it does not fit.
        peak: End of the highest one, bytes.
    """

    at: Integers
    peak: int


def placed(wanted: Demand, capacity: int, bound: int | None = None) -> Offsets:
    """Offsets for buffers, by the best of several orders.

    Args:
        wanted: The buffers.
        capacity: Bytes of each memory.
        bound: Most bytes alive at once in a memory; the search ends when the peak is near. None ends it as
            soon as all have a place, so both find one for all or both do not.
    """
    if not len(wanted.sizes):
        return Offsets(np.zeros(0, dtype=np.int64), 0)
    count = len(wanted.sizes)
    most, at_last = min(16, max(4, PLACED // count)), min(64, max(16, PLACED_MORE // count))
    orders = _orders(wanted, capacity, bound or 0)
    best = next(orders)
    for _ in range(most - 1):
        if _is_near(best, bound):
            return best
        best = _better(best, next(orders))

    # more orders lower a peak alone: what fits must not depend on whether there is a bound
    lowest = _orders(wanted, capacity, bound or 0, lowest=True)
    further = chain(islice(orders, at_last - most), islice(lowest, at_last))
    while bound is not None and _fits(best) and best.peak > FAR * bound:
        found = next(further, None)
        if found is None:
            break
        best = _better(best, found)
    return best


def _orders(wanted: Demand, capacity: int, bound: int, *, lowest: bool = False) -> Iterator[Offsets]:
    """Placements in several orders; then of each with what ends at the peak in front, again and again.

    Of every second one it is all that ends in the upper third between the bound and the peak: that comes down
    sooner from far above, the other goes on where it gets stuck.
    """
    tried = []
    for rule in (_by_size, _by_breadth, _by_begin, _by_end):
        order = rule(wanted)
        found = _greedy(wanted, order, capacity, lowest=lowest)
        yield found
        tried.append((order, found))
    while True:
        for place, (order, last) in enumerate(tried):
            squeaks = _squeaking(wanted, last, last.peak if place % 2 else (bound + 2 * last.peak) // 3)
            front = np.concatenate([squeaks, order[~np.isin(order, squeaks)]])
            found = _greedy(wanted, front, capacity, lowest=lowest)
            yield found
            tried[place] = front, found


def _is_near(found: Offsets, bound: int | None) -> bool:
    near = bound is None or found.peak <= NEAR * bound
    return near and _fits(found)


def _fits(found: Offsets) -> bool:
    """All have a place."""
    return not (found.at == NOWHERE).any()


def _better(one: Offsets, other: Offsets) -> Offsets:
    """Fewer that do not fit, then the lower peak."""
    figures = [((found.at == NOWHERE).sum(), found.peak) for found in (one, other)]
    return other if figures[1] < figures[0] else one


def _squeaking(wanted: Demand, found: Offsets, height: int) -> Integers:
    """What does not fit, or else ends at a height or above it."""
    nowhere = np.flatnonzero(found.at == NOWHERE)
    return nowhere if len(nowhere) else np.flatnonzero(found.at + wanted.sizes >= height)


def _greedy(wanted: Demand, order: Integers, capacity: int, *, lowest: bool) -> Offsets:
    """Each in turn into the smallest or the lowest gap that it fits, or behind all that is in its way."""
    if _SPENT.is_much(len(order)):
        from ffebm.scheduling.kernels.gaps import placed_by_gap

        return Offsets(*placed_by_gap(wanted, order, capacity, lowest=lowest))
    at = np.full(len(order), NOWHERE, dtype=np.int64)
    several = len(wanted.meets) > 1
    # what has a place, in order of its offset: begin and end of its life, first byte and the one behind, home
    kept = np.empty((5, len(order)), dtype=np.int64)
    count = peak = 0
    columns = (each[order].tolist() for each in (wanted.sizes, wanted.begins, wanted.ends, wanted.homes))
    for one, size, begin, end, home in zip(order.tolist(), *columns, strict=True):
        near = (kept[0, :count] <= end) & (kept[1, :count] >= begin)
        if several:
            near &= wanted.meets[home, kept[4, :count]]
        offset = _gap(kept[2, :count][near], kept[3, :count][near], size, lowest=lowest)
        if offset + size > capacity:
            continue
        place = int(kept[2, :count].searchsorted(offset, side="right"))
        kept[:, place + 1 : count + 1] = kept[:, place:count]
        kept[:, place] = begin, end, offset, offset + size, home
        count += 1
        at[one] = offset
        peak = max(peak, offset + size)
    return Offsets(at, peak)


def _gap(starts: Integers, ends: Integers, size: int, *, lowest: bool) -> int:
    """The smallest gap between ranges, by their starts, that holds so much, or the lowest; else behind."""
    if not len(starts):
        return 0
    reached = np.maximum.accumulate(ends)
    gaps = starts.copy()
    gaps[1:] -= reached[:-1]
    fits = (gaps >= size).nonzero()[0]
    if not len(fits):
        return int(reached[-1])
    first = fits[0 if lowest else gaps[fits].argmin()]
    return int(reached[first - 1]) if first else 0


def _by_size(wanted: Demand) -> Integers:
    """The largest first; of equal ones that which lives longest."""
    return np.lexsort((wanted.begins, wanted.begins - wanted.ends, -wanted.sizes))


def _by_begin(wanted: Demand) -> Integers:
    """As lives begin, the largest first."""
    return np.lexsort((-wanted.sizes, wanted.begins))


def _by_end(wanted: Demand) -> Integers:
    """What lives to the end first, the largest in front."""
    return np.lexsort((-wanted.sizes, -wanted.ends))


def _by_breadth(wanted: Demand) -> Integers:
    """Those alive at the fullest moment first, the largest of them in front; then the next fullest one."""
    moments, loads = loads_of(wanted.sizes, wanted.begins, wanted.ends)
    firsts = np.searchsorted(moments, wanted.begins)
    breadth = most_between(loads, firsts, np.searchsorted(moments, wanted.ends, side="right"))
    return np.lexsort((wanted.begins, -wanted.sizes, -breadth))


def most_between(values: Integers, firsts: Integers, behinds: Integers) -> Integers:
    """The largest of each of some ranges of values, none of them empty.

    Each range is covered by two whose length is a power of two, of which all maxima are found first (sparse
    table: Bender and Farach-Colton, "The LCA problem revisited", LATIN 2000).

    Args:
        values: The values, [n].
        firsts: Where each range begins, [ranges].
        behinds: Where each has ended, [ranges].
    """
    powers = np.frexp(behinds - firsts)[1] - 1
    found = np.empty(len(firsts), dtype=values.dtype)
    most = values
    for power in range(int(powers.max(initial=-1)) + 1):
        if power:
            half = 1 << (power - 1)
            most = np.maximum(most[:-half], most[half:])
        these = np.flatnonzero(powers == power)
        found[these] = np.maximum(most[firsts[these]], most[behinds[these] - (1 << power)])
    return found
