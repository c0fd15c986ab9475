"""A pass: every Relu leaks, so that no layer of a block is ever without a gradient."""

from dataclasses import dataclass

from ffebm.graph.graph import Graph, Stage
from ffebm.hardware.description import Hardware


@dataclass(frozen=True)
class Leaky:
    """Turns Relu into LeakyRelu, before energy blocks are formed.

    Attributes:
        alpha: Slope below zero.
    """

    alpha: float = 0.1
    name: str = "leaky"
    requires: Stage = Stage.CANONICAL
    ensures: Stage = Stage.CANONICAL

    def run(self, graph: Graph, hardware: Hardware) -> None:
        """Rewrite the graph in place."""
        for node in graph.nodes:
            if node.op == "Relu":
                node.op, node.attrs = "LeakyRelu", {"alpha": self.alpha}
