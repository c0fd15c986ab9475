"""Buffers that want places in memories, and the least that these must hold."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Demand:
    """Buffers that want a place.

    Attributes:
        sizes: Bytes of each in every memory that it lies in, [n].
        begins: Moment at which each begins to live, [n].
        ends: Last moment of each, [n].
        homes: Which of the sets of memories each lies in, [n].
        members: Whether a memory belongs to a set, [memories, sets]; of those in the same sets, one.
    """

    sizes: Integers
    begins: Integers
    ends: Integers
    homes: Integers
    members: NDArray[np.bool_]

    @cached_property
    def meets(self) -> NDArray[np.bool_]:
        """Whether two sets have a memory in common, [sets, sets]."""
        counts = self.members.astype(np.int64)
        return counts.T @ counts > 0


def demand(
    sizes: Iterable[int],
    lives: Iterable[tuple[int, int]],
    homes: Sequence[frozenset[str]] | None = None,
) -> Demand:
    """A demand from plain numbers.

    Args:
        sizes: Bytes.
        lives: First and last moment of each, both included.
        homes: The memories that each lies in; None if all lie in one.
    """
    found = list(lives)
    return demand_of(
        np.array(list(sizes), dtype=np.int64),
        np.array([begin for begin, _ in found], dtype=np.int64),
        np.array([end for _, end in found], dtype=np.int64),
        homes,
    )


def demand_of(
    sizes: Integers, begins: Integers, ends: Integers, homes: Sequence[frozenset[str]] | None = None
) -> Demand:
    """A demand from arrays.

    Args:
        sizes: Bytes of each, [n].
        begins: First moment of each, [n].
        ends: Last moment of each, [n].
        homes: The memories that each lies in; None if all lie in one.
    """
    sets = list(dict.fromkeys(homes)) if homes else [frozenset({""})]
    number = {home: position for position, home in enumerate(sets)}
    rows = dict.fromkeys(tuple(name in home for home in sets) for name in sorted(frozenset().union(*sets)))
    at = [number[home] for home in homes] if homes else [0] * len(sizes)
    return Demand(
        sizes=sizes,
        begins=begins,
        ends=ends,
        homes=np.array(at, dtype=np.int64),
        members=np.array(list(rows), dtype=np.bool_).reshape(-1, len(sets)),
    )


def loads_of(sizes: Integers, begins: Integers, ends: Integers) -> tuple[Integers, Integers]:
    """Moments at which a buffer begins to live, ascending, and the bytes alive at each."""
    ordered = np.sort(begins)  # np.unique would load masked arrays, which take longer than a small plan
    moments = ordered[np.flatnonzero(np.diff(ordered, prepend=ordered[:1] - 1))]
    started = np.cumsum(np.bincount(np.searchsorted(moments, begins), sizes, len(moments)))
    gone = np.bincount(np.searchsorted(moments, ends, side="right"), sizes, len(moments) + 1)
    return moments, (started - np.cumsum(gone)[: len(moments)]).astype(np.int64)


def bound_of(wanted: Demand) -> int:
    """Most bytes alive at once in a memory: no placement has a lower peak."""
    return max((int(loads.max()) for _, loads in _loads(wanted)), default=0)


def _loads(wanted: Demand) -> Iterable[tuple[Integers, Integers]]:
    """For each memory that something lies in, the bytes alive at each moment at which a life begins."""
    for member in wanted.members:
        inside = np.flatnonzero(member[wanted.homes])
        if len(inside):
            yield loads_of(wanted.sizes[inside], wanted.begins[inside], wanted.ends[inside])
