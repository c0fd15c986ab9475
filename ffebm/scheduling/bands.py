"""Bands: how many rows each step makes, so that a plan stays small.

A layer waits for the first band of the one before, and is done a band after it: high bands cost time, low
ones steps. Each item that streams has up to `MOST_BANDS` bands of equal height. Where that makes more than
`MOST_STEPS` steps, items of as many rows are cut less finely, those first that lose least time for a step.
Where twice as many bands make no more than `FEW_STEPS`, there are twice as many.

Where the windows of a layer are shared out over replicas, a band that is no multiple of them leaves some
idle: bands are then as high as it takes to lose at most `IDLE` of the time.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ffebm.plan.memory.accesses import Rows
from ffebm.scheduling.streams import Stream

MOST_BANDS = 32
"""Bands of an item. ResNet-50 on `reference` by up to 32 bands a layer takes 6 % more than by single rows, by
16 it takes 24 %: docs/scheduling.md."""
MOST_TRAINING_BANDS = 8
"""Bands of an item in a training step, where each has up to five further steps on the way back, and buffers
that live long. SqueezeNet on `reference` takes 6.4 ms so, by 16 bands 5.5, by 32 5.1: docs/scheduling.md."""
MOST_STEPS = 10_000
"""Steps of an inference: DenseNet-121 by 32 bands a layer would have half as many again for a tenth of its
time: docs/scheduling.md."""
MOST_TRAINING_STEPS = 2_000
"""Steps of a training step: the page of DenseNet-121, with 8,800 of an inference, stays below 3 MB so."""
FEW_STEPS = 2_000
"""Steps of an inference up to which layers are cut twice as finely: VGG-19, whose first images have 224 rows,
has 1,241 so and is 6 % shorter on `reference`; deep networks have more steps, and layers of few rows."""
FEW_TRAINING_STEPS = 3_600
"""The same of a training step: twice the bands shorten VGG-19's by 5 to 10 %, SqueezeNet's on `hermes` by
10 %, in 1,416 and 2,817 steps: docs/scheduling.md."""
IDLE = 0.1
"""Share by which bands that are no multiple of a layer's replicas may lengthen its reads (an assumption)."""


class StepBudget(NamedTuple):
    """Steps of all items.

    Attributes:
        most: For which they are cut less finely.
        few: Where no more are made so, they are cut twice as finely.
    """

    most: int
    few: int = 0


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
        unit: Its bands have a multiple of so many rows.
        further: Steps of a band beside its own.
        seconds: How long it takes.
    """

    stream: Stream
    unit: int
    further: int
    seconds: float

    def bands(self, height: int) -> Bands:
        """Bands of at least so many rows."""
        return of_height(self.stream.rows, -(-height // self.unit) * self.unit)

    def steps(self, height: int) -> int:
        """Steps that it makes by bands of at least so many rows."""
        return len(self.bands(height).ends) * (1 + self.further)


class Cutting:
    """The ways to cut items into bands.

    Args:
        streams: Of the items in order.
        further: Steps of a band of each item beside its own, as those that carry what it makes.
        replicas: Of each linear map that drives a block, by the block's position among the items.
        seconds: How long each item takes.
    """

    def __init__(
        self,
        streams: Sequence[Stream | None],
        further: Sequence[int],
        replicas: Mapping[int, Sequence[int]],
        seconds: Sequence[float],
    ) -> None:
        self._count = len(streams)
        self._found = {
            place: Streaming(stream, _unit(stream, replicas.get(place, ())), further[place], seconds[place])
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


def _unit(stream: Stream, replicas: Sequence[int]) -> int:
    """The lowest bands that leave replicas idle for no more than a share of the time."""
    heights = range(1, stream.rows)
    return next(
        (h for h in heights if _idles(stream, of_height(stream.rows, h), replicas) <= IDLE), stream.rows
    )


def _idles(stream: Stream, bands: Bands, replicas: Sequence[int]) -> float:
    """The share by which bands lengthen the reads of a block."""
    worst = 0.0
    for drive, copies in zip(stream.drives, replicas, strict=False):
        if drive is not None and copies > 1:
            spans = [drive.vectors(rows, stream.rows) for rows in bands.rows()]
            counts = [behind - first for first, behind in spans]
            whole = -(-sum(counts) // copies)
            worst = max(worst, sum(-(-count // copies) for count in counts) / whole - 1)
    return worst
