"""The search for a mapping: what the solver chooses, packed onto tiles and measured by the schedule.

The solver adds up prices; the schedule knows more: which transfers wait for each other, what runs side by
side. So what the solver chooses is scheduled, and so are the digital twin and others. In small graphs each
of them is changed, one option or two at a time, as long as the schedule gets better and the effort lasts;
for the default objective, with which all plans are made that ask for no figure, that is 0.15 of it.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, combinations, islice, product
from typing import get_args

from ffebm.errors import UsageError
from ffebm.graph.graph import Graph
from ffebm.hardware.description import Hardware
from ffebm.mapping.options import Choosing, Option
from ffebm.mapping.packing import APART, Box, pack
from ffebm.mapping.solver.choice import Choice, choose, choose_beside
from ffebm.mapping.solver.problem import Figures, Limits
from ffebm.mapping.solver.program import LIMIT_NAMES, Criterion, beyond
from ffebm.mapping.tile_counts import boxes_of, tile_counts, ways_of
from ffebm.mapping.whole import WholeChoice, whole_choice
from ffebm.plan.mapping import Objective

OBJECTIVES: tuple[Objective, ...] = get_args(Objective)
"""What a mapping may make small."""
ROUNDS = 8
"""Most times that the solver is asked again, with less, because its choice does not pack or is too slow."""
TRIES: dict[Objective, int] = dict.fromkeys(OBJECTIVES, 2000) | {"analog": 300}
"""Nodes of graphs in schedules that are tried for 1,000 of effort; fewer where no figure was asked for."""
REJECTED = 0.5
"""Of a schedule, what a mapping costs that a bound rejects: 3.0 of 5.5 ms for graphs of 9 to 13 nodes."""
A_SCHEDULE = 40
"""Effort for one schedule of a large graph: all of its mappings that are looked at have one at 1,000."""
CLOSE_SHARES = (1.0, 0.985, 0.97)
"""Shares of the tiles, with parts of tiles as such; behind the first one where the work on tiles counts."""
SHARES = (1.0, 0.93, 0.86, 0.78, 0.7, 0.5)
"""Shares of the tiles that the solver may fill, one after the other until its choice packs."""
BUNDLES = 20_000
"""Bundles of mappings that are packed to fill what is left of the tiles, for 1,000 of effort."""
WEIGHS: dict[Objective, tuple[int, int]] = {
    "analog": (1, 0),
    "latency": (1, 0),
    "throughput": (1, 0),
    "energy": (0, 1),
    "edp": (1, 1),
}
"""What a share of the time and one of the energy weigh for an objective, to first order."""
WORTHS = tuple(2.0**power for power in range(-24, 25))
"""What a tile may be worth, as a share of the inference: from hardly anything to more than all time."""
FOR_TIME: tuple[Objective, ...] = ("analog", "latency")
"""Objectives for which the least time counts."""
SLOWER = (1.0, 1.5)
"""How often the least time that every block can keep a block may take: copies that are fewer are less idle.
ResNet-50 on `isaac` takes 2.29 ms by 1, 1.98 by 1.5, 2.14 by 2: docs/scheduling.md."""
SLACK = 1e-9
"""Rounding of sums, as a share."""


Near = Callable[[tuple[int, ...]], Iterator[tuple[int, ...]]]
"""What a mapping may be changed to at once."""


@dataclass(frozen=True)
class Goal:
    """What a mapping is to be like.

    Attributes:
        objective: What is to be small; "analog" has the most work on tiles, then the least latency.
        tiles: Most tiles in use.
        seconds: Most latency of one inference.
        joules: Most energy of one inference.
        area: Most area of the tiles in use, mm2.
        slowdown: A block that is more than so many times slower on tiles is digital.
        effort: Most nodes of each search of the solver; and most schedules that are tried.
        replicas: Most copies of a weight.
    """

    objective: Objective = "analog"
    tiles: int | None = None
    seconds: float = math.inf
    joules: float = math.inf
    area: float = math.inf
    slowdown: float = math.inf
    effort: int = 1000
    replicas: float = math.inf

    @property
    def limited(self) -> bool:
        """Latency, energy or area has a limit."""
        return min(self.seconds, self.joules, self.area) < math.inf


@dataclass(frozen=True)
class Measured:
    """One inference as it is scheduled.

    Attributes:
        seconds: When it ends.
        joules: Its energy.
        interval: What the busiest unit has to do, seconds.
        area: Of the tiles in use, each of them whole, mm2.
    """

    seconds: float
    joules: float
    interval: float
    area: float = 0.0


@dataclass(frozen=True)
class Tried:
    """A mapping.

    Attributes:
        picked: The option that each of the choosing takes.
        measured: Its schedule.
        work: Multiply-accumulates on tiles.
        area: Of the tiles in use, parts of them counted as such, mm2.
    """

    picked: tuple[int, ...]
    measured: Measured
    work: float
    area: float


Measure = Callable[[Sequence[Option], float], Measured | None]
"""Places a mapping and schedules one inference of it; None if a bound says that it takes more seconds."""


@dataclass(frozen=True)
class Searched:
    """What a search came to.

    Attributes:
        found: The mapping.
        value: What the objective makes small, as scheduled.
        priced: The same as prices add up.
        solved: The same for the solver's own choice, which need not pack, nor be the best by the schedule.
        bound: No choice has a smaller sum.
        gap: Share by which the solver's sum may be above the least.
    """

    found: Tried
    value: float
    priced: float
    solved: float
    bound: float
    gap: float

    def options(self, choosing: Sequence[Choosing]) -> tuple[Option, ...]:
        """What each of the choosing takes."""
        return tuple(some.options[n] for some, n in zip(choosing, self.found.picked, strict=True))


def value_of(objective: Objective, measured: Measured | Figures) -> float:
    """What an objective makes small, as scheduled or as prices add up: s, J or J s."""
    return {
        "analog": measured.seconds,
        "latency": measured.seconds,
        "throughput": measured.interval,
        "energy": measured.joules,
        "edp": measured.joules * measured.seconds,
    }[objective]


@dataclass
class Known:
    """What searches that differ in their objective alone find out once.

    All else is the same: the graph, the machine, what each block could be, and what a goal has beside its
    objective.

    Attributes:
        whole: The problem of the solver.
        boxes: Of options, by place and number.
        packed: Whether mappings pack, each with the blocks' bundles apart or not.
        solved: The solver's choice for an objective without limits, and what packs.
        measured: What was scheduled.
        longer: Seconds that mappings take more than, by a bound.
    """

    whole: WholeChoice | None = None
    boxes: dict[tuple[int, int], dict[str, list[Box]]] = field(default_factory=dict)
    packed: dict[tuple[tuple[int, ...], bool], bool] = field(default_factory=dict)
    solved: dict[Objective, tuple[Choice, list[tuple[int, ...]]]] = field(default_factory=dict)
    measured: dict[tuple[int, ...], Measured] = field(default_factory=dict)
    longer: dict[tuple[int, ...], float] = field(default_factory=dict)


@dataclass
class Search:
    """Looks for the best mapping of a graph.

    Attributes:
        graph: With energy blocks.
        hardware: The machine.
        choosing: What each block could be.
        goal: What is wanted.
        measure: Schedules a mapping.
        known: What does not depend on the objective, maybe from a search for another one.
        seen: Mappings that were scheduled.
        slow: Seconds that mappings take more than, by a bound.
    """

    graph: Graph
    hardware: Hardware
    choosing: tuple[Choosing, ...]
    goal: Goal
    measure: Measure
    known: Known = field(default_factory=Known)
    seen: dict[tuple[int, ...], Tried] = field(default_factory=dict)
    slow: dict[tuple[int, ...], float] = field(default_factory=dict)

    def best(self) -> Searched:
        """The best mapping that was found.

        Raises:
            UsageError: If no mapping is within the limits.
        """
        whole = self.known.whole or whole_choice(self.graph, self.hardware, self.choosing)
        self.known.whole = whole
        choice, kept = self._kept(whole)
        within = [found for found in kept if not self._excess(found)]
        if not within:
            raise self._beyond(min(kept, key=lambda found: max(self._excess(found).values())))
        best = self._climbed(within)
        value = value_of(self.goal.objective, best.measured)
        priced = value_of(self.goal.objective, whole.figures(best.picked))
        return Searched(best, value, priced, choice.value, choice.bound, choice.gap)

    def _kept(self, whole: WholeChoice) -> tuple[Choice, list[Tried]]:
        """The solver's choice and mappings to choose from, one of them within the limits if any was found."""
        objective, limits = self.goal.objective, Limits(seconds=self.goal.seconds, joules=self.goal.joules)
        picks = list(self._others(whole))
        for _ in range(ROUNDS):
            try:
                choice, packed = self._packed(whole, objective, limits)
            except UsageError:
                break
            picks = [*packed, *picks]
            kept = self._scheduled(picks)
            if any(not self._excess(found) for found in kept):
                return choice, kept
            limits = self._tighter(limits, kept[0])
        choice, least = self._least(whole)
        return choice, [*least, *map(self.tried, picks)]

    def _competing(self, picks: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
        """Those that may be the best whatever their schedules: without limits, work comes first."""
        if self.goal.objective != "analog" or self.goal.limited:
            return list(picks)
        most = max(self._work(picked) for picked in picks)
        return [picked for picked in picks if self._work(picked) == most]

    def _scheduled(self, picks: Sequence[tuple[int, ...]]) -> list[Tried]:
        """Mappings with their schedules, then those that take the tiles there are more closely or evenly.

        Where the effort is little for the graph these are as many as it lasts, but at least the mappings
        themselves, so that all objectives look at the same ones; where only the shortest counts, without
        what cannot be it.
        """
        first = self._competing(list(dict.fromkeys(picks)))
        shortest = self.goal.objective in FOR_TIME
        even = chain.from_iterable(self._even(picked) for picked in first[:1] if shortest)
        everything = chain(first, map(self._usual, first), map(self._closer, first), even)
        if self.goal.limited or self._tries() is not None:
            return [self.tried(picked) for picked in _unique(everything)]
        most = max(len(first), self.goal.effort // A_SCHEDULE, self._affordable())
        kept: list[Tried] = []
        for picked in islice(_unique(everything), most):
            times = (found.measured.seconds for found in kept)
            least = min(times, default=math.inf) if shortest else math.inf
            found = self._within(picked, least * (1 + SLACK))
            if found is not None:
                kept.append(found)
        return kept

    def _least(self, whole: WholeChoice) -> tuple[Choice, list[Tried]]:
        """Mappings with the least of each figure that is limited.

        The schedule may take less than prices add up to, so it has the last word on what a limit leaves.
        """
        choice, packed = self._packed(whole, self.goal.objective, Limits())
        if self.goal.seconds < math.inf:
            packed = [*packed, *self._packed(whole, "latency", Limits())[1]]
        if self.goal.joules < math.inf:
            packed = [*packed, *self._packed(whole, "energy", Limits())[1]]
        return choice, [self.tried(picked) for picked in packed]

    # --- packing -------------------------------------------------------------------------------------

    def _packed(
        self, whole: WholeChoice, objective: Objective, limits: Limits
    ) -> tuple[Choice, list[tuple[int, ...]]]:
        """What the solver chooses and what packs of it; without limits each objective is solved for once."""
        if limits != Limits():
            return self._packing(whole, objective, limits)
        solved = self.known.solved
        if objective not in solved:
            solved[objective] = self._packing(whole, objective, limits)
        return solved[objective]

    def _packing(
        self, whole: WholeChoice, objective: Objective, limits: Limits
    ) -> tuple[Choice, list[tuple[int, ...]]]:
        """The solver's choice; and what packs of it and of others for fewer tiles, the last one at its price.

        Bundles of a block that share a tile wait for each other, which prices do not know and the schedule
        does; so the first choice that packs at all counts too.
        """
        room = {group.name: float(group.count) for group in self.hardware.analog}
        most = math.inf if self.goal.tiles is None else float(self.goal.tiles)
        ends: tuple[Choice, Choice] | None = None
        if objective == "edp" and limits == Limits():  # which all objectives look at, so nothing more to do
            ends = self._packed(whole, "latency", limits)[0], self._packed(whole, "energy", limits)[0]
        limits = replace(limits, tiles=room, all_tiles=most, area=self.goal.area)
        first: Choice | None = None
        found: list[tuple[int, ...]] = []
        closely = [(whole, share) for share in CLOSE_SHARES[: 3 if objective == "analog" else 1]]
        roomy = whole.roomy
        for problem, share in (*closely, *((roomy, share) for share in SHARES)):
            smaller = {name: tiles * share for name, tiles in limits.tiles.items()}
            less = replace(
                limits, tiles=smaller, all_tiles=limits.all_tiles * share, area=limits.area * share
            )
            if first is not None and objective == "edp":  # its bound is there; a sweep takes several programs
                chosen = choose_beside(problem.problem, less, self.goal.effort, first.figures)
            else:
                choice = choose(problem.problem, objective, less, self.goal.effort, ends)
                first, chosen = first or choice, choice.picked
            picked = whole.picked(chosen)
            if not found and self.packs(picked, apart=False):
                found.append(picked)
            if self.packs(picked, apart=True):
                return first, [*found, picked]
        assert first is not None
        return first, [*found, self._fallback()]

    def packs(self, picked: Sequence[int], *, apart: bool) -> bool:
        """A mapping packs onto the tiles."""
        key, packed = (tuple(picked), apart), self.known.packed
        if key not in packed:
            packed[key] = self._packs(picked, apart=apart)
        return packed[key]

    def _packs(self, picked: Sequence[int], *, apart: bool) -> bool:
        boxes: dict[str, list[Box]] = {}
        for place, number in enumerate(picked):
            for group, own in self._boxes(place, number).items():
                boxes.setdefault(group, []).extend(own)
        counts = tile_counts(self.hardware, boxes, self.goal.tiles, self.goal.area)
        return counts is not None and all(
            pack(
                boxes.get(group.name, []),
                counts[group.name],
                group.tile.size,
                APART if apart and group.settling == "clocked" else ways_of(group),
            )
            is not None
            for group in self.hardware.analog
        )

    def _boxes(self, place: int, number: int) -> dict[str, list[Box]]:
        """The boxes of an option of one of the choosing, by group of tiles."""
        key, boxes = (place, number), self.known.boxes
        if key not in boxes:
            some = self.choosing[place]
            boxes[key] = boxes_of((some,), (some.options[number],))
        return boxes[key]

    def _options(self, picked: Sequence[int]) -> tuple[Option, ...]:
        return tuple(some.options[n] for some, n in zip(self.choosing, picked, strict=True))

    # --- other mappings ------------------------------------------------------------------------------

    def _others(self, whole: WholeChoice) -> Iterator[tuple[int, ...]]:
        """No tiles at all; all on the fewest tiles; and what other objectives would have.

        Prices do not know what the schedule does: which blocks share a tile and wait for each other, what
        runs side by side. So the choice for one figure may schedule with more of it than that for another.
        """
        if all(not some.options[0].group for some in self.choosing):
            yield (0,) * len(self.choosing)
        densest = self._densest()
        if self.packs(densest, apart=False):
            yield densest
        if self.goal.objective != "analog":
            for other in OBJECTIVES:
                if other != self.goal.objective:
                    yield from self._packed(whole, other, Limits())[1]

    def _usual(self, picked: tuple[int, ...]) -> tuple[int, ...]:
        """The same on tiles, and each digital node in the first group of units that runs it."""
        return tuple(n if some.options[n].group else 0 for some, n in zip(self.choosing, picked, strict=True))

    def _closer(self, picked: tuple[int, ...]) -> tuple[int, ...]:
        """What is on tiles there, in the fastest way that packs: each takes what costs least, time and tiles.

        The solver counts cells, or bundles among their like; here bundles of all sizes fill gaps.
        """
        low, high = 0, len(WORTHS)
        while low < high:  # the least that a tile has to be worth
            middle = (low + high) // 2
            if self.packs(self._at_worth(picked, WORTHS[middle]), apart=True):
                high = middle
            else:
                low = middle + 1
        return picked if low == len(WORTHS) else self._filled(self._at_worth(picked, WORTHS[low]))

    def _even(self, picked: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        """What is on tiles there, where time counts, with no block much slower than the others."""

        def within(seconds: float) -> tuple[int, ...]:
            return tuple(some.within(n, seconds) for some, n in zip(self.choosing, picked, strict=True))

        options = chain.from_iterable(some.options for some in self.choosing)
        times = sorted({option.seconds for option in options if option.group})
        least = bisect_left(times, True, key=lambda seconds: self.packs(within(seconds), apart=True))
        slowed = (within(slower * times[least]) for slower in SLOWER if least < len(times))
        yield from (found for found in slowed if self.packs(found, apart=True))

    def _at_worth(self, picked: tuple[int, ...], worth: float) -> tuple[int, ...]:
        """The options with the least time and tiles together, of the group that each has."""
        whole = sum(option.seconds for option in self._options(picked)) or 1.0

        def price(option: Option) -> float:
            return option.seconds / whole + worth * sum(option.prices[0].tiles.values())

        cheapest = []
        for some, n in zip(self.choosing, picked, strict=True):
            alike = some.alike(n)
            prices = [price(some.options[k]) for k in alike]
            cheapest.append(alike[prices.index(min(prices))])
        return tuple(cheapest)

    def _filled(self, picked: tuple[int, ...]) -> tuple[int, ...]:
        """With what is left of the tiles for the blocks that save most time by it."""
        steps = []
        for place, (some, n) in enumerate(zip(self.choosing, picked, strict=True)):
            now = some.options[n]
            steps += [
                (option.seconds - now.seconds, place, number)
                for number, option in enumerate(some.options)
                if now.group and option.group == now.group and option.seconds < now.seconds
            ]
        taken: set[int] = set()
        left = BUNDLES * self.goal.effort // 1000
        for _, place, number in sorted(steps):
            if place in taken:
                continue
            tried = (*picked[:place], number, *picked[place + 1 :])
            left -= sum(option.bundles for option in self._options(tried))
            if left < 0:
                break
            if self.packs(tried, apart=True):
                picked = tried
                taken.add(place)
        return picked

    def _fallback(self) -> tuple[int, ...]:
        """Every block on the fewest tiles, or if these are too few, every block digital.

        Raises:
            UsageError: If some block can be neither.
        """
        densest, digital = self._densest(), (0,) * len(self.choosing)
        if self.packs(densest, apart=False):
            return densest
        if any(option.group for option in self._options(digital)):
            raise UsageError(
                "the tiles are too few for the blocks that no digital unit runs", hint="allow more tiles"
            )
        return digital

    def _densest(self) -> tuple[int, ...]:
        """Every block on the fewest tiles."""
        return tuple(_smallest(some.options) for some in self.choosing)

    def _climbed(self, kept: Sequence[Tried]) -> Tried:
        """The best mapping by changes of one option from each start, and of two around what these lead to."""
        left = self._tries()
        if left is None:
            return min(kept, key=self.key)
        until = self._spent() + left
        starts = self._starts(kept)
        tops = [self._top(start, until, self._others_of_one) for start in starts]
        bases = {base.picked: base for base in (*sorted(tops, key=self.key), *starts)}
        found = [self._best_near(base, until) for base in bases.values()]
        return self._top(min(found, key=self.key), until, self._near)

    def _tries(self) -> int | None:
        """How many changed mappings may be scheduled; None where the graph is too large for any."""
        left = self._affordable()
        return left if sum(len(some.options) for some in self.choosing) <= left else None

    def _affordable(self) -> int:
        """How many mappings may be scheduled for the effort: fewer of a graph with more nodes."""
        return TRIES[self.goal.objective] * self.goal.effort // 1000 // max(1, len(self.graph.nodes))

    def _spent(self) -> float:
        """Schedules that mappings have cost so far."""
        return len(self.seen) + REJECTED * len(self.slow)

    def _starts(self, kept: Sequence[Tried]) -> list[Tried]:
        """Mappings to change: each kept one, and some with fewer tiles; the best first."""
        best = min(kept, key=self.key)
        cheaper = dict.fromkeys(self._at_worth(best.picked, worth) for worth in WORTHS)
        packed = [self.tried(picked) for picked in cheaper if self.packs(picked, apart=False)]
        starts = {found.picked: found for found in (*kept, *packed) if not self._excess(found)}
        return sorted(starts.values(), key=self.key)

    def _top(self, best: Tried, until: float, near: Near) -> Tried:
        """A mapping that is changed as long as its schedule gets better.

        Args:
            best: Where to start.
            until: So many mappings may be scheduled in all.
            near: What a mapping may be changed to at once.
        """
        found: Tried | None = best
        while found is not None:
            best = found
            around = self._around(best, until, near, best)
            found = next((other for other in around if self.key(other) < self.key(best)), None)
        return best

    def _best_near(self, base: Tried, until: float) -> Tried:
        """The best of a mapping and all with one or two other options."""
        best = min((found for found in self.seen.values() if not self._excess(found)), key=self.key)
        return min((base, *self._around(base, until, self._near, best)), key=self.key)

    def _around(self, base: Tried, until: float, near: Near, rival: Tried) -> Iterator[Tried]:
        """What a mapping may be changed to: what packs, within the limits, as long as effort is left.

        Where the shortest is wanted, without what takes longer than a rival by a bound.
        """
        shortest = self.goal.objective in FOR_TIME
        for picked in near(base.picked):
            # a mapping with more work on tiles is better however long it takes
            alike = shortest and (self.goal.objective == "latency" or self._work(picked) <= rival.work)
            seconds = rival.measured.seconds * (1 + SLACK) if alike else math.inf
            if picked not in self.seen:
                if self._does_less(picked, base) or seconds <= self.slow.get(picked, 0.0):
                    continue
                if self._spent() >= until:
                    return
                if not self.packs(picked, apart=False):
                    continue
            found = self._within(picked, seconds)
            if found is None:
                self.slow[picked] = seconds
            elif not self._excess(found):
                yield found

    def _does_less(self, picked: tuple[int, ...], base: Tried) -> bool:
        """A mapping is worse whatever its schedule: work comes first, and it has less of it on tiles."""
        return self.goal.objective == "analog" and self._work(picked) < base.work

    def _others_of_one(self, picked: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        """Mappings with one other option, first those that save most by their prices."""
        options = self._options(picked)
        seconds = sum(option.seconds for option in options) or 1.0
        joules = sum(option.joules for option in options) or 1.0
        of_time, of_energy = WEIGHS[self.goal.objective]

        def costs(change: tuple[int, int]) -> float:
            place, number = change
            now, other = options[place], self.choosing[place].options[number]
            return (
                of_time * (other.seconds - now.seconds) / seconds
                + of_energy * (other.joules - now.joules) / joules
            )

        changes = [
            (place, number)
            for place, some in enumerate(self.choosing)
            for number in range(len(some.options))
            if number != picked[place]
        ]
        for place, number in sorted(changes, key=costs):
            yield (*picked[:place], number, *picked[place + 1 :])

    def _near(self, picked: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        """Mappings with one other option, then those with two."""
        yield from self._others_of_one(picked)
        numbers = [range(len(some.options)) for some in self.choosing]
        for first, second in combinations(range(len(picked)), 2):
            for one, other in product(numbers[first], numbers[second]):
                if one != picked[first] and other != picked[second]:
                    yield (*picked[:first], one, *picked[first + 1 : second], other, *picked[second + 1 :])

    # --- figures -------------------------------------------------------------------------------------

    def tried(self, picked: tuple[int, ...]) -> Tried:
        """A mapping with its schedule; each is scheduled once."""
        found = self._within(picked, math.inf)
        assert found is not None
        return found

    def _within(self, picked: tuple[int, ...], seconds: float) -> Tried | None:
        """A mapping with its schedule; None if a bound says that it takes longer than some seconds."""
        if picked not in self.seen:
            options = self._options(picked)
            area = sum(price.area for option in options for price in option.prices)
            measured = self._measured(picked, options, seconds)
            if measured is None:
                return None
            self.seen[picked] = Tried(picked, measured, self._work(picked), area)
        return self.seen[picked]

    def _measured(
        self, picked: tuple[int, ...], options: Sequence[Option], seconds: float
    ) -> Measured | None:
        """What `measure` says, which is asked again only where what it has said before does not tell."""
        known = self.known
        if seconds <= known.longer.get(picked, 0.0):
            return None
        found = known.measured.get(picked)
        if found is not None and found.seconds <= seconds * (1 - SLACK):  # no bound rejects it
            return found
        found = self.measure(options, seconds)
        if found is None:
            known.longer[picked] = seconds
        else:
            known.measured[picked] = found
        return found

    def _work(self, picked: Sequence[int]) -> float:
        """Multiply-accumulates of a mapping on tiles."""
        return sum(price.work for option in self._options(picked) for price in option.prices)

    def key(self, found: Tried) -> tuple[float, float, float, int]:
        """Smaller is better: what is wanted, then fewer tiles, in fewer pieces."""
        work = -found.work if self.goal.objective == "analog" else 0.0
        bundles = sum(option.bundles for option in self._options(found.picked))
        return work, value_of(self.goal.objective, found.measured), found.area, bundles

    def _excess(self, found: Tried) -> dict[Criterion, float]:
        """Limits that a mapping exceeds, as times of the limit."""
        goal, measured = self.goal, found.measured
        times: dict[Criterion, float] = {
            "seconds": measured.seconds / goal.seconds,
            "joules": measured.joules / goal.joules,
            "area": measured.area / goal.area,
        }
        return {name: excess for name, excess in times.items() if excess > 1 + SLACK}

    def _tighter(self, limits: Limits, found: Tried) -> Limits:
        """Limits of the solver's sums, so that what is scheduled may keep the goal's."""
        excess = self._excess(found)
        return replace(
            limits,
            seconds=limits.seconds / excess.get("seconds", 1.0),
            joules=limits.joules / excess.get("joules", 1.0),
        )

    def _beyond(self, found: Tried) -> UsageError:
        """The limit that the schedule does not keep."""
        excess = self._excess(found)
        name = max(excess, key=lambda limit: excess[limit])
        public, unit = LIMIT_NAMES[name]
        beside = "".join(
            f" beside {other} {getattr(self.goal, limit):.10g} {of}"
            for limit, (other, of) in LIMIT_NAMES.items()
            if limit != name and getattr(self.goal, limit) < math.inf
        )
        most, least = getattr(self.goal, name), getattr(found.measured, name)
        return beyond(public, most, unit, least, beside)


def _unique(picks: Iterable[tuple[int, ...]]) -> Iterator[tuple[int, ...]]:
    """Each mapping once, as they come."""
    seen: set[tuple[int, ...]] = set()
    for picked in picks:
        if picked not in seen:
            seen.add(picked)
            yield picked


def _smallest(options: Sequence[Option]) -> int:
    """The option on tiles that fills the fewest; digital if there is none."""
    room = [sum(option.prices[0].tiles.values()) if option.group else math.inf for option in options]
    return room.index(min(room))
