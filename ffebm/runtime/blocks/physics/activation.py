"""Activations of energy blocks: s = sigma(scale * drive).

Each is monotone, so it is the inverse gradient of a convex potential G and a block that uses it has an
energy.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F  # noqa: N812 -- torch's own name for it
from torch import Tensor

from ffebm import plugins
from ffebm.errors import InternalError, UsageError
from ffebm.graph.energy_block import Activation
from ffebm.graph.own_ops import own_activation

_Sigma = Callable[[Activation, Tensor], Tensor]
_Bounds = Callable[[Activation], tuple[float, float]]

_UNBOUNDED = (-math.inf, math.inf)
_POSITIVE = (0.0, math.inf)


@dataclass(frozen=True)
class ActivationForm:
    """The numbers behind a monotone activation; all its functions have the activation's parameters first.

    Attributes:
        sigma: The state of a drive that carries its scale.
        bounds: Smallest and largest state.
        potential: Integral of the inverse of sigma, for states within the bounds.
        holomorphic: Whether sigma extends to complex drives.
    """

    sigma: _Sigma
    bounds: _Bounds
    potential: _Sigma
    holomorphic: bool = False


def _clip(a: Activation, u: Tensor) -> Tensor:
    if a.low is None or a.high is None:
        return u if a.low is None and a.high is None else u.clamp(a.low, a.high)
    return F.hardtanh(u, a.low, a.high)


def _clip_bounds(a: Activation) -> tuple[float, float]:
    return (-math.inf if a.low is None else a.low, math.inf if a.high is None else a.high)


def _softplus(_: Activation, u: Tensor) -> Tensor:
    return torch.log1p(torch.exp(u)) if u.is_complex() else F.softplus(u)


# --- potentials: of states within the bounds only ------------------------------------------------------


def _half_square(_: Activation, s: Tensor) -> Tensor:
    return s.square() / 2


def _hard_sigmoid_potential(a: Activation, s: Tensor) -> Tensor:
    # with no slope the drive says nothing, and there is one state
    return (s - a.beta).square() / (2 * a.alpha) if a.alpha > 0 else torch.zeros_like(s)


def _entropy(p: Tensor) -> Tensor:
    return torch.xlogy(p, p)


def _tanh_potential(_: Activation, s: Tensor) -> Tensor:
    return (_entropy(1 + s) + _entropy(1 - s)) / 2


def _leaky_potential(a: Activation, s: Tensor) -> Tensor:
    below = s.square() / (2 * a.alpha) if a.alpha > 0 else torch.zeros_like(s)
    return torch.where(s < 0, below, s.square() / 2)


def _exponential_potential(alpha: float, rate: float, s: Tensor) -> Tensor:
    """That of alpha (exp(u / rate) - 1) below zero and of u above."""
    if alpha == 0:
        return s.square() / 2
    below = s.clamp(-alpha, 0.0)
    left = rate * (torch.xlogy(alpha + below, 1 + below / alpha) - below)
    return torch.where(s < 0, left, s.square() / 2)


def _softplus_potential(_: Activation, s: Tensor) -> Tensor:
    """Integral of log(exp(t) - 1) from 0 to s: s^2 / 2 - pi^2 / 6 + Li2(exp(-s))."""
    half = math.log(2.0)
    far, near = s.clamp(min=half), s.clamp(0.0, half)
    # Li2(x) + Li2(1 - x) = pi^2 / 6 - log(x) log(1 - x), so that the series has at most 1/2 to sum
    large = _dilogarithm(-torch.log1p(-torch.exp(-far))) - math.pi**2 / 6
    small = torch.xlogy(near, -torch.expm1(-near)) - _dilogarithm(near)
    return s.square() / 2 + torch.where(s > half, large, small)


def _dilogarithm(u: Tensor) -> Tensor:
    """Li2(1 - exp(-u)) for u in [0, log 2], by Bernoulli numbers: the next term is below 1e-19."""
    square, total = u.square(), torch.zeros_like(u)
    for number, order in reversed(_BERNOULLI):
        total = total * square + number / math.factorial(order + 1)
    return u - square / 4 + total * square * u


_BERNOULLI = (
    (1 / 6, 2),
    (-1 / 30, 4),
    (1 / 42, 6),
    (-1 / 30, 8),
    (5 / 66, 10),
    (-691 / 2730, 12),
    (7 / 6, 14),
    (-3617 / 510, 16),
)
"""Bernoulli numbers and their orders."""


FORMS: dict[str, ActivationForm] = {
    "Identity": ActivationForm(lambda _, u: u, lambda _: _UNBOUNDED, _half_square, holomorphic=True),
    "Relu": ActivationForm(lambda _, u: u.relu(), lambda _: _POSITIVE, _half_square),
    "Clip": ActivationForm(_clip, _clip_bounds, _half_square),
    "HardSigmoid": ActivationForm(
        lambda a, u: (a.alpha * u + a.beta).clamp(0.0, 1.0), lambda _: (0.0, 1.0), _hard_sigmoid_potential
    ),
    "Sigmoid": ActivationForm(
        lambda _, u: u.sigmoid(),
        lambda _: (0.0, 1.0),
        lambda _, s: _entropy(s) + _entropy(1 - s),
        holomorphic=True,
    ),
    "Tanh": ActivationForm(lambda _, u: u.tanh(), lambda _: (-1.0, 1.0), _tanh_potential, holomorphic=True),
    "LeakyRelu": ActivationForm(
        lambda a, u: F.leaky_relu(u, a.alpha),
        lambda a: _UNBOUNDED if a.alpha > 0 else _POSITIVE,
        _leaky_potential,
    ),
    "Elu": ActivationForm(
        lambda a, u: F.elu(u, a.alpha),
        lambda a: (-a.alpha, math.inf),
        lambda a, s: _exponential_potential(a.alpha, 1.0, s),
    ),
    "Softplus": ActivationForm(_softplus, lambda _: _POSITIVE, _softplus_potential, holomorphic=True),
    "Selu": ActivationForm(
        lambda a, u: a.beta * F.elu(u, a.alpha),
        lambda a: (-a.alpha * a.beta, math.inf),
        lambda a, s: a.beta * _exponential_potential(a.alpha, 1.0, s / a.beta),
    ),
    "Celu": ActivationForm(
        lambda a, u: F.celu(u, a.alpha),
        lambda a: (-a.alpha, math.inf),
        lambda a, s: _exponential_potential(a.alpha, a.alpha, s),
    ),
    "Softsign": ActivationForm(
        lambda _, u: F.softsign(u), lambda _: (-1.0, 1.0), lambda _, s: -s.abs() - torch.log1p(-s.abs())
    ),
}


def _form(activation: Activation) -> ActivationForm:
    form = FORMS.get(activation.op)
    return _own_form(activation.op) if form is None else form


@cache
def _own_form(op: str) -> ActivationForm:
    """That of an activation which an installed package offers.

    Raises:
        InternalError: If none does.
        UsageError: If it leads to something else.
    """
    own = own_activation(op)
    if own is None:
        raise InternalError(f"no activation is named {op!r}", allowed=f"known are {sorted(FORMS)}")
    form = plugins.imported(plugins.ACTIVATIONS, op, own.form)
    if not isinstance(form, ActivationForm):
        raise UsageError(f"the form of activation {op} is {form!r}", allowed="an ActivationForm")
    return form


def activate(activation: Activation, scaled: Tensor) -> Tensor:
    """The state sigma(u) of a drive u that already carries the activation's scale."""
    return _form(activation).sigma(activation, scaled)


def slope(activation: Activation, scaled: Tensor) -> Tensor:
    """Derivative of the state by the unscaled drive, given the scaled one; at a kink, torch's choice."""
    with torch.enable_grad():
        u = scaled.detach().requires_grad_()
        s = activate(activation, u) if activation.op != "Identity" else u * 1.0
        (derivative,) = torch.autograd.grad(s.sum(), u)
    return derivative * activation.scale


def potential(activation: Activation, state: Tensor) -> Tensor:
    """G of each unit, whose gradient is the drive that the state answers to; infinite outside the bounds.

    G = (1 / scale) * integral of sigma^-1, so the drive is that before the scale.
    """
    form = _form(activation)
    low, high = form.bounds(activation)
    inside = state.clamp(low, high)
    value = form.potential(activation, inside) / activation.scale
    return torch.where(inside == state, value, math.inf)


def bounds(activation: Activation) -> tuple[float, float]:
    """Smallest and largest value of sigma; what over-relaxation and acceleration are projected into."""
    return _form(activation).bounds(activation)


def is_holomorphic(activation: Activation) -> bool:
    """Whether sigma extends to complex drives, as more than two nudging points need."""
    return _form(activation).holomorphic
