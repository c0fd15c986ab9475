"""Arrays as the bytes of a safetensors file, in element types that numpy or the file format lacks as well.

What the format has no name for (complex numbers, types narrower than a byte, some 8-bit floats) is stored as
bytes, with one more axis; the file's metadata say of what type they are.
"""

import json
from collections.abc import Iterator, Mapping

import ml_dtypes
import numpy as np
import safetensors

from ffebm.files.mapped import let_go
from ffebm.graph.tensor import Array

TYPES = "element_types"
"""Key of the metadata: a JSON object of element types by array name."""

_DTYPES: dict[str, str | type] = {
    "BF16": ml_dtypes.bfloat16, "BOOL": "bool", "F16": "f2", "F32": "f4", "F64": "f8", "I16": "i2",
    "I32": "i4", "I64": "i8", "I8": "i1", "U16": "u2", "U32": "u4", "U64": "u8", "U8": "u1",
}  # fmt: skip
"""Element types by their names in a safetensors file."""

_NAMES = {np.dtype(dtype): name for name, dtype in _DTYPES.items()}

_WIDEST_FIRST = ("U64", "I64", "F64", "F32", "U32", "I32", "BF16", "F16", "U16", "I16", "I8", "U8", "BOOL")
_ORDER = {name: place for place, name in enumerate(_WIDEST_FIRST)}

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
    return array.dtype in _NAMES or str(array.dtype) in OTHER_TYPES


class Packed:
    """Arrays as the bytes of a file, part by part: no second copy of them is made.

    The header is written here, since the package's own writer takes all arrays as bytes at once; the order
    is its own: wide types first, then names.

    Source: https://huggingface.co/docs/safetensors, Format.
    """

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        """Look at the arrays, which must be storable; they may not change until they are written."""
        self._arrays = arrays
        self._names = sorted(arrays, key=lambda name: (_ORDER[_stored(arrays[name])[0]], name))

    def __iter__(self) -> Iterator[bytes | memoryview]:
        yield self._header()
        for name in self._names:
            whole = np.ascontiguousarray(self._arrays[name])
            yield whole.reshape(-1).view(np.uint8).data
            let_go(whole)  # it is written

    def _header(self) -> bytes:
        entries: dict[str, object] = {}
        types = {n: str(a.dtype) for n, a in self._arrays.items() if a.dtype not in _NAMES}
        if types:
            entries["__metadata__"] = {TYPES: json.dumps(types, sort_keys=True)}
        end = 0
        for name in self._names:
            array = self._arrays[name]
            kind, shape = _stored(array)
            start, end = end, end + array.nbytes
            entries[name] = {"dtype": kind, "shape": shape, "data_offsets": [start, end]}
        text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)  # so that what follows is aligned
        return len(text).to_bytes(8, "little") + text


def pack(arrays: Mapping[str, Array]) -> bytes:
    """The same as one text of bytes, for a few arrays."""
    return b"".join(Packed(arrays))


def _stored(array: Array) -> tuple[str, list[int]]:
    """Element type and shape in the file; of what the format has no name for, bytes along one more axis."""
    kind = _NAMES.get(array.dtype)
    return (kind, [*array.shape]) if kind else ("U8", [*array.shape, array.dtype.itemsize])


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
