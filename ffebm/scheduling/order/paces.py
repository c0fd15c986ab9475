"""Several samples of the same tasks, each with a result of its own: at what pace they follow one another.

Where the earlier sample always goes first, one that waits for all units of a layer at once leaves some of
them idle, which later samples could use. So each sample is also given the times of one alone, later by parts
of what the busiest unit does for each sample before it; what is due first goes first.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ffebm.graph.tensor import Floats
from ffebm.plan.memory.demand import Integers
from ffebm.scheduling.order.workload import Workload

MOST_TOGETHER_IN_TURN = 100_000
"""Tasks of several samples up to which each is placed for itself too."""
MOST_DUE_IN_TURN = 30_000
"""The same where they are placed when they are due, before that is improved: takes up to a second."""
AHEAD = (0.0, 0.25, 1 / 3, 0.5)
"""Parts of the pace of samples by which tasks of one are served ahead of those of the next: tried in turn."""
PACES = (1.0, 1 / 2, 1 / 3, 1 / 4, 1 / 6)
"""Parts of the work of the busiest unit at which samples are due after each other: tried in turn. The sooner
they are due, the more there is to choose from where layers wait for each other's tiles."""
NEARLY = 1.005
"""How many times as long as the shortest order one may take whose results come earlier on average: these keep
fewer values alive too."""
LATER = 1.01
"""How many times as late results may be on average, where they are to be early, as where the earlier sample
goes first."""


@dataclass(frozen=True)
class Samples:
    """Tasks of samples that are alike.

    Attributes:
        of: The sample of each task, from 0, [n].
        alone: When it starts if its sample is alone, seconds, [n].
        pace: What the busiest unit does for a sample, seconds.
        one_by_one: Whether each task may be placed for itself.
    """

    of: Integers
    alone: Floats
    pace: float
    one_by_one: bool

    def results(self, ends: Floats) -> Floats:
        """When each sample is done, seconds, [samples]."""
        found = np.zeros(1 + int(self.of.max(initial=0)))
        np.maximum.at(found, self.of, ends)
        return found


def at_a_pace(work: Workload, samples: Samples, first: Floats, *, early: bool) -> Floats:
    """Start of every task, seconds, [n].

    Of orders that give results in turn, and that take no longer than where the earlier sample goes first, the
    shortest is taken: a batch is wanted as a whole. Of those that are nearly as short it is the one with the
    earliest results on average.

    Args:
        work: Of all samples.
        samples: What is theirs.
        first: Where the earlier sample goes first, seconds, [n].
        early: Results are to be hardly later on average than there.
    """
    found: list[tuple[float, Floats]] = []
    usual = samples.results(first + work.seconds)
    for part in PACES:
        for starts in _due(work, samples, samples.alone + samples.of * (part * samples.pace)):
            results = samples.results(starts + work.seconds)
            mean = float(results.mean())
            in_turn = bool((np.diff(results) >= 0.0).all()) and results.max() <= usual.max()
            if in_turn and (not early or mean <= LATER * usual.mean()):
                found.append((mean, starts))
    if early:
        return work.shortest([first, *(starts for _, starts in found)])
    found.insert(0, (float(usual.mean()), first))
    longest = NEARLY * min(work.length(starts) for _, starts in found)
    return min((some for some in found if work.length(some[1]) <= longest), key=lambda some: some[0])[1]


def _due(work: Workload, samples: Samples, due: Floats) -> Iterator[Floats]:
    """Starts where what is due first goes first, and what improves them.

    Args:
        work: Of all samples.
        samples: What is theirs.
        due: When each task should start, seconds, [n].
    """
    found = work.served(due)
    yield found
    ends = found + work.seconds
    late = work.served_from_end(ends)
    for part in AHEAD:
        yield work.served(part * samples.pace * samples.of + late)
    if samples.one_by_one:
        yield work.in_turn(work.in_turn_from_end(ends))
    if samples.one_by_one and len(due) <= MOST_DUE_IN_TURN:
        ends = work.in_turn(due) + work.seconds
        yield work.in_turn(work.in_turn_from_end(ends))
