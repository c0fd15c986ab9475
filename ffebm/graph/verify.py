"""What holds of a graph at each of its stages."""

from ffebm.errors import InternalError
from ffebm.graph.graph import Graph, Stage, captured


def verify(graph: Graph) -> None:
    """Check the facts of the graph's stage.

    Raises:
        InternalError: With the first fact that does not hold.
    """
    _verify_order(graph)
    if graph.stage >= Stage.BLOCKED:
        _verify_blocks(graph)
    if graph.stage >= Stage.PARTITIONED:
        for node in graph.nodes:
            if node.unit not in {"tile", "digital"} or not node.reason:
                raise InternalError(f"{node.name} has no unit or no reason", location=node.location)
    if graph.stage >= Stage.PLACED:
        unplaced = [part for parts in graph.parts.values() for part in parts if part not in graph.places]
        if unplaced:
            raise InternalError(f"{unplaced[0]} has no place")


def _verify_order(graph: Graph) -> None:
    """Names are unique and every value is made once, before it is read."""
    defined = {*graph.inputs, *graph.constants}
    names: set[str] = set()
    for node in graph.nodes:
        if node.name in names:
            raise InternalError(f"two nodes are named {node.name}", location=node.location)
        names.add(node.name)
        missing = [value for value in captured(node) if value not in defined]
        if missing:
            raise InternalError(f"{node.name} reads {missing[0]} before it is made", location=node.location)
        twice = [value for value in node.outputs if value in defined]
        if twice:
            raise InternalError(f"{twice[0]} is made twice", location=node.location)
        defined.update(value for value in node.outputs if value)
    missing = [value for value in graph.outputs if value not in defined]
    if missing:
        raise InternalError(f"output {missing[0]} is never made")


def _verify_blocks(graph: Graph) -> None:
    """Blocks are numbered in order, and no block or node waits for itself once blocks are contracted."""
    producer = graph.producers()
    for position, block in enumerate(graph.blocks):
        if block.id != position:
            raise InternalError(f"{block.name} stands at position {position}")
        known = {*block.inputs, *(layer.value for layer in block.layers)}
        for layer, interaction in block.interactions():
            if interaction.source not in known:
                raise InternalError(f"{layer.value} of {block.name} reads unknown {interaction.source}")
    latest: dict[str, int] = dict.fromkeys([*graph.inputs, *graph.constants], -1)
    for node in graph.nodes:
        index = max((latest[value] for value in captured(node)), default=-1)
        if node.block is not None:
            outside = [v for v in captured(node) if v not in producer or producer[v].block != node.block]
            if any(latest[value] >= node.block for value in outside):
                raise InternalError(f"{node.name} makes block{node.block} wait for itself")
            index = node.block
        latest.update((value, index) for value in node.outputs if value)
