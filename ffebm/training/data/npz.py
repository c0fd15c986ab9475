"""Reads the arrays of an .npz file; whatever else the file holds is refused with a message."""

import math
import struct
import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from lzma import LZMAError
from pathlib import Path
from tokenize import TokenError
from typing import IO

import numpy as np

from ffebm.errors import Location, UsageError, reason_of
from ffebm.graph.tensor import Array

READABLE = (
    OSError,
    ValueError,
    EOFError,
    TypeError,
    SyntaxError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
    LZMAError,
    NotImplementedError,  # a compression that Python does not know
    RuntimeError,  # a member that asks for a password
    OverflowError,
    MemoryError,
    TokenError,  # numpy reads a header as Python does
)
"""What numpy, zlib and zipfile raise on a damaged or odd file."""


def npz_names(path: Path, allowed: str) -> list[str]:
    """Names of what a file holds.

    Args:
        path: The file.
        allowed: What the file may be, for messages.

    Raises:
        UsageError: If it cannot be read.
    """
    with _opened(path, allowed) as archive:
        return [info.filename.removesuffix(".npy") for info in archive.infolist()]


def read_npz(path: Path, names: Collection[str], allowed: str) -> dict[str, Array]:
    """Arrays of a file by name, all of them numbers or truth values; names that it lacks are left out.

    Args:
        path: The file.
        names: Of the arrays that are wanted; what else lies in the file is not looked at.
        allowed: What the file may be, for messages.

    Raises:
        UsageError: If it cannot be read, or a wanted member is no array of numbers.
    """
    where = Location(str(path))
    with _opened(path, allowed) as archive:
        infos = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        return {name: _array(archive, infos[name], where) for name in names if name in infos}


@contextmanager
def _opened(path: Path, allowed: str) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except READABLE as error:
        found = f"cannot be read: {reason_of(error)}"
        raise UsageError(found, allowed=allowed, location=Location(str(path))) from None


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, where: Location) -> Array:
    name = info.filename.removesuffix(".npy")
    if name == info.filename:
        raise UsageError(
            f"{name!r} is no array", allowed="arrays, as numpy.savez writes them", location=where
        )
    with archive.open(info) as file:
        shape, dtype = _header(file)
    if dtype.kind not in "fiub":
        raise UsageError(
            f"{name!r} holds {_called(dtype)}, no numbers", allowed="arrays of numbers", location=where
        )
    declared = math.prod(shape) * dtype.itemsize
    if declared > info.file_size:  # before memory is asked for
        raise UsageError(
            f"{name!r} is damaged: it declares {dtype}{list(shape)}, but holds {info.file_size} bytes",
            location=where,
        )
    with archive.open(info) as file:
        array: Array = np.lib.format.read_array(file, allow_pickle=False)
    return array


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    version = np.lib.format.read_magic(file)
    if version[0] == 1:
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    else:  # the third differs in the names of fields alone, which no array of numbers has
        shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    return shape, dtype


def _called(dtype: np.dtype[np.generic]) -> str:
    """An array's type in a user's words."""
    if dtype.names is not None:
        return "records"
    return {"O": "Python objects", "U": "text", "S": "text"}.get(dtype.kind, str(dtype))
