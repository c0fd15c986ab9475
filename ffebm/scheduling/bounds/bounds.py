"""Lower bounds: what no schedule of some tasks can beat, each named in words.

- Longest chain: tasks that wait for each other take their sum.
- Work of a unit: it does one thing at a time.
- Heads and tails: before a unit's task runs what leads to it (its head), after it what still follows (its
  tail). The best order of one unit, if it could break off a task for a more urgent one, is found at once: of
  what may run, the longest tail first (J. R. Jackson, "Scheduling a production line to minimize maximum
  tardiness", 1955; J. Carlier, "The one-machine sequencing problem", EJOR 11, 1982). No schedule is shorter.
- Turns: tasks of which each two share a unit are as if on one, though no unit may do all of them.
- Raised at barriers: what waits for several tasks starts no earlier than the units can have done all that
  leads to it, which may be far more than the longest chain: the same bound over those tasks alone. Mirrored,
  the same holds of tails at what several tasks wait for.

These are bounds of the tasks as they are cut. Given the uncut tasks too, they hold however a layer is cut
into bands: chains are those of the finest bands, the work of a layer is that of the uncut one.
"""

import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from msgspec import structs

from ffebm.plan.schedule import Schedule
from ffebm.scheduling.bounds.net import Job, Net, Reached
from ffebm.scheduling.bounds.turns import ROUNDING
from ffebm.scheduling.bounds.unit_queue import Done, UnitQueue
from ffebm.scheduling.kernels.spent import Spent
from ffebm.scheduling.list_schedule import LONGEST_CHAIN, Task, work_of_units

SAME = 1e-12
"""Part of a time that is within the rounding of its sum."""
BARRIERS = 200
"""Barriers at which bounds are raised at most, those that wait for most first."""
VISITS = 50_000
"""Tasks that raising at barriers may visit, which bounds its time; what is not raised still holds."""
BUSIEST = 32
"""Units whose queues raise heads, those with most to do first. With 4 the bounds of Inception v2 and
DenseNet-121 on `reference` are 2 % lower: docs/scheduling.md."""
MOST_PLAIN = 20_000
"""Tasks whose heads a process raises by plain loops: that takes about as long as loading the compiled ones,
which are quicker by ten times."""
AGAIN = 3
"""How often the same comes again while a model is compiled: tails, and both of a training step."""
_SPENT = Spent(MOST_PLAIN, AGAIN)


@dataclass(frozen=True)
class Bound:
    """A lower bound of the makespan.

    Attributes:
        seconds: No schedule is shorter.
        name: What makes it so long, in words.
    """

    seconds: float
    name: str


def bounds_of(
    tasks: Sequence[Task], uncut: Sequence[Task] = (), enough: float = math.inf
) -> tuple[Bound, ...]:
    """Lower bounds of every schedule of some tasks, the strongest first; of equal ones the simplest.

    Args:
        tasks: In an order in which each waits only for earlier ones; if the bounds are to hold for every cut,
            cut as finely as any schedule may cut them.
        uncut: The same work uncut. A task is a part of the one of its kind, name, units and sample.
        enough: Of how long a schedule there is, seconds: no bound is above it, so the search ends there.
    """
    found: dict[str, float] = {}
    for row_by_row in (False, True) if uncut and any(task.share_s for task in tasks) else (False,):
        for bound in _bounds_of(Net.of(tasks, uncut, row_by_row=row_by_row), uncut or tasks, enough):
            found[bound.name] = max(bound.seconds, found.get(bound.name, -math.inf))
    # sums in another order differ in their last digits, which make no bound the stronger one
    strongest = sorted(found.items(), key=lambda both: -float(f"{both[1]:.12g}"))
    return tuple(Bound(seconds, name) for name, seconds in strongest)


def _bounds_of(net: Net, whole: Sequence[Task], enough: float) -> list[Bound]:
    """Lower bounds of tasks, the simplest first.

    Args:
        net: The tasks.
        whole: The tasks that say what units have to do.
        enough: Where the search ends, seconds.
    """
    mirrored = net.mirrored()
    found: list[Bound] = []
    for raised in (False, True):
        heads, tails = _heads(net, raised), _heads(mirrored, raised)[::-1]
        if not raised:
            chains = (h + s + t for h, s, t in zip(heads, net.seconds, tails, strict=True))
            found.append(Bound(max(chains, default=0.0), LONGEST_CHAIN))
            busy = work_of_units(list(whole))
            found += [
                Bound(busy[unit], f"work of {unit}") for unit in sorted(busy, key=lambda u: (-busy[u], u))[:1]
            ]
        seconds, busiest = _most(net, ((n, heads[n], tails[n]) for n in range(len(heads))))
        more = ", raised at barriers" if raised else ""
        if busiest >= 0:
            name = f"work of {net.names[busiest]} between heads and tails{more}"
            found.append(Bound(seconds, name))
        if max(bound.seconds for bound in found) >= enough * (1 - SAME):
            break
    return found


def with_bound(schedule: Schedule, tasks: Sequence[Task], uncut: Sequence[Task] = ()) -> Schedule:
    """A schedule of some tasks with the strongest of their bounds."""
    if schedule.lower_bound_s >= schedule.makespan_s * (1 - SAME):
        return schedule
    strongest = bounds_of(tasks, uncut, schedule.makespan_s)[0]
    if strongest.seconds <= schedule.lower_bound_s * (1 + ROUNDING):
        return schedule
    return structs.replace(schedule, lower_bound_s=strongest.seconds, lower_bound=strongest.name)


def one_machine(jobs: Iterable[Job]) -> float:
    """The least makespan of one unit that may break off jobs (Jackson's preemptive schedule)."""
    waiting = sorted(jobs, reverse=True)
    able: list[tuple[float, float]] = []
    now, least = 0.0, -math.inf if waiting else 0.0
    while waiting or able:
        if not able:
            now = max(now, waiting[-1][0])
        while waiting and waiting[-1][0] <= now:
            _, work, tail = waiting.pop()
            heapq.heappush(able, (-tail, work))
        tail, work = heapq.heappop(able)
        if waiting and waiting[-1][0] < now + work:
            heapq.heappush(able, (tail, work - (waiting[-1][0] - now)))
            now = waiting[-1][0]
        else:
            now += work
            least = max(least, now - tail)
    return least


def _heads(net: Net, raised: bool) -> list[float]:
    """The earliest start of each task that its chains allow, and, raised, its barriers and busy units."""
    barriers: set[int] = set()
    dominators: list[int] = []
    queues: list[UnitQueue] = []
    if raised:
        dominators = _dominators(net.before)
        wide = [index for index, before in enumerate(net.before) if len(before) > 1]
        barriers = set(sorted(wide, key=lambda index: -len(net.before[index]))[:BARRIERS])
        chains, shares = _heads(net, raised=False), _busiest(net)
        if _SPENT.is_much(len(net.before)):
            from ffebm.scheduling.kernels.heads import Raising, raised_heads

            return raised_heads(
                (net.seconds, net.before, net.units),
                net.share,
                (net.part_of, net.uncut_s, net.cut_s),
                Raising(sorted(barriers), dominators, shares, chains, VISITS, 1 + ROUNDING),
            )
        queues = [UnitQueue(share, chains) for share in shares]
    visits = VISITS
    heads: list[float] = []
    seconds = net.seconds
    for index, before in enumerate(net.before):
        head = -math.inf if before else 0.0  # what leads to a part of a task may be less than nothing
        for n in before:
            ready = heads[n] + seconds[n]
            head = ready if ready > head else head
        done: list[Done] = []
        for queue in queues:
            done.append(queue.before(before, head))
            start = done[-1].start
            head = start if done[-1].tasks and start > head else head
        if index in barriers and visits > 0:
            reached = _leading_to(net, index, dominators[index], heads)
            visits -= len(reached)
            head = max(head, _most(net, reached, head)[0])
        heads.append(head)
        for queue, state in zip(queues, done, strict=True):
            queue.add(state, head, seconds[index])
    return heads


def _busiest(net: Net) -> list[list[float]]:
    """What the units with most to do, which heads are raised by, have to do for each task, seconds."""
    work = [0.0] * len(net.names)
    for units, share in zip(net.units, net.share, strict=True):
        for unit in units:
            work[unit] += share
    busiest = sorted((number for number, some in enumerate(work) if some), key=lambda number: -work[number])
    return [
        [share if unit in units else 0.0 for units, share in zip(net.units, net.share, strict=True)]
        for unit in busiest[:BUSIEST]
    ]


def _leading_to(net: Net, index: int, stop: int, heads: list[float]) -> list[Reached]:
    """Tasks that lead to one, with their heads and what lies between them and it; not what leads to `stop`.

    Nothing is lost by the stop: all paths lead through it, so all before it is in its head.
    """
    between = dict.fromkeys(net.before[index], 0.0)
    waiting = [-number for number in between]
    heapq.heapify(waiting)
    reached = []
    while waiting:
        number = -heapq.heappop(waiting)
        behind = between[number]
        reached.append((number, heads[number], behind))
        if number == stop:
            continue
        behind += net.seconds[number]
        for earlier in net.before[number]:
            if earlier not in between:
                heapq.heappush(waiting, -earlier)
                between[earlier] = behind
            elif between[earlier] < behind:
                between[earlier] = behind
    return reached


def _most(net: Net, found: Iterable[Reached], least: float = 0.0) -> tuple[float, int]:
    """The largest bound that a unit alone gives, and that unit; `least` is known already.

    A unit's bound is, for some of its jobs, their least head, work and least tail: no more than all its work
    and the largest sum of a job's head and tail.
    """
    best, busiest = least, -1
    for unit, jobs in net.jobs(found):
        most = sum(work for _, work, _ in jobs) + max(head + tail for head, _, tail in jobs)
        if most * (1 + ROUNDING) > best:
            seconds = one_machine(jobs)
            if seconds > best:
                best, busiest = seconds, unit
    return best, busiest


def _dominators(before: Sequence[tuple[int, ...]]) -> list[int]:
    """Of each task the last one that lies on all paths to it; -1 if there is none.

    On a graph without cycles one pass is enough (K. D. Cooper, T. J. Harvey, K. Kennedy, "A simple, fast
    dominance algorithm", 2001).
    """
    found: list[int] = []
    for earlier in before:
        meet = earlier[0] if earlier else -1
        for number in earlier[1:]:
            other = number
            while meet != other:
                if meet > other:
                    meet = found[meet]
                else:
                    other = found[other]
        found.append(meet)
    return found
