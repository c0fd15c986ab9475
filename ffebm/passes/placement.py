"""Placement: where each part of each weight lies.

Blocks are placed in the order in which the partition took them, so what fitted there fits here.
"""

from dataclasses import dataclass

from msgspec.structs import replace

from ffebm.errors import InternalError
from ffebm.graph.graph import Graph, Stage
from ffebm.hardware.description import Hardware
from ffebm.passes.partition import by_saving, packers_for, parts_of


@dataclass(frozen=True)
class Placement:
    """Gives every part a tile, a word line and a bit line."""

    name: str = "placement"
    requires: Stage = Stage.PARTITIONED
    ensures: Stage = Stage.PLACED

    def run(self, graph: Graph, hardware: Hardware) -> None:
        """Place the parts of all blocks; a weight that blocks share is placed once."""
        packers = packers_for(hardware)
        for block, _ in by_saving(graph, packers):
            places = packers[block.group].place(
                [part for part in parts_of(graph, block) if part not in graph.places]
            )
            if places is None:
                raise InternalError(f"{block.name} fitted the tiles in the partition, and does not now")
            first = hardware.tile_numbers(block.group).start
            graph.places |= {part: replace(place, tile=first + place.tile) for part, place in places.items()}
