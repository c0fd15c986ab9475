"""What the nodes and blocks of a placed graph read and make."""

from ffebm.graph.graph import Graph, Node, captured
from ffebm.graph.work import elements
from ffebm.plan.memory.dataflow import Dataflow, DigitalNode


def flow_of(graph: Graph) -> Dataflow:
    """The dataflow of a placed graph."""
    values = (*graph.inputs, *(value for node in graph.nodes for value in node.outputs if value))
    tiles = {
        weight: tuple(sorted({graph.places[part].tile for part in parts if part in graph.places}))
        for weight, parts in graph.parts.items()
    }
    return Dataflow(
        inputs=tuple(graph.inputs),
        outputs=tuple(graph.outputs),
        nodes={node.name: _digital(node) for node in graph.nodes if node.block is None},
        blocks=tuple(graph.blocks),
        constants={name: array.size for name, array in graph.constants.items()},
        trainable=frozenset(graph.trainable),
        elements={value: elements(graph, value) for value in values},
        tiles=tiles,
    )


def _digital(node: Node) -> DigitalNode:
    own = [name for name in node.inputs if name]
    reads = dict.fromkeys([*own, *sorted(captured(node))])
    return DigitalNode(node.op, tuple(reads), tuple(name for name in node.outputs if name))
