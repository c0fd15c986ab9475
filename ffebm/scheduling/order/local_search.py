"""Local search for a shorter schedule: layers move ahead or back at random, and what does not hurt is kept.

No chain tells when something long should run: a transfer of a millisecond before the short ones that lead
errors back holds them up, behind them it leaves the network idle at first. So some layers are moved in the
order of a schedule, and all tasks are placed again, by turns from its end and from its beginning. Without a
move that never makes it longer (forward-backward improvement); where it is no longer with one, the search
goes on from there (iterated local search: H. R. Lourenco, O. C. Martin and T. Stutzle, "Iterated local
search", Handbook of Metaheuristics, 2003).
"""

import random
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from ffebm.graph.tensor import Floats
from ffebm.plan.memory.demand import Integers

FURTHEST = 0.3
"""Part of a makespan by which a layer is moved at most; with 0.2 or 0.6 schedules are as short."""
AGAIN = 0.5
"""How likely one more layer is moved at the same time; one alone shortens less."""
GAIN = 1e-9
"""Part of a makespan that counts as a difference: sums in another order differ in their last digits."""


@dataclass(frozen=True)
class Placing:
    """Tasks, and how they are placed one after the other.

    Attributes:
        seconds: How long each takes, [n].
        forwards: Starts by keys, the least of what may be placed first, [n] of [n].
        backwards: The same of the tasks from the end, the last one first.
    """

    seconds: Floats
    forwards: Callable[[Floats], Floats]
    backwards: Callable[[Floats], Floats]

    def length(self, starts: Floats) -> float:
        """Makespan, seconds."""
        return float((starts + self.seconds).max())

    def from_end(self, keys: Floats) -> Floats:
        """Starts if tasks are placed from the end, the least key first."""
        ends = (self.backwards(keys[::-1]) + self.seconds[::-1])[::-1]
        starts: Floats = ends.max() - ends
        return starts


def searched(
    placing: Placing, starts: Floats, layers: Sequence[Sequence[int]], passes: int, least: float
) -> Floats:
    """Starts of a schedule that is no longer but for rounding, seconds, [n].

    Args:
        placing: The tasks.
        starts: Of the schedule to begin with, seconds, [n].
        layers: Numbers of the tasks of each, in order.
        passes: How often all tasks are placed.
        least: Where the search ends, as nothing is shorter, seconds.
    """
    chance = random.Random(0)  # the same for the same tasks
    numbers = [np.array(layer) for layer in layers]
    weights = list(accumulate(float(placing.seconds[layer].sum()) for layer in numbers))
    shortest = placing.length(starts)
    for turn in range(passes):
        if shortest <= least * (1 + GAIN):
            break
        from_end = turn % 2 == 0
        keys = -(starts + placing.seconds) if from_end else starts.copy()
        moving = True
        while moving:
            keys[_drawn(numbers, weights, chance)] += (2 * chance.random() - 1) * FURTHEST * shortest
            moving = chance.random() < AGAIN
        found = placing.from_end(keys) if from_end else placing.forwards(keys)
        length = placing.length(found)
        if length <= shortest * (1 + GAIN):
            starts, shortest = found, min(length, shortest)
    return placing.forwards(starts)  # each as early as it may be


def _drawn(layers: Sequence[Integers], weights: Sequence[float], chance: random.Random) -> Integers:
    """Tasks to move: all of a layer, or those up to some band or from it on; longer layers are likelier.

    Args:
        layers: Tasks of each.
        weights: Sums of the seconds of layers up to each.
        chance: What draws.
    """
    layer = layers[min(bisect_right(weights, chance.random() * weights[-1]), len(layers) - 1)]
    if chance.random() < 0.5:
        return layer
    band = int(chance.random() * len(layer))
    return layer[band:] if chance.random() < 0.5 else layer[: band + 1]
