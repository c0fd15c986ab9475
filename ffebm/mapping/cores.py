"""Tiles in cores, which share adders and a port through which products start.

A core starts one product every `issue`; a product takes one vector, or the range of it that a row of cuts
takes, to all tiles of the core that read it. So n products of a core take at least (n - 1) times the issue
and one read. Partial sums of a core add up in it, and cross the network from core to core only.

Before parts are placed, bundles count as filling cores in their order, one tile each: what a placement then
gives may be a core more. A placement spreads copies of a weight over cores that would else be idle, those
first that keep their ports busiest; a copy stays in one core if it fits, for its partial sums.
"""

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

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

    def issuing(
        self, products: Iterable[tuple[Bundle, int, bool]], read: float, *, more: bool = False
    ) -> float:
        """How long the busiest port takes to start products, until the last one is read.

        Args:
            products: Bundles with the vectors that each takes, and whether these come by the bit lines.
            read: Seconds of one read.
            more: A further product may follow at once, and the port must be ready to start it.
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
        ready = most * self._core.issue.value if more else 0.0
        return max(ready, self._until_read(self._core, most, read))

    @staticmethod
    def _until_read(core: Core, products: int, read: float) -> float:
        return (products - 1) * core.issue.value + read if products else 0.0


def _name(part: Part) -> tuple[str, int, int]:
    return part.weight, part.replica, part.bundle


@dataclass
class _Spread:
    """The cores of a weight.

    Attributes:
        copies: The arrays of each copy.
        products: That its copies start together for one sample.
        cores: How many it has.
        room: Copies that one core has room for; 0 if a copy takes several cores.
    """

    copies: list[list[int]]
    products: float
    cores: int
    room: int

    @property
    def busiest(self) -> float:
        """Products that its busiest core starts for a sample."""
        return self.products * -(-len(self.copies) // self.cores) / len(self.copies)

    @property
    def wanted(self) -> int:
        """Cores at which the busiest has a copy less; 0 if there are none."""
        held = -(-len(self.copies) // self.cores)
        return -(-len(self.copies) // (held - 1)) if self.room and held > 1 else 0


def spread(
    core: Core, count: int, copies: Sequence[tuple[str, int]], products: Mapping[str, int]
) -> list[int]:
    """Numbers of tiles for arrays that are in use.

    Args:
        core: What a core is.
        count: Tiles that there are.
        copies: The weight and the replica that each array holds first.
        products: Of each weight, one copy of all of it for one sample.

    Returns:
        A tile for each array: in order, where cores are too few for each weight to have its own.
    """
    held: dict[str, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for array, (weight, replica) in enumerate(copies):
        held[weight][replica].append(array)
    weights = []
    for weight, replicas in held.items():
        size = max(map(len, replicas.values()))
        room, alone = core.tiles // size, -(-size // core.tiles)
        cores = -(-len(replicas) // room) if room else len(replicas) * alone
        weights.append(_Spread(list(replicas.values()), products.get(weight, 1), cores, room))
    spare = count // core.tiles - sum(weight.cores for weight in weights)
    if spare < 0:
        return list(range(len(copies)))
    _widen(weights, spare)
    return _numbers(core, weights, len(copies))


def _widen(weights: Sequence[_Spread], spare: int) -> None:
    """Give cores to the weight whose busiest core starts most, one copy less at a time."""
    queue = [(-weight.busiest, index) for index, weight in enumerate(weights)]
    heapq.heapify(queue)
    while queue:
        _, index = heapq.heappop(queue)
        weight = weights[index]
        more = weight.wanted - weight.cores
        if 0 < more <= spare:
            spare -= more
            weight.cores += more
            heapq.heappush(queue, (-weight.busiest, index))


def _numbers(core: Core, weights: Iterable[_Spread], count: int) -> list[int]:
    """Tiles of arrays: copies of a weight are dealt to its cores."""
    numbers, first = [0] * count, 0
    for weight in weights:
        taken = [0] * weight.cores
        alone = weight.cores // len(weight.copies) if not weight.room else 1
        for place, arrays in enumerate(weight.copies):
            home = place % weight.cores if weight.room else place * alone
            for array in arrays:
                while taken[home] == core.tiles:
                    home += 1
                numbers[array] = (first + home) * core.tiles + taken[home]
                taken[home] += 1
        first += weight.cores
    return numbers
