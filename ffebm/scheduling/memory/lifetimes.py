"""Lives of all that some work reads and writes, found anew each time that its times move.

What is read and written stays the same then, so it is numbered once, and lives are least and greatest numbers
of arrays. They are those of `lives_of`, which says what a life is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ffebm.plan.memory.accesses import Access
from ffebm.plan.memory.dataflow import Dataflow
from ffebm.plan.memory.demand import Integers
from ffebm.plan.memory.held import HOST, Held
from ffebm.plan.memory.lives import BEFORE, Life
from ffebm.plan.memory.work import Work


class Lifetimes:
    """What some work reads and writes, with numbers.

    Args:
        flow: What nodes and blocks read and make.
        work: What is done.
        accesses: What each of it reads and writes.

    Attributes:
        held: What is written, or there from the start, by number.
    """

    def __init__(self, flow: Dataflow, work: Sequence[Work], accesses: Sequence[Access]) -> None:
        runs = range(1 + max((one.sample for one in work), default=0))
        given = [Held("value", value, sample=run) for run in runs for value in flow.inputs]
        number = {held: n for n, held in enumerate(dict.fromkeys(given))}
        self._given = len(number)
        writes = [
            (at, number.setdefault(held, len(number)))
            for at, access in enumerate(accesses)
            for held in (*access.writes, *access.begins)
        ]
        uses = [
            (at, number[held])
            for at, access in enumerate(accesses)
            for held in (*access.writes, *access.begins, *access.reads, *access.needs)
            if held in number
        ]
        self.held = list(number)
        self._writes, self._uses = (np.array(some, np.int64).reshape(-1, 2).T for some in (writes, uses))
        self._stay = self._outputs(flow, work)

    def _outputs(self, flow: Dataflow, work: Sequence[Work]) -> list[int]:
        """Numbers of what stays to the end: outputs of a model, unless a loss is done with them."""
        if any(one.kind == "loss" for one in work):
            return []
        names = {flow.seen(value) for value in flow.outputs}
        kept = [
            (n, held) for n, held in enumerate(self.held) if held.content == "value" and held.name in names
        ]
        carried = {held.name for _, held in kept if held.at == HOST}
        return [n for n, held in kept if held.at == HOST or held.name not in carried]

    def timed(self, order: Sequence[int], moments: Sequence[tuple[int, int]]) -> "TimedLives":
        """Their lives where that is done at some times.

        Args:
            order: Which of what is done each step is, by position.
            moments: When each step begins and ends.
        """
        count, steps = len(self.held), len(order)
        step = np.empty(steps, np.int64)
        step[list(order)] = np.arange(steps)
        at = np.array(moments, np.int64).reshape(-1, 2)

        # what is written first stands first, in the order in which its step writes
        keys = np.full(count, np.iinfo(np.int64).max)
        width = self._writes.shape[1] + 1
        written = at[step[self._writes[0]], 0] * width + np.arange(width - 1)
        np.minimum.at(keys, self._writes[1], written)
        keys[: self._given] = np.arange(-self._given, 0)
        begins = np.maximum(keys // width, -1)
        first = _steps_at(at[:, 0])[begins]

        ends = np.full(count, -1, np.int64)
        np.maximum.at(ends, self._uses[1], at[step[self._uses[0]], 1])
        last = _steps_at(at[:, 1])[ends]
        last[self._stay], ends[self._stay] = steps, 2 * steps
        return TimedLives(self.held, np.argsort(keys), first, last, begins, ends)


def _steps_at(moments: Integers) -> Integers:
    """The step of each moment; behind the last one, for what is no moment, `BEFORE`."""
    found = np.full(2 * len(moments) + 1, BEFORE, np.int64)
    found[moments] = np.arange(len(moments))
    return found


@dataclass(frozen=True)
class TimedLives:
    """Lives in a schedule.

    Attributes:
        held: What lives, by number.
        order: Numbers, in the order of first writes.
        first: The step that writes each first, by number; `BEFORE` if it is there from the start.
        last: The last step that reads or writes each; the number of steps if it stays to the end.
        begins: The moment at which each begins to live; -1: it is there from the start.
        ends: Its last moment; -1: nothing reads it.
    """

    held: list[Held]
    order: Integers
    first: Integers
    last: Integers
    begins: Integers
    ends: Integers

    def lives(self, numbers: Integers) -> dict[Held, Life]:
        """Lives of some, in the order of first writes."""
        first, last = self.first.tolist(), self.last.tolist()
        return {self.held[n]: Life(first[n], last[n]) for n in numbers.tolist()}
