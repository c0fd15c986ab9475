"""Fold constants: compute what depends on constants alone, and tell weights from other constants."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import ModelProto, numpy_helper

from ffebm.errors import ModelError
from ffebm.hardware import Hardware
from ffebm.ir import Array, Graph, Node, Stage, TensorType, captured, holds_floats
from ffebm.ops import OPS, Kind


@dataclass(frozen=True)
class FoldConstants:
    """Folds constants with onnx's reference evaluator.

    Weights that pass through layout changes or casts on their way to an op are left alone, so that they keep
    their source names and can be trained.
    """

    name: str = "fold-constants"
    requires: Stage = Stage.IMPORTED
    ensures: Stage = Stage.IMPORTED

    def run(self, graph: Graph, hardware: Hardware) -> None:
        """Fold what can be folded, then mark the trainable constants."""
        weights = _weight_values(graph)
        kept = []
        for node in graph.nodes:
            inputs = captured(node)
            if OPS[node.op].random or not all(v in graph.constants for v in inputs) or _has_graph(node):
                kept.append(node)
            elif node.op in {"Constant", "ConstantOfShape"}:
                make = _constant if node.op == "Constant" else _constant_of_shape
                _set_constant(graph, node.outputs[0], make(graph, node))
            elif OPS[node.op].kind in {Kind.LAYOUT, Kind.CAST} and any(
                v in weights and _may_train(graph, v) for v in inputs
            ):
                kept.append(node)
            else:
                _evaluate(graph, node)
        graph.nodes = kept
        _mark_trainable(graph)


def _evaluate(graph: Graph, node: Node) -> None:
    from onnx.reference import ReferenceEvaluator  # costs import time that most models need not pay

    feeds = {value: graph.constants[value] for value in captured(node)}
    try:
        results = ReferenceEvaluator(_single(node, feeds)).run(None, feeds)
    except Exception as error:  # noqa: BLE001 - whatever the op raises, its inputs are at fault
        text = " ".join(str(error).split())
        raise ModelError(f"cannot be computed from its constants: {text}", location=node.location) from None
    for value, result in zip([o for o in node.outputs if o], results, strict=True):
        _set_constant(graph, value, np.asarray(result))


def _constant(graph: Graph, node: Node) -> Array:
    (key, value), *_ = node.attrs.items()
    if isinstance(value, Graph):
        raise ModelError(f"attribute {key!r} is a graph", location=node.location)
    dtype = {
        "value_int": np.int64,
        "value_ints": np.int64,
        "value_float": np.float32,
        "value_floats": np.float32,
    }
    return np.asarray(value, dtype.get(key))


def _constant_of_shape(graph: Graph, node: Node) -> Array:
    shape = [int(d) for d in graph.constants[node.inputs[0]].ravel()]
    fill = node.attrs.get("value")
    if isinstance(fill, np.ndarray):
        return np.full(shape, fill.ravel()[0], fill.dtype)
    return np.zeros(shape, np.float32)


def _set_constant(graph: Graph, name: str, array: Array) -> None:
    graph.constants[name] = array
    graph.types[name] = TensorType(str(array.dtype), tuple(array.shape))


def _has_graph(node: Node) -> bool:
    return any(isinstance(attr, Graph) for attr in node.attrs.values())


def _single(node: Node, feeds: Mapping[str, Array]) -> ModelProto:
    """A model of one node, for onnx's reference evaluator."""
    attrs = {k: numpy_helper.from_array(v) if isinstance(v, np.ndarray) else v for k, v in node.attrs.items()}
    proto = onnx.helper.make_node(node.op, node.inputs, node.outputs)
    proto.attribute.extend(onnx.helper.make_attribute(k, v) for k, v in attrs.items())
    inputs = [
        onnx.helper.make_tensor_value_info(k, onnx.helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        for k, v in feeds.items()
    ]
    outputs = [onnx.helper.make_empty_tensor_value_info(o) for o in node.outputs if o]
    graph = onnx.helper.make_graph([proto], "one", inputs, outputs)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)])


def _weight_values(graph: Graph) -> set[str]:
    """Values that some op uses as a weight, directly or through layout changes or casts."""
    wanted: set[str] = set()
    for node in _backwards(graph):
        op = OPS[node.op]
        for position in op.weights:
            if position < len(node.inputs):
                wanted.add(node.inputs[position])
        if (op.kind is Kind.LAYOUT or node.op == "Cast") and node.outputs[0] in wanted:
            wanted.add(node.inputs[0])
    return wanted


def _backwards(graph: Graph) -> Iterator[Node]:
    """Nodes from the last to the first, those of subgraphs too."""
    for node in reversed(graph.nodes):
        for attr in node.attrs.values():
            if isinstance(attr, Graph):
                yield from _backwards(attr)
        yield node


def _may_train(graph: Graph, name: str) -> bool:
    array = graph.constants[name]
    return holds_floats(array) and array.ndim >= 1


def _mark_trainable(graph: Graph) -> None:
    """A weight is a floating constant with an axis; in sums and products it has more than one element."""
    wanted = _weight_values(graph)
    alone: set[str] = set()
    for node in _backwards(graph):
        if OPS[node.op].kind in {Kind.SUM, Kind.SCALE, Kind.ARITHMETIC}:
            alone.update(node.inputs)
    graph.trainable = {
        name
        for name, array in graph.constants.items()
        if name in wanted and _may_train(graph, name) and (array.size > 1 or name not in alone)
    }
