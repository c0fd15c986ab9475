"""Tiling: cut the weight matrices of the energy blocks into parts that fit an array.

Matrices are cut evenly and groups of a convolution get lines of their own: the fewest reads, as if there were
tiles without end. What has to lie closer, or several times, the partition cuts anew by price.
"""

from dataclasses import dataclass

from msgspec.structs import replace

from ffebm.graph.graph import Graph, Stage
from ffebm.hardware.description import Hardware
from ffebm.mapping.layout import layouts_of


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
        for block in graph.blocks:
            size = hardware.analog_group(block.group).tile.size
            for _, interaction in block.interactions():
                linear = interaction.linear
                if linear is None or linear.weight in graph.parts:
                    continue
                layouts = layouts_of(linear, graph.constants[linear.weight].shape, size)
                even = next((layout for layout in layouts if layout.cut == "even"), layouts[0])
                graph.parts[linear.weight] = even.parts()
