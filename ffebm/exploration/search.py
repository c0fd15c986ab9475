"""Searches: which points to look at where a grid has too many, by Optuna's own samplers."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from optuna.samplers import BaseSampler, NSGAIISampler, TPESampler

Searcher = Literal["nsga2", "tpe"]
"""Samplers that learn from what was found."""
SEARCHERS: tuple[Searcher, ...] = get_args(Searcher)
MOST_ASKED = 20
"""Times the points that are wanted, so often a sampler is asked at most: it may say the same ones again."""
STARTUP = 10
"""Points at random before a tree-structured Parzen estimator is fitted: Optuna's own number."""


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

    def sampler_for(self, number: int) -> BaseSampler:
        """The sampler for one entry of the ledger: its randomness depends on nothing else.

        A population of NSGA-II (Deb et al. 2002) has the square root of the trials, from 4 to 50, so that
        there are as many generations as it has members. TPE (Bergstra et al. 2011; for several figures Ozaki
        et al. 2022) takes all knobs together, and values as names without an order.

        Args:
            number: Of the entry.
        """
        seed = int(np.random.SeedSequence((self.seed, number)).generate_state(1)[0])
        if self.sampler == "nsga2":
            population = min(50, max(4, round(self.trials**0.5)))
            return NSGAIISampler(population_size=population, seed=seed)
        return TPESampler(
            n_startup_trials=min(STARTUP, max(2, self.trials // 4)),
            multivariate=True,
            constant_liar=True,  # points that others work on are not said again
            seed=seed,
        )
