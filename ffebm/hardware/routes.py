"""Ways over the network: what a transfer keeps busy there, and how many hops it takes.

A bus carries one transfer at a time. On a mesh every core, or tile outside of cores, and every digital unit
that stands in no core has a router, in the order of the description, row by row on a square grid; a transfer
keeps the ports of its two routers busy, so transfers between different pairs overlap, and takes as many hops
as they are apart.

What is spread over several cores goes in lanes: as many pairs of routers carry even shares as the end with
fewer has. What both ends have in common is paired with itself, the others as they come.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from ffebm.hardware.description import Hardware
from ffebm.hardware.groups import units_among

NETWORK = "network"

End = int | str | None | tuple[int, ...]
"""Where a transfer ends: at a tile, a group of digital units, the host, or a tile of each of some cores."""


@dataclass(frozen=True)
class Route:
    """What a transfer takes of a network.

    Attributes:
        units: What it keeps busy.
        hops: Of a bit, on average.
        longest: Hops of the longest lane.
        lanes: Pairs of routers that carry even shares.
    """

    units: tuple[str, ...]
    hops: float
    longest: float
    lanes: int = 1


class Routes:
    """The ways of a machine.

    Args:
        hardware: The machine.
    """

    def __init__(self, hardware: Hardware) -> None:
        self._hardware = hardware
        self._starts: dict[str, int] = {}
        routers, cores = 0, list[int]()
        for group in hardware.analog:
            self._starts[group.name] = routers
            count = group.count if group.core is None else -(-group.count // group.core.tiles)
            cores += range(routers, routers + count) if group.core is not None else ()
            routers += count
        self._of_groups: dict[str, tuple[int, ...]] = {}
        for units in hardware.digital:
            if units.place == "core":
                self._of_groups[units.name] = tuple(cores)
            else:
                self._of_groups[units.name] = (routers,)
                routers += units.count
        self._side = math.ceil(math.sqrt(routers))

    def way(self, source: End, target: End) -> Route:
        """What a transfer keeps busy, and its hops.

        Args:
            source: Where it comes from.
            target: Where it goes.
        """
        if self._hardware.network.topology == "bus":
            mean = self._hardware.network.hops.value
            return Route((NETWORK,), mean, mean)
        pairs = _lanes(self._routers(source), self._routers(target))
        hops = [self._hops(*pair) for pair in pairs]
        ends = sorted({router for pair in pairs for router in pair})
        mean = math.fsum(hops) / len(hops)
        return Route(tuple(f"{NETWORK}{router}" for router in ends), mean, max(hops), len(pairs))

    def latency(self, hops: float) -> float:
        """Seconds of a transfer beside its bits."""
        network = self._hardware.network
        return network.latency.value * (1.0 if network.topology == "bus" else hops)

    def _hops(self, one: int, other: int) -> float:
        """Between two routers; within one as between neighbours."""
        (row, col), (to_row, to_col) = divmod(one, self._side), divmod(other, self._side)
        return float(max(1, abs(row - to_row) + abs(col - to_col)))

    def _routers(self, end: End) -> tuple[int, ...]:
        if isinstance(end, tuple):
            return tuple(self._router(tile) for tile in end)
        if isinstance(end, str):
            return self._of_groups[end]
        return self._of_groups[self._hardware.host.name][:1] if end is None else (self._router(end),)

    def _router(self, tile: int) -> int:
        group = self._hardware.group_of_tile(tile)
        if group is None:
            return self._of_groups[self._hardware.host.name][0]
        inside = tile - self._hardware.tile_numbers(group.name).start
        return self._starts[group.name] + (inside if group.core is None else inside // group.core.tiles)


def _lanes(sources: tuple[int, ...], targets: tuple[int, ...]) -> list[tuple[int, int]]:
    """Pairs of routers, each router in one of them."""
    alike = [router for router in sources if router in targets]
    from_others = [router for router in sources if router not in alike]
    to_others = [router for router in targets if router not in alike]
    return [*((router, router) for router in alike), *zip(from_others, to_others, strict=False)]


def network_units(hardware: Hardware, units: Iterable[str]) -> frozenset[str]:
    """Those of some units that are of a machine's network: what a step may keep busy there."""
    if hardware.network.topology == "bus":
        return frozenset({NETWORK}.intersection(units))
    return units_among(units, NETWORK, range(hardware.tile_count + hardware.unit_count))
