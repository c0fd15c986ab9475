"""ONNX's element types in torch, and arithmetic on those that torch only stores."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ffebm.errors import ModelError

TORCH_DTYPES: dict[int, torch.dtype] = {
    1: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    4: torch.uint16,
    5: torch.int16,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    10: torch.float16,
    11: torch.float64,
    12: torch.uint32,
    13: torch.uint64,
    14: torch.complex64,
    15: torch.complex128,
    16: torch.bfloat16,
    17: torch.float8_e4m3fn,
    18: torch.float8_e4m3fnuz,
    19: torch.float8_e5m2,
    20: torch.float8_e5m2fnuz,
    24: torch.float8_e8m0fnu,
}
"""By the number in onnx.TensorProto.DataType."""

_STORED_ONLY = {
    torch.uint16: torch.int32,
    torch.uint32: torch.int64,
    torch.uint64: torch.int64,  # wraps around, so sums and products stay exact
}


def torch_dtype(code: int) -> torch.dtype:
    """The torch type of an ONNX element type."""
    if code not in TORCH_DTYPES:
        raise ModelError(f"element type {code} is not supported", allowed="a tensor type that torch has")
    return TORCH_DTYPES[code]


def wide(x: Tensor) -> Tensor:
    """The same values in a type that torch computes with."""
    return x.to(_STORED_ONLY[x.dtype]) if x.dtype in _STORED_ONLY else x


def sizes(x: Tensor) -> list[int]:
    """A tensor of integers as a list: shapes, axes, counts."""
    return [int(size) for size in x.reshape(-1).tolist()]


def axis_of(axis: int, n_axes: int) -> int:
    """A possibly negative axis as one that counts from the front."""
    return axis + n_axes if axis < 0 else axis


def axes_of(axes: Sequence[int], n_axes: int) -> list[int]:
    """Possibly negative axes as ones that count from the front."""
    return [axis_of(axis, n_axes) for axis in axes]


_LOWEST = torch.iinfo(torch.int64).min


def ordered(x: Tensor) -> Tensor:
    """Like `wide`, for comparing: 64-bit unsigned integers are shifted to keep their order."""
    return x.view(torch.int64) ^ _LOWEST if x.dtype == torch.uint64 else wide(x)


def unordered(x: Tensor, dtype: torch.dtype) -> Tensor:
    """The inverse of `ordered`."""
    return (x ^ _LOWEST).view(torch.uint64) if dtype == torch.uint64 else x.to(dtype)


def converted(x: Tensor, dtype: torch.dtype, *, saturate: bool = True, rounding: str = "up") -> Tensor:
    """The values of `x` in another type, as ONNX's Cast converts them."""
    if dtype == x.dtype:
        return x
    if dtype not in _EIGHT_BIT_FLOATS:
        return x.to(dtype)
    return _to_float8(x.float(), dtype, saturate=saturate, rounding=rounding)


_EIGHT_BIT_FLOATS = {
    torch.float8_e4m3fn,
    torch.float8_e4m3fnuz,
    torch.float8_e5m2,
    torch.float8_e5m2fnuz,
    torch.float8_e8m0fnu,
}


def _to_float8(x: Tensor, dtype: torch.dtype, *, saturate: bool, rounding: str) -> Tensor:
    largest = torch.finfo(dtype).max
    if saturate:
        return torch.where(x.isnan(), x, x.clamp(-largest, largest)).to(dtype)
    return x.to(dtype)
