"""Shapes, constants and ranges."""

from math import ceil

import torch
from torch import Tensor

from ffebm.runtime.kernels.call import Call, Kernel
from ffebm.runtime.kernels.dtypes import sizes, torch_dtype, wide


def constant(call: Call) -> Tensor:
    """The value that the node holds."""
    if "value" in call.tensors:
        return call.tensors["value"]
    for name in ("value_int", "value_ints", "value_float", "value_floats"):
        if name in call.tensors:  # infinite, or no number
            return call.tensors[name]
        if name in call.attrs:
            dtype = torch.int64 if "int" in name else torch.float32
            return torch.tensor(call.attrs[name], dtype=dtype)
    raise call.unusable("value", sorted(call.attrs), "a dense tensor or numbers are possible")


def constant_of_shape(call: Call, shape: Tensor) -> Tensor:
    """A tensor filled with one value."""
    value = call.tensors.get("value", torch.zeros(1))
    call.check_size(sizes(shape))
    return value.to(shape.device).reshape(()).expand(sizes(shape))


def eye_like(call: Call, x: Tensor) -> Tensor:
    """Ones on a diagonal of a matrix shaped like x."""
    dtype = torch_dtype(call.integer("dtype")) if "dtype" in call.attrs else x.dtype
    row = torch.arange(x.shape[0], device=x.device).unsqueeze(1)
    column = torch.arange(x.shape[1], device=x.device)
    return (column - row == call.integer("k")).to(dtype)


def optional_get_element(call: Call, x: Tensor) -> Tensor:
    """The tensor that an optional holds."""
    return x


def optional_has_element(call: Call, x: Tensor | None = None) -> Tensor:
    """Whether an optional holds a tensor."""
    return torch.tensor(x is not None)


def range_(call: Call, start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    """Numbers from start up to limit, without it."""
    count = max(ceil((limit.item() - start.item()) / delta.item()), 0)
    call.check_size((count,))
    steps = torch.arange(count, device=start.device)
    return (wide(start) + steps * wide(delta)).to(start.dtype)


def shape(call: Call, x: Tensor) -> Tensor:
    """The shape of x, or a slice of it."""
    end = call.integer("end", x.ndim)
    return torch.tensor(x.shape[call.integer("start") : end], dtype=torch.int64, device=x.device)


def size(call: Call, x: Tensor) -> Tensor:
    """How many elements x has."""
    return torch.tensor(x.numel(), device=x.device)


SHAPE: dict[str, Kernel] = {
    "Constant": constant,
    "ConstantOfShape": constant_of_shape,
    "EyeLike": eye_like,
    "OptionalGetElement": optional_get_element,
    "OptionalHasElement": optional_has_element,
    "Range": range_,
    "Shape": shape,
    "Size": size,
}
