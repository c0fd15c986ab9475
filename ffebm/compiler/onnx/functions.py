"""Functions that a model brings along: replaced by their bodies, unless they are endless or too many."""

from collections.abc import Iterable

import onnx
import onnx.inliner
from onnx import AttributeProto, FunctionProto, ModelProto, NodeProto

from ffebm.errors import Location, ModelError
from ffebm.limits import INLINED_NODES

GROWTH = 10
"""How many times the nodes of a file its inlined graph may hold, whatever the bound."""

Key = tuple[str, str, str]


def inlined(model: ModelProto, name: str) -> ModelProto:
    """A model without large weights, with calls of its own functions replaced by their bodies.

    Raises:
        ModelError: If a function calls itself, or the bodies are too many.
    """
    where = Location(name)
    _check_growth(model, where)
    try:
        return onnx.inliner.inline_local_functions(_with_defaults(model))
    except (RuntimeError, ValueError) as error:
        text = " ".join(str(error).split())
        raise ModelError(f"its functions cannot be inlined: {text}", location=where) from None


def _with_defaults(model: ModelProto) -> ModelProto:
    """A model whose calls say what their functions give as defaults, which onnx's inliner drops."""
    if not any(function.attribute_proto for function in model.functions):
        return model
    explicit = ModelProto()
    explicit.CopyFrom(model)
    defaults = {_key(function): function.attribute_proto for function in explicit.functions}
    for part in (explicit.graph, *explicit.functions):
        for key, node in _called(part.node):
            given = {attr.name for attr in node.attribute}
            node.attribute.extend(attr for attr in defaults.get(key, ()) if attr.name not in given)
    return explicit


def _check_growth(model: ModelProto, where: Location) -> None:
    if not model.functions:
        return
    import networkx as nx  # slow to import, and few models bring functions

    functions = {_key(function): function for function in model.functions}
    calls = nx.DiGraph()
    calls.add_nodes_from(functions)
    for key, function in functions.items():
        calls.add_edges_from((key, called) for called, _ in _called(function.node) if called in functions)
    try:
        order = list(nx.topological_sort(calls))
    except nx.NetworkXUnfeasible:
        cycle = " -> ".join(f"{key[0]}.{key[1]}" for key, _ in nx.find_cycle(calls))
        raise ModelError(
            f"a function calls itself: {cycle}", allowed="no recursion", location=where
        ) from None
    sizes: dict[Key, int] = {}
    for key in reversed(order):
        sizes[key] = _size(functions[key].node, sizes)
    written = sum(_size(part.node, {}) for part in (model.graph, *model.functions))
    count = _size(model.graph.node, sizes)
    if count > GROWTH * written:
        INLINED_NODES.check(count, f"{_rounded(count)} nodes once its functions are inlined", where)


def _rounded(count: int) -> str:
    return f"{count:,}" if count < 10**9 else "more than a billion"


def _size(nodes: Iterable[NodeProto], sizes: dict[Key, int]) -> int:
    return sum(sizes.get(key, 1) for key, _ in _called(nodes))


def _called(nodes: Iterable[NodeProto]) -> Iterable[tuple[Key, NodeProto]]:
    """Every node, those of subgraphs too, with the key of the function that it would call."""
    for node in nodes:
        yield _key(node), node
        for attr in node.attribute:
            if attr.type == AttributeProto.GRAPH:
                yield from _called(attr.g.node)


def _key(entry: NodeProto | FunctionProto) -> Key:
    name = entry.op_type if isinstance(entry, NodeProto) else entry.name
    return entry.domain, name, getattr(entry, "overload", "")
