"""How far two right results of 16 bits may lie apart: a bound from the same model in 32 bits.

A model says that each result of a node has 16 bits. One implementation rounds behind each node, another keeps
some results in 32 bits, or rounds inside a node as well, so two right results differ by more than one
rounding. Both approximate the model that rounds nowhere: the same one with every 16-bit type made 32 bits
wide.

A rounding moves a number by half a unit of its type at most: by u = 2**-11 of its size in float16, by 2**-8
in bfloat16. To first order the roundings of the nodes add up. A result is therefore right if, everywhere,

    |result - wide| <= max |other - wide| + k u max |wide|

with the other implementation's result, and k the number of nodes that round. Where a later node makes a
rounding larger, it does so in the other result too, which is in the first term. Of 170 results of onnx's
16-bit node cases, damaged or not, none needed more than 0.7 u max |wide| in the second one.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from onnx import (
    AttributeProto,
    FunctionProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    TypeProto,
    load_from_string,
    numpy_helper,
)

from ffebm.compiler.onnx.structure import op_name
from ffebm.graph.ops import Kind, kind_of
from ffebm.graph.tensor import Array

Floats = npt.NDArray[np.float64]
HALF_UNITS = {"float16": 2.0**-11, "bfloat16": 2.0**-8}
"""The largest relative error of a rounding."""
NARROW = frozenset({TensorProto.FLOAT16, TensorProto.BFLOAT16})
EXACT = frozenset({Kind.LAYOUT, Kind.MOVE, Kind.SHAPE, Kind.INTEGER, Kind.CONTROL})
"""Kinds of ops that round nothing."""
TYPES = frozenset({"dtype", "output_dtype", "softmax_precision", "stash_type", "to"})
"""Attributes that name a type."""


def widened(data: bytes) -> bytes:
    """A model with 32 bits where it has 16."""
    model = load_from_string(data)
    _widen_graph(model.graph)
    for function in model.functions:
        _widen_nodes(function.node)
    return bytes(model.SerializeToString())


def _widen_graph(graph: GraphProto) -> None:
    for tensor in graph.initializer:
        _widen_tensor(tensor)
    for port in (*graph.input, *graph.output, *graph.value_info):
        _widen_type(port.type)
    _widen_nodes(graph.node)


def _widen_nodes(nodes: Iterable[NodeProto]) -> None:
    for attr in (attr for node in nodes for attr in node.attribute):
        if attr.type == AttributeProto.GRAPH:
            _widen_graph(attr.g)
        elif attr.type == AttributeProto.TENSOR:
            _widen_tensor(attr.t)
        elif attr.type == AttributeProto.INT and attr.name in TYPES and attr.i in NARROW:
            attr.i = TensorProto.FLOAT


def _widen_type(known: TypeProto) -> None:
    kind = known.WhichOneof("value")
    if kind == "tensor_type" and known.tensor_type.elem_type in NARROW:
        known.tensor_type.elem_type = TensorProto.FLOAT
    elif kind in {"sequence_type", "optional_type"}:
        _widen_type(getattr(known, kind).elem_type)


def _widen_tensor(tensor: TensorProto) -> None:
    if tensor.data_type in NARROW:
        array = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def wide_array(array: Array) -> Array:
    """An array with 32 bits where it has 16."""
    return array.astype(np.float32) if array.dtype.name in HALF_UNITS else array


def roundings(model: ModelProto) -> int:
    """How many nodes round, of subgraphs and functions too, and at least one."""
    waiting: list[GraphProto | FunctionProto] = [model.graph, *model.functions]
    count = 0
    while waiting:
        for node in waiting.pop().node:
            count += kind_of(op_name(node)) not in EXACT
            waiting.extend(attr.g for attr in node.attribute if attr.type == AttributeProto.GRAPH)
    return max(1, count)


def near(found: Floats, other: Array, wide: Array | None, count: int) -> bool:
    """Whether a 16-bit result is right.

    Args:
        found: It, in 64 bits.
        other: Another implementation's, of its own type.
        wide: What the model in 32 bits gives; None if that cannot be had: then one rounding each is allowed.
        count: Nodes that round.
    """
    unit, known = HALF_UNITS[other.dtype.name], np.asarray(other, np.float64)
    finite = np.isfinite(known)
    ours, theirs = found[finite], known[finite]
    if not np.array_equal(found[~finite], known[~finite], equal_nan=True) or not np.isfinite(ours).all():
        return False
    if (np.abs(ours - theirs) <= unit * (np.abs(ours) + np.abs(theirs))).all():
        return True
    if wide is None or wide.shape != known.shape or not np.isfinite(wide[finite]).all():
        return False
    exact = wide[finite].astype(np.float64)
    bound = np.abs(theirs - exact).max() + count * unit * np.abs(exact).max()
    return bool((np.abs(ours - exact) <= bound).all())
