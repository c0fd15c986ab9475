"""What a busy unit must have done before each task: raises heads along streams of bands.

The last row of a layer needs nearly all rows of the layers before. If these share a unit, it can start only
when that unit has done them, however short the chains between are. So of each task is known which tasks of a
busy unit lead to it. Of those that start no earlier than some time the unit has done all no earlier than that
time and their sum: the largest of these sums counts.

They are added up only where that may be more than is known already: two sets of tasks together are done no
later than one of them and the sum of all others. So nearly all of what waits for several is passed over.
"""

from collections.abc import Sequence
from typing import NamedTuple


class Done(NamedTuple):
    """What a unit must have done when something can start.

    Attributes:
        tasks: Which of its tasks, a bit for each.
        until: It has done them no earlier, seconds; or, if that says less than is known, a little more.
        between: The least time between the end of one of them and the start.
    """

    tasks: int = 0
    until: float = 0.0
    between: float = 0.0

    @property
    def start(self) -> float:
        """Nothing that waits for all of them starts earlier; unless that is known already."""
        return self.until + self.between


NOTHING = Done()


class UnitQueue:
    """One unit; tasks are added in an order in which each waits only for earlier ones.

    Args:
        share: What the unit has to do for each task at least, seconds; 0 for what it does not do.
        chains: How long the longest chain is that leads to each task, seconds: about in which order they
            start.
    """

    def __init__(self, share: Sequence[float], chains: Sequence[float]) -> None:
        self._share = share
        own = [index for index, seconds in enumerate(share) if seconds > 0]
        self._tasks = sorted(own, key=lambda index: chains[index])
        self._bits = [0] * len(share)
        for place, index in enumerate(self._tasks):
            self._bits[index] = 1 << place
        self._heads: dict[int, float] = {}
        self._after: list[Done] = []

    def before(self, earlier: Sequence[int], known: float) -> Done:
        """What the unit must have done for something that waits for some tasks, known to start no earlier."""
        if len(earlier) == 1:
            return self._after[earlier[0]]
        states = [self._after[index] for index in earlier if self._after[index].tasks]
        if len(states) < 2:
            return states[0] if states else NOTHING
        base = max(states, key=lambda state: state.until)
        tasks = 0
        for state in states:
            tasks |= state.tasks
        between = min(state.between for state in states)
        latest, work, new = base.until, 0.0, tasks & ~base.tasks
        while new:
            index = self._tasks[new.bit_length() - 1]
            new ^= self._bits[index]
            latest, work = max(latest, self._heads[index]), work + self._share[index]
        until = latest + work
        return Done(tasks, self._until(tasks) if until + between > known else until, between)

    def _until(self, tasks: int) -> float:
        """When it has done some tasks at the earliest: those that may start last are added up first."""
        until, work, since = 0.0, 0.0, float("inf")
        while tasks:
            index = self._tasks[tasks.bit_length() - 1]
            tasks ^= self._bits[index]
            work, since = work + self._share[index], min(since, self._heads[index])
            until = max(until, since + work)
        return until

    def add(self, before: Done, head: float, seconds: float) -> None:
        """The next task: what the unit has done before it, its head, and how long it takes."""
        index = len(self._after)
        tasks, until, between = before
        bit = self._bits[index]
        if bit:
            self._heads[index] = head
            self._after.append(Done(tasks | bit, head + self._share[index]))
        elif tasks and seconds:
            self._after.append(Done(tasks, until, between + seconds))
        else:
            self._after.append(before if tasks else NOTHING)
