"""What classifiers and regressors of ai.onnx.ml share: attributes as tensors, scores made probabilities."""

from math import pi

import torch
from torch import Tensor

from ffebm.runtime.kernels.call import Call


def vector(call: Call, name: str, dtype: torch.dtype = torch.float32) -> Tensor:
    """An attribute that is a list of numbers, long or short; empty if it is not given."""
    if name in call.tensors:
        return call.tensors[name].to(dtype).reshape(-1)
    numbers = call.integers(name) if not dtype.is_floating_point else call.numbers(name)
    return torch.tensor(numbers, dtype=dtype)


def labels_of(call: Call, name: str) -> Tensor:
    """The labels of the classes."""
    return vector(call, name, torch.int64)


def transformed(scores: Tensor, transform: str) -> Tensor:
    """Scores after a transform of ai.onnx.ml, each row [..., classes] for itself."""
    if transform == "SOFTMAX":
        return torch.softmax(scores, -1)
    if transform == "LOGISTIC":
        return torch.sigmoid(scores)
    if transform == "PROBIT":
        return probit(scores)
    if transform == "SOFTMAX_ZERO":  # what is almost zero stays so, and counts nothing
        kept = scores.abs() > 1e-7
        powers = torch.where(kept, torch.exp(scores - scores.amax(-1, keepdim=True)), 0)
        total = powers.sum(-1, keepdim=True)
        return torch.where(kept, powers, scores * torch.exp(-scores.amax(-1, keepdim=True))) / total
    return scores


def probit(x: Tensor) -> Tensor:
    """The inverse of the normal distribution, by onnxruntime's approximation."""
    y = 2 * x - 1
    logarithm = torch.log((1 - y) * (1 + y))
    first = 2 / (pi * 0.147) + 0.5 * logarithm
    size = torch.sqrt(-first + torch.sqrt(first * first - logarithm / 0.147))
    return 2**0.5 * torch.where(y < 0, -size, size)
