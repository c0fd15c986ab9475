"""List scheduling: a time for every task, so that a unit does one thing at a time.

Whenever units come free, all that waits and all that has just become possible is tried in one order: of the
earlier sample first, then what has the longest chain of work behind it. Across samples the chain alone would
let late samples overtake early ones, whose results then come late; they may also follow at a pace. If that
takes longer than the bounds, further passes from the end of the schedule and back improve the order, at last
task by task, and where tasks are few a local search.
"""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from msgspec import structs

from ffebm.graph.tensor import Floats
from ffebm.mapping.digital_cost import DigitalWork
from ffebm.plan.memory.work import waits_for_units
from ffebm.plan.schedule import Cost, Schedule, Step, StepKind
from ffebm.scheduling.kernels.spent import Spent
from ffebm.scheduling.order.local_search import GAIN, Placing, searched
from ffebm.scheduling.order.serial_schedule import serial_starts

if TYPE_CHECKING:
    from ffebm.scheduling.kernels.task_arrays import TaskArrays

LONGEST_CHAIN = "longest chain"
"""Name of the bound that the critical path is."""
MOST_IN_TURN = 10_000
"""Tasks up to which each is placed for itself too, those of one sample: looking for gaps takes longer than in
proportion."""
MOST_TOGETHER_IN_TURN = 100_000
"""The same of several samples together, each of no more than that."""
MOST_PLAIN = 250_000
"""Tasks that a process places by plain loops, in all passes together: that takes about as long as loading the
compiled ones, which are quicker by ten times."""
MOST_SEARCHED = 1_300
"""Tasks up to which a shorter schedule is searched for. Of 3,348 to 8,514 (Inception v2) 150 passes find no
more than 0.1 %."""
MOST_PLACED = 200_000
"""Tasks that such a search places, in all passes together."""
SEARCHES = 10
"""How often one is made at least while a model is compiled that needs any."""
AHEAD = (0.0, 0.25, 1 / 3, 0.5)
"""Parts of the pace of samples by which tasks of one are served ahead of those of the next: tried in turn."""
PACES = (1.0, 1 / 2, 1 / 3, 1 / 4, 1 / 6)
"""Parts of the work of the busiest unit at which samples are due after each other: tried in turn. The sooner
they are due, the more there is to choose from where layers wait for each other's tiles."""
LATER = 1.01
"""How many times as late results may be on average as where the earlier sample goes first."""
AGAIN = 45
"""How often tasks of one model are placed again at least while it is compiled: 45 (DenseNet-121) to 190
(SqueezeNet) times on `reference`, in passes over an inference, a training step and twins."""


_SPENT = Spent(MOST_PLAIN, AGAIN)


class Task(msgspec.Struct, frozen=True):
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
        sample: Which of several samples in flight it works for, from 0; the earlier goes first.
        work: What a digital unit does, of which it is all or some rows; None if it is no such work.
        fused: Digital nodes that it does before the one that it names, rows for rows, in order.
        shares: Part of its seconds that each of its nodes takes, the named one last.
        begun: Row behind the last one of which it makes a part, where reads go beyond its own rows; else 0.
        lag: Seconds at its end in which its units are free already, while what it makes is not there yet;
            less than all of them.
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
    work: DigitalWork | None = None
    fused: tuple[str, ...] = ()
    shares: tuple[float, ...] = (1.0,)
    begun: int = 0
    lag: float = 0.0

    @property
    def busy_s(self) -> float:
        """How long it occupies its units, seconds."""
        return self.seconds - self.lag

    @property
    def nodes(self) -> tuple[str, ...]:
        """What it is done to: the digital nodes that it does, or its name alone."""
        return (*self.fused, self.name)


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
    parted = _Parted.of(tasks)
    behind = chains_behind(parted.tasks)
    busy = work_of_units(tasks)
    busiest = max(sorted(busy), key=lambda unit: busy[unit], default="")
    chain, most = max(behind, default=0.0), busy.get(busiest, 0.0)
    found = _starts(parted.tasks, behind, max(chain, most))
    starts = [found[number] for number in parted.busy]
    ends = [found[number] + parted.tasks[number].seconds for number in parted.made]
    # A step that takes no time goes before those that start with it.
    order = np.lexsort((np.array(ends), np.array(starts))).tolist()
    number = [0] * len(tasks)
    for position, index in enumerate(order):
        number[index] = position
    steps = tuple(
        _step(tasks[index], (starts[index], ends[index]), position, number)
        for position, index in enumerate(order)
    )
    makespan = max((step.end_s for step in steps), default=0.0)
    schedule = Schedule(
        steps=steps,
        makespan_s=makespan,
        critical_path_s=chain,
        busiest_unit=busiest,
        busiest_s=most,
        lower_bound_s=max(chain, most),
        lower_bound=f"work of {busiest}" if most > chain else LONGEST_CHAIN,
        interval_s=makespan,  # one sample after the other
        interval_unit=busiest,
    )
    return schedule, order


def _step(task: Task, times: tuple[float, float], position: int, number: list[int]) -> Step:
    """A task at its times, start and end; `number` is the step of each task."""
    start, end = times
    return Step(
        id=position,
        kind=task.kind,
        name=task.name,
        units=task.units,
        start_s=start,
        end_s=end,
        after=tuple(sorted(number[before] for before in task.after)),
        cost=task.cost,
        block=task.block,
        rows=task.rows,
        sample=task.sample,
        fused=task.fused,
        begun=task.begun,
        freed_s=start + task.busy_s if task.lag else None,
    )


@dataclass(frozen=True)
class _Parted:
    """Tasks of which none has a lag: it is a task of its own, on no unit, which starts as soon as it may.

    Attributes:
        tasks: In an order in which each waits only for earlier ones.
        busy: Of each task that there was, the one that occupies its units.
        made: The one with whose end it has ended.
    """

    tasks: list[Task]
    busy: Sequence[int]
    made: Sequence[int]

    @classmethod
    def of(cls, tasks: list[Task]) -> "_Parted":
        """Of any tasks."""
        if not any(task.lag for task in tasks):
            return cls(tasks, range(len(tasks)), range(len(tasks)))
        parts: list[Task] = []
        busy: list[int] = []
        made: list[int] = []
        for task in tasks:
            after = tuple(busy[n] if waits_for_units(task, tasks[n]) else made[n] for n in task.after)
            busy.append(len(parts))
            parts.append(structs.replace(task, after=after, seconds=task.busy_s, lag=0.0))
            if task.lag:
                last = (len(parts) - 1,)
                parts.append(structs.replace(task, after=last, units=(), seconds=task.lag, lag=0.0))
            made.append(len(parts) - 1)
        return cls(parts, busy, made)


def filling_chain(schedule: Schedule) -> list[int]:
    """Ids of steps without a gap between them that fill the makespan, the last first.

    Each starts when one that it waits for ends, or when a step before it leaves one of its units.
    """
    before: dict[int, list[int]] = {}
    latest: dict[str, int] = {}
    for step in schedule.steps:
        ended = [n for n in step.after if schedule.steps[n].end_s == step.start_s]
        earlier = (*step.after, *(latest[unit] for unit in step.units if unit in latest))
        before[step.id] = [*ended, *(n for n in earlier if schedule.steps[n].free_s == step.start_s)]
        latest.update((unit, step.id) for unit in step.units)
    ends = [step.id for step in schedule.steps if step.end_s == schedule.makespan_s]
    chain = ends[-1:]
    while chain:
        reached = before[chain[-1]]
        if not reached:
            break
        chain.append(reached[0])
    return chain


def chains_behind(tasks: list[Task]) -> list[float]:
    """Seconds of the longest chain that starts with each task."""
    seconds = [task.seconds for task in tasks]
    lags = [task.lag for task in tasks]
    behind = [*seconds]
    for index in reversed(range(len(tasks))):
        here = behind[index]
        for before in tasks[index].after:
            chain = seconds[before] + here
            if lags[before] and waits_for_units(tasks[index], tasks[before]):
                chain -= lags[before]
            if chain > behind[before]:
                behind[before] = chain
    return behind


def work_of_units(tasks: list[Task]) -> dict[str, float]:
    """Seconds that each unit has to do."""
    # most tasks of a layer occupy the same units: they are added up together
    together: dict[tuple[str, ...], float] = {}
    for task in tasks:
        together[task.units] = together.get(task.units, 0.0) + task.busy_s
    busy: dict[str, float] = {}
    for units, seconds in together.items():
        for unit in units:
            busy[unit] = busy.get(unit, 0.0) + seconds
    return busy


def least_of(tasks: list[Task]) -> float:
    """Seconds that no schedule of tasks is shorter than: the longest chain, or what the busiest unit does."""
    return max(max(chains_behind(tasks), default=0.0), max(work_of_units(tasks).values(), default=0.0))


@dataclass(frozen=True)
class _Work:
    """What the simulation needs of tasks.

    Attributes:
        seconds: How long each takes.
        after: What each waits for.
        units: Numbers of the units of each.
        n_units: How many units there are.
    """

    seconds: list[float]
    after: list[tuple[int, ...]]
    units: list[tuple[int, ...]]
    n_units: int

    @cached_property
    def arrays(self) -> "TaskArrays":
        """The same for compiled loops."""
        from ffebm.scheduling.kernels.task_arrays import TaskArrays

        return TaskArrays.of(self.seconds, self.after, self.units)

    def backwards(self) -> "_Work":
        """The same work from its end: the last task is the first, and waits for what waited for it."""
        last = len(self.seconds) - 1
        after: list[list[int]] = [[] for _ in self.seconds]
        for index, earlier in enumerate(self.after):
            for before in earlier:
                after[last - before].append(last - index)
        return _Work(self.seconds[::-1], [tuple(found) for found in after], self.units[::-1], self.n_units)

    @cached_property
    def chains(self) -> list[float]:
        """Seconds of the longest chain that ends with each task."""
        found: list[float] = []
        for seconds, earlier in zip(self.seconds, self.after, strict=True):
            start = 0.0
            for before in earlier:
                if found[before] > start:
                    start = found[before]
            found.append(seconds + start)
        return found

    def starts(self, keys: Sequence[tuple[float, ...]]) -> list[float]:
        """Start of every task; what takes no time goes first, as it delays nothing, then the least key."""
        columns = np.array(keys).T[::-1]
        order = np.lexsort((*columns, np.array(self.seconds) > 0.0))
        if _SPENT.is_much(len(order)):
            from ffebm.scheduling.kernels.simulation import simulated

            return simulated(self.arrays, order)
        return _Simulation(self, order.tolist()).run()

    def in_turn(self, keys: Sequence[float]) -> list[float]:
        """Start of every task if each is placed for itself, what has the least key first."""
        if _SPENT.is_much(len(keys)):
            from ffebm.scheduling.kernels.serial import placed_in_turn

            found: list[float] = placed_in_turn(self.arrays, np.array(keys)).tolist()
            return found
        return serial_starts(self.seconds, self.after, self.units, keys)

    def placed(self, keys: Floats) -> Floats:
        """The same of arrays, [n] of [n]."""
        if _SPENT.is_much(len(keys)):
            from ffebm.scheduling.kernels.serial import placed_in_turn

            return placed_in_turn(self.arrays, keys)
        return np.array(serial_starts(self.seconds, self.after, self.units, keys.tolist()))

    def shortest(self, found: Sequence[list[float]]) -> list[float]:
        """The schedule that ends first; of equal ones the first."""
        best = found[0]
        for other in found[1:]:
            if max(self.ends(other)) < max(self.ends(best)) * (1 - GAIN):
                best = other
        return best

    def ends(self, starts: list[float]) -> list[float]:
        """End of every task."""
        return [start + seconds for start, seconds in zip(starts, self.seconds, strict=True)]


def _starts(tasks: Sequence[Task], behind: list[float], least: float) -> list[float]:
    """Start of every task, seconds.

    The schedule is first built forwards. Unless it is as short as can be, it is built once more from its end,
    what ends last first, and again forwards in the order that this gives (forward-backward improvement, K. Y.
    Li and R. J. Willis, "An iterative scheduling technique for resource-constrained project scheduling", EJOR
    56, 1992); so is one that is built from its end at once, what has the longest chain before it first. In
    the end the same is done to the shortest one task by task (`serial_starts`), so that what is long and has
    time does not hold up what is urgent. The shortest of all is taken, and where tasks are few a shorter one
    is searched for. Samples of an inference keep their order, as each has its own result: `_at_a_pace`.
    """
    numbers, names = numbered_units([task.units for task in tasks])
    work = _Work([task.seconds for task in tasks], [task.after for task in tasks], numbers, len(names))
    starts = work.starts([(task.sample, -chain) for task, chain in zip(tasks, behind, strict=True)])
    ends = work.ends(starts)
    makespan = max(ends, default=0.0)
    results_apart = any(task.sample for task in tasks) and not any(task.kind == "update" for task in tasks)
    if makespan <= least * (1 + GAIN):
        return starts
    if results_apart:
        return _at_a_pace(tasks, work, starts)
    back = work.backwards()
    found = [starts]
    for urgent in (ends, work.chains):
        late = back.ends(back.starts([(-end,) for end in urgent[::-1]]))[::-1]
        found.append(work.starts([(-end,) for end in late]))
    if len(tasks) <= MOST_IN_TURN:
        shortest = work.shortest(found)
        for urgent in (work.ends(shortest), work.chains):
            late = back.ends(back.in_turn([-end for end in urgent[::-1]]))[::-1]
            found.append(work.in_turn([-end for end in late]))
    return _searched(tasks, work, back, work.shortest(found), least)


def _searched(
    tasks: Sequence[Task], work: _Work, back: _Work, starts: list[float], least: float
) -> list[float]:
    """Starts of a schedule that is no longer, seconds, found by `local_search` where tasks are few."""
    if len(tasks) > MOST_SEARCHED:
        return starts
    passes = min(len(tasks), MOST_PLACED // len(tasks))
    _SPENT.foresee(SEARCHES * passes * len(tasks))
    layers: dict[tuple[str, str, int], list[int]] = {}
    for number, task in enumerate(tasks):
        layers.setdefault((task.kind, task.name, task.sample), []).append(number)
    placing = Placing(np.array(work.seconds), work.placed, back.placed)
    found = searched(placing, np.array(starts), list(layers.values()), passes, least)
    return work.shortest([starts, found.tolist()])


def _at_a_pace(tasks: Sequence[Task], work: _Work, starts: list[float]) -> list[float]:
    """Start of every task of several samples, each of which has a result of its own, seconds.

    Where the earlier sample always goes first, one that waits for all units of a layer at once leaves some of
    them idle, which later samples could use. So each sample is also given the times of one alone, later by
    parts of what the busiest unit does for each sample before it; what is due first goes first. That is
    improved once from its end and back, by lists and task by task. From the end, what nobody waits for comes
    late in the earlier samples too, so their tasks are also served ahead of those of later ones by a part of
    the pace. Of all the shortest is taken that gives results in their order, and on average hardly later than
    the earlier sample first does.

    Args:
        tasks: Of all samples.
        work: The same.
        starts: Where the earlier sample goes first, seconds.
    """
    samples: list[list[int]] = [[] for _ in range(1 + max(task.sample for task in tasks))]
    place: list[int] = []
    for number, task in enumerate(tasks):
        place.append(len(samples[task.sample]))
        samples[task.sample].append(number)
    one = [structs.replace(t, after=tuple(place[n] for n in t.after)) for t in tasks if not t.sample]
    if any(len(numbers) != len(one) for numbers in samples):
        return starts
    alone = _starts(one, chains_behind(one), least_of(one))
    pace = max(work_of_units(one).values(), default=0.0)
    sample = [task.sample for task in tasks]

    def results(found: list[float]) -> list[float]:
        ends = work.ends(found)
        return [max((ends[number] for number in numbers), default=0.0) for numbers in samples]

    one_by_one = len(one) <= MOST_IN_TURN and len(tasks) <= MOST_TOGETHER_IN_TURN
    latest = LATER * sum(results(starts))
    best = starts
    for part in PACES:
        due = [alone[at] + n * part * pace for at, n in zip(place, sample, strict=True)]
        in_order = [
            found
            for found in _due(work, due, [n * pace for n in sample], one_by_one=one_by_one)
            if (ended := results(found)) == sorted(ended) and sum(ended) <= latest
        ]
        best = work.shortest([best, *in_order])
    return best


def _due(work: _Work, due: list[float], ahead: list[float], *, one_by_one: bool) -> Iterator[list[float]]:
    """Starts where what is due first goes first, and what improves them.

    Args:
        work: Of all samples.
        due: When each task should start, seconds.
        ahead: By how much the samples of tasks follow the first one, seconds.
        one_by_one: Whether each task is placed for itself too.
    """
    found = work.starts([(time,) for time in due])
    yield found
    ends, back = work.ends(found), work.backwards()
    late = back.ends(back.starts([(-end,) for end in ends[::-1]]))[::-1]
    for part in AHEAD:
        yield work.starts([(part * by - end,) for by, end in zip(ahead, late, strict=True)])
    if one_by_one:
        late = back.ends(back.in_turn([-end for end in ends[::-1]]))[::-1]
        yield work.in_turn([-end for end in late])


class _Simulation:
    """Runs time forward over ends of tasks.

    A task is known by its rank, its place in the order in which tasks are served. It waits in the queue of a
    busy unit. While tasks are served, each free unit whose queue is not empty has its first task among the
    candidates.
    """

    def __init__(self, work: _Work, order: list[int]) -> None:
        rank = [0] * len(order)
        for position, index in enumerate(order):
            rank[index] = position
        self.order = order
        self.seconds = [work.seconds[index] for index in order]
        self.units = [work.units[index] for index in order]
        self.missing = [len(work.after[index]) for index in order]
        self.readers: list[list[int]] = [[] for _ in order]
        for index, earlier in enumerate(work.after):
            for before in earlier:
                self.readers[rank[before]].append(rank[index])
        self.occupied = [False] * work.n_units
        self.queues: list[list[int]] = [[] for _ in range(work.n_units)]
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


def numbered_units(units: Sequence[tuple[str, ...]]) -> tuple[list[tuple[int, ...]], list[str]]:
    """Units of each task as numbers, and a name of each number; units that always work together are one."""
    users: dict[str, list[int]] = {}
    distinct = {names: number for number, names in enumerate(dict.fromkeys(units))}
    for names, number in distinct.items():
        for name in names:
            users.setdefault(name, []).append(number)
    groups: dict[tuple[int, ...], int] = {}
    first: list[str] = []
    of_unit: dict[str, int] = {}
    for name, found in users.items():
        of_unit[name] = groups.setdefault(tuple(found), len(groups))
        if of_unit[name] == len(first):
            first.append(name)
    merged = {names: tuple(dict.fromkeys(of_unit[name] for name in names)) for names in distinct}
    return [merged[names] for names in units], first
