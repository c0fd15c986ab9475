"""Tiles in cores, which share adders and a port through which products start.

A core starts one product every `issue`; a product takes one vector, or the range of it that a row of cuts
takes, to all tiles of the core that read it. So n products of a core take at least (n - 1) times the issue
and one read. Partial sums of a core add up in it, and cross the network from core to core only.

Before parts are placed, bundles count as filling cores in their order, one tile each: what a placement then
gives may be a core more.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from ffebm.graph.graph import Graph, Part
from ffebm.hardware.description import AnalogGroup, Core, Hardware
from ffebm.mapping.layout import Bundle

Home = int | tuple[str, int, int]
"""Where partial sums add up: a core, or a tile; a bundle that has no place yet is a tile of its own."""


class Homes:
    """Where the bundles of a block lie.

    Args:
        graph: A tiled graph.
        hardware: The machine.
        group: The block's tiles.
        bundles: Of each weight of the block.
    """

    def __init__(
        self,
        graph: Graph,
        hardware: Hardware,
        group: AnalogGroup,
        bundles: Mapping[str, Sequence[Bundle]],
    ) -> None:
        self._graph = graph
        self._core = group.core
        self._first = hardware.tile_numbers(group.name).start
        every = [bundle for held in bundles.values() for bundle in held]
        self._order = {_name(bundle.parts[0]): index for index, bundle in enumerate(every)}

    def tile(self, part: Part) -> Home:
        """What a part keeps busy: before it is placed, a tile of its bundle's own."""
        place = self._graph.places.get(part)
        return _name(part) if place is None else place.tile

    def sums(self, part: Part) -> Home:
        """Where what a part gives is added to what others give: its core, or else its tile."""
        if self._core is None:
            return self.tile(part)
        place = self._graph.places.get(part)
        number = self._order[_name(part)] if place is None else place.tile - self._first
        return number // self._core.tiles

    def issuing(self, products: Iterable[tuple[Bundle, int, bool]], read: float) -> float:
        """How long the busiest port takes to start products, until the last one is read.

        Args:
            products: Bundles with the vectors that each takes, and whether these come by the bit lines.
            read: Seconds of one read.
        """
        if self._core is None:
            return 0.0
        counts: dict[Home, dict[tuple[object, ...], int]] = defaultdict(dict)
        for bundle, vectors, transposed in products:
            first = bundle.parts[0]
            lines = first.outputs if transposed else first.inputs
            # bundles of several parts hold whole matrices, each with inputs of its own
            alone = (first.group, lines) if len(bundle.parts) == 1 else (first.bundle,)
            driven = (first.weight, first.replica, transposed, *alone)
            held = counts[self.sums(first)]
            held[driven] = max(held.get(driven, 0), vectors * bundle.turns)
        most = max((sum(held.values()) for held in counts.values()), default=0)
        return self._until_read(self._core, most, read)

    @staticmethod
    def _until_read(core: Core, products: int, read: float) -> float:
        return (products - 1) * core.issue.value + read if products else 0.0


def _name(part: Part) -> tuple[str, int, int]:
    return part.weight, part.replica, part.bundle
