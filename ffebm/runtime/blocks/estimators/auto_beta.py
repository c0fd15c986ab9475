"""The nudging strength that the noise of the tiles asks for.

A weak nudge drowns in noise, a strong one bends the answer. Each strength is tried twice, the second time
twice as strong, so that converters round differently too: what differs between the two is noise, what differs
between strengths beyond their noise is bias. With lambda the answer of a layer in units of its own size, the
choice minimises the share of the answer that is wrong, summed over layers,

    e / (1 + e),  e = bias(beta)^2 + noise(beta)^2,
    bias(beta)^2 = max over weaker b of |lambda_beta - lambda_b|^2 - noise(beta)^2 - noise(b)^2, at least 0,

which leaves at least the noise that the two means carry, so that noise does not pass for bias. A layer that
is lost at every strength then does not decide for the others. Bias that is smaller than the noise of all
weaker strengths stays hidden, so coarse converters without other noise get too strong a nudge.
Rounding of what is read counts as noise, which two tries do not show where both are far smaller than a step:
on exact tiles the choice is the weakest strength that rounding allows.

Source: Goldenshluger & Lepski 2011 (arXiv 1009.1016), the method of pairwise comparison, section 3.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

STRENGTHS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""What is tried, the weakest first."""

APART = 2.0
"""By how much the second try of a strength is stronger: a little, and coarse converters read the same."""

SHARED = 2.5
"""By how much more noise the mean of two tries carries than they show, where readings flip.

Readings flip in proportion to the strength: half of those of the second try have flipped in the first too.
"""

GradientOfBeta = Callable[[float], list[Tensor]]
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


def choose_beta(answer: GradientOfBeta, rounding: Sequence[Tensor], common: bool = False) -> float:
    """The strength with the least wrong share of the answers.

    Args:
        answer: Nudges the block and says how its layers answer.
        rounding: Norm of each layer's rounding error in an answer, times the strength; scalars.
        common: All answers are differences to one noisy state, whose noise two tries do not show.
    """
    hidden = 2.0 if common else 1.0
    trials = [_trial(answer, beta, rounding, hidden) for beta in STRENGTHS]
    # in the strongest nudge the least is noise
    sizes = [mean.square().sum().clamp(min=torch.finfo(mean.dtype).tiny) for mean in trials[-1].mean]
    costs = [sum(e / (1 + e) for e in _errors(trials, k, sizes)) for k in range(len(trials))]
    return STRENGTHS[min(range(len(costs)), key=lambda k: (costs[k], -k))]


def _trial(answer: GradientOfBeta, beta: float, rounding: Sequence[Tensor], hidden: float) -> _Trial:
    first, second = answer(beta), answer(beta * APART)
    mean = [(a + b) / 2 for a, b in zip(first, second, strict=True)]
    noise = [
        SHARED * hidden * (a - b).square().sum() / 2 + (error / beta).square()
        for a, b, error in zip(first, second, rounding, strict=True)
    ]
    return _Trial(mean, noise)


def _errors(trials: Sequence[_Trial], k: int, sizes: Sequence[Tensor]) -> list[float]:
    """Squared bias and noise of each layer at a strength, in squared sizes of its answer."""
    found = []
    for layer, size in enumerate(sizes):
        mean, noise = trials[k].mean[layer], trials[k].noise[layer]
        beyond = [
            float((mean - weaker.mean[layer]).square().sum() - noise - weaker.noise[layer])
            for weaker in trials[:k]
        ]
        found.append((max([0.0, *beyond]) + float(noise)) / float(size))
    return found
