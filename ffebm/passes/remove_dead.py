"""Remove dead code: nodes and constants that no output depends on."""

from dataclasses import dataclass

from ffebm.graph.graph import Graph, Stage, captured
from ffebm.graph.ops import Kind, kind_of
from ffebm.hardware.description import Hardware


@dataclass(frozen=True)
class RemoveDead:
    """Drops nodes, constants and types on which no output and no buffer depends."""

    name: str = "remove-dead"
    requires: Stage = Stage.IMPORTED
    ensures: Stage = Stage.IMPORTED

    def run(self, graph: Graph, hardware: Hardware) -> None:
        """Keep what the outputs depend on."""
        live = set(graph.outputs)
        kept = []
        for node in reversed(graph.nodes):
            if any(value in live for value in node.outputs) or kind_of(node.op) is Kind.STATE:
                live.update(captured(node))
                kept.append(node)
        graph.nodes = kept[::-1]
        graph.constants = {k: v for k, v in graph.constants.items() if k in live}
        made = {value for node in graph.nodes for value in node.outputs} | live | set(graph.inputs)
        graph.types = {k: v for k, v in graph.types.items() if k in made}
        graph.trainable &= graph.constants.keys()
