"""A model file is read without a second copy of its weights.

protobuf keeps what it parses as long as the model lives, and hands out copies. So large weights of a file
are skipped while it is parsed, and read into arrays straight from where they lie, in the file or beside it.
They are read and not mapped unless that is asked for: another process may write the file anew while the plan
is still in use.
"""

import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import ModelProto, TensorProto, numpy_helper
from onnx.external_data_helper import (
    load_external_data_for_model,
    load_external_data_for_tensor,
    uses_external_data,
)

from ffebm.errors import Location, ModelError
from ffebm.files.mapped import ByteArray, mapped
from ffebm.graph.tensor import Array
from ffebm.plan.checks.left_out import MOST_KEPT
from ffebm.plan.checks.source import held_values, holds_data
from ffebm.plan.plan import Plan, load_plan

LARGE_BYTES = 1 << 14
"""Data of more bytes are skipped: more than 1,024 elements of any type."""
PIECE = 1 << 22
"""Bytes that are read at once from a file of external data."""
PLAIN = frozenset({
    TensorProto.BFLOAT16, TensorProto.DOUBLE, TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT8,
    TensorProto.INT16, TensorProto.INT32, TensorProto.INT64, TensorProto.UINT8, TensorProto.UINT16,
    TensorProto.UINT32, TensorProto.UINT64,
})  # fmt: skip
"""Types whose data are as in an array."""
_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9
"""Fields of `ModelProto`, `GraphProto` and `TensorProto` on the way to a weight (onnx.proto)."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
"""Wire types of protobuf (protobuf.dev, Encoding)."""

HeldArrays = Sequence[Array]
"""Weights that are read and that the model itself lacks; its tensors say which by their number."""


def read_model(path: Path, *, mapping: bool = False) -> tuple[ModelProto, list[Array]]:
    """The model of a file, with large weights apart.

    Args:
        path: The file.
        mapping: Map large weights instead of reading them; files may not change while they are in use.

    Raises:
        ModelError: If there is none, or it or its external data cannot be read.
    """
    where = Location(str(path))
    if not path.is_file():
        raise ModelError("there is no such file", hint="give the path of a .onnx file", location=where)
    try:
        model, inside = _parsed(path, mapping=mapping)
    except DecodeError:
        raise ModelError(
            "not an ONNX model, or a truncated one",
            hint="export it again, or check that the download is complete",
            location=where,
        ) from None
    try:
        outside = _outside(model, str(path.parent), mapping=mapping)
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise ModelError(
            f"its external data cannot be read: {error}",
            hint="keep the data file beside the .onnx file",
            location=where,
        ) from None
    return model, _held(model, inside | outside)


def read_source(folder: Path) -> tuple[Plan, ModelProto, list[Array]]:
    """The model that a plan was compiled from, with large weights apart.

    Args:
        folder: Of the plan.

    Returns:
        The plan, its model, and weights, which are no values where it holds none.

    Raises:
        PlanError: If there is none, or it cannot be read.
        ModelError: If it was compiled from no ONNX model.
    """
    plan = load_plan(folder)
    if not plan.model:
        raise ModelError(
            f"a plan of {plan.source.name}, which was no ONNX model",
            allowed="an ONNX file, or a plan that was compiled from one",
            location=Location(str(folder)),
        )
    model = ModelProto.FromString(plan.model)
    missing = {}
    for position, tensor in enumerate(model.graph.initializer):
        if tensor.name not in plan.weights or holds_data(tensor):
            continue
        values = held_values(plan, tensor)
        if values.size > MOST_KEPT:
            missing[position] = values
        else:  # shapes may follow from them
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return plan, model, _held(model, missing)


def array_of(tensor: TensorProto, held: HeldArrays) -> Array:
    """The values of a tensor of a model that was read: its own, or those that are held apart.

    Raises:
        ValueError: If they do not have its shape; TypeError and others if onnx cannot read them.
    """
    if not held or tensor.data_location != TensorProto.EXTERNAL:
        return numpy_helper.to_array(tensor)
    return held[int(tensor.external_data[0].value)].reshape(tuple(tensor.dims))


def _held(model: ModelProto, arrays: Mapping[int, Array]) -> list[Array]:
    """Arrays of initializers by position, which then say that their values are held apart."""
    for number, (position, array) in enumerate(arrays.items()):
        tensor = model.graph.initializer[position]
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=str(number))
        array.flags.writeable = False  # as onnx's own
    return list(arrays.values())


# --- external data -----------------------------------------------------------------------------------


def _outside(model: ModelProto, folder: str, *, mapping: bool) -> dict[int, Array]:
    """Large initializers that lie in other files, by position; all else goes into the model."""
    found = {}
    for position, tensor in enumerate(model.graph.initializer):
        size = _plain_size(tensor)
        if uses_external_data(tensor) and size > LARGE_BYTES and _external(tensor).get("length") == str(size):
            read = _mapped if mapping else _pieces
            found[position] = read(tensor, size, folder).view(_dtype(tensor))
            del tensor.external_data[:]
            tensor.data_location = TensorProto.DEFAULT
    load_external_data_for_model(model, folder)
    return found


def _pieces(tensor: TensorProto, size: int, folder: str) -> ByteArray:
    """Values that are read piece by piece; onnx opens the file, and refuses one outside of the folder."""
    data = np.empty(size, np.uint8)
    for at in range(0, size, PIECE):
        data[at : at + PIECE] = np.frombuffer(_piece(tensor, at, min(PIECE, size - at), folder), np.uint8)
    return data


def _piece(tensor: TensorProto, at: int, size: int, folder: str) -> bytes:
    entries = _external(tensor)
    piece = TensorProto(name=tensor.name, data_location=TensorProto.EXTERNAL)
    start = int(entries.get("offset", "0")) + at
    for key, value in (entries | {"offset": str(start), "length": str(size)}).items():
        piece.external_data.add(key=key, value=value)
    load_external_data_for_tensor(piece, folder)
    return bytes(piece.raw_data)


def _mapped(tensor: TensorProto, size: int, folder: str) -> ByteArray:
    """Values that are mapped; onnx reads the last one first, so that it has a say in which file it is."""
    _piece(tensor, size - 1, 1, folder)
    entries = _external(tensor)
    return mapped(Path(folder) / entries["location"], int(entries.get("offset", "0")), size)


def _external(tensor: TensorProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in tensor.external_data}


def _dtype(tensor: TensorProto) -> "np.dtype[Any]":
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))


def _plain_size(tensor: TensorProto) -> int:
    """Bytes of a tensor whose data an array can have as they are; 0 of others and of impossible shapes."""
    if sys.byteorder != "little" or tensor.data_type not in PLAIN or any(size < 0 for size in tensor.dims):
        return 0
    return int(math.prod(tensor.dims)) * _dtype(tensor).itemsize


# --- the file itself ---------------------------------------------------------------------------------


class _OddError(Exception):
    """The file is not as onnx's own writer would write it; protobuf has the last word on it."""


@dataclass
class _Skimming:
    """A file of which all is copied but large data of initializers.

    Attributes:
        file: Open at its start.
        found: Of each initializer whose data was skipped, by position, where they lie and how many bytes.
        count: Initializers so far.
    """

    file: BufferedReader
    found: dict[int, tuple[int, int]] = field(default_factory=dict)
    count: int = 0

    def message(self, end: int, path: tuple[int, ...]) -> bytes:
        """The rest of a message up to a place, without what is skipped.

        Args:
            end: Where it ends.
            path: Fields that lead inside, the outermost first.
        """
        kept = bytearray()
        while self.file.tell() < end:
            start = self.file.tell()
            tag = self._varint()
            number, kind = tag >> 3, tag & 7
            if kind == _BYTES:
                size = self._varint()
                body = self.file.tell()
                if body + size > end:
                    raise _OddError
                if path and number == path[0] and len(path) == 1 and size > LARGE_BYTES:
                    self._skip(body, size)
                    continue
                if path and number == path[0] and len(path) > 1:
                    inner = self.message(body + size, path[1:])
                    self.count += len(path) == 2
                    kept += _varint(tag) + _varint(len(inner)) + inner
                    continue
                self.file.seek(body + size)
            elif kind == _VARINT:
                self._varint()
            elif kind in {_FIXED64, _FIXED32}:
                self.file.seek(8 if kind == _FIXED64 else 4, 1)
            else:
                raise _OddError
            kept += self._copied(start, end)
        return bytes(kept)

    def _skip(self, body: int, size: int) -> None:
        if self.count in self.found:
            raise _OddError
        self.found[self.count] = (body, size)
        self.file.seek(body + size)

    def _copied(self, start: int, end: int) -> bytes:
        size = self.file.tell() - start
        if start + size > end:
            raise _OddError
        self.file.seek(start)
        return self.file.read(size)

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 64, 7):
            byte = self.file.read(1)
            if not byte:
                raise _OddError
            value |= (byte[0] & 127) << shift
            if byte[0] < 128:
                return value
        raise _OddError


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)


def _parsed(path: Path, *, mapping: bool) -> tuple[ModelProto, dict[int, Array]]:
    """The model of a file; large data of its initializers, by position, are read into arrays or mapped."""
    with path.open("rb") as file:
        skimming = _Skimming(file)
        try:
            kept = skimming.message(os.fstat(file.fileno()).st_size, (_GRAPH, _INITIALIZER, _RAW_DATA))
            model = ModelProto.FromString(kept)
            arrays = {}
            for position, (start, size) in skimming.found.items():
                data = mapped(path, start, size) if mapping else _read(file, start, size)
                tensor = model.graph.initializer[position]
                if _plain_size(tensor) == size and not uses_external_data(tensor):
                    arrays[position] = data.view(_dtype(tensor))
                else:  # of another type or shape: onnx's to judge
                    tensor.raw_data = data.tobytes()
            return model, arrays
        except (_OddError, DecodeError):
            return onnx.load(path, format="protobuf", load_external_data=False), {}


def _read(file: BufferedReader, start: int, size: int) -> ByteArray:
    data = np.empty(size, np.uint8)
    file.seek(start)
    if file.readinto(data.data) != size:
        raise _OddError
    return data
