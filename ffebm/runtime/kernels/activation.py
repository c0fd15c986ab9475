"""Activations: functions of one value, and the softmax family."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from ffebm.runtime.kernels.call import Call, Kernel
from ffebm.runtime.kernels.dtypes import ordered, unordered, wide


def celu(call: Call, x: Tensor) -> Tensor:
    """max(0, x) + min(0, alpha * (exp(x / alpha) - 1))."""
    alpha = call.number("alpha", 1.0)
    if not math.isfinite(alpha):
        raise call.unusable("alpha", alpha, "a finite number is needed")
    return functional.celu(x, alpha)


def clip(call: Call, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    """`x` held between two bounds, either of which may be missing; flat at both, as torch's hardtanh."""
    if low is None and high is None:
        return x
    if low is not None and high is not None and x.requires_grad:
        return torch.where((x > low) & (x < high), x, torch.clamp(x.detach(), low, high))
    bounds = [None if bound is None else ordered(bound) for bound in (low, high)]
    return unordered(torch.clamp(ordered(x), *bounds), x.dtype)


def elu(call: Call, x: Tensor) -> Tensor:
    """`x` where positive, else alpha * (exp(x) - 1)."""
    return functional.elu(x, call.number("alpha", 1.0))


def gelu(call: Call, x: Tensor) -> Tensor:
    """Computes x * Phi(x), exactly or by tanh."""
    return functional.gelu(x, approximate=call.text("approximate", "none"))


def hard_sigmoid(call: Call, x: Tensor) -> Tensor:
    """Computes alpha * x + beta, held between 0 and 1."""
    return (call.number("alpha", 0.2) * x + call.number("beta", 0.5)).clamp(0, 1)


def hard_swish(call: Call, x: Tensor) -> Tensor:
    """Computes x * clip(x / 6 + 1 / 2, 0, 1)."""
    return functional.hardswish(x)


def hardmax(call: Call, x: Tensor) -> Tensor:
    """One at the first largest element along the axis, zero elsewhere."""
    axis = call.integer("axis", -1)
    where = x.argmax(axis, keepdim=True)
    return torch.zeros_like(x).scatter(axis, where, 1.0)


def leaky_relu(call: Call, x: Tensor) -> Tensor:
    """`x` where positive, else alpha * x."""
    return functional.leaky_relu(x, call.number("alpha", 0.01))


def log_softmax(call: Call, x: Tensor) -> Tensor:
    """Logarithm of the softmax along the axis."""
    return torch.log_softmax(x, call.integer("axis", -1))


def mish(call: Call, x: Tensor) -> Tensor:
    """Computes x * tanh(softplus(x))."""
    return functional.mish(x)


def prelu(call: Call, x: Tensor, slope: Tensor) -> Tensor:
    """`x` where positive, else slope * x; a slope that cannot broadcast is one a channel (before opset 7)."""
    y, slope = wide(x), wide(slope)
    if slope.ndim == 1 and slope.shape[0] not in (1, x.shape[-1]):
        slope = slope.reshape(-1, *(1 for _ in x.shape[2:]))
    return torch.where(y < 0, slope * y, y).to(x.dtype)


def relu(call: Call, x: Tensor) -> Tensor:
    """max(0, x)."""
    return torch.relu(x)


def selu(call: Call, x: Tensor) -> Tensor:
    """Computes gamma * x where positive, else gamma * alpha * (exp(x) - 1)."""
    alpha = call.number("alpha", 1.67326319217681884765625)
    return call.number("gamma", 1.05070102214813232421875) * functional.elu(x, alpha)


def shrink(call: Call, x: Tensor) -> Tensor:
    """`x` moved towards zero by the bias where it is beyond lambd, else zero."""
    bias, threshold = call.number("bias"), call.number("lambd", 0.5)
    moved = torch.where(x < -threshold, x + bias, torch.where(x > threshold, x - bias, 0))
    return moved.to(x.dtype)


def sigmoid(call: Call, x: Tensor) -> Tensor:
    """1 / (1 + exp(-x))."""
    return torch.sigmoid(x)


def softmax(call: Call, x: Tensor) -> Tensor:
    """exp(x) divided by its sum along the axis."""
    return torch.softmax(x, call.integer("axis", -1))


def softplus(call: Call, x: Tensor) -> Tensor:
    """log(1 + exp(x))."""
    return functional.softplus(x)


def softsign(call: Call, x: Tensor) -> Tensor:
    """Computes x / (1 + |x|)."""
    return functional.softsign(x)


def swiglu(call: Call, a: Tensor, b: Tensor) -> Tensor:
    """Computes a * sigmoid(alpha * a) * b."""
    return swish(call, a) * b


def swish(call: Call, x: Tensor) -> Tensor:
    """Computes x * sigmoid(alpha * x)."""
    return x * torch.sigmoid(call.number("alpha", 1.0) * x)


def tanh(call: Call, x: Tensor) -> Tensor:
    """Hyperbolic tangent."""
    return torch.tanh(x)


def thresholded_relu(call: Call, x: Tensor) -> Tensor:
    """`x` where it is above alpha, else zero."""
    return torch.where(x > call.number("alpha", 1.0), x, 0)


ACTIVATION: dict[str, Kernel] = {
    "Celu": celu,
    "Clip": clip,
    "Elu": elu,
    "Gelu": gelu,
    "HardSigmoid": hard_sigmoid,
    "HardSwish": hard_swish,
    "Hardmax": hardmax,
    "LeakyRelu": leaky_relu,
    "LogSoftmax": log_softmax,
    "Mish": mish,
    "PRelu": prelu,
    "Relu": relu,
    "Selu": selu,
    "Shrink": shrink,
    "Sigmoid": sigmoid,
    "Softmax": softmax,
    "Softplus": softplus,
    "Softsign": softsign,
    "SwiGLU": swiglu,
    "Swish": swish,
    "Tanh": tanh,
    "ThresholdedRelu": thresholded_relu,
}
