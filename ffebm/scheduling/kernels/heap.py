"""Heaps of numbers below n in arrays, for compiled loops: what has the lesser key comes first.

Of equal keys the lesser number does, so what comes next does not depend on how a heap is built.
"""

from ffebm.graph.tensor import Floats
from ffebm.plan.memory.demand import Integers
from ffebm.scheduling.kernels.jit import compiled


@compiled
def push(heap: Integers, size: int, keys: Floats, number: int) -> int:
    """Add a number to a heap of a size; returns the new size."""
    place = size
    while place > 0:
        above = (place - 1) >> 1
        other = heap[above]
        if keys[other] < keys[number] or (keys[other] == keys[number] and other < number):
            break
        heap[place] = other
        place = above
    heap[place] = number
    return size + 1


@compiled
def pop(heap: Integers, size: int, keys: Floats) -> int:
    """Take the first number of a heap of a size."""
    first, number = heap[0], heap[size - 1]
    place, last = 0, size - 1
    while True:
        below = 2 * place + 1
        if below >= last:
            break
        if below + 1 < last:
            one, other = heap[below], heap[below + 1]
            if keys[other] < keys[one] or (keys[other] == keys[one] and other < one):
                below += 1
        other = heap[below]
        if keys[number] < keys[other] or (keys[number] == keys[other] and number < other):
            break
        heap[place] = other
        place = below
    heap[place] = number
    return int(first)


@compiled
def merged(left: Integers, right: Integers, one: int, other: int) -> int:
    """The root of two skew heaps put together, the least number first; -1 is an empty one.

    Sleator & Tarjan, "Self-adjusting heaps", SIAM J. Comput. 15, 1986.

    Args:
        left: One heap below each number, or -1.
        right: Another one.
        one: Root of the first heap.
        other: Root of the second one.
    """
    if one < 0 or other < 0:
        return max(one, other)
    root = min(one, other)
    here, rest = root, max(one, other)
    while rest >= 0:
        below = right[here]
        right[here] = left[here]
        if 0 <= below < rest:
            below, rest = rest, below
        left[here] = rest
        here, rest = rest, below
    return root
