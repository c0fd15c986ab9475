"""Arrays, and what is known of a value's elements and sizes."""

from typing import TypeAlias

import msgspec
import numpy as np

Dim = int | str
"""A size, or the name of a size that is only known at run time (the batch)."""

Array = np.ndarray[tuple[int, ...], np.dtype[np.generic]]
Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

PlainAttr: TypeAlias = (
    bool | int | float | str | tuple[int, ...] | tuple[float, ...] | tuple[str, ...] | Array
)
"""An attribute that holds no graph: ONNX's kinds; tensors are arrays."""


def holds_floats(array: Array) -> bool:
    """Whether an array holds floating-point numbers of 16 bits or more; numpy itself lacks bfloat16."""
    return (array.dtype.kind == "f" and array.dtype.itemsize > 1) or array.dtype.name == "bfloat16"


class TensorType(msgspec.Struct, frozen=True):
    """Element type and shape of a value.

    Attributes:
        dtype: numpy's name of the element type.
        shape: Sizes; None if even the rank is unknown.
    """

    dtype: str
    shape: tuple[Dim, ...] | None = None

    def __str__(self) -> str:
        shape = "?" if self.shape is None else "x".join(str(d) for d in self.shape)
        return f"{self.dtype}[{shape}]"


def same_array(ours: Array, theirs: Array) -> bool:
    """Equal types, shapes and elements; NaN equals NaN."""
    return ours.dtype == theirs.dtype and np.array_equal(
        ours, theirs, equal_nan=holds_floats(ours) or ours.dtype.kind == "c"
    )
