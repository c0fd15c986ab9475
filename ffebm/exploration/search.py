"""Searches: which points to look at where a grid has too many, by Optuna's own samplers."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, NSGAIISampler, TPESampler
from optuna.samplers.nsgaii import PolynomialMutation

from ffebm.exploration.knobs import Knob, Point, Value

Searcher = Literal["nsga2", "tpe"]
"""Samplers that learn from what was found."""
SEARCHERS: tuple[Searcher, ...] = get_args(Searcher)
MOST_ASKED = 20
"""Times the points that are wanted, so often a sampler is asked at most: it may say the same ones again."""
FIRST = 8
"""Points at the ends of all knobs, with which a search begins: the best of 5 to 13 for 27 points of 270
(`benchmarks/explore.py --search --networks dense`)."""
MEMBERS = 6
"""Of the smallest population of NSGA-II."""
NEARNESS, MUTATED, CROSSED = 3.0, 0.5, 0.5
"""Of NSGA-II: how near mutated numbers stay (eta of the polynomial mutation), the share of knobs that are
mutated, and of children that have two parents. Of some twenty settings tried, 27 points of 270, these and
`MEMBERS` had the largest least median over the three networks of `benchmarks/explore.py --search`."""


@dataclass(frozen=True)
class Space:
    """What a sampler says of each knob: one of its values, or the place of it among ordered numbers.

    Attributes:
        knobs: What is varied.
        ordered: Keys of the knobs of which it says a place, so that it knows what is beside what.
    """

    knobs: tuple[Knob, ...]
    ordered: frozenset[str] = frozenset()

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """What a sampler draws from, by knob."""
        return {
            knob.key: IntDistribution(0, len(knob.values) - 1)
            if knob.key in self.ordered
            else CategoricalDistribution(knob.values)
            for knob in self.knobs
        }

    def point(self, said: Mapping[str, Any]) -> Point:
        """The point that a sampler has said."""
        return {
            knob.key: _numbers(knob)[said[knob.key]] if knob.key in self.ordered else said[knob.key]
            for knob in self.knobs
        }

    def said(self, point: Point) -> dict[str, Any]:
        """A point as a sampler would say it."""
        return {
            knob.key: _numbers(knob).index(point[knob.key]) if knob.key in self.ordered else point[knob.key]
            for knob in self.knobs
        }

    def as_begun(self, distributions: Iterable[Mapping[str, BaseDistribution]]) -> "Space":
        """The space of a search that was begun with other distributions, by names where they were names.

        Args:
            distributions: Of what it has asked for, by knob; empty where it has not.
        """
        named = {
            key
            for known in distributions
            for key, distribution in known.items()
            if isinstance(distribution, CategoricalDistribution)
        }
        return Space(self.knobs, self.ordered - named)


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

    def space(self, knobs: Sequence[Knob]) -> Space:
        """What the sampler is asked for: NSGA-II takes numbers in their order, TPE all values as names.

        Args:
            knobs: What is varied.
        """
        ordered = {knob.key for knob in knobs if len(_numbers(knob)) == len(knob.values)}
        return Space(tuple(knobs), frozenset(ordered if self.sampler == "nsga2" else ()))

    def sampler_for(self, number: int) -> BaseSampler:
        """The sampler for one entry of the ledger: its randomness depends on nothing else.

        A population of NSGA-II (Deb et al. 2002) has the square root of the trials, so that there are as many
        generations as it has members, but no fewer than 6 and at most 50. Half of the knobs of a child are
        mutated, numbers to those near by (Deb & Agrawal 1999), since a short search says the same points
        again otherwise. TPE (Bergstra et al. 2011; for
        several figures Ozaki et al. 2022) takes all knobs together, and values as names without an order.

        Args:
            number: Of the entry.
        """
        seed = int(np.random.SeedSequence((self.seed, number)).generate_state(1)[0])
        if self.sampler == "nsga2":
            return NSGAIISampler(
                population_size=min(50, max(MEMBERS, round(self.trials**0.5))),
                mutation=_mutation(),
                mutation_prob=MUTATED,
                crossover_prob=CROSSED,
                seed=seed,
            )
        return TPESampler(
            n_startup_trials=self.count_of_first,
            multivariate=True,
            constant_liar=True,  # points that others work on are not said again
            seed=seed,
        )


def _mutation() -> PolynomialMutation:
    """The mutation to numbers near by; Optuna says that its interface may change, for which it has a pin."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return PolynomialMutation(eta=NEARNESS)


def _ends(knob: Knob) -> list[Value]:
    """The least and the largest of numbers; all of what has no order."""
    numbers = _numbers(knob)
    if len(numbers) < len(knob.values):
        return list(knob.values)
    return list(dict.fromkeys((numbers[0], numbers[-1])))


def _numbers(knob: Knob) -> list[Value]:
    """The numbers among the values of a knob, in their order."""
    return [*sorted(v for v in knob.values if isinstance(v, int | float) and not isinstance(v, bool))]
