"""What of a machine some work powers: area and leakage, by group of units, memory and network."""

from collections.abc import Collection
from typing import Literal

import msgspec

from ffebm.hardware.description import Hardware
from ffebm.hardware.groups import CHIP, AnalogGroup, DigitalGroup, Memory, units_among

NETWORK = "network"


class Powered(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Units of one kind, and how many of them are powered.

    Attributes:
        name: Of the group or memory; "network".
        kind: What it is.
        count: How many there are.
        used: How many are powered.
        area: Of one, mm2.
        leakage: Of one, W.
    """

    name: str
    kind: Literal["analog", "digital", "memory", "network"]
    count: int
    used: int
    area: float
    leakage: float


def powered(hardware: Hardware, units: Collection[str]) -> tuple[Powered, ...]:
    """Every kind of unit of a machine, and how many are powered for work on some units.

    A memory is powered with the unit that owns it; one of the chip, always.

    Args:
        hardware: The machine.
        units: Those that do something: "tile<id>", "digital<id>", "network", "network<id>".
    """
    counts = {CHIP: (1, 1)}
    found = []
    for tiles in hardware.analog:
        used = len(units_among(units, "tile", hardware.tile_numbers(tiles.name)))
        counts[tiles.name] = (tiles.count, used)
        found.append(_powered(tiles, "analog", counts[tiles.name]))
    for engines in hardware.digital:
        used = len(units_among(units, "digital", hardware.unit_numbers(engines.name)))
        counts[engines.name] = (engines.count, used)
        found.append(_powered(engines, "digital", counts[engines.name]))
    found += [_powered(memory, "memory", counts[memory.owner]) for memory in hardware.memory]
    network = hardware.network
    found.append(
        Powered(
            name=NETWORK,
            kind="network",
            count=1,
            used=int(any(unit.startswith(NETWORK) for unit in units)),
            area=network.area.value,
            leakage=network.leakage.value,
        )
    )
    return tuple(found)


def _powered(
    group: AnalogGroup | DigitalGroup | Memory,
    kind: Literal["analog", "digital", "memory"],
    count: tuple[int, int],
) -> Powered:
    return Powered(
        name=group.name,
        kind=kind,
        count=count[0],
        used=count[1],
        area=group.area.value,
        leakage=group.leakage.value,
    )


def watts(hardware: Hardware, units: Collection[str]) -> float:
    """Leakage of all that is powered for work on some units."""
    return float(sum(entry.used * entry.leakage for entry in powered(hardware, units)))
