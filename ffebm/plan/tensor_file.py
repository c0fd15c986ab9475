"""Arrays as the bytes of a safetensors file, in element types that numpy or the file format lacks as well.

What the format has no name for (complex numbers, types narrower than a byte, some 8-bit floats) is stored as
bytes, with one more axis; the file's metadata say of what type they are.
"""

import json
from collections.abc import Mapping

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

from ffebm.graph.tensor import Array

TYPES = "element_types"
"""Key of the metadata: a JSON object of element types by array name."""

_DTYPES: dict[str, str | type] = {
    "BF16": ml_dtypes.bfloat16, "BOOL": "bool", "F16": "f2", "F32": "f4", "F64": "f8", "I16": "i2",
    "I32": "i4", "I64": "i8", "I8": "i1", "U16": "u2", "U32": "u4", "U64": "u8", "U8": "u1",
}  # fmt: skip
"""Element types by their names in a safetensors file."""

_STORED = frozenset(np.dtype(dtype) for dtype in _DTYPES.values())

OTHER_TYPES: dict[str, type] = {
    "complex64": np.complex64,
    "complex128": np.complex128,
    **{
        name: getattr(ml_dtypes, name)
        for name in (
            "float4_e2m1fn", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz",
            "float8_e8m0fnu", "int2", "int4", "uint2", "uint4",
        )
        if hasattr(ml_dtypes, name)
    },
}  # fmt: skip
"""Element types that are stored as bytes, by numpy's names; older ml_dtypes lack some."""


def storable(array: Array) -> bool:
    """Whether a file can hold an array: numbers and booleans, no strings or objects."""
    return array.dtype in _STORED or str(array.dtype) in OTHER_TYPES


def pack(arrays: Mapping[str, Array]) -> bytes:
    """Arrays as the bytes of a file.

    Args:
        arrays: By name; each must be storable.
    """
    plain: dict[str, Array] = {}
    types: dict[str, str] = {}
    for name, array in arrays.items():
        whole = np.array(array, order="C", copy=None)
        if whole.dtype not in _STORED:
            types[name] = str(whole.dtype)
            whole = np.frombuffer(whole.tobytes(), np.uint8).reshape(*whole.shape, whole.dtype.itemsize)
        plain[name] = whole
    metadata = {TYPES: json.dumps(types, sort_keys=True)} if types else None
    return bytes(safetensors.numpy.save(plain, metadata))


def unpack(data: bytes) -> dict[str, Array]:
    """The arrays of a file.

    Raises:
        safetensors.SafetensorError: If it is damaged, or of a type that is not known.
    """
    arrays: dict[str, Array] = {}
    held = safetensors.deserialize(data)  # type: ignore[no-untyped-call]
    for name, tensor in held:
        if tensor["dtype"] not in _DTYPES:
            raise safetensors.SafetensorError(f"{name!r} is of type {tensor['dtype']}")
        array = np.frombuffer(tensor["data"], _DTYPES[tensor["dtype"]]).reshape(tensor["shape"])
        arrays[name] = array.copy()
    for name, dtype in _element_types(data).items():
        stored = arrays.get(name)
        kind = OTHER_TYPES.get(dtype)
        if stored is None or kind is None or stored.dtype != np.uint8 or stored.ndim < 1:
            raise safetensors.SafetensorError(f"{name!r} cannot be of type {dtype!r}")
        if stored.shape[-1] != np.dtype(kind).itemsize:
            raise safetensors.SafetensorError(f"{name!r} has no whole elements of type {dtype!r}")
        arrays[name] = np.frombuffer(stored.tobytes(), kind).reshape(stored.shape[:-1]).copy()
    return arrays


def _element_types(data: bytes) -> dict[str, str]:
    """The types that the metadata name; the reader above has checked the header itself."""
    size = int.from_bytes(data[:8], "little")
    text = json.loads(data[8 : 8 + size]).get("__metadata__", {}).get(TYPES, "{}")
    try:
        types = json.loads(text)
    except ValueError:
        types = None
    if not isinstance(types, dict) or not all(isinstance(dtype, str) for dtype in types.values()):
        raise safetensors.SafetensorError(f"the metadata {TYPES!r} are no element types")
    return types
