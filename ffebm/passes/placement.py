"""Placement: where each part of each weight lies."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ffebm.errors import InternalError
from ffebm.graph.energy_block import EnergyBlock
from ffebm.graph.graph import Graph, Part, Place, Stage
from ffebm.graph.windows import positions
from ffebm.hardware.description import AnalogGroup, Hardware
from ffebm.mapping.cores import Occupant, spread
from ffebm.mapping.layout import Bundle, bundles_of
from ffebm.mapping.packing import Box, pack
from ffebm.mapping.tile_counts import tile_counts, ways_of


@dataclass(frozen=True)
class Placement:
    """Gives every part a tile, a word line and a bit line.

    Attributes:
        tiles: Most tiles in use; None for all that there are.
        area: Most area of the tiles in use, mm2.
    """

    tiles: int | None = None
    area: float = math.inf
    name: str = "placement"
    requires: Stage = Stage.PARTITIONED
    ensures: Stage = Stage.PLACED

    def run(self, graph: Graph, hardware: Hardware) -> None:
        """Place the bundles of all blocks; a weight that blocks share is placed once."""
        found = {
            group.name: placing([b for b in graph.blocks if b.group == group.name], graph.parts)
            for group in hardware.analog
        }
        boxed = {name: boxes for name, (_, boxes) in found.items()}
        counts = tile_counts(hardware, boxed, self.tiles, self.area)
        for name, (bundles, boxes) in found.items():
            group = hardware.analog_group(name)
            corners = None
            if counts is not None:
                size, ways = group.tile.size, ways_of(group)
                corners = pack(boxes, counts[name], size, ways, scattered=graph.scattered)
            if corners is None:
                raise InternalError(f"the blocks fitted the {name} in the partition, and do not now")
            first = hardware.tile_numbers(name).start
            numbers = _numbers(graph, group, bundles, [corner.tile for corner in corners])
            for bundle, corner in zip(bundles, corners, strict=True):
                for part, (row, col) in zip(bundle.parts, bundle.spots, strict=True):
                    tile = first + numbers[corner.tile]
                    graph.places[part] = Place(tile, corner.row + row, corner.col + col)


def _numbers(
    graph: Graph, group: AnalogGroup, bundles: Sequence[Bundle], arrays: Sequence[int]
) -> Sequence[int]:
    """The tile of a group that each array in use is; in cores, copies are spread."""
    used = 1 + max(arrays, default=-1)
    if group.core is None or not used:
        return range(used)
    held: list[Occupant | None] = [None] * used
    turns: dict[str, int] = {}
    for bundle, array in zip(bundles, arrays, strict=True):
        part = bundle.parts[0]
        held[array] = held[array] or Occupant(part.weight, part.replica, (part.group, part.inputs))
        turns[part.weight] = max(turns.get(part.weight, 0), bundle.turns)
    vectors = {
        interaction.linear.weight: positions(interaction, interaction.linear)
        for block in graph.blocks
        for _, interaction in block.interactions()
        if interaction.linear is not None
    }
    reads = {weight: vectors[weight] * taken for weight, taken in turns.items()}
    known = [what for what in held if what is not None]
    return spread(group.core, group.count, known, reads, group.tile.read_seconds)


def placing(
    blocks: Iterable[EnergyBlock], parts: Mapping[str, tuple[Part, ...]]
) -> tuple[list[Bundle], list[Box]]:
    """The bundles of some blocks in graph order, whatever theirs is, and the boxes to be packed for them."""
    owners: dict[str, list[int]] = {}
    for block in sorted(blocks, key=lambda block: block.id):
        for weight in block.weights():
            if weight in parts:
                owners.setdefault(weight, []).append(block.id)
    bundles, boxes = [], []
    for weight, by in owners.items():
        for bundle in bundles_of(parts[weight]):
            bundles.append(bundle)
            boxes.append(Box(bundle.height, bundle.width, by))
    return bundles, boxes
