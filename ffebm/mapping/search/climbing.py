"""Mappings that are changed, one option or two at a time, as long as the schedule gets better."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product

from ffebm.mapping.options import Choosing
from ffebm.mapping.search.filling import WORTHS, Filling
from ffebm.mapping.search.goal import SLACK, Goal
from ffebm.mapping.search.trials import Trials, Tried
from ffebm.plan.mapping import Objective

WEIGHS: dict[Objective, tuple[int, int]] = {
    "analog": (1, 0),
    "latency": (1, 0),
    "throughput": (1, 0),
    "energy": (0, 1),
    "edp": (1, 1),
}
"""What a share of the time and one of the energy weigh for an objective, to first order."""


Near = Callable[[tuple[int, ...]], Iterator[tuple[int, ...]]]
"""What a mapping may be changed to at once."""


@dataclass(frozen=True)
class Climbing:
    """Changes mappings.

    Attributes:
        choosing: What each block could be.
        goal: What is wanted.
        filling: Says which mappings pack.
        trials: Schedules them.
    """

    choosing: tuple[Choosing, ...]
    goal: Goal
    filling: Filling
    trials: Trials

    def best(self, kept: Sequence[Tried], tries: float) -> Tried:
        """The best mapping by changes of one option from each start, and of two around what these lead to."""
        until = self.trials.spent() + tries
        starts = self._starts(kept)
        tops = [self._top(start, until, self._others_of_one) for start in starts]
        bases = {base.picked: base for base in (*sorted(tops, key=self.trials.key), *starts)}
        found = [self._best_near(base, until) for base in bases.values()]
        return self._top(min(found, key=self.trials.key), until, self._near)

    def _starts(self, kept: Sequence[Tried]) -> list[Tried]:
        """Mappings to change: each kept one, and some with fewer tiles; the best first."""
        best = min(kept, key=self.trials.key)
        cheaper = dict.fromkeys(self.filling.at_worth(best.picked, worth) for worth in WORTHS)
        packed = [self.trials.tried(picked) for picked in cheaper if self.filling.packs(picked, apart=False)]
        starts = {found.picked: found for found in (*kept, *packed) if not self.trials.excess(found)}
        return sorted(starts.values(), key=self.trials.key)

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
            found = next((other for other in around if self.trials.key(other) < self.trials.key(best)), None)
        return best

    def _best_near(self, base: Tried, until: float) -> Tried:
        """The best of a mapping and all with one or two other options."""
        best = min(
            (found for found in self.trials.seen.values() if not self.trials.excess(found)),
            key=self.trials.key,
        )
        return min((base, *self._around(base, until, self._near, best)), key=self.trials.key)

    def _around(self, base: Tried, until: float, near: Near, rival: Tried) -> Iterator[Tried]:
        """What a mapping may be changed to: what packs, within the limits, as long as effort is left.

        Without what has more of what is to be small than a rival, by a bound.
        """
        least = self.goal.value(rival.measured) * (1 + SLACK)
        for picked in near(base.picked):
            # a mapping with more work on tiles is better however long it takes
            alike = self.goal.objective != "analog" or self.trials.work(picked) <= rival.work
            most = least if alike else math.inf
            if picked not in self.trials.seen:
                if self._does_less(picked, base) or most <= self.trials.above.get(picked, 0.0):
                    continue
                if self.trials.spent() >= until:
                    return
                if not self.filling.packs(picked, apart=False):
                    continue
            found = self.trials.within(picked, most)
            if found is None:
                self.trials.above[picked] = most
            elif not self.trials.excess(found):
                yield found

    def _does_less(self, picked: tuple[int, ...], base: Tried) -> bool:
        """A mapping is worse whatever its schedule: work comes first, and it has less of it on tiles."""
        return self.goal.objective == "analog" and self.trials.work(picked) < base.work

    def _others_of_one(self, picked: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        """Mappings with one other option, first those that save most by their prices."""
        options = self.filling.options(picked)
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
