"""Fold constants: compute what depends on constants alone."""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import onnx
from onnx import ModelProto, numpy_helper

from ffebm.errors import ModelError
from ffebm.graph.graph import Graph, Node, Stage, captured
from ffebm.graph.ops import OPS, Kind
from ffebm.graph.tensor import Array, TensorType, holds_floats
from ffebm.hardware.description import Hardware
from ffebm.limits import FOLDED_BYTES

Evaluate = Callable[[Node, Mapping[str, Array]], Mapping[str, Array]]
"""Computes a node's outputs, by name, from the constants that it reads."""

SHOWN = 1024
"""Elements above which a constant's values are no shapes, so no shape inference needs them."""


@dataclass(frozen=True)
class FoldConstants:
    """Folds constants with onnx's reference evaluator, and with another one where that fails.

    Weights that pass through layout changes or casts on their way to an op are left alone, so that they keep
    their source names and can be trained.

    Attributes:
        evaluate: Computes what onnx's reference evaluator cannot; None: such a node is refused.
        kept: Names of constants that are to train; * stands for anything.
    """

    evaluate: Evaluate | None = None
    kept: tuple[str, ...] = ()
    name: str = "fold-constants"
    requires: Stage = Stage.IMPORTED
    ensures: Stage = Stage.IMPORTED

    def run(self, graph: Graph, hardware: Hardware) -> None:
        """Fold what can be folded."""
        weights = _weight_values(graph)
        kept_values = {name for name in graph.constants if any(fnmatchcase(name, p) for p in self.kept)}
        live = _live_nodes(graph)
        kept = []
        made = 0
        for node in graph.nodes:
            if id(node) not in live or not _foldable(graph, node, weights, kept_values):
                kept.append(node)
            else:
                made += _result_bytes(graph, node)
                FOLDED_BYTES.check(made, f"constants of {made:,} bytes", node.location)
                self._fold(graph, node)
        graph.nodes = kept

    def _fold(self, graph: Graph, node: Node) -> None:
        feeds = {value: graph.constants[value] for value in captured(node)}
        try:
            results = _computed(graph, node, feeds)
        except Exception as error:  # noqa: BLE001 - whatever it lacks, the kernels may have it
            results = self._by_kernels(node, feeds, error)
        for value in (value for value in node.outputs if value):
            _set_constant(graph, value, results[value])

    def _by_kernels(self, node: Node, feeds: Mapping[str, Array], error: Exception) -> Mapping[str, Array]:
        try:
            if self.evaluate is not None:
                return self.evaluate(node, feeds)
        except Exception as other:  # noqa: BLE001 - both have failed, so the inputs are at fault
            error.add_note(str(other))
        text = " ".join(str(error).split())
        raise ModelError(f"cannot be computed from its constants: {text}", location=node.location) from None


def _live_nodes(graph: Graph) -> set[int]:
    """The nodes on which an output depends, by identity; what is wrong with the others hurts nobody."""
    live = set(graph.outputs)
    nodes = set()
    for node in reversed(graph.nodes):
        if any(value in live for value in node.outputs):
            live.update(captured(node))
            nodes.add(id(node))
    return nodes


def _foldable(graph: Graph, node: Node, weights: set[str], kept: set[str]) -> bool:
    inputs = captured(node)
    if OPS[node.op].random or not all(v in graph.constants for v in inputs) or _has_graph(node):
        return False
    if any(v in kept and holds_floats(graph.constants[v]) for v in inputs):
        return False
    passed_on = OPS[node.op].kind in {Kind.LAYOUT, Kind.CAST}
    return not (passed_on and any(v in weights and _may_train(graph, v) for v in inputs))


def _result_bytes(graph: Graph, node: Node) -> int:
    """How much memory a node's results take, before they are made; what cannot be known counts nothing."""
    known = [_bytes(graph.types.get(value)) for value in node.outputs if value]
    if None in known:
        known = _inferred_bytes(node, {value: graph.constants[value] for value in captured(node)})
    return sum(size or 0 for size in known)


def _bytes(known: TensorType | None) -> int | None:
    if known is None or known.shape is None or not all(isinstance(d, int) for d in known.shape):
        return None
    try:
        width = np.dtype(known.dtype).itemsize
    except TypeError:  # a type that numpy lacks, of a byte or less
        width = 1
    return math.prod(int(d) for d in known.shape) * width


def _inferred_bytes(node: Node, feeds: Mapping[str, Array]) -> list[int | None]:
    """The same by shape inference, which sees the values of small inputs."""
    try:
        model = _single(node, feeds)
        small = [numpy_helper.from_array(v, k) for k, v in feeds.items() if v.size <= SHOWN]
        model.graph.initializer.extend(small)
        done = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except Exception:  # noqa: BLE001 - whatever is wrong with the node shows when it is computed
        return []
    types = [value.type.tensor_type for value in done.graph.output]
    return [
        math.prod(d.dim_value for d in t.shape.dim)
        * onnx.helper.tensor_dtype_to_np_dtype(t.elem_type).itemsize
        for t in types
        if t.HasField("shape") and t.elem_type
    ]


def _computed(graph: Graph, node: Node, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
    """A node's results by what needs no torch."""
    if node.op == "Constant":
        return {node.outputs[0]: _constant(graph, node)}
    if node.op == "ConstantOfShape":
        return {node.outputs[0]: _constant_of_shape(graph, node)}
    return _by_reference(graph, node, feeds)


def _by_reference(graph: Graph, node: Node, feeds: Mapping[str, Array]) -> dict[str, Array]:
    from onnx.reference import ReferenceEvaluator  # costs import time that most models need not pay

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # infinities and NaN are results like any other
        results = ReferenceEvaluator(_single(node, feeds)).run(None, dict(feeds))
    named = zip([o for o in node.outputs if o], results, strict=True)
    arrays = {name: np.asarray(result) for name, result in named}
    for name, array in arrays.items():
        known = graph.types.get(name)
        if known is not None and known.dtype not in {"unknown", str(array.dtype)}:
            raise TypeError(f"{name!r} is {array.dtype}, not {known.dtype}")
        sizes = None if known is None else known.shape
        if sizes is not None and not _fits(array.shape, sizes):
            raise TypeError(f"{name!r} is {list(array.shape)}, not {list(sizes)}")
    return arrays


def _fits(found: tuple[int, ...], known: Sequence[object]) -> bool:
    """A shape is the one that inference has found, where that says a size."""
    same = (n == size or not isinstance(size, int) for n, size in zip(found, known, strict=False))
    return len(found) == len(known) and all(same)


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
    one = fill.ravel()[:1].reshape(()) if isinstance(fill, np.ndarray) else np.zeros((), np.float32)
    return np.broadcast_to(one, shape)  # however large it is, one number in memory


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
