"""Tiling: cut the weight matrices of the energy blocks into parts that fit an array.

Matrices are cut evenly and groups of a convolution get lines of their own: the fewest reads, as if there were
tiles without end. What has to lie closer, or several times, the partition cuts anew by price.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from msgspec.structs import replace

from ffebm.graph.admission import admission_of
from ffebm.graph.energy_block import EnergyBlock
from ffebm.graph.graph import Graph, Stage
from ffebm.hardware.description import AnalogGroup, Hardware
from ffebm.mapping.circuit.needs import relaxed, unknown, unsettled
from ffebm.mapping.circuit.passive import PHYSICS
from ffebm.mapping.layout import layouts_of


@dataclass(frozen=True)
class Tiling:
    """Cuts matrices into parts."""

    name: str = "tiling"
    requires: Stage = Stage.BLOCKED
    ensures: Stage = Stage.TILED

    def run(self, graph: Graph, hardware: Hardware) -> None:
        """Give every weight of a block its parts; a weight that several blocks share is cut once.

        A block that lies on no group of tiles yet gets the first. Where blocks settle by themselves, each is
        simulated for the time that it needs, which counts for its price.
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
        if any(group.settling == "continuous" for group in hardware.analog):
            graph.blocks = [self._relaxed(graph, block, hardware) for block in graph.blocks]

    def _relaxed(self, graph: Graph, block: EnergyBlock, hardware: Hardware) -> EnergyBlock:
        """A block with what it needs where it settles by itself: the most on any group of such tiles."""
        cells = admission_of(block.physics).cells_a_weight
        groups = [g for g in hardware.analog if g.settling == "continuous" and g.holds(cells)]
        if not groups:
            return block
        needs = [relaxed(block, graph.constants, group) for group in groups]
        known = [need for need in needs if need is not None]
        if len(known) < len(groups):
            for group in groups:
                graph.notes += self._notes(graph, block, group)
            return block
        if block.physics == PHYSICS:
            graph.notes.append(
                f"{block.name}: its time and power are those of clamped inputs within 1; power goes with "
                "their square"
            )
        return replace(block, relaxed=max(known, key=lambda need: need.time_constants))

    def _notes(self, graph: Graph, block: EnergyBlock, group: AnalogGroup) -> Iterator[str]:
        """Why a block is billed by the description alone."""
        relaxation = group.relaxation
        if relaxation is not None and relaxation.accuracy is not None:
            why = unknown(block, graph.constants, group) or unsettled(block)
            billed = f"{relaxation.time_constants.value:g} time constants are billed"
            yield f"{block.name}: its settling is not simulated ({why}); {billed}"
