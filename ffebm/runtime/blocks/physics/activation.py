"""Activations of energy blocks: s = sigma(scale * drive).

Each is monotone, so it is the inverse gradient of a convex potential G and a block that uses it has an
energy.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812 -- torch's own name for it
from torch import Tensor

from ffebm.errors import InternalError
from ffebm.graph.graph import Activation

_Sigma = Callable[[Activation, Tensor], Tensor]
_Bounds = Callable[[Activation], tuple[float, float]]


def _clip(a: Activation, u: Tensor) -> Tensor:
    if a.low is None or a.high is None:
        return u if a.low is None and a.high is None else u.clamp(a.low, a.high)
    return F.hardtanh(u, a.low, a.high)


def _hard_sigmoid(a: Activation, u: Tensor) -> Tensor:
    return (a.alpha * u + a.beta).clamp(0.0, 1.0)


def _selu(a: Activation, u: Tensor) -> Tensor:
    return a.beta * F.elu(u, a.alpha)


def _softplus(_: Activation, u: Tensor) -> Tensor:
    return torch.log1p(torch.exp(u)) if u.is_complex() else F.softplus(u)


_SIGMA: dict[str, _Sigma] = {
    "Identity": lambda _, u: u,
    "Relu": lambda _, u: u.relu(),
    "Clip": _clip,
    "HardSigmoid": _hard_sigmoid,
    "Sigmoid": lambda _, u: u.sigmoid(),
    "Tanh": lambda _, u: u.tanh(),
    "LeakyRelu": lambda a, u: F.leaky_relu(u, a.alpha),
    "Elu": lambda a, u: F.elu(u, a.alpha),
    "Softplus": _softplus,
    "Selu": _selu,
    "Celu": lambda a, u: F.celu(u, a.alpha),
    "Softsign": lambda _, u: F.softsign(u),
}

_UNBOUNDED = (-math.inf, math.inf)
_POSITIVE = (0.0, math.inf)
_BOUNDS: dict[str, _Bounds] = {
    "Identity": lambda _: _UNBOUNDED,
    "Relu": lambda _: _POSITIVE,
    "Clip": lambda a: (-math.inf if a.low is None else a.low, math.inf if a.high is None else a.high),
    "HardSigmoid": lambda _: (0.0, 1.0),
    "Sigmoid": lambda _: (0.0, 1.0),
    "Tanh": lambda _: (-1.0, 1.0),
    "LeakyRelu": lambda _: _UNBOUNDED,
    "Elu": lambda a: (-a.alpha, math.inf),
    "Softplus": lambda _: _POSITIVE,
    "Selu": lambda a: (-a.alpha * a.beta, math.inf),
    "Celu": lambda a: (-a.alpha, math.inf),
    "Softsign": lambda _: (-1.0, 1.0),
}

_HOLOMORPHIC = frozenset({"Identity", "Sigmoid", "Tanh", "Softplus"})


def activate(activation: Activation, scaled: Tensor) -> Tensor:
    """The state sigma(u) of a drive u that already carries the activation's scale."""
    sigma = _SIGMA.get(activation.op)
    if sigma is None:
        raise InternalError(
            f"no activation is named {activation.op!r}", allowed=f"known are {sorted(_SIGMA)}"
        )
    return sigma(activation, scaled)


def slope(activation: Activation, scaled: Tensor) -> Tensor:
    """Derivative of the state by the unscaled drive, given the scaled one; at a kink, torch's choice."""
    with torch.enable_grad():
        u = scaled.detach().requires_grad_()
        s = activate(activation, u) if activation.op != "Identity" else u * 1.0
        (derivative,) = torch.autograd.grad(s.sum(), u)
    return derivative * activation.scale


def steepest(activation: Activation) -> float:
    """Largest derivative of the state by the unscaled drive, as sampled on [-4, 4]."""
    return float(slope(activation, torch.linspace(-4, 4, 161, dtype=torch.float64)).max())


def bounds(activation: Activation) -> tuple[float, float]:
    """Smallest and largest value of sigma; what over-relaxation and acceleration are projected into."""
    return _BOUNDS[activation.op](activation)


def is_holomorphic(activation: Activation) -> bool:
    """Whether sigma extends to complex drives, as more than two nudging points need."""
    return activation.op in _HOLOMORPHIC
