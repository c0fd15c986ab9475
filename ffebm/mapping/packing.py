"""Packing bundles onto arrays without overlap.

Each bundle is a box. Boxes of one block that share an array are read one after the other, so they lie apart
where there are enough arrays. With as many arrays as boxes each box has one of its own. Where space is short
all boxes are packed together, large ones first: a box takes the free rectangle that it fits best, and what is
left of that is cut in two (a guillotine cut). Free rectangles are kept by height and width, so the time grows
nearly as the number of boxes.

Boxes of one size come in the order of the graph, so neighbours share an array. These work at the same time,
on rows of one sample, and wait for each other. Boxes may be scattered instead: as many of one size as an
array holds come one after the other from blocks that are as far apart as can be.

Circuits that settle at once share no line: their boxes lie in a diagonal of each array, a box behind the last
one on word lines and on bit lines. Long boxes come first, each to the first array with room.

Source: Jylänki, "A thousand ways to pack the bin" (2010): guillotine, best short side fit, longer axis split.
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, zip_longest

from ffebm.graph.graph import Place
from ffebm.mapping.layout import Size

SEEN = 32
"""Free rectangles of one size that are looked at for one apart from its block."""

ENDLESS = 1 << 62
"""Lines of an array that holds anything."""


@dataclass(frozen=True)
class Box:
    """A bundle's lines.

    Attributes:
        height: Word lines.
        width: Bit-line pairs.
        owners: Blocks that read it, by number.
    """

    height: int
    width: int
    owners: Collection[int] = ()


@dataclass(frozen=True)
class Way:
    """How to fill arrays.

    Attributes:
        order: Key by which boxes are sorted.
        apart: No two boxes of one block share an array.
        wide: Take an empty array before what is left of others.
        diagonal: No two boxes share a line.
    """

    order: Callable[[Box], tuple[int, ...]]
    apart: bool
    wide: bool = False
    diagonal: bool = False


def _tall(box: Box) -> tuple[int, ...]:
    return -box.height, -box.width


def _large(box: Box) -> tuple[int, ...]:
    return -box.height * box.width, -box.height


def _long(box: Box) -> tuple[int, ...]:
    return -max(box.height, box.width), -min(box.height, box.width), -box.height


APART = (
    Way(_large, apart=True, wide=True),
    *(Way(order, apart=True) for order in (_tall, _large, _long)),
)
"""Ways that cost no time."""

CLOSE = tuple(Way(order, apart=False) for order in (_tall, _large, _long))
"""Ways in which boxes of a block may share an array, and take turns there."""

WAYS = (*APART, *CLOSE)
"""All ways, in the order in which they are tried."""

DIAGONAL = (Way(_long, apart=False, diagonal=True),)
"""The way of circuits that settle at once."""


def pack(
    boxes: Sequence[Box],
    count: int,
    size: Size | None,
    ways: Sequence[Way] | None = None,
    *,
    scattered: bool = False,
) -> tuple[Place, ...] | None:
    """Lay boxes on arrays, those of a block apart if that goes.

    Args:
        boxes: What is to be placed; none is larger than an array.
        count: How many arrays there are.
        size: Word lines and bit-line pairs of each; None for arrays that hold anything.
        ways: Tried one after the other; None for all.
        scattered: Boxes that share an array come from far apart, if they are made to fit so; in a diagonal
            they come in order.

    Returns:
        A place for each box; None if they were not made to fit.
    """
    if len(boxes) <= count:
        return tuple(Place(number, 0, 0) for number in range(len(boxes)))
    if size is not None and sum(box.height * box.width for box in boxes) > count * size[0] * size[1]:
        return None
    orders = (True, False) if scattered else (False,)  # of others some fit only so
    tries = (_filled(boxes, count, size, way, scattered=order) for order in orders for way in ways or WAYS)
    return next((places for places in tries if places is not None), None)


def arrays_needed(boxes: Sequence[Box], size: Size | None, ways: Sequence[Way] = CLOSE) -> int:
    """The fewest arrays that boxes were made to fit on, blocks apart or not."""
    tries = [_filled(boxes, len(boxes), size, way) or () for way in ways]
    return min(1 + max((place.tile for place in places), default=-1) for places in tries)


def _filled(
    boxes: Sequence[Box], count: int, size: Size | None, way: Way, *, scattered: bool = False
) -> tuple[Place, ...] | None:
    whole = size or (ENDLESS, ENDLESS)
    arrays = _Diagonals(count, whole) if way.diagonal else _Arrays(count, whole, way)
    places: dict[int, Place] = {}
    order: Iterable[int] = sorted(range(len(boxes)), key=lambda index: (way.order(boxes[index]), index))
    for index in _scattered(boxes, order, whole) if scattered and not way.diagonal else order:
        place = arrays.put(boxes[index])
        if place is None:
            return None
        places[index] = place
    return tuple(places[index] for index in range(len(boxes)))


def _scattered(boxes: Sequence[Box], order: Iterable[int], size: Size) -> Iterator[int]:
    """Boxes in order, those of one size from as many equal shares of their run as an array holds in turn."""
    for (height, width), alike in groupby(order, key=lambda index: (boxes[index].height, boxes[index].width)):
        run = list(alike)
        count = min(len(run), max(1, (size[0] // height) * (size[1] // width)))
        shares = [run[n * len(run) // count : (n + 1) * len(run) // count] for n in range(count)]
        yield from (index for turn in zip_longest(*shares) for index in turn if index is not None)


@dataclass
class _Diagonals:
    """Arrays in use, with the first lines of each that are free."""

    count: int
    size: Size
    corners: list[Size] = field(default_factory=list)
    first: dict[Size, int] = field(default_factory=dict)

    def put(self, box: Box) -> Place | None:
        """Where a box now lies; None if it does not fit."""
        kind = box.height, box.width
        for number in range(self.first.get(kind, 0), self.count):
            if number == len(self.corners):
                self.corners.append((0, 0))
            row, col = self.corners[number]
            if row + box.height <= self.size[0] and col + box.width <= self.size[1]:
                self.first[kind] = number  # no array before has room for another one
                self.corners[number] = row + box.height, col + box.width
                return Place(number, row, col)
        return None


@dataclass
class _Arrays:
    """Arrays in use, and the free rectangles of each: by height, by width, then as corners."""

    count: int
    size: Size
    way: Way
    owners: list[set[int]] = field(default_factory=list)
    free: dict[int, dict[int, list[Place]]] = field(default_factory=dict)
    heights: list[int] = field(default_factory=list)
    widths: dict[int, list[int]] = field(default_factory=dict)

    def put(self, box: Box) -> Place | None:
        """Where a box now lies; None if it does not fit."""
        may_open = len(self.owners) < self.count
        found = None if self.way.wide and may_open else min(self._fits(box), default=None)
        if found is not None:
            _, height, width, index = found
            corner = self._take(height, width, index)
        elif may_open and box.height <= self.size[0] and box.width <= self.size[1]:
            corner, (height, width) = Place(len(self.owners), 0, 0), self.size
            self.owners.append(set())
        else:
            return None
        self.owners[corner.tile].update(box.owners)
        self._cut(corner, height, width, box)
        return corner

    def _fits(self, box: Box) -> Iterator[tuple[tuple[int, int], int, int, int]]:
        """The best free rectangle of each height: what it leaves, its size, its index among equal ones."""
        for height in self.heights[bisect_left(self.heights, box.height) :]:
            widths = self.widths[height]
            for width in widths[bisect_left(widths, box.width) :]:
                index = self._apart(self.free[height][width], box)
                if index is not None:
                    above, beside = height - box.height, width - box.width
                    left = (above, beside) if above < beside else (beside, above)
                    yield left, height, width, index
                    break

    def _apart(self, corners: list[Place], box: Box) -> int | None:
        """The latest rectangle on an array without the box's block."""
        last = len(corners) - 1
        if not self.way.apart:
            return last
        owners, by = self.owners, box.owners
        alone = next(iter(by)) if len(by) == 1 else None  # nearly always; a look-up is the faster question
        for index in range(last, max(-1, last - SEEN), -1):
            there = owners[corners[index].tile]
            if (alone not in there) if alone is not None else there.isdisjoint(by):
                return index
        return None

    def _take(self, height: int, width: int, index: int) -> Place:
        corners = self.free[height][width]
        corner = corners.pop(index)
        if not corners:
            del self.free[height][width]
            self.widths[height].remove(width)
        if not self.widths[height]:
            del self.widths[height], self.free[height]
            self.heights.remove(height)
        return corner

    def _cut(self, corner: Place, height: int, width: int, box: Box) -> None:
        """Free what a box leaves of its rectangle, cut along the longer side of that."""
        tile, row, col = corner.tile, corner.row, corner.col
        above, beside = height - box.height, width - box.width
        if above >= beside:
            self._free(Place(tile, row + box.height, col), above, width)
            self._free(Place(tile, row, col + box.width), box.height, beside)
        else:
            self._free(Place(tile, row + box.height, col), above, box.width)
            self._free(Place(tile, row, col + box.width), height, beside)

    def _free(self, corner: Place, height: int, width: int) -> None:
        if not height or not width:
            return
        if height not in self.free:
            insort(self.heights, height)
            self.free[height], self.widths[height] = {}, []
        if width not in self.free[height]:
            insort(self.widths[height], width)
            self.free[height][width] = []
        self.free[height][width].append(corner)
