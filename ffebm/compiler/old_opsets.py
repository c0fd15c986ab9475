"""What ops of old opsets mean where onnx's converter takes them for those of later ones.

`Upsample`, and `Resize` of opset 10, have no attributes for it: element i of the output lies at i / scale of
the input; the nearest element is the one before that place where an axis grows, the one behind where it
shrinks. `Hardmax` before opset 13 takes all axes from one on together.

Source: onnxruntime, which keeps that meaning for models of these opsets; the text of `Resize` is silent of
    the nearest.
"""

from collections.abc import Iterable, Iterator

import numpy as np
from onnx import AttributeProto, GraphProto, NodeProto, helper, numpy_helper

from ffebm.graph.tensor import Array


def say_meaning(graph: GraphProto, opset: int) -> None:
    """Write the meaning of an old opset into the nodes of a converted graph, subgraphs included.

    Args:
        graph: As onnx's converter has left it.
        opset: That of the model before.
    """
    _write(graph, opset, _names(graph))


def _write(graph: GraphProto, opset: int, taken: set[str]) -> None:
    known = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    nodes: list[NodeProto] = []
    for node in graph.node:
        for inner in _graphs(node):
            _write(inner, opset, taken)
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            known[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        own = node.domain in {"", "ai.onnx"}
        if own and node.op_type == "Resize" and opset < 11:
            nodes += _resized(node, known, taken)
        elif own and node.op_type == "Hardmax" and opset < 13:
            nodes += _flattened(node, taken)
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def _graphs(node: NodeProto) -> Iterator[GraphProto]:
    for attr in node.attribute:
        if attr.type == AttributeProto.GRAPH:
            yield attr.g
        yield from attr.graphs


def _names(graph: GraphProto) -> set[str]:
    """Of all values, those of subgraphs too."""
    found = {entry.name for entry in (*graph.input, *graph.initializer)}
    for node in graph.node:
        found.update(node.output)
        found.update(*(_names(inner) for inner in _graphs(node)))
    return found


def _new(name: str, taken: set[str]) -> str:
    """A name that no value has."""
    while name in taken:
        name += "_"
    taken.add(name)
    return name


def _resized(node: NodeProto, known: dict[str, Array], taken: set[str]) -> Iterable[NodeProto]:
    """The node with its attributes; where axes may grow and shrink by the nearest, one after the other."""
    mode = next((attr.s for attr in node.attribute if attr.name == "mode"), b"nearest")
    node.attribute.append(helper.make_attribute("coordinate_transformation_mode", "asymmetric"))
    if mode != b"nearest":
        return [node]

    held = known.get(node.input[2])
    scales = None if held is None else held.astype(np.float64)
    if scales is None or scales.min(initial=1) < 1 < scales.max(initial=1):
        return list(_growing_and_shrinking(node, taken))

    choice = "ceil" if scales.min(initial=1) < 1 else "floor"
    node.attribute.append(helper.make_attribute("nearest_mode", choice))
    return [node]


def _growing_and_shrinking(node: NodeProto, taken: set[str]) -> Iterator[NodeProto]:
    """Two nodes for one: an axis that grows in the first keeps its size in the second."""
    result, scales = node.output[0], node.input[2]
    one, grown = _new(f"{result}.one", taken), _new(f"{result}.grown", taken)
    yield helper.make_node("Constant", [], [one], value=numpy_helper.from_array(np.ones(1, np.float32)))
    for op, choice, source, made in (("Max", "floor", node.input[0], grown), ("Min", "ceil", grown, result)):
        factors = _new(f"{made}.{op.lower()}", taken)
        yield helper.make_node(op, [scales, one], [factors])
        resize = NodeProto()
        resize.CopyFrom(node)
        del resize.input[:], resize.output[:]
        resize.input.extend([source, node.input[1], factors])
        resize.output.append(made)
        resize.name = node.name if made == result else f"{node.name}.grown" if node.name else ""
        resize.attribute.append(helper.make_attribute("nearest_mode", choice))
        yield resize


def _flattened(node: NodeProto, taken: set[str]) -> Iterator[NodeProto]:
    """The node over all axes from its own on, as if they were one."""
    x, y = node.input[0], node.output[0]
    axis = next((attr.i for attr in node.attribute if attr.name == "axis"), 1)
    shape, flat, one = (_new(f"{y}.{name}", taken) for name in ("shape", "flat", "one"))
    yield helper.make_node("Shape", [x], [shape])
    yield helper.make_node("Flatten", [x], [flat], axis=axis)
    yield helper.make_node("Hardmax", [flat], [one], node.name, axis=-1)
    yield helper.make_node("Reshape", [one, shape], [y])
