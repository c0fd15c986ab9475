"""What an order of tasks is found from, and starts in such an order."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ffebm.graph.tensor import Floats
from ffebm.scheduling.kernels.spent import Spent
from ffebm.scheduling.order.forwards import Forwards
from ffebm.scheduling.order.local_search import GAIN
from ffebm.scheduling.order.serial_schedule import serial_starts

if TYPE_CHECKING:
    from ffebm.scheduling.kernels.task_arrays import TaskArrays

MOST_PLAIN = 250_000
"""Tasks that a process places by plain loops, in all passes together: that takes about as long as loading the
compiled ones, which are quicker by ten times."""
AGAIN = 45
"""How often tasks of one model are placed again at least while it is compiled: 45 (DenseNet-121) to 190
(SqueezeNet) times on `reference`, in passes over an inference, a training step and twins."""

_SPENT = Spent(MOST_PLAIN, AGAIN)


def foresee(rounds: int) -> None:
    """So many tasks are to be placed."""
    _SPENT.foresee(rounds)


@dataclass(frozen=True)
class Workload:
    """What an order needs of tasks; starts and ends are in seconds, [n].

    Attributes:
        seconds: How long each takes, [n].
        after: What each waits for.
        units: Numbers of the units of each.
    """

    seconds: Floats
    after: Sequence[Sequence[int]]
    units: Sequence[tuple[int, ...]]

    @cached_property
    def arrays(self) -> "TaskArrays":
        """The same for compiled loops."""
        from ffebm.scheduling.kernels.task_arrays import TaskArrays

        return TaskArrays.of(self.seconds, self.after, self.units)

    @cached_property
    def backwards(self) -> "Workload":
        """The same work from its end: the last task is the first, and waits for what waited for it."""
        last = len(self.seconds) - 1
        after: list[list[int]] = [[] for _ in self.after]
        for index, earlier in enumerate(self.after):
            for before in earlier:
                after[last - before].append(last - index)
        return Workload(self.seconds[::-1].copy(), after, self.units[::-1])

    @cached_property
    def chains(self) -> Floats:
        """Seconds of the longest chain that ends with each task, [n]."""
        found: list[float] = []
        for seconds, earlier in zip(self.seconds.tolist(), self.after, strict=True):
            start = 0.0
            for before in earlier:
                if found[before] > start:
                    start = found[before]
            found.append(seconds + start)
        return np.array(found)

    def served(self, *keys: Floats) -> Floats:
        """Starts if time runs forwards: what takes no time goes first, it delays nothing, then the least key.

        Args:
            keys: The first counts most, [n] each.
        """
        order = np.lexsort((*keys[::-1], self.seconds > 0.0))
        if _SPENT.is_much(len(order)):
            from ffebm.scheduling.kernels.simulation import simulated

            return simulated(self.arrays, order)
        return np.array(Forwards(self.seconds.tolist(), self.after, self.units, order.tolist()).run())

    def in_turn(self, keys: Floats) -> Floats:
        """Starts if each task is placed for itself, what has the least key first."""
        if _SPENT.is_much(len(keys)):
            from ffebm.scheduling.kernels.serial import placed_in_turn

            return placed_in_turn(self.arrays, keys)
        return np.array(serial_starts(self.seconds.tolist(), self.after, self.units, keys.tolist()))

    def served_from_end(self, ends: Floats) -> Floats:
        """Starts, less the end of all, if time runs backwards; what ends last goes first."""
        back = self.backwards
        return -(back.served(-ends[::-1]) + back.seconds)[::-1]

    def in_turn_from_end(self, ends: Floats) -> Floats:
        """The same if each task is placed for itself."""
        back = self.backwards
        return -(back.in_turn(-ends[::-1]) + back.seconds)[::-1]

    def length(self, starts: Floats) -> float:
        """When the last task ends, seconds."""
        return float((starts + self.seconds).max(initial=0.0))

    def shortest(self, found: Sequence[Floats]) -> Floats:
        """The schedule that ends first; of equal ones the first."""
        best, least = found[0], self.length(found[0])
        for other in found[1:]:
            length = self.length(other)
            if length < least * (1 - GAIN):
                best, least = other, length
        return best
