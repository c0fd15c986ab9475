"""Partition: which energy blocks get tiles, and a unit and a reason for every node.

When tiles run out, the blocks that save the least digital work per tile stay digital. This is the greedy rule
for knapsacks: blocks in order of multiply-accumulates per tile, each taken if it still fits.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from ffebm.errors import HardwareError, Location
from ffebm.graph.energy_block import EnergyBlock
from ffebm.graph.graph import Graph, Node, Part, Stage
from ffebm.graph.work import macs
from ffebm.hardware.description import Hardware
from ffebm.mapping.packing import Packer


@dataclass(frozen=True)
class Partition:
    """Chooses the blocks that get tiles."""

    name: str = "partition"
    requires: Stage = Stage.TILED
    ensures: Stage = Stage.PARTITIONED

    def run(self, graph: Graph, hardware: Hardware) -> None:
        """Keep the blocks that fit; the nodes of the others become digital."""
        members = members_of(graph)
        refused = _refused(graph, packers_for(hardware))
        for block_id, reason in refused.items():
            for node in members[block_id]:
                node.unit, node.reason, node.block = "digital", reason, None
        _renumber(graph, [block for block in graph.blocks if block.id not in refused], members)
        kept = {weight for block in graph.blocks for weight in block.weights()}
        graph.parts = {weight: parts for weight, parts in graph.parts.items() if weight in kept}
        _note(graph, len(refused))
        _assign(graph, hardware)


def packers_for(hardware: Hardware) -> dict[str, Packer]:
    """An empty packer for each group of a machine's tiles."""
    return {group.name: Packer(group.count, *(group.tile.size or (None, None))) for group in hardware.analog}


def members_of(graph: Graph) -> dict[int, list[Node]]:
    """The nodes of each block."""
    members: dict[int, list[Node]] = {block.id: [] for block in graph.blocks}
    for node in graph.nodes:
        if node.block is not None:
            members[node.block].append(node)
    return members


def parts_of(graph: Graph, block: EnergyBlock) -> list[Part]:
    """The parts of all weights of a block, each weight once."""
    return [part for weight in block.weights() for part in graph.parts.get(weight, ())]


def by_saving(graph: Graph, packers: Mapping[str, Packer]) -> list[tuple[EnergyBlock, int]]:
    """Blocks with the tiles that each needs alone, most multiply-accumulates per tile first."""
    ranked, members = [], members_of(graph)
    for block in graph.blocks:
        tiles = packers[block.group].needs(parts_of(graph, block))
        saved = sum(macs(graph, node) for node in members[block.id])
        ranked.append((saved / tiles, block, tiles))
    ranked.sort(key=lambda entry: (-entry[0], entry[1].id))
    return [(block, tiles) for _, block, tiles in ranked]


def _refused(graph: Graph, packers: Mapping[str, Packer]) -> dict[int, str]:
    """Blocks that do not fit, with the reason."""
    placed: set[Part] = set()
    refused = {}
    for block, tiles in by_saving(graph, packers):
        packer = packers[block.group]
        parts = [part for part in parts_of(graph, block) if part not in placed]
        if packer.place(parts) is None:
            refused[block.id] = f"no tile left: needs {tiles}, {packer.free} free"
        else:
            placed.update(parts)
    return refused


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
