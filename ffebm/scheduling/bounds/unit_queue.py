"""What a busy unit must have done before each task: raises heads along streams of bands.

The last row of a layer needs nearly all rows of the layers before. If these share a unit, it can start only
when that unit has done them, however short the chains between are. So of each task is known which tasks of a
busy unit lead to it, and since when the unit has had enough to do for them without a break.
"""

from collections.abc import Sequence
from typing import NamedTuple


class Done(NamedTuple):
    """What a unit must have done when something can start.

    Attributes:
        tasks: Which of its tasks, a bit for each.
        until: It has done them no earlier, seconds.
        since: When it began with those that it has done without a break.
        between: The least time between the end of one of them and the start.
    """

    tasks: int = 0
    until: float = 0.0
    since: float = 0.0
    between: float = 0.0

    @property
    def start(self) -> float:
        """Nothing that waits for all of them starts earlier."""
        return self.until + self.between


NOTHING = Done()


class UnitQueue:
    """One unit; tasks are added in an order in which each waits only for earlier ones.

    Args:
        share: What the unit has to do for each task at least, seconds; 0 for what it does not do.
    """

    def __init__(self, share: Sequence[float]) -> None:
        self._share = share
        self._tasks = [index for index, seconds in enumerate(share) if seconds > 0]
        self._bits = [0] * len(share)
        for place, index in enumerate(self._tasks):
            self._bits[index] = 1 << place
        self._heads: dict[int, float] = {}
        self._after: list[Done] = []

    def before(self, earlier: Sequence[int]) -> Done:
        """What the unit must have done for something that waits for some tasks."""
        if len(earlier) == 1:
            return self._after[earlier[0]]
        states = [self._after[index] for index in earlier if self._after[index].tasks]
        if len(states) < 2:
            return states[0] if states else NOTHING
        base = max(states, key=lambda state: state.until)
        tasks = 0
        for state in states:
            tasks |= state.tasks
        until, new = base.until, tasks & ~base.tasks
        while new:
            place = new.bit_length() - 1
            new ^= 1 << place
            index = self._tasks[place]
            if self._heads[index] >= base.since:
                until += self._share[index]
        return Done(tasks, until, base.since, min(state.between for state in states))

    def add(self, before: Done, head: float, seconds: float) -> None:
        """The next task: what the unit has done before it, its head, and how long it takes."""
        index = len(self._after)
        tasks, until, since, between = before
        bit = self._bits[index]
        if not bit:
            longer = Done(tasks, until, since, between + seconds) if tasks and seconds else before
            self._after.append(longer if tasks else NOTHING)
            return
        self._heads[index] = head
        since = since if tasks and head <= until else head
        self._after.append(Done(tasks | bit, head + self._share[index], since))
