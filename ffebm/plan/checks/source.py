"""The source of a plan: a model that can be read, and whose digest is that of its weights."""

import hashlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ffebm.files.mapped import let_go
from ffebm.graph.tensor import Array, TensorType, same_array
from ffebm.plan.checks.left_out import stand_in
from ffebm.plan.schema import PlanData

if TYPE_CHECKING:
    from onnx import TensorProto

_DATA = frozenset({
    "double_data", "external_data", "float_data", "int32_data", "int64_data", "raw_data", "string_data",
    "uint64_data",
})  # fmt: skip
"""Where an initializer may hold its values."""


def source_problems(plan: PlanData) -> Iterator[str]:
    """What a plan says of its source and the source does not, as text."""
    digest = plan.source.digest
    if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        yield f"the digest of the source is {digest!r}"
        return
    if (plan.source.format == "onnx") != bool(plan.model):
        yield f"the source is {plan.source.format}, and source.onnx is {'there' if plan.model else 'missing'}"
        return
    if plan.source.format == "onnx":
        yield from _model_problems(plan)


def _model_problems(plan: PlanData) -> Iterator[str]:
    from google.protobuf.message import DecodeError
    from onnx import ModelProto  # a plan of torch's ops needs none of it

    try:
        model = ModelProto.FromString(plan.model)
        constants = [(tensor.name, held_values(plan, tensor)) for tensor in model.graph.initializer]
    except DecodeError:
        yield "source.onnx is no ONNX model"
        return
    except (ValueError, TypeError, KeyError, IndexError, OSError) as error:
        yield f"source.onnx holds a constant that cannot be read ({error})"
        return
    del model.graph.initializer[:]
    if plan.left_out:
        return  # the digest is that of the weights
    if source_digest(model.SerializeToString(deterministic=True), constants) != plan.source.digest:
        yield "the digest of the source is not that of source.onnx with the plan's weights"


def holds_data(tensor: "TensorProto") -> bool:
    """Whether an initializer of `source.onnx` has values of its own."""
    return any(field.name in _DATA for field, _ in tensor.ListFields())


def held_values(plan: PlanData, tensor: "TensorProto") -> Array:
    """The values of an initializer: its own, or the plan's, which may be in a wider type, as it is used.

    Raises:
        ValueError: If the plan has others.
    """
    from onnx import helper, numpy_helper

    if tensor.name not in plan.weights or holds_data(tensor):
        return numpy_helper.to_array(tensor)
    array = plan.weights[tensor.name]
    if array.shape != tuple(tensor.dims):
        raise ValueError(f"{tensor.name!r} is {list(tensor.dims)}, in the plan {list(array.shape)}")
    dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    if tensor.name in plan.left_out:
        return stand_in(TensorType(str(dtype), array.shape))
    if not widened_from(array, dtype):
        raise ValueError(f"{tensor.name!r} is of type {dtype}, in the plan {array.dtype} with other values")
    return array.astype(dtype, copy=False)


def widened_from(array: Array, dtype: np.dtype[Any]) -> bool:
    """Whether an array holds nothing that a type does not: it is of that type, or was made of one that is."""
    if array.dtype == dtype:
        return True
    with np.errstate(all="ignore"):  # what overflows comes back as another number
        return same_array(array.astype(dtype).astype(array.dtype), array)


def source_digest(structure: bytes, constants: Iterable[tuple[str, Array]]) -> str:
    """SHA-256 over a model's structure and then each weight; a model may be larger than protobuf can write.

    Args:
        structure: The model without its initializers, as deterministic bytes.
        constants: The initializers.
    """
    digest = hashlib.sha256(structure)
    for name, array in constants:
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        # an array of texts holds their addresses, which differ from one process to the next
        digest.update(repr(array.tolist()).encode() if array.dtype.hasobject else _bytes(array))
        let_go(array)
    return digest.hexdigest()


def _bytes(array: Array) -> memoryview:
    """What an array holds, in order; a copy only of one that is cut out of another."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
