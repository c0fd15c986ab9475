"""Tiling: choose a layout for each weight of the energy blocks, and cut its matrices into parts accordingly.

The fewest reads a vector that the machine's tiles allow: with a tile for each bundle, weights are cut evenly
and kernels lie on lines of their own. Where tiles are short, matrices are cut into full arrays, which pack
best, and kernels come closer together, first where that frees the most cells for the least time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from msgspec.structs import replace

from ffebm.graph.energy_block import Interaction, Linear
from ffebm.graph.graph import Graph, Stage
from ffebm.hardware.description import AnalogGroup, Hardware
from ffebm.mapping.block_cost import positions
from ffebm.mapping.layout import Layout, Size, layouts_of
from ffebm.mapping.packing import APART, Box, pack

WORTH = 30.0
"""Most that a cell is worth in reads, as a power of two: more than all reads; the inverse is the least."""

STEPS = 10
"""Halvings in the search for the worth at which all fits."""


@dataclass(frozen=True)
class PlacedWeight:
    """A weight with what it could lie as.

    Attributes:
        layouts: Those with the fewest reads first.
        vectors: Of one sample.
        owners: Blocks that read it.
    """

    layouts: tuple[Layout, ...]
    vectors: int
    owners: tuple[int, ...]


@dataclass(frozen=True)
class Tiling:
    """Cuts matrices into parts."""

    name: str = "tiling"
    requires: Stage = Stage.BLOCKED
    ensures: Stage = Stage.TILED

    def run(self, graph: Graph, hardware: Hardware) -> None:
        """Give every weight of a block its parts; a weight that several blocks share is cut once.

        A block that lies on no group of tiles yet gets the first.
        """
        first = hardware.analog[0].name
        graph.blocks = [block if block.group else replace(block, group=first) for block in graph.blocks]
        for group in hardware.analog:
            found = placed_weights(graph, group)
            for layout in _chosen(found, group.count, group.tile.size):
                graph.parts[layout.weight] = layout.parts()


def placed_weights(graph: Graph, group: AnalogGroup) -> list[PlacedWeight]:
    """What each weight of the blocks of a group could lie as there, in the order of the blocks."""
    readers: dict[str, list[tuple[int, Linear, Interaction]]] = {}
    for block in graph.blocks:
        for _, interaction in block.interactions() if block.group == group.name else ():
            if interaction.linear is not None:
                entry = (block.id, interaction.linear, interaction)
                readers.setdefault(interaction.linear.weight, []).append(entry)
    return [
        PlacedWeight(
            layouts_of(uses[0][1], graph.constants[weight].shape, group.tile.size),
            sum(positions(interaction, linear) for _, linear, interaction in uses),
            tuple(sorted({block for block, _, _ in uses})),
        )
        for weight, uses in readers.items()
    ]


def _chosen(found: Sequence[PlacedWeight], count: int, size: Size | None) -> list[Layout]:
    """The layout of each weight."""
    spread = [next((layout for layout in c.layouts if layout.cut == "even"), c.layouts[0]) for c in found]
    if size is None or sum(1 for layout in spread for _ in layout.boxes()) <= count:
        return spread
    fewest, closest = _at_worth(found, 0.0), _at_worth(found, 2.0**WORTH)
    if _fits(found, fewest, count, size):
        return fewest
    if not _fits(found, closest, count, size):
        return closest  # the partition leaves blocks out
    low, high = -WORTH, WORTH
    for _ in range(STEPS):
        middle = (low + high) / 2
        tried = _at_worth(found, 2.0**middle)
        if _fits(found, tried, count, size):
            closest, high = tried, middle
        else:
            low = middle
    return closest


def _at_worth(found: Sequence[PlacedWeight], worth: float) -> list[Layout]:
    """The layouts with the least reads and cells together, a cell at so many reads."""

    def price(weight: PlacedWeight, layout: Layout) -> tuple[float, int]:
        # of equal cells those on fewer arrays are easier to keep apart
        cells = sum(height * width + 1 for height, width in layout.boxes())
        return weight.vectors * layout.turns + worth * cells, cells

    return [min(c.layouts, key=partial(price, c)) for c in found]


def _fits(found: Sequence[PlacedWeight], layouts: Sequence[Layout], count: int, size: Size) -> bool:
    """All weights lie on the arrays, the boxes of a block apart."""
    boxes = [
        Box(height, width, weight.owners)
        for weight, layout in zip(found, layouts, strict=True)
        for height, width in layout.boxes()
    ]
    return pack(boxes, count, size, APART) is not None
