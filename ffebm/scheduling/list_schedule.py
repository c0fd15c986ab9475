"""List scheduling: a time for every task, so that a unit does one thing at a time.

Whenever units come free, all that waits and all that has just become possible is tried in one order: of the
earlier sample first, then what has the longest chain of work behind it. Across samples the chain alone would
let late samples overtake early ones, whose results then come late; they may also follow at a pace. If that
takes longer than the bounds, further passes from the end of the schedule and back improve the order, at last
task by task, and where tasks are few a local search.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from msgspec import structs

from ffebm.graph.tensor import Floats
from ffebm.mapping.digital_cost import DigitalWork
from ffebm.plan.memory.demand import Integers
from ffebm.plan.memory.work import waits_for_units
from ffebm.plan.schedule import Cost, Schedule, Step, StepKind
from ffebm.scheduling.order.local_search import GAIN, Placing, searched
from ffebm.scheduling.order.paces import MOST_TOGETHER_IN_TURN, Samples, at_a_pace
from ffebm.scheduling.order.workload import Workload, foresee

LONGEST_CHAIN = "longest chain"
"""Name of the bound that the critical path is."""
LONG = 0.1
"""Part of a makespan from which on a task is long: nothing breaks it off. On `pimcomp` the gradient of
VGG-19's first dense layer crosses the network for a fifth of a training step: docs/scheduling.md."""
MOST_IN_TURN = 10_000
"""Tasks up to which each is placed for itself too, those of one sample: looking for gaps takes longer than in
proportion."""
MOST_SEARCHED = 1_300
"""Tasks up to which a shorter schedule is searched for. Of 3,348 to 8,514 (Inception v2) 150 passes find no
more than 0.1 %."""
MOST_PLACED = 200_000
"""Tasks that such a search places, in all passes together."""
SEARCHES = 10
"""How often one is made at least while a model is compiled that needs any."""


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
        share_s: Seconds that it takes at least of any larger band that it may be a part of; 0 if that is not
            known.
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
    share_s: float = 0.0

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


def early_results(tasks: list[Task]) -> tuple[Schedule, list[int]]:
    """As `ordered`; of several samples the earlier have their results as early as they usually have."""
    return ordered(tasks, early=True)


def ordered(tasks: list[Task], *, early: bool = False) -> tuple[Schedule, list[int]]:
    """The schedule of tasks, and the position of each step's task in the list.

    Args:
        tasks: In an order in which each waits only for earlier ones.
        early: Results of several samples are to be early rather than the last one: `at_a_pace`.
    """
    parted = _Parted.of(tasks)
    behind = chains_behind(parted.tasks)
    busy = work_of_units(tasks)
    busiest = max(sorted(busy), key=lambda unit: busy[unit], default="")
    chain, most = max(behind, default=0.0), busy.get(busiest, 0.0)
    found = _starts(parted.tasks, behind, max(chain, most), early=early).tolist()
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


def _starts(tasks: Sequence[Task], behind: list[float], least: float, *, early: bool = False) -> Floats:
    """Start of every task, seconds, [n].

    The schedule is first built forwards. Unless it is as short as can be, it is built once more from its end,
    what ends last first, and again forwards in the order that this gives (forward-backward improvement, K. Y.
    Li and R. J. Willis, "An iterative scheduling technique for resource-constrained project scheduling", EJOR
    56, 1992); so is one that is built from its end at once, what has the longest chain before it first. In
    the end the same is done to the shortest one task by task (`serial_starts`), so that what is long and has
    time does not hold up what is urgent, and once more with what is longest as late as it may be
    (`_long_last`). The shortest of all is taken, and where tasks are few a shorter one
    is searched for. Samples of an inference keep their order, as each has its own result: `at_a_pace`.
    """
    numbers, _ = numbered_units([task.units for task in tasks])
    work = Workload(np.array([task.seconds for task in tasks]), [task.after for task in tasks], numbers)
    sample = np.array([task.sample for task in tasks])
    starts = work.served(sample, -np.array(behind))
    if work.length(starts) <= least * (1 + GAIN):
        return starts
    if sample.any() and not any(task.kind == "update" for task in tasks):
        samples = _samples(tasks, sample)
        return starts if samples is None else at_a_pace(work, samples, starts, early=early)
    found = [starts]
    for urgent in (starts + work.seconds, work.chains):
        found.append(work.served(work.served_from_end(urgent)))
    if len(tasks) <= MOST_IN_TURN:
        shortest = work.shortest(found)
        for urgent in (shortest + work.seconds, work.chains):
            found.append(work.in_turn(work.in_turn_from_end(urgent)))
        found += _long_last(work, shortest)
    return _searched(tasks, work, work.shortest(found), least)


def _long_last(work: Workload, starts: Floats) -> list[Floats]:
    """Starts where what is long, if anything is, is placed first from the end, as late as it may be.

    Among short tasks that end late there may be no gap that it fits into: it would come before all of them.
    """
    length = work.length(starts)
    long = work.seconds > LONG * length
    if not long.any():
        return []
    late = work.served(work.in_turn_from_end(np.where(long, length, work.chains)))
    return [work.in_turn(work.in_turn_from_end(late + work.seconds))]


def _searched(tasks: Sequence[Task], work: Workload, starts: Floats, least: float) -> Floats:
    """Starts of a schedule that is no longer, seconds, found by `local_search` where tasks are few."""
    if len(tasks) > MOST_SEARCHED:
        return starts
    passes = min(len(tasks), MOST_PLACED // len(tasks))
    foresee(SEARCHES * passes * len(tasks))
    layers: dict[tuple[str, str, int], list[int]] = {}
    for number, task in enumerate(tasks):
        layers.setdefault((task.kind, task.name, task.sample), []).append(number)
    placing = Placing(work.seconds, work.in_turn, work.backwards.in_turn)
    found = searched(placing, starts, list(layers.values()), passes, least)
    return work.shortest([starts, found])


def _samples(tasks: Sequence[Task], sample: Integers) -> Samples | None:
    """What is to be known of samples that follow one another; None if they do not have the same tasks.

    Args:
        tasks: Of all samples.
        sample: Of each of them, [n].
    """
    order = np.argsort(sample, kind="stable")
    count = np.bincount(sample)
    if (count != count[0]).any():
        return None
    place = np.empty(len(tasks), np.int64)
    place[order] = np.arange(len(tasks)) % count[0]
    places = place.tolist()
    one = [structs.replace(t, after=tuple(places[n] for n in t.after)) for t in tasks if not t.sample]
    alone = _starts(one, chains_behind(one), least_of(one))
    pace = max(work_of_units(one).values(), default=0.0)
    in_turn = len(one) <= MOST_IN_TURN and len(tasks) <= MOST_TOGETHER_IN_TURN
    return Samples(sample, alone[place], pace, in_turn)


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
