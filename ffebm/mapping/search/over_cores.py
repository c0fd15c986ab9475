"""Mappings whose blocks take the cores there are, none much longer than the others.

The port of a core starts one product after the other, so a core does so many products of a layer in a time,
of however many copies. A block that is to take at most some time needs copies enough to be read in it, and
cores enough to start its products; of all such options it takes the one on the fewest cores, then tiles. The
least time for which all blocks together find cores is found by halving.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from ffebm.graph.windows import positions
from ffebm.hardware.description import Hardware
from ffebm.mapping.cores import CoreCounts
from ffebm.mapping.layout import Layout
from ffebm.mapping.options import Choosing, Option

HALVINGS = 24
"""Of the time on a scale of its logarithm, from the longest block alone to a millionth of it."""
LONGER = (1.0, 1.25, 1.5)
"""Times of the least time that are tried: bands leave copies idle, and what shares a core waits."""


@dataclass(frozen=True)
class OverCores:
    """Finds such mappings.

    Attributes:
        hardware: The machine.
        choosing: What each block could be.
        known: Cores of layouts that were looked at.
    """

    hardware: Hardware
    choosing: tuple[Choosing, ...]
    known: dict[Layout, CoreCounts] = field(default_factory=dict)

    def mappings(
        self, picked: Sequence[int], packs: Callable[[tuple[int, ...]], bool]
    ) -> Iterator[tuple[int, ...]]:
        """What is on tiles there, with more and more time for every block.

        Args:
            picked: The option that each of the choosing takes.
            packs: Whether a mapping packs onto the tiles.
        """
        groups = {self.choosing[place].options[number].group for place, number in enumerate(picked)} - {""}
        if not any(self.hardware.analog_group(group).core is not None for group in groups):
            return

        def holds(seconds: float) -> bool:
            found = self._within(picked, seconds)
            return found is not None and packs(found)

        longest = sum(some.options[n].seconds for some, n in zip(self.choosing, picked, strict=True))
        low, high = math.log(longest) - math.log(1e6), math.log(longest)
        if not holds(longest):
            return
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            low, high = (low, middle) if holds(math.exp(middle)) else (middle, high)
        for longer in LONGER:
            found = self._within(picked, longer * math.exp(high))
            if found is not None and packs(found):
                yield found

    def _within(self, picked: Sequence[int], seconds: float) -> tuple[int, ...] | None:
        """The options on the fewest cores of which none takes longer; None if these are too many."""
        room = {
            group.name: math.inf if group.core is None else group.count // group.core.tiles
            for group in self.hardware.analog
        }
        found = []
        for some, number in zip(self.choosing, picked, strict=True):
            group = some.options[number].group
            best = (0, 0.0, number)
            if group:
                counted = ((self._cores(some, some.options[n], seconds), n) for n in some.alike(number))
                able = [
                    (cores, sum(some.options[n].prices[0].tiles.values()), n)
                    for cores, n in counted
                    if cores is not None
                ]
                if not able:
                    return None
                best = min(able)
                room[group] -= best[0]
            found.append(best[2])
        return tuple(found) if min(room.values()) >= 0 else None

    def _cores(self, some: Choosing, option: Option, seconds: float) -> int | None:
        """The fewest cores on which an option takes at most some seconds; None if it cannot."""
        group = self.hardware.analog_group(option.group)
        if group.core is None:
            return 0 if option.seconds <= seconds else None
        vectors: dict[str, int] = {}
        for block in some.blocks:
            for _, interaction in block.interactions():
                if interaction.linear is not None:
                    weight = interaction.linear.weight
                    taken = positions(interaction, interaction.linear)
                    vectors[weight] = vectors.get(weight, 0) + taken
        cores = 0
        for layout in option.layouts:
            if layout not in self.known:
                self.known[layout] = CoreCounts(group.core, layout, group.tile.read_seconds)
            own = self.known[layout].within(vectors[layout.weight], seconds)
            if own is None:
                return None
            cores += own
        return cores
