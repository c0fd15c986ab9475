"""Ways over the network: what a transfer keeps busy there, and how many hops it takes.

A bus carries one transfer at a time. On a mesh every core, or tile outside of cores, and every digital unit
has a router, in the order of the description, row by row on a square grid; a transfer keeps the ports of its
two routers busy, so transfers between different pairs overlap, and takes as many hops as they are apart.
"""

import math
from collections.abc import Iterable

from ffebm.hardware.description import Hardware
from ffebm.hardware.groups import units_among

NETWORK = "network"


class Routes:
    """The ways of a machine.

    Args:
        hardware: The machine.
    """

    def __init__(self, hardware: Hardware) -> None:
        self._hardware = hardware
        self._starts: dict[str, int] = {}
        routers = 0
        for group in hardware.analog:
            self._starts[group.name] = routers
            routers += group.count if group.core is None else -(-group.count // group.core.tiles)
        self._units = routers
        self._host = routers + hardware.unit_numbers(hardware.host.name).start
        self._side = math.ceil(math.sqrt(routers + hardware.unit_count))

    def way(self, source: int | str | None, target: int | str | None) -> tuple[tuple[str, ...], float]:
        """What a transfer keeps busy, and its hops.

        Args:
            source: The tile or the group of digital units that it comes from; None is the host.
            target: The tile or the group that it goes to.
        """
        if self._hardware.network.topology == "bus":
            return (NETWORK,), self._hardware.network.hops.value
        ends = sorted({self._router(source), self._router(target)})
        (row, col), (to_row, to_col) = (divmod(router, self._side) for router in (ends[0], ends[-1]))
        apart = abs(row - to_row) + abs(col - to_col)
        return tuple(f"{NETWORK}{router}" for router in ends), float(max(1, apart))

    def latency(self, hops: float) -> float:
        """Seconds of a transfer beside its bits."""
        network = self._hardware.network
        return network.latency.value * (1.0 if network.topology == "bus" else hops)

    def _router(self, tile: int | str | None) -> int:
        if isinstance(tile, str):
            return self._units + self._hardware.unit_numbers(tile).start
        group = None if tile is None else self._hardware.group_of_tile(tile)
        if tile is None or group is None:
            return self._host
        inside = tile - self._hardware.tile_numbers(group.name).start
        return self._starts[group.name] + (inside if group.core is None else inside // group.core.tiles)


def network_units(hardware: Hardware, units: Iterable[str]) -> frozenset[str]:
    """Those of some units that are of a machine's network: what a step may keep busy there."""
    if hardware.network.topology == "bus":
        return frozenset({NETWORK}.intersection(units))
    return units_among(units, NETWORK, range(hardware.tile_count + hardware.unit_count))
