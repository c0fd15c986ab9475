"""The source ONNX model with the plan written on its nodes, for Netron and other ONNX viewers.

Each node gets `metadata_props` whose keys start with `ffebm.`; weights and outputs stay what they are.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import networkx as nx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, StringStringEntryProto

from ffebm.plan.plan import Plan
from ffebm.plan.schema import PlanNode
from ffebm.report.viewers.relations import tiles_of_weights
from ffebm.runtime.save_onnx import source_model

PREFIX = "ffebm."
FOLDED = "depends on constants alone, so it was computed while compiling"
DEAD = "no output of the model depends on it"
REWRITTEN = "compiling replaced it by other nodes"


def annotated(plan: Plan, path: Path) -> ModelProto:
    """A plan's source model, weights included, with unit, reason, block, tiles and work of every node.

    Nodes that compiling took away say so: their unit is "folded", "removed" or "rewritten".

    Args:
        plan: Compiled from ONNX.
        path: Where the model will go; errors name it.

    Raises:
        UsageError: If the source was no ONNX model, or its batch normalisations were folded.
    """
    model = source_model(plan, {}, path)
    twins = _twins(model.graph, plan)
    constant, live = _constant(model.graph), _live(model.graph)
    tiles = tiles_of_weights(plan)
    for index, node in enumerate(model.graph.node):
        twin = twins.get(index)
        facts = _facts(twin, tiles) if twin is not None else _absence(index in constant, index in live)
        _write(node, facts)
        _write_inside(node, facts)
    _write(model, {"hardware": plan.hardware.name, "batch": str(plan.batch), "blocks": str(len(plan.blocks))})
    return model


def _facts(node: PlanNode, tiles: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    held = sorted({tile for value in node.inputs for tile in tiles.get(value, ())})
    facts = {"unit": node.unit, "reason": node.reason}
    if node.block is not None:
        facts["block"] = f"block{node.block}"
    if node.segment is not None:
        facts["segment"] = f"segment{node.segment}"
    if node.unit == "tile" and held:
        facts["tiles"] = ", ".join(f"tile{tile}" for tile in held)
    facts |= {"macs": str(node.macs), "weights": str(node.weights)}
    if node.shape is not None:
        facts["shape"] = "x".join(map(str, node.shape))
    return facts


def _write(target: NodeProto | ModelProto, facts: Mapping[str, str]) -> None:
    """Replace what an earlier plan wrote."""
    others = [entry for entry in target.metadata_props if not entry.key.startswith(PREFIX)]
    del target.metadata_props[:]
    target.metadata_props.extend(others)
    target.metadata_props.extend(
        StringStringEntryProto(key=PREFIX + key, value=value) for key, value in facts.items()
    )


def _write_inside(node: NodeProto, facts: Mapping[str, str]) -> None:
    """Nodes of subgraphs run where the node runs that holds them."""
    for graph in _graphs(node):
        for inner in graph.node:
            reason = f"inside {node.name or node.op_type}: {facts['reason']}"
            inside = {"unit": facts["unit"], "reason": reason}
            _write(inner, inside)
            _write_inside(inner, inside)


def _graphs(node: NodeProto) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g


# --- which node of the plan a node of the source became ----------------------------------------------


def _twins(graph: GraphProto, plan: Plan) -> dict[int, PlanNode]:
    """The plan's node for each position in the source that has one.

    The same op that makes the same value comes first; then the name, which the compiler made from op and
    position where there was none; at last whatever makes the value, as after a conversion of the opset.
    """
    by_name = {node.name: node for node in plan.nodes}
    by_value = {value: node for node in plan.nodes for value in node.outputs if value}
    found: dict[int, PlanNode] = {}
    taken: set[str] = set()

    def settle(index: int, twin: PlanNode | None) -> None:
        if twin is not None and twin.name not in taken and index not in found:
            found[index] = twin
            taken.add(twin.name)

    nodes = list(enumerate(graph.node))
    for index, node in nodes:
        makers = (by_value.get(value) for value in node.output)
        settle(index, next((m for m in makers if m is not None and m.op == _op(node)), None))
    for index, node in nodes:
        settle(index, by_name.get(node.name or f"{node.op_type}_{index}"))
    for index, node in nodes:
        settle(index, next((by_value[value] for value in node.output if value in by_value), None))
    return found


def _op(node: NodeProto) -> str:
    return node.op_type if node.domain in {"", "ai.onnx"} else f"{node.domain}.{node.op_type}"


# --- nodes that compiling took away ------------------------------------------------------------------


def _absence(constant: bool, live: bool) -> dict[str, str]:
    if not live:
        return {"unit": "removed", "reason": DEAD}
    return {"unit": "folded", "reason": FOLDED} if constant else {"unit": "rewritten", "reason": REWRITTEN}


def _constant(graph: GraphProto) -> set[int]:
    """Positions of nodes that depend on constants alone."""
    known = {tensor.name for tensor in graph.initializer}
    found: set[int] = set()
    for index in _order(graph):
        node = graph.node[index]
        if all(value in known for value in _reads(node)):
            found.add(index)
            known.update(node.output)
    return found


def _live(graph: GraphProto) -> set[int]:
    """Positions of nodes that an output depends on."""
    wanted = {output.name for output in graph.output}
    found: set[int] = set()
    for index in reversed(_order(graph)):
        node = graph.node[index]
        if wanted & set(node.output):
            found.add(index)
            wanted.update(_reads(node))
    return found


def _order(graph: GraphProto) -> list[int]:
    """Positions of nodes, each behind those that it reads from; not every exporter sorts them."""
    makers = {value: index for index, node in enumerate(graph.node) for value in node.output if value}
    order = nx.DiGraph()
    order.add_nodes_from(range(len(graph.node)))
    order.add_edges_from(
        (makers[value], index)
        for index, node in enumerate(graph.node)
        for value in _reads(node)
        if value in makers
    )
    return list(nx.topological_sort(order))


def _reads(node: NodeProto) -> Iterator[str]:
    """Values that a node reads, those that its subgraphs take from outside too."""
    yield from (value for value in node.input if value)
    for graph in _graphs(node):
        own = {port.name for port in graph.input} | {tensor.name for tensor in graph.initializer}
        own |= {value for inner in graph.node for value in inner.output}
        wanted = [value for inner in graph.node for value in _reads(inner)]
        wanted += [output.name for output in graph.output]
        yield from (value for value in wanted if value not in own)
