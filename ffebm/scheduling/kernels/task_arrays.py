"""Tasks as arrays, as compiled loops read them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np

from ffebm.graph.tensor import Floats
from ffebm.plan.memory.demand import Integers


@dataclass(frozen=True)
class Lists:
    """Lists of numbers, one behind the other.

    Attributes:
        ends: Where each ends, behind a 0, [n + 1].
        items: What is in them, [sum of their lengths].
    """

    ends: Integers
    items: Integers

    @classmethod
    def of(cls, lists: Sequence[Sequence[int]]) -> "Lists":
        """Of plain ones."""
        ends = np.zeros(len(lists) + 1, dtype=np.int64)
        np.cumsum(np.fromiter(map(len, lists), np.int64, len(lists)), out=ends[1:])
        return cls(ends, np.fromiter(chain.from_iterable(lists), np.int64, int(ends[-1])))

    def turned(self) -> "Lists":
        """For each number from 0 to n - 1 the lists that it is in, ascending."""
        n = len(self.ends) - 1
        ends = np.zeros(n + 1, dtype=np.int64)
        np.cumsum(np.bincount(self.items, minlength=n), out=ends[1:])
        inside = np.repeat(np.arange(n), np.diff(self.ends))
        return Lists(ends, inside[np.argsort(self.items, kind="stable")])


@dataclass(frozen=True)
class TaskArrays:
    """Tasks by number.

    Attributes:
        seconds: How long each takes, [n].
        units: Numbers of the units of each.
        readers: What waits for each.
        waits: For how many others each waits, [n].
        n_units: How many units there are.
    """

    seconds: Floats
    units: Lists
    readers: Lists
    waits: Integers
    n_units: int

    @cached_property
    def room(self) -> Integers:
        """Where the tasks of each unit begin in a list unit by unit, and where that ends, [n_units + 1]."""
        found = np.zeros(self.n_units + 1, dtype=np.int64)
        np.cumsum(np.bincount(self.units.items, minlength=self.n_units), out=found[1:])
        return found

    @classmethod
    def of(
        cls, seconds: Floats, after: Sequence[Sequence[int]], units: Sequence[Sequence[int]]
    ) -> "TaskArrays":
        """Of what each takes, waits for and occupies."""
        before, on = Lists.of(after), Lists.of(units)
        n_units = 1 + int(on.items.max(initial=-1))
        return cls(seconds, on, before.turned(), np.diff(before.ends), n_units)
