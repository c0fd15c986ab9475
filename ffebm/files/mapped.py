"""Parts of files as arrays that the kernel reads when they are looked at, and can forget again."""

import mmap
from pathlib import Path
from typing import Any

import numpy as np

ByteArray = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]


def mapped(path: Path, start: int, size: int) -> ByteArray:
    """Bytes of a file, [size], which may not change while the array is in use.

    Args:
        path: The file.
        start: First byte.
        size: How many bytes, at least 1.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it has not so many.
    """
    return np.asarray(np.memmap(path, np.uint8, "r", start, (size,)))


def let_go(array: "np.ndarray[Any, Any]") -> None:
    """Give back the memory of an array that maps a file, or of the one that it is a view of.

    It is read again from the file when it is looked at again. Other arrays stay as they are.
    """
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)
