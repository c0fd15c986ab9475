"""Which memories a value may lie in, the nearest first."""

from dataclasses import dataclass

from ffebm.hardware.description import Hardware
from ffebm.hardware.groups import CHIP, Memory, units_among

SCRATCHPAD = 2
"""From this level on, a memory of tiles holds values; a nearer one is passed by every read of a line."""


@dataclass(frozen=True)
class Level:
    """A memory of a unit.

    Attributes:
        memory: What it is.
        unit: Whose: "digital<id>", "chip", or a block's name for the memories of all its tiles.
    """

    memory: Memory
    unit: str


def scratchpads(hardware: Hardware, group: str) -> tuple[Memory, ...]:
    """Memories beside each tile of a group that hold values, the nearest first."""
    found = [memory for memory in hardware.memory if memory.owner == group and memory.level >= SCRATCHPAD]
    return tuple(sorted(found, key=lambda memory: memory.level))


def host_unit(hardware: Hardware) -> str:
    """The digital unit whose memory holds what no digital unit has made."""
    return f"digital{hardware.unit_numbers(hardware.host.name).start}"


def levels_of(hardware: Hardware, unit: str) -> tuple[Level, ...]:
    """Memories of a digital unit, its own before those of the chip.

    Args:
        hardware: The machine.
        unit: "digital<id>".
    """
    owner = next(
        (
            group.name
            for group in hardware.digital
            if units_among([unit], "digital", hardware.unit_numbers(group.name))
        ),
        "",
    )
    found = []
    for name, of in ((owner, unit), (CHIP, CHIP)):
        owned = sorted((m for m in hardware.memory if m.owner == name), key=lambda memory: memory.level)
        found += [Level(memory, of) for memory in owned]
    return tuple(found)


def capacity(memory: Memory) -> int:
    """Bytes that a memory holds."""
    return int(memory.capacity.value // 8)
