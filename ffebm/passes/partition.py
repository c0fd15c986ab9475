"""Partition: which energy blocks get tiles, and a unit and a reason for every node.

When tiles run out, the blocks that save the least digital work per tile stay digital. This is the greedy rule
for knapsacks: blocks in order of multiply-accumulates per tile, each taken if all that are taken still pack.
"""

from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from ffebm.errors import HardwareError, Location
from ffebm.graph.energy_block import EnergyBlock
from ffebm.graph.graph import Graph, Node, Stage
from ffebm.graph.work import macs
from ffebm.hardware.description import AnalogGroup, Hardware
from ffebm.mapping.packing import CLOSE, Box, arrays_needed, pack
from ffebm.passes.placement import placing

MISSES = 8
"""Blocks behind the first that does not fit which are tried in vain before the rest is left digital."""


@dataclass(frozen=True)
class Partition:
    """Chooses the blocks that get tiles."""

    name: str = "partition"
    requires: Stage = Stage.TILED
    ensures: Stage = Stage.PARTITIONED

    def run(self, graph: Graph, hardware: Hardware) -> None:
        """Keep the blocks that fit; the nodes of the others become digital."""
        members = members_of(graph)
        refused = {block: why for group in hardware.analog for block, why in _refused(graph, group).items()}
        for block_id, reason in refused.items():
            for node in members[block_id]:
                node.unit, node.reason, node.block = "digital", reason, None
        _renumber(graph, [block for block in graph.blocks if block.id not in refused], members)
        kept = {weight for block in graph.blocks for weight in block.weights()}
        graph.parts = {weight: parts for weight, parts in graph.parts.items() if weight in kept}
        _note(graph, len(refused))
        _assign(graph, hardware)


def members_of(graph: Graph) -> dict[int, list[Node]]:
    """The nodes of each block."""
    members: dict[int, list[Node]] = {block.id: [] for block in graph.blocks}
    for node in graph.nodes:
        if node.block is not None:
            members[node.block].append(node)
    return members


@dataclass(frozen=True)
class _Wanted:
    """A block with what it needs of the tiles.

    Attributes:
        block: Which.
        tiles: The fewest that it was made to fit on alone.
        saving: Multiply-accumulates for each of these.
    """

    block: EnergyBlock
    tiles: int
    saving: float


def _by_saving(graph: Graph, group: AnalogGroup) -> list[_Wanted]:
    """The blocks of a group, most multiply-accumulates per tile first."""
    found, members = [], members_of(graph)
    for block in graph.blocks:
        if block.group == group.name:
            tiles = arrays_needed(placing([block], graph.parts)[1], group.tile.size)
            saved = sum(macs(graph, node) for node in members[block.id])
            found.append(_Wanted(block, tiles, saved / tiles))
    return sorted(found, key=lambda wanted: (-wanted.saving, wanted.block.id))


def _refused(graph: Graph, group: AnalogGroup) -> dict[int, str]:
    """Blocks that do not fit the tiles of their group, with the reason."""
    everything = placing([block for block in graph.blocks if block.group == group.name], graph.parts)[1]
    if pack(everything, group.count, group.tile.size) is not None:
        return {}
    ranked = _by_saving(graph, group)

    def boxes(some: Sequence[_Wanted]) -> list[Box]:
        return placing([wanted.block for wanted in some], graph.parts)[1]

    def fits(some: Sequence[_Wanted]) -> bool:
        # the placement tries these ways as well, and others that may take less time
        return pack(boxes(some), group.count, group.tile.size, CLOSE) is not None

    first = bisect(range(len(ranked)), False, key=lambda last: not fits(ranked[: last + 1]))
    taken, left = ranked[:first], ranked[first : first + 1]
    for wanted in ranked[first + 1 :]:
        more = [*taken, wanted]
        if len(left) <= MISSES and fits(more):
            taken = more
        else:
            left.append(wanted)
    free = group.count - arrays_needed(boxes(taken), group.tile.size)
    return {w.block.id: f"no tile left: needs {w.tiles}, {free} free" for w in left}


def _renumber(graph: Graph, blocks: list[EnergyBlock], members: dict[int, list[Node]]) -> None:
    renamed = []
    for position, block in enumerate(blocks):
        fresh = msgspec.structs.replace(block, id=position)
        for node in members[block.id]:
            node.block = position
            node.reason = node.reason.removesuffix(block.name) + fresh.name
        renamed.append(fresh)
    graph.blocks = renamed


def _note(graph: Graph, refused: int) -> None:
    if refused:
        stays = "energy block stays" if refused == 1 else "energy blocks stay"
        graph.notes.append(f"{refused} {stays} digital because the tiles ran out")
    deep = [block for block in graph.blocks if len(block.layers) > 1]
    if deep:
        found = "1 block holds more than one layer: it computes"
        if len(deep) > 1:
            found = f"{len(deep)} blocks hold more than one layer: they compute"
        graph.notes.append(
            f"{found} an equilibrium, another function than the source model's, to be trained as such"
        )


def _assign(graph: Graph, hardware: Hardware) -> None:
    """A group of the machine for every node: that of its block, or the first whose digital units run its op.

    Raises:
        HardwareError: If no unit runs the op of a node.
    """
    for node in graph.nodes:
        if node.block is not None:
            node.group = graph.blocks[node.block].group
            continue
        units = hardware.units_for(node.op)
        if units is None:
            known = dict.fromkeys(op for group in hardware.digital for op in group.ops)
            raise HardwareError(
                f"no unit runs {node.op}",
                allowed=f"digital units run {', '.join(known)}",
                hint=f"add {node.op!r} to ops of a [[digital]] in {hardware.name}",
                location=node.location or Location(graph.source, node.name),
            )
        node.group = units.name
