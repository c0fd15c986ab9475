"""Mappings that pack onto the tiles: the densest one, and others that use up the room there is."""

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from ffebm.errors import UsageError
from ffebm.hardware.description import AnalogGroup, Hardware
from ffebm.mapping.options import Choosing, Option
from ffebm.mapping.packing import APART, Box, pack
from ffebm.mapping.search.goal import Goal
from ffebm.mapping.search.known import Known
from ffebm.mapping.search.over_cores import OverCores
from ffebm.mapping.tile_counts import boxes_of, tile_counts, ways_of

BUNDLES = 20_000
"""Bundles of mappings that are packed to fill what is left of the tiles, for 1,000 of effort."""
WORTHS = tuple(2.0**power for power in range(-24, 25))
"""What a tile may be worth, as a share of the inference: from hardly anything to more than all time."""
SLOWER = (1.0, 1.5, 2.0, 3.0)
"""How often the least time that every block can keep a block may take.

Copies that are fewer are less idle, wait for fewer rows ahead of theirs, and share fewer tiles and cores.
ResNet-50 on `isaac` takes 2.24 ms by 1, 1.98 by 1.5, and no less than 2.11 by 2; DenseNet-121 there 4.33,
4.92, 5.54 and 3.55 ms by the four (docs/scheduling.md)."""


BUSIER = 1.15
"""Times the work of the busiest tile up to which blocks on shared tiles may be far apart.

Where it is more, ResNet-50 and SqueezeNet take 1.04 to 5.5 times as long so. Mappings of ShuffleNet and
DenseNet-121 that take least have 0.45 to 1.04 times that work (docs/mapping.md)."""


@dataclass(frozen=True)
class Filling:
    """Fills tiles with blocks.

    Attributes:
        hardware: The machine.
        choosing: What each block could be.
        goal: What is wanted.
        known: Which mappings pack.
    """

    hardware: Hardware
    choosing: tuple[Choosing, ...]
    goal: Goal
    known: Known

    def packs(self, picked: Sequence[int], *, apart: bool) -> bool:
        """A mapping packs onto the tiles."""
        key, packed = (tuple(picked), apart), self.known.packed
        if key not in packed:
            packed[key] = self._packs(picked, apart=apart)
        return packed[key]

    def scattered(self, picked: tuple[int, ...]) -> float:
        """What the busiest of shared tiles has to do by prices if blocks on each are far apart, seconds.

        Infinite if that is much more than otherwise, in each group, or no tiles are shared.
        """
        known = self.known.busiest
        if picked not in known:
            boxes = self._all_boxes(picked)
            counts = tile_counts(self.hardware, boxes, self.goal.tiles, self.goal.area) or {}
            shared = [
                self._scattered(picked, group, boxes[group.name], counts[group.name])
                for group in self.hardware.analog
                if group.settling == "clocked" and len(boxes.get(group.name, [])) > counts.get(group.name, 0)
            ]
            known[picked] = min(shared, default=math.inf)
        return known[picked]

    def _scattered(
        self, picked: Sequence[int], group: AnalogGroup, boxes: Sequence[Box], count: int
    ) -> float:
        """The same for the tiles of a group."""
        seconds = [
            math.fsum(price.interval for price in option.prices)
            for option in self.options(picked)
            if option.group == group.name
            for _ in range(option.bundles)
        ]

        def busiest(*, scattered: bool) -> float:
            places = pack(boxes, count, group.tile.size, ways_of(group), scattered=scattered)
            assert places is not None  # what is scheduled packs
            busy: defaultdict[int, float] = defaultdict(float)
            for place, taken in zip(places, seconds, strict=True):
                busy[place.tile] += taken
            return max(busy.values())

        near, far = busiest(scattered=False), busiest(scattered=True)
        return far if far <= BUSIER * near else math.inf

    def _all_boxes(self, picked: Sequence[int]) -> dict[str, list[Box]]:
        """The boxes of a mapping, by group of tiles."""
        boxes: dict[str, list[Box]] = {}
        for place, number in enumerate(picked):
            for group, own in self._boxes(place, number).items():
                boxes.setdefault(group, []).extend(own)
        return boxes

    def _packs(self, picked: Sequence[int], *, apart: bool) -> bool:
        boxes = self._all_boxes(picked)
        counts = tile_counts(self.hardware, boxes, self.goal.tiles, self.goal.area)
        return counts is not None and all(
            pack(
                boxes.get(group.name, []),
                counts[group.name],
                group.tile.size,
                APART if apart and group.settling == "clocked" else ways_of(group),
            )
            is not None
            for group in self.hardware.analog
        )

    def _boxes(self, place: int, number: int) -> dict[str, list[Box]]:
        """The boxes of an option of one of the choosing, by group of tiles."""
        key, boxes = (place, number), self.known.boxes
        if key not in boxes:
            some = self.choosing[place]
            boxes[key] = boxes_of((some,), (some.options[number],))
        return boxes[key]

    def options(self, picked: Sequence[int]) -> tuple[Option, ...]:
        """What each of the choosing takes."""
        return tuple(some.options[n] for some, n in zip(self.choosing, picked, strict=True))

    def usual(self, picked: tuple[int, ...]) -> tuple[int, ...]:
        """The same on tiles, and each digital node in the first group of units that runs it."""
        return tuple(n if some.options[n].group else 0 for some, n in zip(self.choosing, picked, strict=True))

    def densest(self) -> tuple[int, ...]:
        """Every block on the fewest tiles."""
        return tuple(_smallest(some.options) for some in self.choosing)

    def fallback(self) -> tuple[int, ...]:
        """Every block on the fewest tiles, or if these are too few, every block digital.

        Raises:
            UsageError: If some block can be neither.
        """
        densest, digital = self.densest(), (0,) * len(self.choosing)
        if self.packs(densest, apart=False):
            return densest
        if any(option.group for option in self.options(digital)):
            raise UsageError(
                "the tiles are too few for the blocks that no digital unit runs", hint="allow more tiles"
            )
        return digital

    def closer(self, picked: tuple[int, ...]) -> tuple[int, ...]:
        """What is on tiles there, in the fastest way that packs: each takes what costs least, time and tiles.

        The solver counts cells, or bundles among their like; here bundles of all sizes fill gaps.
        """
        low, high = 0, len(WORTHS)
        while low < high:  # the least that a tile has to be worth
            middle = (low + high) // 2
            if self.packs(self.at_worth(picked, WORTHS[middle]), apart=True):
                high = middle
            else:
                low = middle + 1
        return picked if low == len(WORTHS) else self._filled(self.at_worth(picked, WORTHS[low]))

    def _filled(self, picked: tuple[int, ...]) -> tuple[int, ...]:
        """With what is left of the tiles for the blocks that save most time by it."""
        steps = []
        for place, (some, n) in enumerate(zip(self.choosing, picked, strict=True)):
            now = some.options[n]
            steps += [
                (option.seconds - now.seconds, place, number)
                for number, option in enumerate(some.options)
                if now.group and option.group == now.group and option.seconds < now.seconds
            ]
        taken: set[int] = set()
        left = BUNDLES * self.goal.effort // 1000
        for _, place, number in sorted(steps):
            if place in taken:
                continue
            tried = (*picked[:place], number, *picked[place + 1 :])
            left -= sum(option.bundles for option in self.options(tried))
            if left < 0:
                break
            if self.packs(tried, apart=True):
                picked = tried
                taken.add(place)
        return picked

    def groups(self, picked: tuple[int, ...]) -> tuple[str | int, ...]:
        """The group of tiles that each has; of a digital one which of its options."""
        return tuple(option.group or n for option, n in zip(self.options(picked), picked, strict=True))

    def even(self, picked: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        """What is on tiles there, with no block much slower than the others; the groups alone count."""

        def within(seconds: float) -> tuple[int, ...]:
            return tuple(some.within(n, seconds) for some, n in zip(self.choosing, picked, strict=True))

        over_cores = OverCores(self.hardware, self.choosing)
        yield from over_cores.mappings(picked, lambda found: self.packs(found, apart=True))
        options = chain.from_iterable(some.options for some in self.choosing)
        times = sorted({option.seconds for option in options if option.group})
        least = bisect_left(times, True, key=lambda seconds: self.packs(within(seconds), apart=True))
        slower = SLOWER if least < len(times) else ()
        slowed = (within(factor * times[least]) for factor in slower)
        yield from (found for found in slowed if self.packs(found, apart=True))

    def at_worth(self, picked: tuple[int, ...], worth: float) -> tuple[int, ...]:
        """The options with the least time and tiles together, of the group that each has."""
        whole = sum(option.seconds for option in self.options(picked)) or 1.0

        def price(option: Option) -> float:
            return option.seconds / whole + worth * sum(option.prices[0].tiles.values())

        cheapest = []
        for some, n in zip(self.choosing, picked, strict=True):
            alike = some.alike(n)
            prices = [price(some.options[k]) for k in alike]
            cheapest.append(alike[prices.index(min(prices))])
        return tuple(cheapest)


def _smallest(options: Sequence[Option]) -> int:
    """The option on tiles that fills the fewest; digital if there is none."""
    room = [sum(option.prices[0].tiles.values()) if option.group else math.inf for option in options]
    return room.index(min(room))
