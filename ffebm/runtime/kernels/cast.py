"""Conversions between element types."""

import torch
from torch import Tensor

from ffebm.runtime.kernels.call import Call, Kernel
from ffebm.runtime.kernels.dtypes import converted, torch_dtype


def bit_cast(call: Call, x: Tensor) -> Tensor:
    """The same bits read as another type."""
    return x.contiguous().view(torch_dtype(call.integer("to")))


def cast(call: Call, x: Tensor) -> Tensor:
    """`x` in another type."""
    return _cast(call, x, torch_dtype(call.integer("to")))


def cast_like(call: Call, x: Tensor, target: Tensor) -> Tensor:
    """`x` in the type of another tensor."""
    return _cast(call, x, target.dtype)


def _cast(call: Call, x: Tensor, dtype: torch.dtype) -> Tensor:
    rounding = call.text("round_mode", "up")
    return converted(x, dtype, saturate=call.integer("saturate", 1) != 0, rounding=rounding)


CAST: dict[str, Kernel] = {
    "BitCast": bit_cast,
    "Cast": cast,
    "CastLike": cast_like,
}
