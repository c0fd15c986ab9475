"""What is known of a value while blocks are formed: a view, a drive, or a layer."""

from dataclasses import dataclass, field

from ffebm.graph.energy_block import Interaction, Layer, Rearrangement
from ffebm.graph.graph import Graph, Node
from ffebm.passes.forming.linear_maps import Unfit


@dataclass
class StateView:
    """A state behind layout changes that no node has made digital yet."""

    source: str
    layouts: tuple[Rearrangement, ...]
    nodes: list[Node]


@dataclass
class OpenTerm:
    """One interaction in the making, with the nodes that compute it and the value that they make."""

    interaction: Interaction
    nodes: list[Node]
    value: str


@dataclass
class OpenDrive:
    """A sum of terms that no activation has closed yet."""

    terms: list[OpenTerm]
    nodes: list[Node] = field(default_factory=list)
    biases: tuple[str, ...] = ()
    scale: float = 1.0


@dataclass
class Formed:
    """A closed layer; `block` is None while it is only a candidate (no weight of its own)."""

    layer: Layer
    terms: list[OpenTerm]
    nodes: list[Node]
    block: int | None = None
    taken: bool = False

    @property
    def sources(self) -> list[str]:
        """The values that drive it, one an interaction."""
        return [i.source for i in self.layer.interactions]

    @property
    def weighted(self) -> bool:
        """Whether it is driven through a weight."""
        return any(i.linear is not None for i in self.layer.interactions)

    @property
    def all_nodes(self) -> list[Node]:
        """The nodes that compute it, those of its terms first."""
        return [node for term in self.terms for node in term.nodes] + self.nodes


def sample_shape(graph: Graph, value: str) -> tuple[int, ...]:
    """The shape of a value behind its batch.

    Raises:
        Unfit: If it is not known.
    """
    shape = graph.shape(value)
    if shape is None or not all(isinstance(size, int) for size in shape[1:]):
        raise Unfit(f"the shape of {value} is not known: {shape}")
    return tuple(int(size) for size in shape[1:])


def keep_digital(nodes: list[Node], reason: str) -> None:
    """Give nodes to the digital unit."""
    for node in nodes:
        node.unit, node.reason = "digital", reason
