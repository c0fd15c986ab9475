"""Ops of com.microsoft that onnxruntime's quantiser writes: integers with a scale and a zero point."""

from collections.abc import Callable

import torch
from torch import Tensor

from ffebm.runtime.kernels.activation import softmax
from ffebm.runtime.kernels.call import Call, Kernel, with_optional
from ffebm.runtime.kernels.dtypes import converted, integer_range, wide
from ffebm.runtime.kernels.pooling import average_pool, max_pool
from ffebm.runtime.kernels.quantised import dynamic_quantize_linear


def qlinear_add(
    call: Call, a: Tensor, a_scale: Tensor, a_zero: Tensor | None, *rest: Tensor | None
) -> Tensor:
    """Sum of two quantised tensors; the zero point is added before rounding, as onnxruntime does."""
    b, b_scale, b_zero, scale, zero = _pair(rest)
    left = _steps(a, a_zero) * _ratio(a_scale, scale)
    right = _steps(b, b_zero) * _ratio(b_scale, scale)
    return _held(left + right + _number(zero), a.dtype)


def qlinear_mul(
    call: Call, a: Tensor, a_scale: Tensor, a_zero: Tensor | None, *rest: Tensor | None
) -> Tensor:
    """Product of two quantised tensors."""
    b, b_scale, b_zero, scale, zero = _pair(rest)
    product = _steps(a, a_zero) * _steps(b, b_zero)
    return _held(product * _ratio(a_scale * b_scale, scale) + _number(zero), a.dtype)


def qlinear_concat(call: Call, scale: Tensor, zero: Tensor, *inputs: Tensor) -> Tensor:
    """Tensors of several scales in a row, in the steps of one."""
    parts = zip(inputs[0::3], inputs[1::3], inputs[2::3], strict=True)
    steps = [_requantised(_floats(x, s, z), scale, zero, zero.dtype) for x, s, z in parts]
    return torch.cat(steps, call.integer("axis"))


def qlinear_leaky_relu(call: Call, x: Tensor, *rest: Tensor | None) -> Tensor:
    """`x` where positive, else alpha * x."""
    alpha = call.number("alpha", 0.01)
    return _function(lambda y: torch.where(y >= 0, y, alpha * y), x, *rest)


def qlinear_sigmoid(call: Call, x: Tensor, *rest: Tensor | None) -> Tensor:
    """1 / (1 + exp(-x))."""
    return _function(torch.sigmoid, x, *rest)


def qlinear_softmax(call: Call, x: Tensor, *rest: Tensor | None) -> Tensor:
    """exp(x) divided by its sum along the axis; before opset 13 along it and those behind it."""
    axis = call.integer("axis", -1)

    def function(y: Tensor) -> Tensor:
        if call.integer("opset") >= 13:
            return softmax(call, y)
        return torch.softmax(y.flatten(axis), -1).reshape(y.shape)

    return _function(function, x, *rest)


def qlinear_where(call: Call, condition: Tensor, x: Tensor, *rest: Tensor | None) -> Tensor:
    """Elements of two quantised tensors by a condition, in the steps of one scale."""
    x_scale, x_zero, y, y_scale, y_zero, scale, zero = with_optional(rest, 7)
    assert x_scale is not None
    assert y is not None
    assert y_scale is not None
    assert scale is not None
    left = _requantised(_floats(x, x_scale, x_zero), scale, zero, x.dtype)
    right = _requantised(_floats(y, y_scale, y_zero), scale, zero, x.dtype)
    return torch.where(condition, left, right)


def qlinear_average_pool(call: Call, x: Tensor, *rest: Tensor | None) -> Tensor:
    """Mean of each window."""
    return _function(lambda y: _channels_first(call, y, lambda z: average_pool(call, z)), x, *rest)


def qlinear_global_average_pool(call: Call, x: Tensor, *rest: Tensor | None) -> Tensor:
    """Mean of each channel."""
    x_scale, x_zero, scale, zero = with_optional(rest, 4)
    assert x_scale is not None
    assert scale is not None
    axes = tuple(range(1, x.ndim - 1) if call.integer("channels_last") else range(2, x.ndim))
    sums = _steps(x, x_zero).sum(axes, keepdim=True)
    count = x.numel() // max(1, sums.numel())
    return _held(torch.round(sums * _ratio(x_scale, scale * count)) + _number(zero), x.dtype)


def nhwc_max_pool(call: Call, x: Tensor) -> Tensor:
    """Largest element of each window; the channels are the last axis."""
    moved = wide(x).movedim(-1, 1).to(torch.float32)
    y = max_pool(call, moved)
    assert isinstance(y, Tensor)
    return y.movedim(1, -1).to(x.dtype)


def qgemm(call: Call, a: Tensor, a_scale: Tensor, a_zero: Tensor, b: Tensor, *rest: Tensor | None) -> Tensor:
    """Alpha * a' b' + c of quantised matrices; c is in steps of both scales. Floats without a scale."""
    b_scale, b_zero, c, scale, zero = with_optional(rest, 5)
    assert b_scale is not None
    left = _steps(a, a_zero).mT if call.integer("transA") else _steps(a, a_zero)
    turned = call.integer("transB") != 0
    right = _steps(b, b_zero, axis=0 if turned else -1)
    sums = left @ (right.mT if turned else right)
    if c is not None:
        sums = sums + c.double()
    y = sums * (call.number("alpha", 1.0) * a_scale.double() * b_scale.double())
    if scale is None:
        return y.to(a_scale.dtype)
    return _requantised(y, scale, zero, a.dtype if zero is None else zero.dtype)


def matmul_integer_to_float(
    call: Call, a: Tensor, b: Tensor, a_scale: Tensor, b_scale: Tensor, *rest: Tensor | None
) -> Tensor:
    """Product of quantised matrices, as floats."""
    a_zero, b_zero, bias = with_optional(rest, 3)
    sums = _steps(a, a_zero, axis=-2) @ _steps(b, b_zero, axis=-1)
    rows = a_scale.unsqueeze(-1) if a_scale.numel() > 1 else a_scale
    y = sums * rows.double() * b_scale.double()
    return (y if bias is None else y + bias).to(a_scale.dtype)


def dynamic_quantize_matmul(
    call: Call, a: Tensor, b: Tensor, b_scale: Tensor, *rest: Tensor | None
) -> Tensor:
    """Product with a quantised matrix of a matrix that is quantised by its own range."""
    b_zero, bias = with_optional(rest, 2)
    steps, scale, zero = dynamic_quantize_linear(call, a)
    return matmul_integer_to_float(call, steps, b, scale, b_scale, zero, b_zero, bias)


def _pair(rest: tuple[Tensor | None, ...]) -> tuple[Tensor, Tensor, Tensor | None, Tensor, Tensor | None]:
    """The second operand with its scale and zero point, and those of the result."""
    b, b_scale, b_zero, scale, zero = with_optional(rest, 5)
    assert b is not None
    assert b_scale is not None
    assert scale is not None
    return b, b_scale, b_zero, scale, zero


def _function(function: Callable[[Tensor], Tensor], x: Tensor, *rest: Tensor | None) -> Tensor:
    """A function of floats on quantised numbers."""
    x_scale, x_zero, scale, zero = with_optional(rest, 4)
    assert x_scale is not None
    assert scale is not None
    return _requantised(function(_floats(x, x_scale, x_zero)), scale, zero, x.dtype)


def _channels_first(call: Call, x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    if not call.integer("channels_last"):
        return function(x)
    return function(x.movedim(-1, 1)).movedim(1, -1)


def _steps(x: Tensor, zero: Tensor | None, axis: int = 0) -> Tensor:
    """X less its zero point, exactly; the zero points may lie along an axis."""
    if zero is None:
        return wide(x).double()
    zero = zero.reshape(()) if zero.numel() == 1 else zero
    if zero.ndim == 1:
        zero = zero.reshape([-1 if i == axis % x.ndim else 1 for i in range(x.ndim)])
    return wide(x).double() - wide(zero).double()


def _floats(x: Tensor, scale: Tensor, zero: Tensor | None) -> Tensor:
    """The numbers that steps stand for, in 32 bits as onnxruntime computes them."""
    return (_steps(x, zero) * scale.reshape(()).double()).to(torch.float32)


def _requantised(y: Tensor, scale: Tensor, zero: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Floats in steps of a scale."""
    scale = scale.reshape(()) if scale.numel() == 1 else scale
    return _held(torch.round(y.to(torch.float32) / scale).double() + _number(zero), dtype)


def _held(steps: Tensor, dtype: torch.dtype) -> Tensor:
    low, high = integer_range(dtype)
    return converted(torch.round(steps).clamp(low, high), dtype)


def _ratio(scale: Tensor, other: Tensor) -> Tensor:
    """A quotient of scales, rounded to their type as onnxruntime holds it."""
    return (scale.reshape(()) / other.reshape(())).double()


def _number(zero: Tensor | None) -> Tensor | float:
    if zero is None:
        return 0.0
    return wide(zero.reshape(()) if zero.numel() == 1 else zero).double()


MICROSOFT: dict[str, Kernel] = {
    "com.microsoft.DynamicQuantizeMatMul": dynamic_quantize_matmul,
    "com.microsoft.MatMulIntegerToFloat": matmul_integer_to_float,
    "com.microsoft.NhwcMaxPool": nhwc_max_pool,
    "com.microsoft.QGemm": qgemm,
    "com.microsoft.QLinearAdd": qlinear_add,
    "com.microsoft.QLinearAveragePool": qlinear_average_pool,
    "com.microsoft.QLinearConcat": qlinear_concat,
    "com.microsoft.QLinearGlobalAveragePool": qlinear_global_average_pool,
    "com.microsoft.QLinearLeakyRelu": qlinear_leaky_relu,
    "com.microsoft.QLinearMul": qlinear_mul,
    "com.microsoft.QLinearSigmoid": qlinear_sigmoid,
    "com.microsoft.QLinearSoftmax": qlinear_softmax,
    "com.microsoft.QLinearWhere": qlinear_where,
}
