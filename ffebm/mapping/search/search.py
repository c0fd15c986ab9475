"""The search for a mapping: what the solver chooses, packed onto tiles and measured by the schedule.

The solver adds up prices; the schedule knows more: which transfers wait for each other, what runs side by
side. So what the solver chooses is scheduled, and so are the digital twin and others. In small graphs each
of them is changed, one option or two at a time, as long as the schedule gets better and the effort lasts;
for the default objective, with which all plans are made that ask for no figure, that is 0.15 of it. The
others look at the same mappings, so that none has more of its figure than another's mapping.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

from ffebm.errors import UsageError
from ffebm.graph.graph import Graph
from ffebm.hardware.description import Hardware
from ffebm.mapping.options import Choosing, Option
from ffebm.mapping.search.climbing import Climbing
from ffebm.mapping.search.filling import Filling
from ffebm.mapping.search.goal import BY_PRICE, OBJECTIVES, SLACK, Goal, Measure, value_of
from ffebm.mapping.search.known import Known
from ffebm.mapping.search.solving import Solving
from ffebm.mapping.search.trials import Trials, Tried
from ffebm.mapping.solver.choice import Choice
from ffebm.mapping.solver.problem import Limits
from ffebm.mapping.solver.program import LIMIT_NAMES, beyond
from ffebm.mapping.whole import WholeChoice, whole_choice
from ffebm.plan.mapping import Objective

ROUNDS = 8
"""Most times that the solver is asked again, with less, because its choice does not pack or is too slow."""
TRIES: dict[Objective, int] = dict.fromkeys(OBJECTIVES, 2000) | {"analog": 300}
"""Nodes of graphs in schedules that are tried for 1,000 of effort; fewer where no figure was asked for."""
EACH = 1.5
"""Times that for objectives by price, each of which is climbed for, whichever is asked for."""
A_MAPPING = 7
"""Effort for a mapping of a large graph: at 1,000 all are looked at, 14 choices with up to nine of each."""
CHOICES = 2 + 2 * (len(OBJECTIVES) + 1)
"""What objectives choose and what streams, at most two each, no tiles, and all on the fewest."""
WAITING = 1.25
"""Times the work of the busiest tile that a mapping is expected to take, at least, if tiles are shared by
blocks that are far apart: six that take least so, of two networks on three machines, take 1.32 to 1.93."""
APART_SHARE = 0.1
"""Of the time of all layers one after the other, what a schedule takes beside its busiest unit. It only says
which mapping is scheduled first: of 39 of ResNet-50 on `reference`, without what streams, the second one is
the best so."""


@dataclass(frozen=True)
class Top:
    """The best mapping for an objective.

    Attributes:
        key: Smaller is better.
        groups: Of tiles in use.
    """

    key: tuple[float, float, float, int]
    groups: frozenset[str]


@dataclass(frozen=True)
class Searched:
    """What a search came to.

    Attributes:
        found: The mapping.
        tops: For each objective that was looked for; of a small graph these are all by price.
        value: What the objective makes small, as scheduled.
        priced: The same as prices add up.
        solved: The same for the solver's own choice, which need not pack, nor be the best by the schedule.
        bound: No choice has a smaller sum.
        gap: Share by which the solver's sum may be above the least.
    """

    found: Tried
    tops: dict[Objective, Top]
    value: float
    priced: float
    solved: float
    bound: float
    gap: float

    def options(self, choosing: Sequence[Choosing]) -> tuple[Option, ...]:
        """What each of the choosing takes."""
        return tuple(some.options[n] for some, n in zip(choosing, self.found.picked, strict=True))


@dataclass
class Search:
    """Looks for the best mapping of a graph.

    Attributes:
        graph: With energy blocks.
        hardware: The machine.
        choosing: What each block could be.
        goal: What is wanted.
        measure: Schedules a mapping.
        scatter: The same with blocks on tiles that are shared that are far apart in the graph.
        known: What does not depend on the objective, maybe from a search for another one.
        filling: Fills tiles.
        trials: Mappings that were scheduled.
        apart: The same with blocks that are far apart on tiles that are shared.
    """

    graph: Graph
    hardware: Hardware
    choosing: tuple[Choosing, ...]
    goal: Goal
    measure: Measure
    scatter: Measure
    known: Known = field(default_factory=Known)
    filling: Filling = field(init=False)
    trials: Trials = field(init=False)
    apart: Trials = field(init=False)

    def __post_init__(self) -> None:
        self.filling = Filling(self.hardware, self.choosing, self.goal, self.known)
        self.trials = Trials(self.choosing, self.goal, self.measure, self.known.schedules)
        self.apart = Trials(self.choosing, self.goal, self.scatter, self.known.scattered, scattered=True)

    def best(self) -> Searched:
        """The best mapping that was found.

        Raises:
            UsageError: If no mapping is within the limits.
        """
        whole = self.whole
        solving = Solving(whole, self.goal, self.filling, self.known, self.little)
        choice, kept = self._kept(solving)
        within = [found for found in kept if not self.trials.excess(found)]
        if not within:
            kept = [*kept, *self._least_of_limits()]
            within = [found for found in kept if not self.trials.excess(found)]
        if not within:
            raise self._beyond(min(kept, key=lambda found: max(self.trials.excess(found).values())))
        best, tops = self._climbed(within)
        value = value_of(self.goal.objective, best.measured)
        priced = value_of(self.goal.objective, whole.figures(best.picked))
        return Searched(best, tops, value, priced, choice.value, choice.bound, choice.gap)

    def _kept(self, solving: Solving) -> tuple[Choice, list[Tried]]:
        """The solver's choice and mappings to choose from, one of them within the limits if any was found."""
        objective, limits = self.goal.objective, Limits(seconds=self.goal.seconds, joules=self.goal.joules)
        picks = list(solving.others())
        for _ in range(ROUNDS):
            try:
                choice, packed = solving.packed(objective, limits)
            except UsageError:
                break
            picks = [*packed, *picks]
            kept = self._looked_at(picks)
            if any(not self.trials.excess(found) for found in kept):
                return choice, kept
            limits = self._tighter(limits, kept[0])
        choice, least = self._least(solving)
        return choice, self._looked_at([*least, *picks])

    def _competing(self, picks: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
        """Those that may be the best whatever their schedules: without limits, work comes first."""
        if self.goal.objective != "analog" or self.goal.limited:
            return list(picks)
        most = max(self.trials.work(picked) for picked in picks)
        return [picked for picked in picks if self.trials.work(picked) == most]

    def _looked_at(self, picks: Sequence[tuple[int, ...]]) -> list[Tried]:
        """Mappings with their schedules, and those that take the tiles there are more closely or evenly.

        Of a large graph without those that a bound says are not the best.
        """
        pool = self._pool(self._competing(list(dict.fromkeys(picks))))
        if self.tries() is not None:
            kept = [self.trials.tried(picked) for picked in pool]
        else:
            # once the best is found, bounds reject most others
            first = pool[0] if self.goal.limited else None
            hopes = {picked: self._hope(picked) for picked in pool}
            order = sorted(pool, key=lambda picked: (picked != first, hopes[picked]))
            kept = self._better(self.trials, {picked: hopes[picked] for picked in order}, None)
        return [*kept, *self._scattered(pool, kept)]

    def _better(self, trials: Trials, hopes: dict[tuple[int, ...], float], best: Tried | None) -> list[Tried]:
        """Mappings in order with their schedules, without those that a bound says are not the best.

        Args:
            trials: Schedules them.
            hopes: What each may take of what is to be small.
            best: The best one so far.
        """
        kept: list[Tried] = []
        for picked, hope in hopes.items():
            most = self._most(picked, best)
            found = trials.within(picked, most, doubtful=hope > most)
            if found is not None:
                kept.append(found)
                if not trials.excess(found):
                    best = found if best is None else min(best, found, key=trials.key)
        return kept

    def _scattered(self, pool: Sequence[tuple[int, ...]], kept: Sequence[Tried]) -> list[Tried]:
        """Mappings that share tiles, with blocks on each that are far apart, unless a bound rejects them.

        Objectives that look at the same mappings look at the same of these, whatever they have found; the
        default one only where it may get much better.
        """
        within = [found for found in kept if not self.trials.excess(found)]
        best = min(within, key=self.trials.key, default=None)
        most, waiting = math.inf, 1.0
        if best is not None and self.goal.objective == "analog":
            most, waiting = self.goal.value(best.measured), WAITING
        waiting += self.goal.runs - 1
        hopes = {
            picked: self._hope(picked) for picked in pool if waiting * self.filling.scattered(picked) < most
        }
        order = sorted(hopes, key=lambda picked: hopes[picked])
        return self._better(self.apart, {picked: hopes[picked] for picked in order}, best)

    def _hope(self, picked: tuple[int, ...]) -> float:
        """What a mapping may take of what is to be small, by its prices: layers mostly work side by side."""
        figures, runs = self.whole.figures(picked), self.goal.runs
        seconds = runs * figures.interval + APART_SHARE * figures.seconds
        together = replace(figures, seconds=seconds, joules=runs * figures.joules)
        return value_of(self.goal.objective, together)

    def _most(self, picked: tuple[int, ...], best: Tried | None) -> float:
        """What a mapping may take of what is to be small to be better than the best one.

        One that takes as much is better only on fewer tiles.
        """
        if best is None or (self.goal.objective == "analog" and self.trials.work(picked) > best.work):
            return math.inf
        smaller = self.trials.room(picked) < self.trials.room(best.picked)
        least = self.goal.value(best.measured)
        return least * (1 + SLACK if smaller else 1 - SLACK)

    @property
    def whole(self) -> WholeChoice:
        """The problem of the solver, which is written once."""
        if self.known.whole is None:
            self.known.whole = whole_choice(self.graph, self.hardware, self.choosing)
        return self.known.whole

    def _pool(self, first: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
        """Mappings and what is made of them, of each kind all or none, as long as the effort lasts.

        So objectives that begin with the same ones look at the same ones. The default objective, for all
        plans that ask for no figure, looks at even ones of its own choice alone.
        """
        most: float = max(len(first), self.goal.effort // A_MAPPING, self._affordable())
        if self.goal.limited or self.tries() is not None:
            most = math.inf
        kinds = {self.filling.groups(picked): picked for picked in reversed(first)}
        own = first[:1] if self.goal.objective == "analog" else kinds.values()
        more = (
            map(self.filling.usual, first),
            map(self.filling.closer, first),
            chain.from_iterable(map(self.filling.even, own)),
        )
        pool = first
        for some in more:
            found = list(_unique(chain(pool, some)))
            if len(found) > most:
                break
            pool = found
        return pool

    def _least(self, solving: Solving) -> tuple[Choice, list[tuple[int, ...]]]:
        """Mappings with the least of each figure that is limited.

        The schedule may take less than prices add up to, so it has the last word on what a limit leaves.
        """
        choice, packed = solving.packed(self.goal.objective, Limits())
        if self.goal.seconds < math.inf:
            packed = [*packed, *solving.packed("latency", Limits())[1]]
        if self.goal.joules < math.inf:
            packed = [*packed, *solving.packed("energy", Limits())[1]]
        return choice, packed

    def _least_of_limits(self) -> Iterator[Tried]:
        """What a small graph comes to for time, for energy and for both, as if these were asked for."""
        limited: dict[Objective, bool] = {
            "latency": self.goal.seconds < math.inf,
            "energy": self.goal.joules < math.inf,
            "edp": max(self.goal.seconds, self.goal.joules) < math.inf,
        }
        for objective in (one for one, counts in limited.items() if counts):
            goal = replace(self.goal, objective=objective, seconds=math.inf, joules=math.inf, runs=1)
            other = Search(
                self.graph, self.hardware, self.choosing, goal, self.measure, self.scatter, self.known
            )
            if other.tries() is None:
                continue
            try:
                yield other.best().found
            except UsageError:  # too little area, or none of the solver's choices packs
                continue

    def _climbed(self, kept: Sequence[Tried]) -> tuple[Tried, dict[Objective, Top]]:
        """The best mapping by changes of those that were kept; of a large graph the best of these.

        And that for each objective that was looked for.
        """
        objective, tries = self.goal.objective, self.tries()
        near = [found for found in kept if not found.scattered]
        if tries is None or not near:
            best = min(kept, key=self.trials.key)
            return best, {objective: self._top(self.trials, best)}
        tops: dict[Objective, Top]
        if objective == "analog":
            own = Climbing(self.choosing, self.goal, self.filling, self.trials).best(near, tries)
            each, tops = [own], {objective: self._top(self.trials, own)}
        else:
            each, tops = self._for_each(near, EACH * tries)

        best = min(each, key=self.trials.key)
        far = self._scattered([found.picked for found in each], [best])
        within = (found for found in far if not self.apart.excess(found))
        return min((best, *kept, *within), key=self.trials.key), tops

    def _for_each(self, near: Sequence[Tried], tries: float) -> tuple[list[Tried], dict[Objective, Top]]:
        """The best mapping for each objective by price, of all that are looked at for any of these.

        Each is climbed for alike whatever is asked for, so that none has less of what another makes small.

        Args:
            near: Mappings to change.
            tries: Of all of them; what one leaves is there for the next.
        """
        every: list[Trials] = []
        for number, objective in enumerate(BY_PRICE, 1):
            goal = replace(self.goal, objective=objective)
            trials = Trials(self.choosing, goal, self.measure, self.known.schedules, before=tuple(every))
            every.append(trials)
            starts = [trials.tried(found.picked) for found in near]
            until = len(near) + tries * number / len(BY_PRICE)
            Climbing(self.choosing, goal, self.filling, trials).best(starts, until - trials.spent())

        seen = [found for trials in every for found in trials.seen.values() if not trials.excess(found)]
        each = [min(seen, key=trials.key) for trials in every]
        tops = zip(every, each, strict=True)
        return each, {trials.goal.objective: self._top(trials, found) for trials, found in tops}

    def _top(self, trials: Trials, found: Tried) -> Top:
        """The best mapping for the objective of trials."""
        groups = (option.group for option in trials.options(found.picked))
        return Top(trials.key(found), frozenset(group for group in groups if group))

    @property
    def little(self) -> bool:
        """The effort does not last for what all objectives choose, of a large graph without limits."""
        looked_at = max(self.goal.effort // A_MAPPING, self._affordable())
        return self.tries() is None and not self.goal.limited and looked_at < CHOICES

    def tries(self) -> int | None:
        """How many changed mappings may be scheduled; None where the graph is too large for any."""
        left = self._affordable()
        return left if sum(len(some.options) for some in self.choosing) <= left else None

    def _affordable(self) -> int:
        """How many mappings may be scheduled for the effort: fewer of a graph with more nodes."""
        return TRIES[self.goal.objective] * self.goal.effort // 1000 // max(1, len(self.graph.nodes))

    def _tighter(self, limits: Limits, found: Tried) -> Limits:
        """Limits of the solver's sums, so that what is scheduled may keep the goal's."""
        excess = self.trials.excess(found)
        return replace(
            limits,
            seconds=limits.seconds / excess.get("seconds", 1.0),
            joules=limits.joules / excess.get("joules", 1.0),
        )

    def _beyond(self, found: Tried) -> UsageError:
        """The limit that the schedule does not keep."""
        excess = self.trials.excess(found)
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
