"""Bands: how many rows each step makes, so that a plan stays small.

A layer waits for the first band of the one before, and is done a band after it: high bands cost time, low
ones steps. Each item that streams has up to `MOST_BANDS` bands of equal height. Where that makes more than
`MOST_STEPS` steps, digital nodes share steps (`streams.fused`); where that is not enough, items of as many
rows are cut less finely, those first that lose least time for a step. Where twice as many bands make no more
than `FEW_STEPS`, there are twice as many.

Where the windows of a layer are shared out over replicas, bands end where a read of all of them does: with
the last row that is whole then.

A band may keep its units for longer than its share: where layers share arrays of a core, each keeps it until
its last product is read, in which the port could start others. Where bands make a layer longer by more than a
tenth, it has fewer: the next layer waits for the first of them, and the cores for what all of them add.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from ffebm.plan.memory.held import Rows
from ffebm.scheduling.streams import Stream

MOST_BANDS = 32
"""Bands of an item. ResNet-50 on `reference` by up to 32 bands a layer takes 6 % more than by single rows, by
16 it takes 24 %: docs/scheduling.md."""
MOST_TRAINING_BANDS = 8
"""Bands of an item in a training step, where each has up to five further steps on the way back, and buffers
that live long; up to four times as many are tried (`training_bands.py`)."""
MOST_STEPS = 10_000
"""Steps of an inference: DenseNet-121 by 32 bands a layer would have half as many again if each digital node
had a step: docs/scheduling.md."""
MOST_TRAINING_STEPS = 2_000
"""Steps of a training step: the page of DenseNet-121, with 8,800 of an inference, stays below 3 MB so."""
FEW_STEPS = MOST_STEPS
"""Steps of an inference up to which layers are cut twice as finely: VGG-19, whose first images have 224 rows,
has 1,241 so and is 6 % shorter on `reference`, DenseNet-121 9,904 and 5 %."""
FEW_TRAINING_STEPS = 4_500
"""The same of a training step: twice the bands shorten VGG-19's by 5 to 10 %, SqueezeNet's on `hermes` by
10 %, in 1,416 and 3,380 steps, Inception v1's on `isaac` by 31 % in 3,833: docs/scheduling.md."""
SINGLE_ROWS = 1 << 30
"""More bands, and steps, than any item has rows: each row has one, however much longer that makes a layer."""
LONGER = 0.1
"""Share by which bands may make a layer longer than it is at once; more is weighed against what the first
band is earlier. ShuffleNet on `pimcomp` takes 431 us so, 446 by all its bands: docs/scheduling.md."""


class StepBudget(NamedTuple):
    """Steps of all items.

    Attributes:
        most: For which they are cut less finely.
        few: Where no more are made so, they are cut twice as finely.
        weighed: Where bands make an item longer, it may have fewer.
    """

    most: int
    few: int = 0
    weighed: bool = True


USUAL = StepBudget(MOST_STEPS)
"""Of an inference."""


@dataclass(frozen=True)
class Bands:
    """Rows at which the bands of something end.

    Attributes:
        ends: Increasing; the last is the number of rows.
    """

    ends: tuple[int, ...]

    def rows(self) -> list[Rows]:
        """The bands in order."""
        return list(zip((0, *self.ends[:-1]), self.ends, strict=True))

    def of(self, row: int) -> int:
        """The band that a row is in."""
        return bisect_right(self.ends, row)


def of_height(rows: int, height: int) -> Bands:
    """Bands of some rows each; the last may be lower."""
    return Bands((*range(height, rows, height), rows))


@dataclass(frozen=True)
class Streaming:
    """An item that streams, as far as its bands go.

    Attributes:
        stream: How it does.
        further: Steps of a band beside its own.
        seconds: How long it takes.
    """

    stream: Stream
    further: int
    seconds: float

    @cached_property
    def _whole(self) -> list[int]:
        """For each number of first rows, how many are made by the reads that make so many."""
        found = list(range(self.stream.rows + 1))
        if self.stream.shared:
            start = 1
            while start < len(found):
                end = self.stream.made_with(start)
                found[start : end + 1] = [end] * (end + 1 - start)
                start = end + 1
        return found

    def bands(self, height: int) -> Bands:
        """Bands of about so many rows."""
        ends = of_height(self.stream.rows, height).ends
        return Bands(tuple(dict.fromkeys(self._whole[end] for end in ends)))

    def steps(self, height: int) -> int:
        """Steps that it makes by bands of about so many rows."""
        return len(self.bands(height).ends) * (1 + self.further)

    def worthwhile(self, bands: Bands, lasting: Callable[[Rows], float]) -> Bands:
        """These bands, or fewer where they make the item longer by more than `LONGER`.

        Of these the ones that are least together, the longest band, for which others wait, and all of them.

        Args:
            bands: Of the item.
            lasting: How long some rows take as a band, seconds.
        """
        seconds = [lasting(rows) for rows in bands.rows()]
        if sum(seconds) <= (1 + LONGER) * self.seconds:
            return bands
        best, least = bands, max(seconds) + sum(seconds)
        rows = self.stream.rows
        fewer = (self.bands(-(-rows // count)) for count in reversed(range(1, len(bands.ends))))
        for found in dict.fromkeys(fewer):
            if self.seconds / len(found.ends) + self.seconds >= least:  # what so many take at least
                break
            seconds = [lasting(some) for some in found.rows()]
            if max(seconds) + sum(seconds) < least:
                best, least = found, max(seconds) + sum(seconds)
        return best


class Cutting:
    """The ways to cut items into bands.

    Args:
        streams: Of the items in order.
        further: Steps of a band of each item beside its own, as those that carry what it makes.
        seconds: How long each item takes.
    """

    def __init__(
        self,
        streams: Sequence[Stream | None],
        further: Sequence[int],
        seconds: Sequence[float],
    ) -> None:
        self._count = len(streams)
        self._found = {
            place: Streaming(stream, further[place], seconds[place])
            for place, stream in enumerate(streams)
            if stream is not None
        }

    def steps(self, most: int) -> int:
        """Steps of all items, each of up to so many bands."""
        streaming = (one.steps(-(-one.stream.rows // most)) for one in self._found.values())
        return self._count - len(self._found) + sum(streaming)

    def bands(self, most: int = MOST_BANDS, most_steps: int = MOST_STEPS) -> list[Bands | None]:
        """The bands of each item; None: it is done at once.

        Args:
            most: Bands of an item.
            most_steps: Steps of all items.
        """
        found = self._found
        heights = _heights(list(found.values()), most, most_steps - self._count + len(found))
        bands = (
            found[place].bands(heights[found[place].stream.rows]) if place in found else None
            for place in range(self._count)
        )
        return [some if some is not None and len(some.ends) > 1 else None for some in bands]

    def worthwhile(self, place: int, bands: Bands, lasting: Callable[[Rows], float]) -> Bands | None:
        """The bands of one item that are worth what they add; None: it is done at once."""
        found = self._found[place].worthwhile(bands, lasting)
        return found if len(found.ends) > 1 else None


def _heights(streaming: Sequence[Streaming], most: int, steps: int) -> dict[int, int]:
    """How high bands are, for each number of rows, so that there are not too many steps.

    Args:
        streaming: What streams.
        most: Bands of an item.
        steps: Of all of them.
    """
    alike: dict[int, list[Streaming]] = {}
    for one in streaming:
        alike.setdefault(one.stream.rows, []).append(one)
    heights = {rows: -(-rows // most) for rows in alike}
    counts = {rows: sum(one.steps(heights[rows]) for one in some) for rows, some in alike.items()}
    while sum(counts.values()) > steps:
        choices = []
        for rows, some in alike.items():
            bands = -(-rows // heights[rows])
            if bands > 1:
                height = -(-rows // (bands - 1))
                count = sum(one.steps(height) for one in some)
                longer = sum(one.seconds for one in some) * (height - heights[rows]) / rows
                choices.append((longer / max(1, counts[rows] - count), rows, height, count))
        if not choices:
            break
        _, rows, height, count = min(choices)
        heights[rows], counts[rows] = height, count
    return heights
