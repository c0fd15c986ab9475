"""What nodes and blocks read and make: all that the lives of values depend on beside a schedule."""

from dataclasses import dataclass
from functools import cached_property

from ffebm.graph.energy_block import EnergyBlock
from ffebm.graph.ops import OPS, Kind

KEEPS_NOTHING = frozenset(
    {"Add", "Sub", "Sum", "Neg", "Mean", "Concat", "Split", "Slice", "Pad", "Expand", "Tile", "DepthToSpace"}
    | {"SpaceToDepth", "AveragePool", "GlobalAveragePool", "ReduceMean", "ReduceSum", "Cast"}
    | {name for name, op in OPS.items() if op.kind is Kind.LAYOUT}
)
"""Ops whose backward run moves or adds error currents, and needs no value."""
KEEPS_MADE = frozenset({"Relu", "Sigmoid", "Tanh", "Softmax", "LogSoftmax", "Exp", "Sqrt"})
"""Ops whose derivative is a function of what they made."""
KEEPS_READ = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Mul"})
"""Ops whose derivative is a function of what they read."""


@dataclass(frozen=True)
class DigitalNode:
    """What a digital node reads and makes.

    Attributes:
        op: Its op.
        reads: Value names, those that subgraphs take from outside included; constants too.
        makes: Value names.
    """

    op: str
    reads: tuple[str, ...]
    makes: tuple[str, ...]

    @property
    def kept(self) -> tuple[str, ...]:
        """What of these its backward run reads; what is not known to be spared is kept."""
        if self.op in KEEPS_NOTHING:
            return ()
        if self.op in KEEPS_MADE:
            return self.makes
        return self.reads if self.op in KEEPS_READ else (*self.reads, *self.makes)


@dataclass(frozen=True)
class Dataflow:
    """What nodes and blocks read and make.

    Attributes:
        inputs: Values that are there before the first step.
        outputs: Values that stay until the last one has ended.
        nodes: The digital nodes by name.
        blocks: The energy blocks, by id.
        constants: Elements of each constant.
        trainable: Constants that train.
        elements: Elements of every value; 0 if a size is unknown.
        tiles: For each constant on tiles, the tiles that it lies on.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: dict[str, DigitalNode]
    blocks: tuple[EnergyBlock, ...]
    constants: dict[str, int]
    trainable: frozenset[str]
    elements: dict[str, int]
    tiles: dict[str, tuple[int, ...]]

    @cached_property
    def views(self) -> dict[str, str]:
        """Values that share the bytes of another one, in another shape: by name, the other's."""
        found: dict[str, str] = {}
        for node in self.nodes.values():
            if node.op not in OPS or OPS[node.op].kind is not Kind.LAYOUT or len(node.makes) != 1:
                continue
            source, seen = node.reads[0] if node.reads else "", node.makes[0]
            if source in self.elements and self.elements[source] == self.elements.get(seen):
                found[seen] = source
        return found

    def seen(self, value: str) -> str:
        """The value whose bytes a value has: itself, unless it is a view."""
        passed = {value}
        while self.views.get(value, value) not in passed:
            value = self.views[value]
            passed.add(value)
        return value

    @cached_property
    def maker(self) -> dict[str, int]:
        """The block that makes a value, by its id; of values that blocks make."""
        return {layer.value: block.id for block in self.blocks for layer in block.layers}

    @cached_property
    def learns(self) -> frozenset[str]:
        """Values that a trainable weight has shaped, which error currents reach."""
        found: set[str] = set()
        runners = [(n.reads, n.makes) for n in self.nodes.values()]
        runners += [((*b.weights(), *b.inputs), tuple(la.value for la in b.layers)) for b in self.blocks]
        grown = True
        while grown:  # blocks stand beside the nodes, in no common order
            grown = False
            for reads, makes in runners:
                if not found.issuperset(makes) and any(v in self.trainable or v in found for v in reads):
                    found.update(makes)
                    grown = True
        return frozenset(found)

    def tiles_of(self, block: int) -> tuple[int, ...]:
        """Tiles that hold a part of a block."""
        held = {tile for weight in self.blocks[block].weights() for tile in self.tiles.get(weight, ())}
        return tuple(sorted(held))
