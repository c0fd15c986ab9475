"""Losses."""

import torch
from torch import Tensor
from torch.nn import functional

from ffebm.runtime.kernels.call import Call, Kernel

_NO_CLASS = -100  # ignores nothing: no label can be negative


def negative_log_likelihood(
    call: Call, log_probability: Tensor, target: Tensor, weight: Tensor | None = None
) -> Tensor:
    """Minus the log probability of the target class, reduced over the samples that are not ignored."""
    ignored = call.integer("ignore_index", _NO_CLASS)
    how = call.text("reduction", "mean")
    return functional.nll_loss(
        log_probability, target.to(torch.int64), weight, ignore_index=ignored, reduction=how
    )


def softmax_cross_entropy(
    call: Call, scores: Tensor, target: Tensor, weight: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Negative log likelihood of a softmax over axis 1, and its log probabilities."""
    log_probability = torch.log_softmax(scores, 1)
    return negative_log_likelihood(call, log_probability, target, weight), log_probability


LOSS: dict[str, Kernel] = {
    "NegativeLogLikelihoodLoss": negative_log_likelihood,
    "SoftmaxCrossEntropyLoss": softmax_cross_entropy,
}
