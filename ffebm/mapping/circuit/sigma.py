"""Activations in numbers, for circuits that are looked at before anything runs."""

from collections.abc import Callable

import numpy as np

from ffebm.graph.energy_block import Activation
from ffebm.graph.tensor import Floats

SIGMAS: dict[str, Callable[[Activation, Floats], Floats]] = {
    "Identity": lambda _, u: u,
    "Relu": lambda _, u: np.maximum(u, 0),
    "Clip": lambda a, u: np.clip(u, _or(a.low, -np.inf), _or(a.high, np.inf)),
    "HardSigmoid": lambda a, u: np.clip(a.alpha * u + a.beta, 0, 1),
    "Sigmoid": lambda _, u: 0.5 * (1 + np.tanh(0.5 * u)),
    "Tanh": lambda _, u: np.tanh(u),
    "LeakyRelu": lambda a, u: np.maximum(u, 0) + a.alpha * np.minimum(u, 0),
    "Elu": lambda a, u: np.maximum(u, 0) + a.alpha * np.expm1(np.minimum(u, 0)),
    "Celu": lambda a, u: np.maximum(u, 0) + a.alpha * np.expm1(np.minimum(u, 0) / a.alpha),
    "Selu": lambda a, u: a.beta * (np.maximum(u, 0) + a.alpha * np.expm1(np.minimum(u, 0))),
    "Softplus": lambda _, u: np.logaddexp(0, u),
    "Softsign": lambda _, u: u / (1 + np.abs(u)),
}
"""By op; those of packages exist in torch only."""


def sigma(activation: Activation, drive: Floats) -> Floats:
    """The states of drives, which do not carry the activation's scale yet."""
    return SIGMAS[activation.op](activation, activation.scale * drive)


def _or(bound: float | None, otherwise: float) -> float:
    return otherwise if bound is None else bound
