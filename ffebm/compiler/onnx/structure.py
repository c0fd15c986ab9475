"""Is an ONNX graph a graph: every value made once, before it is read, no cycle, and only known ops."""

from collections.abc import Iterable, Iterator

from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, helper

from ffebm.compiler.onnx.fused import FUSED
from ffebm.errors import Location, ModelError
from ffebm.graph.ops import OPS

DEFAULTS: dict[str, dict[str, int | list[int]]] = {
    "MeanVarianceNormalization": {"axes": [0, 2, 3]},
    "STFT": {"onesided": 1},
}
"""Defaults of attributes that onnx's own shape inference forgets, by op."""
INSIDE = "ffebm."
"""What stands before the name of a domain while onnx works on the model; `contributed.py` says why."""
CONVERTED = {"Upsample"}
"""Ops of old opsets that version conversion replaces."""


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
    _check_ports(model.graph, name)
    makers = _makers(model.graph, name)
    outside = {i.name for i in model.graph.input} | {i.name for i in model.graph.initializer}
    fed_and_made = sorted(outside & makers.keys())
    if fed_and_made:
        raise ModelError(f"value {fed_and_made[0]!r} is fed and made", location=where)
    for index, node in enumerate(model.graph.node):
        for value in _reads(node):
            if value not in outside and value not in makers:
                raise ModelError(
                    f"reads {value!r}, which no node, input or initializer provides",
                    hint="an initializer is missing, or a name is misspelt",
                    location=_place(name, node, index),
                )
        _check_inner(node, _place(name, node, index))
    for output in model.graph.output:
        if output.name not in makers and output.name not in outside:
            raise ModelError(f"output {output.name!r} is never made", location=where)
    return _order(model.graph, makers, name)


def _check_ports(graph: GraphProto, name: str) -> None:
    """Inputs and outputs are tensors, and none is named twice."""
    for ports, what in ((graph.input, "input"), (graph.output, "output")):
        seen: set[str] = set()
        for port in ports:
            where = Location(name, port.name)
            if port.name in seen or not port.name:
                raise ModelError(f"two {what}s are named {port.name!r}, or one has no name", location=where)
            seen.add(port.name)
            kind = port.type
            if kind.HasField("optional_type"):  # an optional that holds a tensor is one
                kind = kind.optional_type.elem_type
            if not kind.HasField("tensor_type"):
                found = (kind.WhichOneof("value") or "value of no type").removesuffix("_type")
                raise ModelError(f"the {what} is a {found}", allowed="tensors", location=where)


def _check_inner(node: NodeProto, where: Location) -> None:
    """In a subgraph, too, every value is made once, before it is read."""
    for attr in node.attribute:
        if attr.type != AttributeProto.GRAPH:
            continue
        fed = {i.name for i in attr.g.input} | {i.name for i in attr.g.initializer}
        later = {value for inner in attr.g.node for value in inner.output if value}
        for inner in attr.g.node:
            early = [value for value in _reads(inner) if value in later]
            twice = [value for value in inner.output if value and value not in later]
            if early or twice or fed & set(inner.output):
                value = (early or twice or sorted(fed & set(inner.output)))[0]
                raise ModelError(
                    f"in {attr.name}, {value!r} is read before it is made, or made twice", location=where
                )
            later -= set(inner.output)
            _check_inner(inner, where)


def op_name(node: NodeProto) -> str:
    """Name of a node's op: `domain.name` outside the default domain."""
    domain = node.domain.removeprefix(INSIDE)
    return node.op_type if domain in {"", "ai.onnx"} else f"{domain}.{node.op_type}"


def check_ops(graph: GraphProto, name: str) -> None:
    """Check that a kernel exists for every op, subgraphs included.

    Raises:
        ModelError: With all that are missing and the nodes that want them.
    """
    unknown: dict[str, list[str]] = {}
    known = FUSED.keys() | CONVERTED
    for node, label in all_nodes(graph):
        if op_name(node) not in OPS and op_name(node) not in known:
            unknown.setdefault(op_name(node), []).append(label)
    if unknown:
        listed = "; ".join(f"{op} ({', '.join(labels)})" for op, labels in sorted(unknown.items()))
        raise ModelError(
            f"ops that no unit runs: {listed}",
            hint="docs/ops.md lists the ops that ffebm runs",
            location=Location(name, next(iter(unknown.values()))[0]),
        )


def write_defaults(graph: GraphProto) -> None:
    """Write out the defaults that shape inference would miss."""
    for node, _ in all_nodes(graph):
        for name, value in DEFAULTS.get(node.op_type, {}).items():
            if node.domain in {"", "ai.onnx"} and all(attr.name != name for attr in node.attribute):
                node.attribute.append(helper.make_attribute(name, value))


def all_nodes(graph: GraphProto) -> Iterator[tuple[NodeProto, str]]:
    """Every node with its name."""
    for index, node in enumerate(graph.node):
        yield node, node.name or f"{node.op_type}_{index}"
        for attr in node.attribute:
            if attr.type == AttributeProto.GRAPH:
                yield from all_nodes(attr.g)


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
    import networkx as nx  # slow to import, and most exporters sort

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
