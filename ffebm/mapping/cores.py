"""Tiles in cores, which share adders and a port through which products start.

A core starts one product every `issue`; a product takes one vector, or the range of it that a row of cuts
takes, to all tiles of the core that read it. So n products of a core take at least (n - 1) times the issue
and one read. Partial sums of a core add up in it, and cross the network from core to core only.

Before parts are placed, bundles count as filling cores one by one, those that take the same inputs behind
each other: what a placement then gives may be a core more. A placement spreads copies of a weight, and then
the ranges of inputs of each copy, over cores that would else be idle, those first that keep their ports
busiest, as long as products start more slowly than they are read.
"""

import heapq
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
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
        every = [part for held in bundles.values() for part in sorted(map(_first, held), key=_by_inputs)]
        self._order = {_name(part): index for index, part in enumerate(every)}

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


def _first(bundle: Bundle) -> Part:
    return bundle.parts[0]


def _by_inputs(part: Part) -> tuple[object, ...]:
    """Parts of a copy that take the same inputs behind each other."""
    return part.replica, part.transposed, part.group, part.inputs, part.bundle


def _name(part: Part) -> tuple[str, int, int]:
    return part.weight, part.replica, part.bundle


@dataclass(frozen=True)
class Occupant:
    """What an array holds first.

    Attributes:
        weight: By name.
        replica: Which copy of it.
        inputs: Which inputs it takes: arrays of a copy that take the same ones start together.
    """

    weight: str
    replica: int = 0
    inputs: Hashable = None


@dataclass(frozen=True)
class _Way:
    """How the copies of a weight lie in cores.

    Attributes:
        together: Copies in a core, at most.
        apart: Cores of a copy; 1 where several are together.
        cores: Of all copies.
        products: That a core starts, at most, for a vector to each of its copies.
    """

    together: int
    apart: int
    cores: int
    products: int


@dataclass
class _Weight:
    """The arrays of a weight.

    Attributes:
        copies: The arrays of each copy, for each range of inputs.
        reads: That a copy takes for a sample.
        ways: How it may lie, the fewest cores first; each has fewer products than the one before.
        chosen: Which of the ways it takes.
    """

    copies: list[list[list[int]]]
    reads: float
    ways: list[_Way]
    chosen: int = 0

    @property
    def way(self) -> _Way:
        """How it lies."""
        return self.ways[self.chosen]


def spread(
    core: Core, count: int, arrays: Sequence[Occupant], reads: Mapping[str, int], read: float = 0.0
) -> list[int]:
    """Numbers of tiles for arrays that are in use.

    Args:
        core: What a core is.
        count: Tiles that there are.
        arrays: What each holds.
        reads: Of each weight, one copy of all of it for one sample.
        read: Seconds of one.

    Returns:
        A tile for each array: in order, where cores are too few for each weight to have its own.
    """
    held: dict[str, dict[int, dict[Hashable, list[int]]]] = {}
    for array, what in enumerate(arrays):
        copy = held.setdefault(what.weight, {}).setdefault(what.replica, {})
        copy.setdefault(what.inputs, []).append(array)
    weights = []
    for weight, replicas in held.items():
        copies = [list(ranges.values()) for ranges in replicas.values()]
        weights.append(_Weight(copies, reads.get(weight, 1) / len(copies), _ways(core, copies)))
    spare = count // core.tiles - sum(weight.way.cores for weight in weights)
    if spare < 0:
        inputs = (some for weight in weights for copy in weight.copies for some in copy)
        order = [array for some in inputs for array in some]
        return [number for _, number in sorted(zip(order, range(len(order)), strict=True))]
    _widen(core, weights, spare, read)
    return _numbers(core, weights, len(arrays))


def _ways(core: Core, copies: Sequence[Sequence[Sequence[int]]]) -> list[_Way]:
    """How copies may lie: several in a core, each in one, or each over several."""
    size = max(sum(map(len, copy)) for copy in copies)
    longest = max(copies, key=len)
    found: list[_Way] = []
    for together in range(min(core.tiles // size, len(copies)), 0, -1):
        cores = -(-len(copies) // together)
        if not found or cores > found[-1].cores:
            found.append(_Way(together, 1, cores, -(-len(copies) // cores) * len(longest)))
    fewest, most = -(-size // core.tiles), sum(-(-len(arrays) // core.tiles) for arrays in longest)
    for apart in range(max(2, fewest), max(fewest, most) + 1):
        if found and -(-len(longest) // apart) >= found[-1].products:
            continue
        starts: dict[int, set[int]] = defaultdict(set)
        for number, _, home in _dealt(core, longest, apart):
            starts[home].add(number)
        products = max(map(len, starts.values()))
        if not found or products < found[-1].products:
            found.append(_Way(1, apart, len(copies) * apart, products))
    return found


def _dealt(core: Core, copy: Sequence[Sequence[int]], apart: int) -> Iterator[tuple[int, int, int]]:
    """The arrays of a copy over its cores, ranges of inputs together where there is room.

    Yields:
        The number of the range, the array, and the number of the core.
    """
    taken = [0] * apart
    for number, arrays in enumerate(copy):
        home = number * apart // len(copy)
        for array in arrays:
            while taken[home] == core.tiles:
                home = (home + 1) % apart
            taken[home] += 1
            yield number, array, home


def _widen(core: Core, weights: Sequence[_Weight], spare: int, read: float) -> None:
    """Give cores to the weight whose busiest core takes longest, as long as that helps."""

    def seconds(weight: _Weight) -> float:
        return weight.reads * max(read, weight.way.products * core.issue.value)

    queue = [(-seconds(weight), index) for index, weight in enumerate(weights)]
    heapq.heapify(queue)
    while queue:
        _, index = heapq.heappop(queue)
        weight = weights[index]
        if weight.way is weight.ways[-1] or weight.way.products * core.issue.value <= read:
            continue
        more = weight.ways[weight.chosen + 1].cores - weight.way.cores
        if more <= spare:
            spare -= more
            weight.chosen += 1
            heapq.heappush(queue, (-seconds(weight), index))


def _numbers(core: Core, weights: Iterable[_Weight], count: int) -> list[int]:
    """Tiles of arrays: copies of a weight are dealt to its cores."""
    numbers, first = [0] * count, 0
    for weight in weights:
        way = weight.way
        taken = [0] * way.cores
        for place, copy in enumerate(weight.copies):
            start = place * way.apart % way.cores
            for _, array, home in _dealt(core, copy, way.apart):
                numbers[array] = (first + start + home) * core.tiles + taken[start + home]
                taken[start + home] += 1
        first += way.cores
    return numbers
