"""Lower bounds: what no schedule of some tasks can beat, each named in words.

- Longest chain: tasks that wait for each other take their sum.
- Work of a unit: it does one thing at a time.
- Heads and tails: before a unit's task runs what leads to it (its head), after it what still follows (its
  tail). The best order of one unit, if it could break off a task for a more urgent one, is found at once: of
  what may run, the longest tail first (J. R. Jackson, "Scheduling a production line to minimize maximum
  tardiness", 1955; J. Carlier, "The one-machine sequencing problem", EJOR 11, 1982). No schedule is shorter.
- Raised at barriers: what waits for several tasks starts no earlier than the units can have done all that
  leads to it, which may be far more than the longest chain: the same bound over those tasks alone. Mirrored,
  the same holds of tails at what several tasks wait for.

These are bounds of the tasks as they are cut. Given the uncut tasks too, they hold however a layer is cut
into bands: chains are those of the finest bands, the work of a layer is that of the uncut one.
"""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from msgspec import structs

from ffebm.plan.schedule import Schedule
from ffebm.scheduling.list_schedule import LONGEST_CHAIN, Task, numbered_units, work_of_units

BARRIERS = 200
"""Barriers at which bounds are raised at most, those that wait for most first."""
VISITS = 10
"""How often raising may visit each task on average, so that it stays linear; without it bounds still hold."""
ROUNDING = 1e-9
"""Part of a bound that is no difference: sums in another order differ in their last digits."""
Job = tuple[float, float, float]
"""Head, work and tail of what one unit has to do, seconds."""


@dataclass(frozen=True)
class Bound:
    """A lower bound of the makespan.

    Attributes:
        seconds: No schedule is shorter.
        name: What makes it so long, in words.
    """

    seconds: float
    name: str


def bounds_of(tasks: Sequence[Task], uncut: Sequence[Task] = ()) -> tuple[Bound, ...]:
    """Lower bounds of every schedule of some tasks, the strongest first; of equal ones the simplest.

    Args:
        tasks: In an order in which each waits only for earlier ones; if the bounds are to hold for every cut,
            cut as finely as any schedule may cut them.
        uncut: The same work uncut. A task is a part of the one of its kind, name, units and sample.
    """
    net = _Net.of(tasks, uncut)
    mirrored = net.mirrored()
    found = []
    for raised in (False, True):
        heads, tails = _heads(net, raised), _heads(mirrored, raised)[::-1]
        if not raised:
            chains = (h + s + t for h, s, t in zip(heads, net.seconds, tails, strict=True))
            found.append(Bound(max(chains, default=0.0), LONGEST_CHAIN))
            busy = work_of_units(list(uncut or tasks))
            found += [
                Bound(busy[unit], f"work of {unit}") for unit in sorted(busy, key=lambda u: (-busy[u], u))[:1]
            ]
        seconds, busiest = _most(net, ((n, heads[n], tails[n]) for n in range(len(heads))))
        more = ", raised at barriers" if raised else ""
        if busiest >= 0:
            name = f"work of {net.names[busiest]} between heads and tails{more}"
            found.append(Bound(seconds, name))
    # sums in another order differ in their last digits, which make no bound the stronger one
    return tuple(sorted(found, key=lambda bound: -float(f"{bound.seconds:.12g}")))


def with_bound(schedule: Schedule, tasks: Sequence[Task], uncut: Sequence[Task] = ()) -> Schedule:
    """A schedule of some tasks with the strongest of their bounds."""
    strongest = bounds_of(tasks, uncut)[0]
    if strongest.seconds <= schedule.lower_bound_s * (1 + ROUNDING):
        return schedule
    return structs.replace(schedule, lower_bound_s=strongest.seconds, lower_bound=strongest.name)


def one_machine(jobs: Iterable[Job]) -> float:
    """The least makespan of one unit that may break off jobs (Jackson's preemptive schedule)."""
    waiting = sorted(jobs, reverse=True)
    able: list[tuple[float, float]] = []
    now = least = 0.0
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


@dataclass(frozen=True)
class _Net:
    """Tasks as numbers.

    Attributes:
        seconds: How long each takes.
        before: What each waits for, all earlier.
        units: Numbers of the units of each; units that always work together are one.
        part_of: The uncut task of each, as a number.
        uncut_s: How long each uncut task takes.
        cut_s: How long its parts take together.
        names: A name of each unit.
    """

    seconds: list[float]
    before: list[tuple[int, ...]]
    units: list[tuple[int, ...]]
    part_of: list[int]
    uncut_s: list[float]
    cut_s: list[float]
    names: list[str]

    @classmethod
    def of(cls, tasks: Sequence[Task], uncut: Sequence[Task]) -> "_Net":
        """Of tasks. Several that wait for the same several tasks wait for one that takes no time instead."""
        numbers, names = numbered_units([task.units for task in tasks])
        keys: dict[object, int] = {}
        parts = [keys.setdefault(_key(task) if uncut else n, len(keys)) for n, task in enumerate(tasks)]
        cut_s = [0.0] * len(keys)
        for task, part in zip(tasks, parts, strict=True):
            cut_s[part] += task.seconds
        uncut_s = [0.0] * len(keys) if uncut else cut_s
        for task in uncut:
            if _key(task) in keys:
                uncut_s[keys[_key(task)]] += task.seconds
        net = cls([], [], [], [], uncut_s, cut_s, names)
        place: list[int] = []
        joint: dict[tuple[int, ...], int] = {}
        for task, on, part in zip(tasks, numbers, parts, strict=True):
            before = tuple(place[n] for n in task.after)
            if len(before) > 1:
                if before not in joint:
                    joint[before] = net._add(0.0, before, (), part)
                before = (joint[before],)
            place.append(net._add(task.seconds, before, on if task.seconds else (), part))
        return net

    def _add(self, seconds: float, before: tuple[int, ...], units: tuple[int, ...], part: int) -> int:
        self.seconds.append(seconds)
        self.before.append(before)
        self.units.append(units)
        self.part_of.append(part)
        return len(self.seconds) - 1

    def mirrored(self) -> "_Net":
        """The same tasks with time running backwards: the last is the first."""
        last = len(self.seconds) - 1
        before: list[list[int]] = [[] for _ in self.seconds]
        for index, earlier in enumerate(self.before):
            for number in earlier:
                before[last - number].append(last - index)
        return _Net(
            seconds=self.seconds[::-1],
            before=[tuple(found) for found in before],
            units=self.units[::-1],
            part_of=self.part_of[::-1],
            uncut_s=self.uncut_s,
            cut_s=self.cut_s,
            names=self.names,
        )

    def jobs(self, found: Iterable[tuple[int, float, float]]) -> Iterator[tuple[int, list[Job]]]:
        """What each unit has to do for some tasks, given with their heads and tails; parts are put together.

        Of an uncut task whose other parts are left out, what these take at most is taken off.
        """
        merged: dict[int, dict[int, tuple[float, float, float, float]]] = {}
        for index, head, tail in found:
            part, seconds = self.part_of[index], self.seconds[index]
            for unit in self.units[index]:
                on_unit = merged.setdefault(unit, {})
                old = on_unit.get(part)
                if old is None:
                    on_unit[part] = (head, seconds, tail, seconds)
                else:
                    total, most = old[1] + seconds, max(old[3], seconds)
                    on_unit[part] = (min(old[0], head), total, min(old[2], tail), most)
        for unit, on_unit in merged.items():
            jobs = [
                (head, max(most, self.uncut_s[part] - (self.cut_s[part] - total)), tail)
                for part, (head, total, tail, most) in on_unit.items()
            ]
            yield unit, jobs


def _key(task: Task) -> object:
    return task.kind, task.name, task.units, task.sample


def _heads(net: _Net, raised: bool) -> list[float]:
    """The earliest start of each task that its chains allow, and, raised, its barriers."""
    barriers: set[int] = set()
    dominators: list[int] = []
    if raised:
        dominators = _dominators(net.before)
        wide = [index for index, before in enumerate(net.before) if len(before) > 1]
        barriers = set(sorted(wide, key=lambda index: -len(net.before[index]))[:BARRIERS])
    visits = VISITS * len(net.seconds)
    heads: list[float] = []
    for index, before in enumerate(net.before):
        head = max((heads[n] + net.seconds[n] for n in before), default=0.0)
        heads.append(head)
        if index in barriers and visits > 0:
            reached = _leading_to(net, index, dominators[index], heads)
            visits -= len(reached)
            heads[index] = max(head, _most(net, reached, head)[0])
    return heads


def _leading_to(net: _Net, index: int, stop: int, heads: list[float]) -> list[tuple[int, float, float]]:
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


def _most(net: _Net, found: Iterable[tuple[int, float, float]], least: float = 0.0) -> tuple[float, int]:
    """The largest bound that a unit alone gives, and that unit; `least` is known already."""
    best, busiest = least, -1
    for unit, jobs in net.jobs(found):
        heads, work, tails = zip(*jobs, strict=True)
        if max(heads) + sum(work) + max(tails) > best:
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
