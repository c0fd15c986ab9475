"""Searches: which points to look at where a grid has too many, by Optuna's own samplers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from optuna.samplers import BaseSampler, NSGAIISampler, TPESampler

from ffebm.exploration.knobs import Knob, Point, Value

Searcher = Literal["nsga2", "tpe"]
"""Samplers that learn from what was found."""
SEARCHERS: tuple[Searcher, ...] = get_args(Searcher)
MOST_ASKED = 20
"""Times the points that are wanted, so often a sampler is asked at most: it may say the same ones again."""
FIRST = 8
"""Points at the ends of all knobs, with which a search begins, and members of a population: the best of 5 to
13 for 27 points of 270 (`benchmarks/explore.py --search --networks dense`)."""


@dataclass(frozen=True)
class SampledSearch:
    """A search.

    Attributes:
        sampler: Who says which point comes next.
        trials: Points to look at, each once.
        seed: Of the sampler.
    """

    sampler: Searcher
    trials: int
    seed: int

    @property
    def count_of_first(self) -> int:
        """Points with which it begins."""
        return min(FIRST, max(2, self.trials // 3))

    def first_points(self, knobs: Sequence[Knob]) -> list[Point]:
        """Points to begin with, each once: fronts end where knobs do.

        A knob of numbers stands at its least and its largest value, another one at any of its values; each
        of these comes as often as the others, give or take one, in an order that the seed draws for each
        knob (a Latin hypercube, McKay et al. 1979).

        Args:
            knobs: What is varied.
        """
        rng = np.random.default_rng(self.seed)
        columns: list[list[Value]] = []
        for knob in knobs:
            ends = _ends(knob)
            places = np.arange(self.count_of_first) % len(ends)
            columns.append([ends[place] for place in rng.permutation(places)])
        points = [
            {knob.key: value for knob, value in zip(knobs, values, strict=True)}
            for values in zip(*columns, strict=True)
        ]
        return [point for place, point in enumerate(points) if point not in points[:place]]

    def sampler_for(self, number: int) -> BaseSampler:
        """The sampler for one entry of the ledger: its randomness depends on nothing else.

        A population of NSGA-II (Deb et al. 2002) has the square root of the trials, so that there are as many
        generations as it has members, but no fewer than begin and at most 50. TPE (Bergstra et al. 2011; for
        several figures Ozaki et al. 2022) takes all knobs together, and values as names without an order.

        Args:
            number: Of the entry.
        """
        seed = int(np.random.SeedSequence((self.seed, number)).generate_state(1)[0])
        if self.sampler == "nsga2":
            population = min(50, max(self.count_of_first, round(self.trials**0.5)))
            return NSGAIISampler(population_size=population, seed=seed)
        return TPESampler(
            n_startup_trials=self.count_of_first,
            multivariate=True,
            constant_liar=True,  # points that others work on are not said again
            seed=seed,
        )


def _ends(knob: Knob) -> list[Value]:
    """The least and the largest of numbers; all of what has no order."""
    numbers = [v for v in knob.values if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) < len(knob.values):
        return list(knob.values)
    return list(dict.fromkeys((min(numbers), max(numbers))))
