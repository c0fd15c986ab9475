"""List scheduling by plain loops: time runs forwards, and whatever may start on free units starts."""

import heapq
from collections.abc import Sequence


class Forwards:
    """Runs time forward over ends of tasks.

    A task is known by its rank, its place in the order in which tasks are served. It waits in the queue of a
    busy unit. While tasks are served, each free unit whose queue is not empty has its first task among the
    candidates.

    Args:
        seconds: How long each task takes.
        after: What each waits for.
        units: Numbers of the units of each, all of which it occupies at once.
        order: Numbers of the tasks in the order in which they are served.
    """

    def __init__(
        self,
        seconds: Sequence[float],
        after: Sequence[Sequence[int]],
        units: Sequence[Sequence[int]],
        order: Sequence[int],
    ) -> None:
        rank = [0] * len(order)
        for position, index in enumerate(order):
            rank[index] = position
        self.order = order
        self.seconds = [seconds[index] for index in order]
        self.units = [units[index] for index in order]
        self.missing = [len(after[index]) for index in order]
        self.readers: list[list[int]] = [[] for _ in order]
        for index, earlier in enumerate(after):
            for before in earlier:
                self.readers[rank[before]].append(rank[index])
        n_units = 1 + max((max(some, default=-1) for some in units), default=-1)
        self.occupied = [False] * n_units
        self.queues: list[list[int]] = [[] for _ in range(n_units)]
        self.queue_of = [-1] * len(order)
        self.candidates = [number for number, count in enumerate(self.missing) if not count]
        self.ends: list[tuple[float, int]] = []
        self.starts = [0.0] * len(order)

    def run(self) -> list[float]:
        """Start of every task, seconds."""
        ends, now = self.ends, 0.0
        self._serve(now)
        while ends:
            now = ends[0][0]
            while ends and ends[0][0] == now:
                self._finish(heapq.heappop(ends)[1])
            self._serve(now)
        starts = [0.0] * len(self.order)
        for number, index in enumerate(self.order):
            starts[index] = self.starts[number]
        return starts

    def _serve(self, now: float) -> None:
        """Try all candidates in their order."""
        occupied, candidates, queues = self.occupied, self.candidates, self.queues
        while candidates:
            number = heapq.heappop(candidates)
            units, queue = self.units[number], self.queue_of[number]
            for unit in units:
                if occupied[unit]:
                    heapq.heappush(queues[unit], number)
                    self.queue_of[number] = unit
                    break
            else:
                self.starts[number] = now
                seconds = self.seconds[number]
                if seconds:
                    for unit in units:
                        occupied[unit] = True
                    heapq.heappush(self.ends, (now + seconds, number))
                else:
                    self._wake(number)
            if queue >= 0 and queues[queue] and not occupied[queue]:  # its next one becomes a candidate
                heapq.heappush(candidates, heapq.heappop(queues[queue]))

    def _finish(self, number: int) -> None:
        queues = self.queues
        for unit in self.units[number]:
            self.occupied[unit] = False
            if queues[unit]:
                heapq.heappush(self.candidates, heapq.heappop(queues[unit]))
        self._wake(number)

    def _wake(self, number: int) -> None:
        """What waited for a task alone becomes a candidate."""
        missing = self.missing
        for reader in self.readers[number]:
            missing[reader] -= 1
            if not missing[reader]:
                heapq.heappush(self.candidates, reader)
