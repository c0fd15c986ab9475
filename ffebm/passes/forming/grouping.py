"""Which free layers settle together: each closed layer joins a block, starts one, or stays out.

Blocks never wait for themselves: `latest[v]` is the highest block that v depends on, and a layer joins block
b only if its other sources depend on blocks before b. So contracted blocks are ordered by their number.
"""

from typing import Literal

import msgspec

from ffebm.graph.admission import Admission
from ffebm.graph.energy_block import EnergyBlock, Interaction
from ffebm.graph.graph import Graph, Node
from ffebm.graph.ops import OPS, Kind, kind_of
from ffebm.passes.forming.linear_maps import branches
from ffebm.passes.forming.terms import Formed, OpenTerm, keep_digital, sample_shape


class Grouping:
    """The blocks in the making.

    Attributes:
        formed: The closed layers, by the value that they make.
        latest: The highest block that a value depends on; -1 for none.
        weighted: Layers so far with a weight that fits a tile.
    """

    def __init__(
        self,
        graph: Graph,
        admission: Admission,
        block_size: int | tuple[int, ...],
        boundary: Literal["tile", "digital"],
    ) -> None:
        self.graph = graph
        self.admission = admission
        self.block_size = block_size
        self.boundary = boundary
        self.readers = graph.consumers()
        self.makers = graph.producers()
        self.formed: dict[str, Formed] = {}
        self.blocks: list[list[Formed]] = []
        self.rooms: list[int] = []
        self.turn = 0  # of the next block among the listed sizes
        self.waiting = 0  # listed sizes, with that of a block whose first layer is there
        self.weighted = 0
        self.latest: dict[str, int] = dict.fromkeys([*graph.inputs, *graph.constants], -1)

    def add(self, formed: Formed) -> None:
        """Find the block of a closed layer."""
        self.formed[formed.layer.value] = formed
        self.weighted += formed.weighted
        block = self._joinable(formed)
        if block is None and formed.weighted:
            block = self._start(formed)
        if block is None:
            self._stay_out(formed)
            return
        if self.boundary == "digital":
            self._cut_boundary(formed, block)
        self._join(formed, block)

    def read_outside(self, value: str, block: int = -1) -> None:
        """Something reads a value: a candidate that another block reads can no longer be pulled into one."""
        formed = self.formed.get(value)
        if formed is not None and formed.block != block:
            formed.taken = True

    @property
    def sizes_taken(self) -> int:
        """How many listed sizes the layers take."""
        return max(self.turn, self.waiting)

    def write(self, physics: str) -> None:
        """Write blocks and reasons into the graph."""
        for formed in self.formed.values():
            if formed.block is None:
                for node in formed.all_nodes:
                    keep_digital([node], OPS[node.op].kind.value)
        for index, members in enumerate(self.blocks):
            self._write(index, members, physics)

    def _joinable(self, formed: Formed) -> int | None:
        """The latest block among the sources that has room and that no other source waits for.

        Where the physics joins branches, also among the layers that drive another layer beside it.
        """
        sources = formed.sources
        value = formed.layer.value
        beside = branches(value, self.readers, self.makers) if self.admission.joins_branches else []
        near = [self.formed[v] for v in (*sources, *beside) if v in self.formed]
        inside = {f.block for f in near if f.block is not None}
        for block in sorted(inside, reverse=True):
            outside = [v for v in sources if v not in self.formed or self.formed[v].block != block]
            room = len(self.blocks[block]) < self.rooms[block]
            if room and all(self.latest[v] < block for v in outside):
                return block
        return None

    def _start(self, formed: Formed) -> int | None:
        """A new block, with the candidates that can be its first layers; None if it would hold no weight."""
        room = self._room(self.turn)
        first = [
            self.formed[v]
            for v in dict.fromkeys(formed.sources)
            if v in self.formed and self.formed[v].block is None and not self.formed[v].taken
        ]
        first = [f for f in first if len(self.readers.get(f.layer.value, [])) == 1 and self._plain(f)]
        first = first[: max(0, room - 1)]
        if room == 0 or (self.boundary == "digital" and not self._driven(formed, first)):
            return None
        block = len(self.blocks)
        self.blocks.append([])
        self.rooms.append(room)
        self.turn += 1

        for candidate in first:
            self._join(candidate, block)
        return block

    def _room(self, turn: int) -> int:
        """How many free layers a block may hold; `turn` counts in graph order, blocks without a tile too."""
        if isinstance(self.block_size, int):
            return self.block_size
        return self.block_size[turn] if turn < len(self.block_size) else 0

    def _driven(self, formed: Formed, first: list[Formed]) -> bool:
        """Whether one of the first layers drives a layer through a weight."""
        values = {f.layer.value for f in first}
        return any(i.linear is not None and i.source in values for i in formed.layer.interactions)

    def _plain(self, formed: Formed) -> bool:
        return formed.layer.value not in self.graph.outputs

    def _join(self, formed: Formed, block: int) -> None:
        formed.block = block
        self.blocks[block].append(formed)
        self.latest[formed.layer.value] = block
        for value in formed.sources:
            self.read_outside(value, block)

    def _stay_out(self, formed: Formed) -> None:
        """A layer without a block: its linear maps are digital; it may become the first layer of a block."""
        if formed.weighted:
            count = len(self.block_size) if isinstance(self.block_size, tuple) else 0
            room = self._room(self.turn)
            if room == 0:
                why = f"behind the last of the {count} blocks that block_size names"
            elif room == 1:
                why = "boundary is digital, so a block of one layer has no linear map inside"
                formed.taken = True  # it is a block of its own, so it takes its turn
                self.turn += 1
            else:
                why = "the first linear map of a block; boundary is digital"
                self.waiting = self.turn + 1
            self._make_digital(formed, formed.terms, why)
        self.latest[formed.layer.value] = max(self.latest[v] for v in formed.sources)
        for value in formed.sources:
            self.read_outside(value)

    def _cut_boundary(self, formed: Formed, block: int) -> None:
        """Linear maps from outside the block run digitally; the block is clamped to what they make."""
        outside = [
            term
            for term in formed.terms
            if term.interaction.linear is not None
            and (
                term.interaction.source not in self.formed
                or self.formed[term.interaction.source].block != block
            )
        ]
        self._make_digital(formed, outside, "the first linear map of a block; boundary is digital")

    def _make_digital(self, formed: Formed, terms: list[OpenTerm], why: str) -> None:
        """Replace terms by an identity from the value that their nodes make."""
        for term in terms:
            if term.interaction.linear is None:
                continue
            keep_digital(term.nodes, why)
            self.read_outside(term.interaction.source)
            self.latest[term.value] = self.latest[term.interaction.source]
            shape = sample_shape(self.graph, term.value)
            term.interaction = Interaction(source=term.value, source_shape=shape, linear_shape=shape)
            term.nodes = []
        formed.layer = msgspec.structs.replace(
            formed.layer, interactions=tuple(t.interaction for t in formed.terms)
        )

    def _write(self, index: int, members: list[Formed], physics: str) -> None:
        values = {f.layer.value for f in members}
        inputs = dict.fromkeys(v for f in members for v in f.sources if v not in values)
        nodes = {id(n) for f in members for n in f.all_nodes}
        outputs = [f.layer.value for f in members if self._read_beside(f.layer.value, nodes)]
        layers = tuple(f.layer for f in members)
        block = EnergyBlock(index, tuple(inputs), layers, tuple(outputs), physics=physics)
        self.graph.blocks.append(block)

        for position, formed in enumerate(members):
            for node in formed.all_nodes:
                node.unit, node.block = "tile", index
                is_map = kind_of(node.op) is Kind.LINEAR
                role = f"{self.admission.role}, into" if is_map else _role(node)
                node.reason = f"{role} layer {position + 1} of {len(members)} in {block.name}"

    def _read_beside(self, value: str, nodes: set[int]) -> bool:
        readers = self.readers.get(value, [])
        return value in self.graph.outputs or any(id(n) not in nodes for n in readers)


def _role(node: Node) -> str:
    return {
        Kind.POOL: "pooling behind a linear map, into",
        Kind.LAYOUT: "layout between layers, into",
        Kind.SUM: "sum of drives, into",
        Kind.SCALE: "scale of the drive, into",
    }.get(OPS[node.op].kind, "activation of")
