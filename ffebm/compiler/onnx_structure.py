"""Is an ONNX graph a graph: every value made once, before it is read, and no cycle."""

from collections.abc import Iterable

import networkx as nx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto

from ffebm.errors import Location, ModelError


def check_structure(model: ModelProto, name: str) -> list[int]:
    """Check that a model is a graph.

    Args:
        model: The model.
        name: How the user named it.

    Returns:
        Its nodes' positions in topological order.

    Raises:
        ModelError: If a value is made twice or never, or the graph has a cycle.
    """
    where = Location(name)
    if model.ir_version == 0 or not model.graph.node or not model.opset_import:
        raise ModelError("not an ONNX model: it has no graph", hint="export it again", location=where)
    if model.graph.sparse_initializer:
        raise ModelError("sparse initializers", allowed="dense ones", location=where)
    makers = _makers(model.graph, name)
    outside = {i.name for i in model.graph.input} | {i.name for i in model.graph.initializer}
    for index, node in enumerate(model.graph.node):
        for value in _reads(node):
            if value not in outside and value not in makers:
                raise ModelError(
                    f"reads {value!r}, which no node, input or initializer provides",
                    hint="an initializer is missing, or a name is misspelt",
                    location=_place(name, node, index),
                )
    for output in model.graph.output:
        if output.name not in makers and output.name not in outside:
            raise ModelError(f"output {output.name!r} is never made", location=where)
    return _order(model.graph, makers, name)


def _makers(graph: GraphProto, name: str) -> dict[str, int]:
    """Position of the node that makes each value."""
    makers: dict[str, int] = {}
    for index, node in enumerate(graph.node):
        for value in node.output:
            if value in makers:
                raise ModelError(f"value {value!r} is made twice", location=_place(name, node, index))
            if value:
                makers[value] = index
    return makers


def _order(graph: GraphProto, makers: dict[str, int], name: str) -> list[int]:
    """Topological order; ONNX asks for sorted nodes, but not every exporter keeps to it."""
    nodes = list(graph.node)
    edges = [(makers[v], i) for i, node in enumerate(nodes) for v in _reads(node) if v in makers]
    if all(before < after for before, after in edges):
        return list(range(len(nodes)))
    order = nx.DiGraph(edges)
    order.add_nodes_from(range(len(nodes)))
    try:
        return list(nx.lexicographical_topological_sort(order))
    except nx.NetworkXUnfeasible:
        cycle = [i for i, _ in nx.find_cycle(order)]
        text = " -> ".join(nodes[i].name or nodes[i].op_type for i in [*cycle, cycle[0]])
        raise ModelError(
            f"the graph has a cycle: {text}",
            allowed="a graph without cycles",
            hint="write recurrence as a Loop or Scan node",
            location=_place(name, nodes[cycle[0]], cycle[0]),
        ) from None


def _place(name: str, node: NodeProto, index: int) -> Location:
    return Location(name, node.name or f"{node.op_type}_{index}")


def _reads(node: NodeProto) -> Iterable[str]:
    yield from (value for value in node.input if value)
    for attr in node.attribute:
        for graph in [attr.g] if attr.type == AttributeProto.GRAPH else []:
            inner = {i.name for i in graph.input} | {i.name for i in graph.initializer}
            inner |= {value for n in graph.node for value in n.output}
            read = [value for n in graph.node for value in _reads(n)] + [o.name for o in graph.output]
            yield from (value for value in read if value not in inner)
