"""Tasks as numbers, as bounds need them."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ffebm.plan.memory.work import waits_for_units
from ffebm.plan.schedule import in_turns
from ffebm.scheduling.bounds.turns import ROUNDING, with_turns
from ffebm.scheduling.list_schedule import Task, numbered_units

NEARLY = 0.9
"""Part of an uncut task that the shares of its rows come to at least where they count and it does not."""
Job = tuple[float, float, float]
"""Head, work and tail of what one unit has to do, seconds."""
Reached = tuple[int, float, float]
"""A task with its head and its tail, seconds."""


@dataclass(frozen=True)
class Net:
    """Tasks of a schedule, in an order in which each waits only for earlier ones.

    A task may be a part of an uncut one. In whatever way that is cut, all of it takes no less than uncut, and
    what makes some of its rows no less than the finest part that makes one of them. Where its time grows in a
    straight line with its rows, each row has a share of it, which any cut takes too. Parts follow each other,
    and what each takes beside its rows (a latency, copies of a weight that wait) counts once for each band
    that they may be in: all the way through some parts leads a chain of their shares, or, where these are not
    known, of all that they take less what cutting may have added to the whole. Units that are free before a
    task has ended work for the time before; the rest follows, on no unit.

    Attributes:
        seconds: How long each takes.
        before: What each waits for.
        units: Numbers of the units of each; units that always work together are one, and so are those of
            tasks that take turns (`with_turns`).
        share: What each takes at least in any cut; 0 if that is not known of it alone.
        part_of: The uncut task of each, as a number.
        uncut_s: How long each uncut task takes.
        cut_s: How long its parts take together.
        names: A name of each unit.
    """

    seconds: list[float]
    before: list[tuple[int, ...]]
    units: list[tuple[int, ...]]
    share: list[float]
    part_of: list[int]
    uncut_s: list[float]
    cut_s: list[float]
    names: list[str]

    @classmethod
    def of(cls, tasks: Sequence[Task], uncut: Sequence[Task] = (), *, row_by_row: bool = False) -> "Net":
        """Of tasks. Several that wait for the same several tasks wait for one that takes no time instead.

        Args:
            tasks: As `bounds_of` takes them.
            uncut: The same.
            row_by_row: Where an uncut task takes little more than the shares of its rows, these count, and
                the rest does not.
        """
        numbers, names = numbered_units([task.units for task in tasks])
        numbers, turns = with_turns(numbers, [task.busy_s for task in tasks], len(names))
        names += [in_turns(names[unit]) for unit in turns]
        keys: dict[object, int] = {}
        parts = [keys.setdefault(_key(task) if uncut else n, len(keys)) for n, task in enumerate(tasks)]
        cut_s, uncut_s, shares = _shares(tasks, parts, keys, uncut, row_by_row=row_by_row)
        net = cls([], [], [], [], [], uncut_s, cut_s, names)
        place: list[int] = []
        freed: list[int] = []
        rows: dict[int, int] = {}
        joint: dict[tuple[int, ...], int] = {}

        def joined(before: tuple[int, ...], part: int) -> tuple[int, ...]:
            if len(before) < 2:
                return before
            if before not in joint:
                joint[before] = net._add(0.0, before, (), part, 0.0)
            return (joint[before],)

        several = Counter(parts)
        for number, (task, on, part) in enumerate(zip(tasks, numbers, parts, strict=True)):
            on, share = on if task.seconds else (), shares[number]
            waits = (freed[n] if waits_for_units(task, tasks[n]) else place[n] for n in task.after)
            before = joined(
                tuple(w for w, n in zip(waits, task.after, strict=True) if parts[n] != part), part
            )
            if several[part] == 1:
                freed.append(net._add(task.busy_s, before, on, part, share))
                place.append(net._read(task, freed[-1], part))
                continue

            # one band alone, and as far as it may be one with the bands before it
            inside = [n for n in task.after if parts[n] == part]
            alone = net._read(task, net._add(task.busy_s, before, () if share else on, part, 0.0), part)
            added = 0.0 if share else max(0.0, cut_s[part] - uncut_s[part])
            entry = net._add(-added, before, (), part, 0.0)
            follows = joined((entry, *(rows[n] for n in inside)), part)
            # with others in one band it may be there when the units are free
            rows[number] = net._add(share or task.busy_s, follows, on if share else (), part, share)
            place.append(net._add(0.0, (alone, rows[number], *(place[n] for n in inside)), (), part, 0.0))
            freed.append(place[-1])
        return net

    def _add(
        self, seconds: float, before: tuple[int, ...], units: tuple[int, ...], part: int, share: float
    ) -> int:
        self.seconds.append(seconds)
        self.before.append(before)
        self.units.append(units)
        self.part_of.append(part)
        self.share.append(share)
        return len(self.seconds) - 1

    def _read(self, task: Task, busy: int, part: int) -> int:
        """What follows what units do for a task, on none of them, until it has ended."""
        return self._add(task.lag, (busy,), (), part, 0.0) if task.lag else busy

    def mirrored(self) -> "Net":
        """The same tasks with time running backwards: the last is the first."""
        last = len(self.seconds) - 1
        before: list[list[int]] = [[] for _ in self.seconds]
        for index, earlier in enumerate(self.before):
            for number in earlier:
                before[last - number].append(last - index)
        return Net(
            seconds=self.seconds[::-1],
            before=[tuple(found) for found in before],
            units=self.units[::-1],
            share=self.share[::-1],
            part_of=self.part_of[::-1],
            uncut_s=self.uncut_s,
            cut_s=self.cut_s,
            names=self.names,
        )

    def jobs(self, found: Iterable[Reached]) -> Iterator[tuple[int, list[Job]]]:
        """What each unit has to do for some tasks. Parts whose share is not known are put together.

        Of an uncut task whose other parts are left out, what these take at most is taken off.
        """
        jobs: dict[int, list[Job]] = {}
        merged: dict[tuple[int, int], list[Reached]] = {}
        for index, head, tail in found:
            for unit in self.units[index]:
                if self.share[index]:
                    jobs.setdefault(unit, []).append((head, self.share[index], tail))
                else:
                    merged.setdefault((unit, self.part_of[index]), []).append((index, head, tail))
        for (unit, part), reached in merged.items():
            longest = together = 0.0  # added up one by one, as compiled loops do
            for index, _, _ in reached:
                longest, together = max(longest, self.seconds[index]), together + self.seconds[index]
            work = max(longest, self.uncut_s[part] - (self.cut_s[part] - together))
            head, tail = min(head for _, head, _ in reached), min(tail for _, _, tail in reached)
            jobs.setdefault(unit, []).append((head, work, tail))
        yield from jobs.items()


def _key(task: Task) -> object:
    return task.kind, task.name, task.units, task.sample


def _shares(
    tasks: Sequence[Task],
    parts: Sequence[int],
    keys: Mapping[object, int],
    uncut: Sequence[Task],
    *,
    row_by_row: bool,
) -> tuple[list[float], list[float], list[float]]:
    """What parts of an uncut task take together, what it takes uncut, and the share of each part, seconds.

    Args:
        tasks: The parts; if nothing is uncut each is all of its own.
        parts: The uncut task of each, as a number.
        keys: The number of each uncut task.
        uncut: These.
        row_by_row: As `Net.of` takes it.
    """
    cut_s, uncut_s, growing, known = ([0.0] * len(keys) for _ in range(4))
    for task, part in zip(tasks, parts, strict=True):
        cut_s[part] += task.busy_s
        growing[part] += task.busy_s - task.fixed_s
        known[part] += task.share_s
    if not uncut:
        return cut_s, cut_s, [task.busy_s for task in tasks]
    for task in uncut:
        if _key(task) in keys:
            part = keys[_key(task)]
            uncut_s[part] += task.busy_s
            growing[part] += task.fixed_s
    ratios = _ratios(cut_s, uncut_s, growing)
    shares = [ratios[part] * task.busy_s for task, part in zip(tasks, parts, strict=True)]
    if row_by_row:
        for number, (task, part) in enumerate(zip(tasks, parts, strict=True)):
            if not shares[number] and known[part] >= NEARLY * uncut_s[part]:
                shares[number] = min(task.share_s, task.busy_s)
    return cut_s, uncut_s, shares


def _ratios(cut_s: list[float], uncut_s: list[float], growing: list[float]) -> list[float]:
    """What of each part's time it takes in any cut, if its time grows in a straight line with its rows."""
    return [
        min(1.0, uncut / cut) if cut and abs(straight - uncut) <= ROUNDING * uncut else 0.0
        for cut, uncut, straight in zip(cut_s, uncut_s, growing, strict=True)
    ]
