"""The nudging strength that the noise of the tiles asks for.

A weak nudge drowns in noise, a strong one bends the answer. Each strength is tried twice, the second time a
little stronger, so that converters round differently too: what differs between the two is noise, what differs
between strengths beyond their noise is bias. With lambda the answer of all layers, each layer in units of its
own size, the choice minimises

    bias(beta)^2 + noise(beta)^2,
    bias(beta)^2 = max over weaker b of |lambda_beta - lambda_b|^2 - noise(beta)^2 - noise(b)^2, at least 0,

which leaves twice the noise that the two means carry, so that noise does not pass for bias.
Rounding counts as noise, so on exact tiles the choice is the weakest strength that rounding allows.

Source: Goldenshluger & Lepski 2011 (arXiv 1009.1016), the method of pairwise comparison, section 3.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

STRENGTHS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""What is tried, the weakest first."""

APART = 1.1
"""By how much the second try of a strength is stronger."""

Answer = Callable[[float], list[Tensor]]
"""By nudging strength: how each layer answers, [batch, *layer]; noise differs between calls."""


@dataclass(frozen=True)
class _Trial:
    """One strength.

    Attributes:
        mean: Of the two answers, by layer.
        noise: Squared noise of one answer, by layer; 0-dimensional.
    """

    mean: list[Tensor]
    noise: list[Tensor]


def choose_beta(answer: Answer, states: Sequence[Tensor], gain: Tensor, common: bool = False) -> float:
    """The strength with the least sum of squared bias and squared noise.

    Args:
        answer: Nudges the block and says how its layers answer.
        states: Free state of each layer, [batch, *layer].
        gain: By how much the error current was enlarged.
        common: All answers are differences to one noisy state, whose noise two tries do not show.
    """
    hidden = 2.0 if common else 1.0
    trials = [_trial(answer, beta, [s.norm() / gain for s in states], hidden) for beta in STRENGTHS]
    # in the strongest nudge the least is noise
    sizes = [mean.square().sum().clamp(min=torch.finfo(mean.dtype).tiny) for mean in trials[-1].mean]
    costs = [_bias(trials, k, sizes) + _relative(trial.noise, sizes) for k, trial in enumerate(trials)]
    return STRENGTHS[min(range(len(costs)), key=lambda k: (costs[k], -k))]


def _trial(answer: Answer, beta: float, sizes: Sequence[Tensor], hidden: float) -> _Trial:
    first, second = answer(beta), answer(beta * APART)
    mean = [(a + b) / 2 for a, b in zip(first, second, strict=True)]
    rounding = [(torch.finfo(size.dtype).eps * size / beta).square() for size in sizes]
    noise = [
        hidden * (a - b).square().sum() / 2 + floor
        for a, b, floor in zip(first, second, rounding, strict=True)
    ]
    return _Trial(mean, noise)


def _relative(squares: Sequence[Tensor], sizes: Sequence[Tensor]) -> float:
    return sum(float(square / size) for square, size in zip(squares, sizes, strict=True))


def _bias(trials: Sequence[_Trial], k: int, sizes: Sequence[Tensor]) -> float:
    found = 0.0
    for weaker in trials[:k]:
        apart = [(a - b).square().sum() for a, b in zip(trials[k].mean, weaker.mean, strict=True)]
        noise = [a + b for a, b in zip(trials[k].noise, weaker.noise, strict=True)]
        found = max(found, _relative(apart, sizes) - _relative(noise, sizes))
    return found
