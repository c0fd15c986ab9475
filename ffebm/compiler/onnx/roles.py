"""Constants that exporters have merged: each place that learns or counts apart gets a constant of its own.

Exporters store equal constants once, so a fresh model's scales and variances, all ones, are one initializer.
Values that are all equal say nothing of where they came from, so each place gets its own; a matrix of
different numbers in two places is a tied weight, and stays one.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto

from ffebm.compiler.onnx.fused import FUSED
from ffebm.compiler.onnx.reading import HeldArrays, array_of
from ffebm.compiler.onnx.structure import op_name
from ffebm.files.mapped import let_go
from ffebm.graph.ops import OPS, Kind

FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16})
WEAK = frozenset({Kind.SUM, Kind.SCALE, Kind.ARITHMETIC})
"""Ops whose operands may be weights, and as often are none."""


@dataclass(frozen=True)
class _Use:
    """A place that reads a constant.

    Attributes:
        index: Of the node, in the order of `_nodes`.
        position: Of the input.
        role: "buffer", "weight", "operand" (of a sum or product) or "constant".
        name: What a constant of its own would be called.
    """

    index: int
    position: int
    role: str
    name: str


def apart(model: ModelProto, held: HeldArrays = ()) -> tuple[ModelProto, list[str]]:
    """Give each place of a merged constant its own.

    Args:
        model: The source, which is left as it is.
        held: Values that it lacks.

    Returns:
        The model, a copy where something is parted; and the names of the constants that were merged.
    """
    parted = {name: moved for name, moved in _moved(model.graph, held).items() if moved}
    if not parted:
        return model, []
    copy = ModelProto()
    copy.CopyFrom(model)
    nodes, tensors = list(_nodes(copy.graph)), _tensors(copy.graph)
    taken = {*tensors, *(value for node in nodes for value in (*node.input, *node.output))}

    for name, groups in parted.items():
        for group in groups:
            fresh = group[0].name
            while fresh in taken:
                fresh += "_"
            taken.add(fresh)
            _add(copy, tensors[name], fresh)
            for use in group:
                nodes[use.index].input[use.position] = fresh
    return copy, sorted(parted)


def _nodes(graph: GraphProto) -> Iterator[NodeProto]:
    """All nodes, those of subgraphs behind their node."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _nodes(attribute.g)


def _tensors(graph: GraphProto) -> dict[str, TensorProto]:
    """Floating-point constants by name, whether initializers or made by nodes."""
    made = {
        node.output[0]: attribute.t
        for node in graph.node
        for attribute in node.attribute
        if node.op_type == "Constant" and attribute.name == "value"
    }
    made.update((tensor.name, tensor) for tensor in graph.initializer)
    return {name: tensor for name, tensor in made.items() if tensor.data_type in FLOATS}


def _moved(graph: GraphProto, held: HeldArrays) -> dict[str, list[list[_Use]]]:
    """For each constant the groups of places that get one of their own."""
    tensors = _tensors(graph)
    uses: dict[str, list[_Use]] = {}
    for index, node in enumerate(_nodes(graph)):
        for position, value in enumerate(node.input):
            if value in tensors:
                uses.setdefault(value, []).append(_use(node, index, position))
    return {name: _groups(tensors[name], found, held) for name, found in uses.items() if len(found) > 1}


def _use(node: NodeProto, index: int, position: int) -> _Use:
    op = OPS.get(op_name(node)) or FUSED.get(op_name(node))
    role = "constant"
    if op is not None and position in op.buffers:
        role = "buffer"
    elif op is not None and position in op.weights:
        role = "operand" if op.kind in WEAK else "weight"
    return _Use(index, position, role, f"{node.name or node.output[0]}.{_formal(node, position)}")


def _formal(node: NodeProto, position: int) -> str:
    """What ONNX calls an input."""
    try:
        inputs = onnx.defs.get_schema(node.op_type, node.domain).inputs
    except onnx.defs.SchemaError:
        return f"input{position}"
    return str(inputs[min(position, len(inputs) - 1)].name)


def _groups(tensor: TensorProto, uses: list[_Use], held: HeldArrays) -> list[list[_Use]]:
    """Places that part from the first one that trains."""
    roles = {use.role for use in uses}
    if not tensor.dims or roles == {"constant"}:
        return []
    order = ("weight", "operand", "buffer", "constant")
    first = min(uses, key=lambda use: order.index(use.role))
    if roles <= {"operand", "constant"} and int(np.prod(tensor.dims)) == 1:
        return []
    if _all_equal(tensor, held):
        return [[use] for use in uses if use is not first]

    groups: dict[int, list[_Use]] = {}
    for use in uses:
        if use.role == "buffer" and (first.role != "buffer" or use.position != first.position):
            groups.setdefault(use.position, []).append(use)
    return list(groups.values())


def _all_equal(tensor: TensorProto, held: HeldArrays) -> bool:
    try:
        array = array_of(tensor, held)
    except (ValueError, TypeError, KeyError):  # its data is at fault, which is said elsewhere
        return False
    if not any(array.strides):  # of a plan without weights: nothing is known of them
        return False
    alike = bool(array.size) and bool((array == array.flat[0]).all())
    let_go(array)
    return alike


def _add(model: ModelProto, tensor: TensorProto, name: str) -> None:
    """A copy of a constant; before IR 4 every initializer is an input as well."""
    fresh = model.graph.initializer.add()
    fresh.CopyFrom(tensor)
    fresh.name = name
    if model.ir_version < 4:
        port = onnx.helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims))
        model.graph.input.append(port)
