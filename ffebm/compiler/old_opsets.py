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
    known = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    nodes: list[NodeProto] = []
    for node in graph.node:
        for inner in _graphs(node):
            say_meaning(inner, opset)
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            known[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        if node.op_type == "Resize" and not node.domain and opset < 11:
            nodes += _resized(node, known)
        elif node.op_type == "Hardmax" and not node.domain and opset < 13:
            nodes += _flattened(node)
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def _graphs(node: NodeProto) -> Iterator[GraphProto]:
    for attr in node.attribute:
        if attr.type == AttributeProto.GRAPH:
            yield attr.g
        yield from attr.graphs


def _resized(node: NodeProto, known: dict[str, Array]) -> Iterable[NodeProto]:
    """The node with its attributes; where axes may grow and shrink by the nearest, one after the other."""
    mode = next((attr.s for attr in node.attribute if attr.name == "mode"), b"nearest")
    node.attribute.append(helper.make_attribute("coordinate_transformation_mode", "asymmetric"))
    if mode != b"nearest":
        return [node]

    held = known.get(node.input[2])
    scales = None if held is None else held.astype(np.float64)
    if scales is None or scales.min(initial=1) < 1 < scales.max(initial=1):
        return list(_growing_and_shrinking(node))

    choice = "ceil" if scales.min(initial=1) < 1 else "floor"
    node.attribute.append(helper.make_attribute("nearest_mode", choice))
    return [node]


def _growing_and_shrinking(node: NodeProto) -> Iterator[NodeProto]:
    """Two nodes for one: an axis that grows in the first keeps its size in the second."""
    result, scales = node.output[0], node.input[2]
    one, grown = f"{result}.one", f"{result}.grown"
    yield helper.make_node("Constant", [], [one], value=numpy_helper.from_array(np.ones(1, np.float32)))
    for op, choice, source, made in (("Max", "floor", node.input[0], grown), ("Min", "ceil", grown, result)):
        factors = f"{made}.{op.lower()}"
        yield helper.make_node(op, [scales, one], [factors])
        resize = NodeProto()
        resize.CopyFrom(node)
        del resize.input[:], resize.output[:]
        resize.input.extend([source, node.input[1], factors])
        resize.output.append(made)
        resize.name = node.name if made == result else f"{node.name}.grown" if node.name else ""
        resize.attribute.append(helper.make_attribute("nearest_mode", choice))
        yield resize


def _flattened(node: NodeProto) -> Iterator[NodeProto]:
    """The node over all axes from its own on, as if they were one."""
    x, y = node.input[0], node.output[0]
    axis = next((attr.i for attr in node.attribute if attr.name == "axis"), 1)
    yield helper.make_node("Shape", [x], [f"{y}.shape"])
    yield helper.make_node("Flatten", [x], [f"{y}.flat"], axis=axis)
    yield helper.make_node("Hardmax", [f"{y}.flat"], [f"{y}.one"], node.name, axis=-1)
    yield helper.make_node("Reshape", [f"{y}.one", f"{y}.shape"], [y])
