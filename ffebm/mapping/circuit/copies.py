"""How many tiles blocks take that settle by themselves, if they are wired as they are computed.

A line that is driven is no virtual ground, so a coupling between two free layers takes a second array, with
the transpose. All windows of a convolution settle at once, so each takes arrays of its own. And arrays that
different values drive, or whose currents belong to different units, have no line in common: on one tile they
lie in a diagonal.
"""

import math
from collections.abc import Iterator

from ffebm.graph.graph import Graph
from ffebm.hardware.description import AnalogGroup, Hardware
from ffebm.mapping.block_cost import positions


def wired_tiles(graph: Graph, group: AnalogGroup) -> int:
    """Tiles that the blocks of a group take with all copies.

    Lines are added up: a diagonal of arrays is as high and as wide as all of them together. That two weights
    of one source could share its word lines is left out.
    """
    rows = cols = 0
    for block in graph.blocks:
        inside = {layer.value for layer in block.layers}
        for _, interaction in block.interactions():
            linear = interaction.linear
            if block.group != group.name or linear is None:
                continue
            windows = positions(interaction, linear)
            parts = [part for part in graph.parts[linear.weight] if not part.replica]
            high, wide = sum(part.n_in for part in parts), sum(part.n_out for part in parts)
            back = interaction.source in inside
            rows += windows * (high + back * wide)
            cols += windows * (wide + back * high)
    tile = group.tile.crossbar()
    return max(math.ceil(rows / tile.rows), math.ceil(cols / tile.cols))


def copies_notes(graph: Graph, hardware: Hardware) -> Iterator[str]:
    """What a placed graph does not place of its circuits."""
    for group in hardware.analog:
        if group.settling != "continuous":
            continue
        mine = set(hardware.tile_numbers(group.name))
        placed = len({place.tile for place in graph.places.values()} & mine)
        wired = wired_tiles(graph, group)
        if wired <= placed:
            continue
        lacking = "" if wired <= group.count else f", more than the {group.count} that there are"
        yield (
            f"wired as circuits the blocks on {group.name!r} take {wired:,} tiles by their lines{lacking}: "
            f"copies of transposes, and arrays of its own for each window; {placed} placed and counted"
        )
