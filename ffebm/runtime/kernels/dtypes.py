"""ONNX's element types in torch, and arithmetic on those that torch only stores.

Types narrower than a byte are held one element a byte: `torch.int4` and its like keep the value,
`torch.float4_e2m1fn_x2` keeps the four bits of one element (not of two).
"""

from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ffebm.errors import ModelError


def _named(name: str) -> torch.dtype:
    """A type that torch has but does not declare."""
    dtype = getattr(torch, name)
    assert isinstance(dtype, torch.dtype)
    return dtype


_INT2, _INT4, _UINT2, _UINT4 = (_named(name) for name in ("int2", "int4", "uint2", "uint4"))

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
    21: _UINT4,
    22: _INT4,
    23: torch.float4_e2m1fn_x2,
    24: torch.float8_e8m0fnu,
    25: _UINT2,
    26: _INT2,
}
"""By the number in onnx.TensorProto.DataType."""

_WIDE = {
    torch.uint16: torch.int32,
    torch.uint32: torch.int64,
    torch.uint64: torch.int64,  # wraps around, so sums and products stay exact
    torch.float8_e4m3fn: torch.float32,
    torch.float8_e4m3fnuz: torch.float32,
    torch.float8_e5m2: torch.float32,
    torch.float8_e5m2fnuz: torch.float32,
    torch.float8_e8m0fnu: torch.float32,
}
"""What to compute in instead of a type that torch only stores."""

_UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)

_NARROW = {
    _INT2: (-2, 1),
    _INT4: (-8, 7),
    _UINT2: (0, 3),
    _UINT4: (0, 15),
}
"""Range of the integers narrower than a byte."""

_FLOAT4 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""The numbers of float4_e2m1 without their sign, by their three low bits."""

_NAMED = {
    "bfloat16": torch.bfloat16,
    "float4_e2m1fn": torch.float4_e2m1fn_x2,
    "float8_e4m3fn": torch.float8_e4m3fn,
    "float8_e4m3fnuz": torch.float8_e4m3fnuz,
    "float8_e5m2": torch.float8_e5m2,
    "float8_e5m2fnuz": torch.float8_e5m2fnuz,
    "float8_e8m0fnu": torch.float8_e8m0fnu,
    "int2": _INT2,
    "int4": _INT4,
    "uint2": _UINT2,
    "uint4": _UINT4,
}
"""The types that numpy lacks, by their names in ml_dtypes."""

_LOWEST = torch.iinfo(torch.int64).min


def torch_dtype(code: int) -> torch.dtype:
    """The torch type of an ONNX element type."""
    if code not in TORCH_DTYPES:
        raise ModelError(f"element type {code} is not supported", allowed="a tensor type that torch has")
    return TORCH_DTYPES[code]


def from_numpy(array: NDArray[Any], code: int) -> Tensor:
    """An array, which may have a type of ml_dtypes, as a tensor of an ONNX element type.

    Args:
        array: The numbers.
        code: Its element type.
    """
    dtype = torch_dtype(code)
    if dtype in _NARROW:
        array = array.astype(np.int8)
    elif array.dtype.kind == "V" or array.dtype.str == "<f1":  # a type of ml_dtypes
        array = array.view(f"u{array.dtype.itemsize}")
    return torch.from_numpy(np.array(array, order="C")).view(dtype)


def tensor_of(array: NDArray[Any]) -> Tensor:
    """A copy of an array of a type that plans hold: one of numpy's, or one of ml_dtypes."""
    dtype = _NAMED.get(array.dtype.name)
    if dtype is None:
        return torch.from_numpy(array.copy())
    if dtype in _NARROW:
        return torch.from_numpy(array.astype(np.int8)).view(dtype)
    return torch.from_numpy(array.view(f"i{array.dtype.itemsize}").copy()).view(dtype)


def array_of(tensor: Tensor) -> NDArray[Any]:
    """The inverse of `tensor_of`."""
    tensor = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    name = next((name for name, dtype in _NAMED.items() if dtype == tensor.dtype), None)
    if name is None:
        return np.array(tensor.numpy())
    kind = np.dtype(getattr(ml_dtypes, name))
    if tensor.dtype in _NARROW:
        return tensor.view(torch.int8).numpy().astype(kind)
    bits = {1: torch.int8, 2: torch.int16}[kind.itemsize]
    return np.array(tensor.view(bits).numpy()).view(kind)


def is_float(dtype: torch.dtype) -> bool:
    """The type holds floating-point numbers."""
    return dtype.is_floating_point or dtype == torch.float4_e2m1fn_x2


def integer_range(dtype: torch.dtype) -> tuple[int, int]:
    """Smallest and largest number of an integer type."""
    if dtype in _NARROW:
        return _NARROW[dtype]
    limits = torch.iinfo(dtype)
    return limits.min, limits.max


def wide(x: Tensor) -> Tensor:
    """The same numbers in a type that torch computes with; `x` itself if it has one."""
    if x.dtype in _WIDE:
        return x.to(_WIDE[x.dtype])
    if x.dtype in _NARROW:
        return x.view(torch.int8)
    if x.dtype == torch.float4_e2m1fn_x2:
        bits = x.view(torch.uint8).to(torch.int64)
        numbers = torch.tensor(_FLOAT4 + tuple(-number for number in _FLOAT4), device=x.device)
        return numbers[bits]
    return x


def ordered(x: Tensor) -> Tensor:
    """Like `wide`, for comparing: 64-bit unsigned integers are shifted to keep their order."""
    return x.view(torch.int64) ^ _LOWEST if x.dtype == torch.uint64 else wide(x)


def unordered(x: Tensor, dtype: torch.dtype) -> Tensor:
    """The inverse of `ordered`."""
    return (x ^ _LOWEST).view(torch.uint64) if dtype == torch.uint64 else x.to(dtype)


def converted(x: Tensor, dtype: torch.dtype, *, saturate: bool = True, rounding: str = "up") -> Tensor:
    """The numbers of `x` in another type, as ONNX's Cast converts them.

    Args:
        x: Any tensor.
        dtype: The type to convert to.
        saturate: A number that an 8-bit float cannot hold becomes its largest one, not infinity or NaN.
        rounding: How float8_e8m0 rounds: "up", "down" or "nearest".
    """
    if dtype == x.dtype:
        return x
    x = x if x.dtype in _UNSIGNED else wide(x)
    if dtype in _NARROW:
        low, high = _NARROW[dtype]
        return ((x.to(torch.int64) - low) % (high - low + 1) + low).to(torch.int8).view(dtype)
    if dtype == torch.float4_e2m1fn_x2:
        return _to_float4(x.to(torch.float32))
    if dtype == torch.float8_e8m0fnu:
        return _to_float8_e8m0(x.to(torch.float32), saturate=saturate, rounding=rounding)
    if dtype in _WIDE and dtype.is_floating_point:
        return _to_float8(x.to(torch.float32), dtype, saturate=saturate)
    return x.to(dtype)


def _to_float8(x: Tensor, dtype: torch.dtype, *, saturate: bool) -> Tensor:
    largest = torch.finfo(dtype).max
    if saturate:
        return x.clamp(-largest, largest).to(dtype)
    y = x.to(dtype)
    beyond = ~(x.abs() <= (largest + _step(dtype) / 2))
    instead = x * torch.inf if dtype == torch.float8_e5m2 else x * torch.nan  # the only one with infinity
    return torch.where(beyond, instead, y.to(torch.float32)).to(dtype)


def _step(dtype: torch.dtype) -> float:
    """The distance between the two largest numbers of an 8-bit float."""
    limits = torch.finfo(dtype)
    return float(2.0 ** torch.tensor(limits.max).log2().floor() * limits.eps)


def _to_float8_e8m0(x: Tensor, *, saturate: bool, rounding: str) -> Tensor:
    """The exponent alone: powers of two, and NaN."""
    bits = x.contiguous().view(torch.int32)
    exponent, fraction = (bits >> 23) & 0xFF, bits & 0x7FFFFF
    if rounding == "nearest":
        half = 0x400000
        up = (fraction > half) | ((fraction == half) & (exponent > 0))
    else:
        up = (fraction > 0) & (rounding == "up")
    top = (exponent == 0xFE) & saturate
    exponent = torch.where(up & ~top & (exponent < 0xFF), exponent + 1, exponent)
    return exponent.to(torch.uint8).view(torch.float8_e8m0fnu)


def _to_float4(x: Tensor) -> Tensor:
    """The nearest number of float4_e2m1, the even one of two; larger ones become the largest."""
    size = x.abs().clamp(max=_FLOAT4[-1])
    step = torch.where(size < 2, 0.5, torch.where(size < 4, 1.0, 2.0))
    rounded = torch.round(size / step) * step
    code = torch.searchsorted(torch.tensor(_FLOAT4, device=x.device), rounded)
    code = torch.where(torch.signbit(x), code + 8, code)
    return code.to(torch.uint8).view(torch.float4_e2m1fn_x2)


def sizes(x: Tensor) -> list[int]:
    """A tensor of integers as a list: shapes, axes, counts."""
    return [int(size) for size in x.reshape(-1).tolist()]


def axis_of(axis: int, n_axes: int) -> int:
    """A possibly negative axis as one that counts from the front."""
    return axis + n_axes if axis < 0 else axis


def axes_of(axes: Sequence[int], n_axes: int) -> list[int]:
    """Possibly negative axes as ones that count from the front."""
    return [axis_of(axis, n_axes) for axis in axes]
