"""Tiles in cores, which share adders and a port through which products start.

A core starts one product every `issue`; a product takes one vector, or the range of it that a row of cuts
takes, to all tiles of the core that read it. So n products of a core take at least (n - 1) times the issue
and one read. Partial sums of a core add up in it, and cross the network from core to core only.

Before parts are placed, bundles count as filling cores one by one, those that take the same inputs behind
each other: what a placement then gives may be a core more. A placement spreads copies of a weight, and then
the ranges of inputs of each copy, over cores as long as products start more slowly than they are read: over
cores of its own, the weights first that keep their ports busiest, or where these are too few over cores that
weights share, those first that have least to do.
"""

import heapq
import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ffebm.graph.graph import Graph, Part
from ffebm.hardware.description import AnalogGroup, Core, Hardware
from ffebm.mapping.layout import Bundle, Layout, bundles_of

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
        issue, counts = self._core.issue.value, self._started(products).values()
        most = max((sum(held.values()) for held in counts), default=0)
        ready = most * issue if more else 0.0
        return max(ready, *(_until_read(held.values(), issue, read) for held in counts), 0.0)

    def starting(self, products: Iterable[tuple[Bundle, int, bool]]) -> dict[Home, float]:
        """How long the port of each core takes to start products, seconds; none where there are no cores."""
        if self._core is None:
            return {}
        issue = self._core.issue.value
        return {home: issue * sum(held.values()) for home, held in self._started(products).items()}

    def rounds(self, products: Sequence[tuple[Bundle, int, bool]], read: float) -> float:
        """How long a read in rounds keeps its cores, seconds; infinite if it cannot be in rounds.

        In a round a core starts, in a fixed order and `issue` apart, one product for each range of inputs of
        each copy, whether or not the copy has a vector left; a round takes as long as that, and at least one
        read. So if all reads of a block are in rounds, they may follow each other at once, some rows or
        others, of this sample or another: each array is read again a whole round later at the earliest, when
        its product is done, and the port has started all others before. Behind its rounds a read needs no
        more of the core than the ends of its last products.

        An array that several products of a round read would have no whole round between them.

        Args:
            products: All bundles of a block, with the vectors that each takes, and how these come.
            read: Seconds of one read.
        """
        tiles = [self.tile(bundle.parts[0]) for bundle, _, _ in products]
        if self._core is None or len(set(tiles)) < len(tiles):
            return math.inf
        issue = self._core.issue.value
        return max(
            (max(held.values()) * max(len(held) * issue, read) for held in self._started(products).values()),
            default=0.0,
        )

    def _started(
        self, products: Iterable[tuple[Bundle, int, bool]]
    ) -> dict[Home, dict[tuple[object, ...], int]]:
        """How often each core starts each of its products."""
        counts: dict[Home, dict[tuple[object, ...], int]] = defaultdict(dict)
        for bundle, vectors, transposed in products:
            first = bundle.parts[0]
            lines = first.outputs if transposed else first.inputs
            # bundles of several parts hold whole matrices, each with inputs of its own
            alone = (first.group, lines) if len(bundle.parts) == 1 else (first.bundle,)
            driven = (first.weight, first.replica, transposed, *alone)
            held = counts[self.sums(first)]
            held[driven] = max(held.get(driven, 0), vectors * bundle.turns)
        return counts


def _until_read(starts: Iterable[int], issue: float, read: float) -> float:
    """When the last product of a core is read, seconds.

    The port starts them one after the other. An array starts its next product when it has read the last one;
    of those with at least n products each the last one is started behind all others, and then has n to read.
    Where a read takes a whole number of starts, or the other way round, some order takes no longer.

    Args:
        starts: How often each product is started.
        issue: Seconds from one start to the next.
        read: Seconds of one read.
    """
    often = sorted(starts, reverse=True)
    by_port = (sum(often) - 1) * issue + read if any(often) else 0.0
    by_arrays = (n * issue + count * read for n, count in enumerate(often) if count)
    return max(by_port, *by_arrays, 0.0)


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


@dataclass(frozen=True)
class _Weight:
    """The arrays of a weight.

    Attributes:
        copies: The arrays of each copy, for each range of inputs.
        reads: That a copy takes for a sample.
        ways: How it may lie, the fewest cores first; each has fewer products than the one before.
    """

    copies: list[list[list[int]]]
    reads: float
    ways: list[_Way]


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
        A tile for each array: of cores of its weight's own, where these are too few of shared ones, and
        where it fits into none of these in order.
    """
    held: dict[str, dict[int, dict[Hashable, list[int]]]] = {}
    for array, what in enumerate(arrays):
        copy = held.setdefault(what.weight, {}).setdefault(what.replica, {})
        copy.setdefault(what.inputs, []).append(array)
    weights = []
    for weight, replicas in held.items():
        copies = [list(ranges.values()) for ranges in replicas.values()]
        size, longest = max(sum(map(len, copy)) for copy in copies), max(copies, key=len)
        ways = _ways(core, len(copies), size, longest)
        weights.append(_Weight(copies, reads.get(weight, 1) / len(copies), ways))
    numbers = _own(core, count, weights, read) or _shared(core, count, weights, read)
    if numbers is not None:
        return [numbers[array] for array in range(len(arrays))]
    order = [array for weight in weights for copy in weight.copies for some in copy for array in some]
    return [number for _, number in sorted(zip(order, range(len(order)), strict=True))]


def _own(core: Core, count: int, weights: Sequence[_Weight], read: float) -> dict[int, int] | None:
    """The tile of each array, each weight in cores of its own, if there are enough.

    Those that would be idle go to the weights that keep them busiest.
    """
    spare = count // core.tiles - sum(weight.ways[0].cores for weight in weights)
    if spare < 0:
        return None
    chosen = _widened(core, weights, spare, read)
    numbers, first = dict[int, int](), 0
    for weight, way in zip(weights, chosen, strict=True):
        for home, arrays in enumerate(_homes(core, weight, way)):
            numbers.update((array, (first + home) * core.tiles + n) for n, array in enumerate(arrays))
        first += way.cores
    return numbers


def _shared(core: Core, count: int, weights: Sequence[_Weight], read: float) -> dict[int, int] | None:
    """The tile of each array, each weight in the cores that have least to do; None if some do not fit.

    A weight takes as many cores as its reads need; those with most arrays a core come first.
    """
    cores = count // core.tiles
    room, busy = [core.tiles] * cores, [0.0] * cores
    numbers: dict[int, int] = {}
    laid: list[tuple[float, list[list[int]]]] = []
    for weight in weights:
        able = [way for way in weight.ways if way.cores <= cores]
        if not able:
            return None
        way = next((way for way in able if way.products * core.issue.value <= read), able[-1])
        homes = sorted(_homes(core, weight, way), key=len, reverse=True)
        laid.append((_seconds(core, weight, way, read), homes))
    for seconds, homes in sorted(laid, key=lambda each: -len(each[1][0])):
        idle = sorted(range(cores), key=lambda home: busy[home])
        for arrays in homes:
            home = next((home for home in idle if room[home] >= len(arrays)), None)
            if home is None:
                return None
            idle.remove(home)
            start = (home + 1) * core.tiles - room[home]
            numbers.update((array, start + n) for n, array in enumerate(arrays))
            room[home] -= len(arrays)
            busy[home] += seconds
    return numbers


def _seconds(core: Core, weight: _Weight, way: _Way, read: float) -> float:
    """How long the busiest core of a weight takes for a sample."""
    return weight.reads * max(read, way.products * core.issue.value)


def _homes(core: Core, weight: _Weight, way: _Way) -> list[list[int]]:
    """The arrays of each core of a weight, whose copies are dealt to them."""
    homes: list[list[int]] = [[] for _ in range(way.cores)]
    for place, copy in enumerate(weight.copies):
        start = place * way.apart % way.cores
        for _, array, home in _dealt(core, copy, way.apart):
            homes[start + home].append(array)
    return homes


class CoreCounts:
    """How many cores a layout takes, whose arrays are not shared with others.

    Args:
        core: What a core is.
        layout: With its copies.
        read: Seconds of one read.
    """

    def __init__(self, core: Core, layout: Layout, read: float) -> None:
        bundles = bundles_of(layout.copies(1).parts())
        ranges: dict[Hashable, list[int]] = {}
        for array, bundle in enumerate(bundles):
            ranges.setdefault((bundle.parts[0].group, bundle.parts[0].inputs), []).append(array)
        self._turns = max(bundle.turns for bundle in bundles)
        self._copies = layout.replicas
        ways = _ways(core, layout.replicas, len(bundles), list(ranges.values()))
        self._ways = [(max(read, way.products * core.issue.value), way.cores) for way in ways]

    def within(self, vectors: int, seconds: float) -> int | None:
        """The fewest cores on which a sample takes at most some seconds; None if no number is enough.

        Args:
            vectors: Of a sample.
            seconds: For all of them.
        """
        reads = -(-vectors // self._copies) * self._turns
        return next((cores for each, cores in self._ways if reads * each <= seconds), None)


def _ways(core: Core, copies: int, size: int, longest: Sequence[Sequence[int]]) -> list[_Way]:
    """How copies may lie: several in a core, each in one, or each over several.

    Args:
        core: What a core is.
        copies: How many.
        size: Arrays of the largest.
        longest: The arrays of the one with most ranges of inputs, for each of these.
    """
    found: list[_Way] = []
    for together in range(min(core.tiles // size, copies), 0, -1):
        cores = -(-copies // together)
        if not found or cores > found[-1].cores:
            found.append(_Way(together, 1, cores, -(-copies // cores) * len(longest)))
    fewest, most = -(-size // core.tiles), sum(-(-len(arrays) // core.tiles) for arrays in longest)
    for apart in range(max(2, fewest), max(fewest, most) + 1):
        if found and -(-len(longest) // apart) >= found[-1].products:
            continue
        starts: dict[int, set[int]] = defaultdict(set)
        for number, _, home in _dealt(core, longest, apart):
            starts[home].add(number)
        products = max(map(len, starts.values()))
        if not found or products < found[-1].products:
            found.append(_Way(1, apart, copies * apart, products))
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


def _widened(core: Core, weights: Sequence[_Weight], spare: int, read: float) -> list[_Way]:
    """The ways of weights with more cores for the one whose busiest takes longest, as long as that helps."""
    chosen = [0] * len(weights)
    queue = [(-_seconds(core, weight, weight.ways[0], read), n) for n, weight in enumerate(weights)]
    heapq.heapify(queue)
    while queue:
        _, index = heapq.heappop(queue)
        weight, way = weights[index], weights[index].ways[chosen[index]]
        if way is weight.ways[-1] or way.products * core.issue.value <= read:
            continue
        wider = weight.ways[chosen[index] + 1]
        if wider.cores - way.cores <= spare:
            spare -= wider.cores - way.cores
            chosen[index] += 1
            heapq.heappush(queue, (-_seconds(core, weight, wider, read), index))
    return [weight.ways[number] for weight, number in zip(weights, chosen, strict=True)]
