"""Quantised arithmetic: integers with a scale and a zero point."""

import torch
from torch import Tensor

from ffebm.runtime.kernels.call import Call, Kernel
from ffebm.runtime.kernels.dtypes import converted, integer_range, is_float, torch_dtype, wide
from ffebm.runtime.kernels.linear import conv


def dequantize_linear(call: Call, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    """(x - zero) * scale, in the type of the scale."""
    code = call.integer("output_dtype")
    dtype = torch_dtype(code) if code else scale.dtype
    steps = _computed(wide(x))
    if zero is not None:
        steps = steps - _spread(call, _computed(wide(zero)), x)
    factor = _spread(call, scale.to(torch.float32) if scale.element_size() < 4 else scale, x)
    return converted(steps.to(factor.dtype) * factor, dtype)


def dynamic_quantize_linear(call: Call, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """X as bytes, with scale and zero point from its own range."""
    low, high = x.amin().clamp(max=0), x.amax().clamp(min=0)
    scale = (high - low) / 255
    zero = torch.round((-low / scale).clamp(0, 255)) if scale > 0 else torch.zeros_like(scale)
    y = (torch.round(x / torch.where(scale > 0, scale, 1)) + zero).clamp(0, 255)
    return y.to(torch.uint8), scale, zero.to(torch.uint8)


def quantize_linear(call: Call, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    """X / scale + zero, rounded to even and held in the range of the result's type."""
    code = call.integer("output_dtype")
    dtype = zero.dtype if zero is not None else torch_dtype(code or 2)
    precision = (
        torch_dtype(call.integer("precision")) if "precision" in call.attrs else _computed(scale).dtype
    )
    steps = x.to(precision) / _spread(call, wide(scale), x).to(precision)
    return _quantised(call, steps, None if zero is None else _spread(call, wide(zero), x), dtype)


def _quantised(call: Call, steps: Tensor, zero: Tensor | None, dtype: torch.dtype) -> Tensor:
    if is_float(dtype):
        shifted = steps if zero is None else steps + zero
        return converted(shifted, dtype, saturate=call.integer("saturate", 1) != 0)
    rounded = torch.round(steps.double())
    low, high = integer_range(dtype)
    return converted((rounded if zero is None else rounded + zero).clamp(low, high), dtype)


def conv_integer(
    call: Call, x: Tensor, w: Tensor, x_zero: Tensor | None = None, w_zero: Tensor | None = None
) -> Tensor:
    """Convolution of integers less their zero points, as 32-bit integers."""
    return _exact(conv(call, _centred(x, x_zero), _centred(w, w_zero, axis=0)))


def matmul_integer(
    call: Call, a: Tensor, b: Tensor, a_zero: Tensor | None = None, b_zero: Tensor | None = None
) -> Tensor:
    """Product of integer matrices less their zero points, as 32-bit integers."""
    return _exact(_centred(a, a_zero, axis=-2) @ _centred(b, b_zero, axis=-1))


def qlinear_conv(call: Call, x: Tensor, x_scale: Tensor, x_zero: Tensor, w: Tensor, *rest: Tensor) -> Tensor:
    """Convolution of quantised tensors with a quantised result; the bias is in steps of both scales."""
    w_scale, w_zero, y_scale, y_zero = rest[:4]
    bias = rest[4].double() if len(rest) > 4 else None
    sums = conv(call, _centred(x, x_zero), _centred(w, w_zero, axis=0), bias)
    factor = x_scale.double() * w_scale.double() / y_scale.double()
    if factor.ndim:
        factor = factor.reshape(-1, *(1 for _ in x.shape[2:]))
    return _quantised(call, sums * factor, y_zero, y_zero.dtype)


def qlinear_matmul(
    call: Call, a: Tensor, a_scale: Tensor, a_zero: Tensor, b: Tensor, *rest: Tensor
) -> Tensor:
    """Product of quantised matrices with a quantised result."""
    b_scale, b_zero, y_scale, y_zero = rest
    sums = _centred(a, a_zero, axis=-2) @ _centred(b, b_zero, axis=-1)
    a_scale = a_scale.unsqueeze(-1) if a_scale.numel() > 1 else a_scale
    factor = a_scale.double() * b_scale.double() / y_scale.double()
    return _quantised(call, sums * factor, y_zero, y_zero.dtype)


def _computed(x: Tensor) -> Tensor:
    """In a type wide enough for differences and products of steps."""
    return x if x.dtype == torch.float64 else x.to(torch.float32)


def _centred(x: Tensor, zero: Tensor | None, axis: int = 0) -> Tensor:
    """X less its zero point, exactly; the zero points may lie along an axis."""
    if zero is None:
        return x.double()
    if zero.numel() > 1 and zero.ndim == 1:
        zero = zero.reshape([-1 if i == axis % x.ndim else 1 for i in range(x.ndim)])
    elif zero.numel() == 1:
        zero = zero.reshape(())
    return x.double() - zero.double()


def _exact(x: Tensor) -> Tensor:
    return torch.round(x).to(torch.int32)


def _spread(call: Call, parameter: Tensor, x: Tensor) -> Tensor:
    """A scale or zero point for the whole tensor, each slice of an axis or each block, to broadcast to x."""
    axis, block = call.integer("axis", 1), call.integer("block_size")
    if parameter.numel() == 1 and not block:
        return parameter.reshape(())
    if block:
        return parameter.repeat_interleave(block, axis).narrow(axis, 0, x.shape[axis])
    return parameter.reshape([-1 if i == axis % x.ndim else 1 for i in range(x.ndim)])


QUANTISED: dict[str, Kernel] = {
    "ConvInteger": conv_integer,
    "DequantizeLinear": dequantize_linear,
    "DynamicQuantizeLinear": dynamic_quantize_linear,
    "MatMulInteger": matmul_integer,
    "QLinearConv": qlinear_conv,
    "QLinearMatMul": qlinear_matmul,
    "QuantizeLinear": quantize_linear,
}
