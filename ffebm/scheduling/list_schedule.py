"""List scheduling: a time for every task, so that a unit does one thing at a time.

Whenever a unit comes free, the waiting task with the longest chain of work behind it starts.
"""

import heapq
from dataclasses import dataclass

from ffebm.plan.schedule import Cost, Schedule, Step, StepKind


@dataclass(frozen=True)
class Task:
    """A step without a time.

    Attributes:
        kind: What is done.
        name: To what.
        units: Units that it occupies, all at once.
        seconds: How long.
        after: Positions of the tasks that it waits for; all are earlier in the list.
        cost: Energy and conversions.
        block: Id of the energy block that it works for, if it is one.
        fixed_s: Of its seconds, those that a larger batch leaves as they are.
        fixed_j: Of its joules, the same.
        rows: The band [a, b) of output rows that it makes or moves; None: all of them.
        sample: Which of several samples in flight it works for, from 0.
    """

    kind: StepKind
    name: str
    units: tuple[str, ...]
    seconds: float
    after: tuple[int, ...]
    cost: Cost
    block: int | None = None
    fixed_s: float = 0.0
    fixed_j: float = 0.0
    rows: tuple[int, int] | None = None
    sample: int = 0


def list_schedule(tasks: list[Task]) -> Schedule:
    """Schedule tasks on their units.

    Args:
        tasks: In an order in which each waits only for earlier ones.

    Returns:
        The schedule with its lower bounds; steps are numbered in order of their start.
    """
    return ordered(tasks)[0]


def ordered(tasks: list[Task]) -> tuple[Schedule, list[int]]:
    """The schedule of tasks, and the position of each step's task in the list."""
    behind = _chains_behind(tasks)
    starts = _Simulation(tasks, behind).run()
    # A step that takes no time goes before those that start with it.
    order = sorted(range(len(tasks)), key=lambda i: (starts[i], starts[i] + tasks[i].seconds, i))
    number = {index: position for position, index in enumerate(order)}
    steps = tuple(
        Step(
            id=position,
            kind=tasks[index].kind,
            name=tasks[index].name,
            units=tasks[index].units,
            start_s=starts[index],
            end_s=starts[index] + tasks[index].seconds,
            after=tuple(sorted(number[before] for before in tasks[index].after)),
            cost=tasks[index].cost,
            block=tasks[index].block,
            rows=tasks[index].rows,
            sample=tasks[index].sample,
        )
        for position, index in enumerate(order)
    )
    busy: dict[str, float] = {}
    for task in tasks:
        for unit in task.units:
            busy[unit] = busy.get(unit, 0.0) + task.seconds
    busiest = max(sorted(busy), key=lambda unit: busy[unit], default="")
    makespan = max((step.end_s for step in steps), default=0.0)
    schedule = Schedule(
        steps=steps,
        makespan_s=makespan,
        critical_path_s=max(behind, default=0.0),
        busiest_unit=busiest,
        busiest_s=busy.get(busiest, 0.0),
        interval_s=makespan,  # one sample after the other
        interval_unit=busiest,
    )
    return schedule, order


def filling_chain(schedule: Schedule) -> list[int]:
    """Ids of steps without a gap between them that fill the makespan, the last first.

    Each starts when one that it waits for ends, or when the step before it on one of its units does.
    """
    before: dict[int, list[int]] = {}
    latest: dict[str, int] = {}
    for step in schedule.steps:
        before[step.id] = [*step.after, *(latest[unit] for unit in step.units if unit in latest)]
        latest.update((unit, step.id) for unit in step.units)
    ends = [step.id for step in schedule.steps if step.end_s == schedule.makespan_s]
    chain = ends[-1:]
    while chain:
        start = schedule.steps[chain[-1]].start_s
        reached = [n for n in before[chain[-1]] if schedule.steps[n].end_s == start]
        if not reached:
            break
        chain.append(reached[0])
    return chain


def _chains_behind(tasks: list[Task]) -> list[float]:
    """Seconds of the longest chain that starts with each task."""
    behind = [task.seconds for task in tasks]
    for index in reversed(range(len(tasks))):
        for before in tasks[index].after:
            behind[before] = max(behind[before], tasks[before].seconds + behind[index])
    return behind


class _Simulation:
    """Runs time forward over ends of tasks."""

    def __init__(self, tasks: list[Task], behind: list[float]) -> None:
        self.tasks = tasks
        self.behind = behind
        self.missing = [len(task.after) for task in tasks]
        self.readers: list[list[int]] = [[] for _ in tasks]
        for index, task in enumerate(tasks):
            for before in task.after:
                self.readers[before].append(index)
        self.occupied: set[str] = set()
        self.waiting: dict[str, list[tuple[float, int]]] = {}
        self.starts = [0.0] * len(tasks)
        self.ends: list[tuple[float, int]] = []

    def run(self) -> list[float]:
        """Start of every task, seconds."""
        ready = sorted((-self.behind[i], i) for i, count in enumerate(self.missing) if not count)
        for _, index in ready:
            self._try(index, 0.0)
        while self.ends:
            now, index = heapq.heappop(self.ends)
            self._finish(index, now)
        return self.starts

    def _try(self, index: int, now: float) -> None:
        """Start a task whose units are all free, or let it wait for one that is not."""
        units = self.tasks[index].units
        for unit in units:
            if unit in self.occupied:
                heapq.heappush(self.waiting.setdefault(unit, []), (-self.behind[index], index))
                return
        self.occupied.update(units)
        self.starts[index] = now
        heapq.heappush(self.ends, (now + self.tasks[index].seconds, index))

    def _finish(self, index: int, now: float) -> None:
        units = self.tasks[index].units
        self.occupied.difference_update(units)
        for reader in self.readers[index]:
            self.missing[reader] -= 1
            if not self.missing[reader]:
                for unit in self.tasks[reader].units[:1]:
                    heapq.heappush(self.waiting.setdefault(unit, []), (-self.behind[reader], reader))
                    self._serve(unit, now)
        for unit in units:
            self._serve(unit, now)

    def _serve(self, unit: str, now: float) -> None:
        """Let the waiting tasks of a unit try, longest chain first, until it is taken again."""
        queue = self.waiting.get(unit, [])
        while queue and unit not in self.occupied:
            _, index = heapq.heappop(queue)
            self._try(index, now)
