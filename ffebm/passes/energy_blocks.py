"""Form energy blocks: the graph is read into free layers, and layers are grouped into blocks."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from ffebm.errors import Location, UsageError
from ffebm.graph.admission import admission_of
from ffebm.graph.energy_block import DEFAULT_PHYSICS, EnergyBlock
from ffebm.graph.graph import Graph, Stage
from ffebm.graph.tensor import Array
from ffebm.hardware.description import Hardware
from ffebm.passes.forming.feedback import weaken
from ffebm.passes.forming.grouping import Grouping
from ffebm.passes.forming.reading import LayerReading
from ffebm.patterns import Patterns
from ffebm.visible import visible


@dataclass(frozen=True)
class EnergyBlocks:
    """Forms the energy blocks.

    Attributes:
        block_size: Free layers that one block may hold; or one number a block, in graph order.
        boundary: Where the first linear map of a block runs.
        digital: Names or patterns of weights, whose linear maps stay digital, and of nodes that stay digital.
        physics: What the energy of the blocks is, by name.
        activations: Ops that are activations by what packages offer.
        feedback: How strongly layers feel those above, of the strength at which they drive them.
    """

    block_size: int | tuple[int, ...] = 1
    boundary: Literal["tile", "digital"] = "tile"
    digital: tuple[str, ...] = ()
    physics: str = DEFAULT_PHYSICS
    activations: tuple[str, ...] = ()
    feedback: float = 1.0
    name: str = "energy-blocks"
    requires: Stage = Stage.CANONICAL
    ensures: Stage = Stage.BLOCKED

    def run(self, graph: Graph, hardware: Hardware) -> None:
        """Give every node a block, or the reason why it is digital.

        Raises:
            UsageError: If nothing has a name that is to stay digital, more block sizes are listed than the
                chain of layers takes, the circuit of a block cannot be wired, no tile has cells for it, or
                blocks cannot have the feedback.
        """
        admission = admission_of(self.physics)
        _check_cells(hardware, self.physics, admission.cells_a_weight)
        grouping = Grouping(graph, admission, self.block_size, self.boundary)
        reading = LayerReading(graph, admission, grouping, Patterns(self.digital), self.activations)
        for node in graph.nodes:
            reading.visit(node)
        reading.finish()
        grouping.write(self.physics)
        if self.feedback != 1:
            weaken(graph, hardware, self.feedback)

        if graph.blocks and self.physics != DEFAULT_PHYSICS:
            graph.notes.append(
                f"blocks of physics {self.physics!r} settle where its energy is least: even with one layer a "
                "block that is not what the model computes"
            )
            graph.notes += _spare_cells(hardware, admission.cells_a_weight)
        _check_names(graph, self.digital, reading.seen)
        _check_sizes(graph, self.block_size, grouping.sizes_taken + reading.spared, grouping.weighted)
        for block in graph.blocks:
            held = _held(block, graph.constants, hardware, admission.cells_a_weight)
            graph.notes += admission.notes(block, held)


def _held(
    block: EnergyBlock, constants: Mapping[str, Array], hardware: Hardware, needed: int
) -> Mapping[str, Array]:
    """Weights as the machine's cells hold them: single cells hold at least g_min, g_max being the largest.

    Where all weights are 0, cells that learn in place have a range all the same; others count for nothing.
    """
    groups = [group for group in hardware.analog if group.holds(needed)]
    cells = [group.tile.crossbar() for group in groups if group.tile.has_cells]
    if len(cells) < len(groups) or not all(tile.is_single for tile in cells):
        return constants
    names = {i.linear.weight for _, i in block.interactions() if i.linear is not None}
    largest = max((float(constants[name].max(initial=0)) for name in names), default=0.0)
    if largest == 0 and all(tile.update is not None for tile in cells):
        largest = 1.0
    least = largest * min(tile.cell.g_min.value / tile.cell.g_max.value for tile in cells)
    return {**constants, **{name: constants[name].clip(least, None) for name in names}}


def _check_cells(hardware: Hardware, physics: str, needed: int) -> None:
    """Some tiles have as many cells a weight as the circuits of blocks take."""
    if any(group.holds(needed) for group in hardware.analog):
        return
    names = " and ".join(repr(group.name) for group in hardware.analog)
    hint = (
        "" if physics == "deep-resistive" else "--physics deep-resistive, whose weights are conductances, or "
    )
    raise UsageError(
        f"blocks of physics {physics!r} on single cells: {names} of machine {hardware.name!r}",
        allowed=f"arrays with {needed} cells a weight: their difference has a sign",
        hint=f"{hint}a machine with pairs of cells, as resistive and reference are",
    )


def _spare_cells(hardware: Hardware, needed: int) -> Iterator[str]:
    """Groups of tiles whose arrays have more cells a weight than the circuits of the blocks take."""
    for group in hardware.analog:
        if group.tile.has_cells:
            cells = group.tile.crossbar().cells_a_weight // group.tile.slices
            if cells > needed:
                yield (
                    f"arrays of {visible(group.name)!r} have {cells} cells a weight, and blocks "
                    f"take {needed}: tiles, area and the energy of cells are counted for all"
                )


def _check_names(graph: Graph, digital: tuple[str, ...], weights: set[str]) -> None:
    """Every name that is to stay digital is a node's, or a weight's that a tile could hold."""
    known = weights | {node.name for node in graph.nodes}
    for name in digital:
        if name not in known and not any(found in Patterns([name]) for found in known):
            close = get_close_matches(name, known, 3, 0.5) or sorted(weights)[:6]
            raise UsageError(
                f"{name!r} is to stay digital",
                allowed="the name of a node, or of a weight that a tile could hold; * stands for anything",
                hint=f"there are {', '.join(close)}" if close else "no weight of this model fits a tile",
                location=Location(graph.source),
            )


def _check_sizes(graph: Graph, sizes: int | tuple[int, ...], taken: int, layers: int) -> None:
    """Every listed block size is some block's."""
    if isinstance(sizes, int) or len(sizes) <= taken:
        return
    few = ",".join(map(str, sizes[:taken]))  # as it is typed
    raise UsageError(
        f"{len(sizes)} block sizes for a chain that takes {taken}",
        allowed=f"it has {layers} layer{'' if layers == 1 else 's'} with weights that fit tiles",
        hint=f"list the first {taken} only: {few}" if taken else "give one number, such as 1",
        location=Location(graph.source),
    )
