"""Samples in flight: the tasks of several samples from those of one, and how fast samples can follow.

Samples share the machine, so a unit works for one sample while other units work for others. In a training
step of several samples each has phases, contrasts and backward passes of its own; what updates weights comes
once, after the gradients of all, and so after the last read of those weights by anyone. What normalises by
statistics of the batch joins the samples: none goes on before all are there.

In the long run a further sample takes what the busiest unit has to do for it, or tasks of which each two
share a unit: these take turns, though no unit does all of them. Between two joins all samples need all units
that work there, so there the busiest unit counts, which may be another between the next two.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from msgspec import structs

from ffebm.graph.graph import Graph
from ffebm.plan.schedule import Schedule
from ffebm.scheduling.bounds.turns import with_turns
from ffebm.scheduling.list_schedule import Task, list_schedule, numbered_units

Seconds = npt.NDArray[np.float64]
UnitNumbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Interval:
    """How fast samples can follow each other.

    Attributes:
        seconds: What a further sample adds, in the long run.
        unit: The unit that limits it; of several joined parts the one with the most to do where it limits.
        turns: What takes turns on it and on further units, where no unit alone has that much to do.
    """

    seconds: float
    unit: str
    turns: tuple[str, ...] = ()


def joining(graph: Graph) -> frozenset[str]:
    """Names of nodes that join the samples of a training step: they normalise by statistics of the batch."""
    return frozenset(node.name for node in graph.nodes if node.op == "BatchNormalization")


def samples_in_flight(tasks: Sequence[Task], samples: int, joined: Collection[str] = ()) -> list[Task]:
    """The tasks of several samples.

    Args:
        tasks: Of one sample, in an order in which each waits only for earlier ones.
        samples: How many.
        joined: Names of nodes that need all samples before they can work for one.

    Returns:
        In such an order too; each says its sample. What is done once belongs to the last one.
    """
    if samples > 1:  # what a run leaves as it is comes again with every run
        tasks = [
            task if once else structs.replace(task, fixed_s=0.0, fixed_j=0.0)
            for task, once in zip(tasks, _once(tasks), strict=True)
        ]
    found: list[Task] = []
    places: list[tuple[int, ...]] = []
    for task, once in zip(tasks, _once(tasks), strict=True):
        waits = [places[before] for before in task.after]
        start = len(found)
        if once or task.name in joined:
            after = tuple(sorted({place for copies in waits for place in copies}))
            joint = [_for_all(task, samples)] if once else [task] * samples
            found += [structs.replace(copy, after=after) for copy in joint]
        else:
            found += [structs.replace(task, after=_of_sample(waits, n)) for n in range(samples)]
        last = samples - 1 if once else 0
        found[start:] = [structs.replace(copy, sample=n + last) for n, copy in enumerate(found[start:])]
        places.append(tuple(range(start, len(found))))
    return found


def _of_sample(waits: list[tuple[int, ...]], sample: int) -> tuple[int, ...]:
    """Where the copies for one sample stand."""
    return tuple(sorted(copies[sample] for copies in waits))


def _once(tasks: Sequence[Task]) -> list[bool]:
    """Which tasks a batch does once: updates, and what follows one."""
    found: list[bool] = []
    for task in tasks:
        found.append(task.kind == "update" or any(found[before] for before in task.after))
    return found


def _comes_for_each(update: Task) -> bool:
    """Whether an update has as much to do for each sample: pulses by pairs of states have no fixed part."""
    return update.fixed_s == 0.0


def _for_all(task: Task, samples: int) -> Task:
    """What is done once, for all samples: pulses by pairs of states come for each of them."""
    if not _comes_for_each(task):
        return task
    return structs.replace(task, seconds=task.seconds * samples, cost=task.cost.times(samples))


def first_of(tasks: Sequence[Task]) -> list[Task]:
    """The tasks of the first sample from those of several, and what is done once as for it alone."""
    once = _once(tasks)
    samples = 1 + max((task.sample for task in tasks), default=0)
    place: dict[int, int] = {}
    found: list[Task] = []
    for n, task in enumerate(tasks):
        if once[n] or task.sample == 0:
            place[n] = len(found)
            seconds = task.seconds / samples if _comes_for_each(task) else task.seconds
            after = tuple(place[before] for before in task.after if before in place)
            found.append(
                structs.replace(task, sample=0, after=after, seconds=seconds if once[n] else task.seconds)
            )
    return found


def interval_of(tasks: Sequence[Task], joined: Collection[str] = ()) -> Interval:
    """What each further sample adds at least, in the long run, and what limits it.

    Joins that follow one another are barriers: all that leads to one comes before all that needs it. So the
    times between barriers add up. Of all joins the longest chain of them counts.

    Args:
        tasks: Of one sample, in an order in which each waits only for earlier ones.
        joined: Names of nodes that need all samples before they can work for one.
    """
    numbers, names = numbered_units([task.units for task in tasks])
    if not names:
        return Interval(0.0, "")
    each = [
        task.busy_s if not once or _comes_for_each(task) else 0.0
        for task, once in zip(tasks, _once(tasks), strict=True)
    ]
    on, turns = with_turns(numbers, each, len(names))
    barriers = _longest_chain(tasks, joined)
    first, last = _between(tasks, barriers)
    work: list[list[tuple[int, int, float]]] = [[] for _ in range(len(names) + len(turns))]
    for n, seconds in enumerate(each):
        for unit in on[n]:
            work[unit].append((first[n], last[n], seconds))
    most, busiest = _most_inside(work, len(barriers) + 1)
    interval, shares = _longest(most, busiest, len(work))
    limits = max(range(len(work)), key=lambda unit: (shares[unit], -unit))
    if limits < len(names):
        return Interval(interval, names[limits])
    taking = dict.fromkeys(
        task.name for task, seconds, some in zip(tasks, each, on, strict=True) if seconds and limits in some
    )
    return Interval(interval, names[turns[limits - len(names)]], tuple(taking))


def pace_of(schedule: Schedule) -> float:
    """What each further inference adds at least, in the long run, seconds: `interval_of`, of steps of one."""
    numbers, names = numbered_units([step.units for step in schedule.steps])
    busy = [step.free_s - step.start_s for step in schedule.steps]
    on, turns = with_turns(numbers, busy, len(names))
    work = [0.0] * (len(names) + len(turns))
    for units, seconds in zip(on, busy, strict=True):
        for unit in units:
            work[unit] += seconds
    return max(work, default=0.0)


def _longest_chain(tasks: Sequence[Task], joined: Collection[str]) -> list[int]:
    """The longest chain of joins, in order."""
    length, before = [0] * len(tasks), [-1] * len(tasks)
    for n, task in enumerate(tasks):
        # of equally long chains the earliest task's
        best = max(task.after, key=lambda earlier: (length[earlier], -earlier), default=-1)
        here = task.name in joined
        if best >= 0:
            length[n], before[n] = length[best], best
        length[n] += here
    chain = []
    at = max(range(len(tasks)), key=lambda n: (length[n], -n), default=-1)
    while at >= 0:
        if tasks[at].name in joined:
            chain.append(at)
        at = before[at]
    return chain[::-1]


def _between(tasks: Sequence[Task], barriers: list[int]) -> tuple[list[int], list[int]]:
    """For each task how many barriers it follows, and how many it may follow at most."""
    first = [0] * len(tasks)
    number = {task: place for place, task in enumerate(barriers, 1)}
    for n, task in enumerate(tasks):
        first[n] = number.get(n, max((first[before] for before in task.after), default=0))
    last = [len(barriers)] * len(tasks)
    for n in reversed(range(len(tasks))):
        behind = number[n] - 1 if n in number else last[n]
        for before in tasks[n].after:
            last[before] = min(last[before], behind)
    return first, last


def _most_inside(work: list[list[tuple[int, int, float]]], count: int) -> tuple[Seconds, UnitNumbers]:
    """The most that a unit has to do from one part to another, and that unit.

    Args:
        work: For each unit the first and the last part that something may be done in, and its seconds.
        count: Parts between barriers.

    Returns:
        Seconds and numbers of units [parts, parts].
    """
    most, busiest = np.zeros((count, count)), np.zeros((count, count), np.int64)
    for unit, tasks in enumerate(work):
        first, last, seconds = (np.array(column) for column in zip(*tasks, strict=True))
        starts, row = np.unique(first, return_inverse=True)
        ends, col = np.unique(last, return_inverse=True)
        inside = np.zeros((len(starts), len(ends)))
        np.add.at(inside, (row, col), seconds)
        inside = inside[::-1].cumsum(axis=0)[::-1].cumsum(axis=1)
        at = np.ix_(starts, ends)
        more = inside > most[at]
        most[at], busiest[at] = np.where(more, inside, most[at]), np.where(more, unit, busiest[at])
    # what lies inside some parts lies inside more of them too
    for part in range(1, count):
        _at_least(most[:, part], busiest[:, part], most[:, part - 1], busiest[:, part - 1])
    for part in reversed(range(count - 1)):
        _at_least(most[part], busiest[part], most[part + 1], busiest[part + 1])
    return most, busiest


def _at_least(most: Seconds, busiest: UnitNumbers, inner: Seconds, of_inner: UnitNumbers) -> None:
    """Raise seconds, and change their units, where inner parts have more."""
    more = inner > most
    most[more], busiest[more] = inner[more], of_inner[more]


def _longest(most: Seconds, busiest: UnitNumbers, n_units: int) -> tuple[float, list[float]]:
    """The least time of all parts together, and what each unit does of it where it limits.

    Args:
        most: Seconds from one part to another [parts, parts].
        busiest: The unit that they are of [parts, parts].
        n_units: How many units there are.
    """
    count = len(most)
    least, start_of = [0.0], [0]
    for end in range(count):
        times = np.array(least) + most[: end + 1, end]
        start_of.append(int(times.argmax()))
        least.append(float(times.max()))
    shares = [0.0] * n_units
    end = count
    while end:
        start = start_of[end]
        shares[int(busiest[start, end - 1])] += float(most[start, end - 1])
        end = start
    return least[count], shares


def simulated_interval(tasks: Sequence[Task], samples: int, joined: Collection[str] = ()) -> float:
    """What each further sample adds to a schedule of several on average, seconds.

    Args:
        tasks: Of one sample, in an order in which each waits only for earlier ones.
        samples: How many, at least 2.
        joined: Names of nodes that need all samples before they can work for one.
    """
    one, all_of_them = (
        list_schedule(samples_in_flight(tasks, count, joined)).makespan_s for count in (1, samples)
    )
    return (all_of_them - one) / (samples - 1)
