"""An order in which whatever reads comes behind what it reads from.

networkx has one, but takes longer to import than most plans take to show.
"""

from collections.abc import Callable, Collection, Mapping
from graphlib import TopologicalSorter
from heapq import heapify, heappop, heappush
from typing import TypeVar

Listed = TypeVar("Listed")


def sorted_behind(reads: Mapping[Listed, Collection[Listed]], place: Callable[[Listed], int]) -> list[Listed]:
    """Items, none before one that it reads from; where that leaves a choice, the one of the smallest place.

    Args:
        reads: What each item reads from: itself keys.
        place: Of each item, a number that no other has.

    Raises:
        graphlib.CycleError: If items read from each other in a circle.

    >>> sorted_behind({"c": ["a"], "b": [], "a": []}, "abc".index)
    ['a', 'b', 'c']
    """
    sorter = TopologicalSorter(reads)
    sorter.prepare()
    ready = [(place(item), item) for item in sorter.get_ready()]
    heapify(ready)
    found: list[Listed] = []
    while ready:
        item = heappop(ready)[1]
        found.append(item)
        sorter.done(item)
        for freed in sorter.get_ready():
            heappush(ready, (place(freed), freed))
    return found
