"""Measures what lines carry, so that the ranges of their ADCs can be set by data."""

from typing import Literal

import torch
from torch import Tensor

from ffebm.errors import UsageError

Calibration = Literal["measure", "set", "drop"]
"""From here on, measure; set the ranges by what was measured; or leave them as they were."""


class LineMeter:
    """Mean and standard deviation of what reaches each ADC of an array.

    A read whose inputs are all zero tells nothing, since every other vector is scaled to its largest
    magnitude; it is left out.

    Args:
        absolute: Measures in units of what a full-scale input of 1 gives, not of each vector's largest
            magnitude: the range of the DACs will be another than while it is measured.

    Attributes:
        scale: What full-scale inputs stand for in the next read, [..., 1, batch] or [..., 1, 1].
    """

    def __init__(self, *, absolute: bool = False) -> None:
        self._absolute = absolute
        self.scale: Tensor | None = None
        self._count: Tensor | None = None
        self._sum: Tensor | None = None
        self._power: Tensor | None = None

    def see(self, outputs: Tensor, inputs: Tensor) -> None:
        """Take in one read of the array.

        Args:
            outputs: In units of one ADC code, [..., n_out, batch].
            inputs: What drives the lines, [..., n_in, batch]; size one where arrays share them.

        Raises:
            UsageError: If a line carries a NaN or an infinite number.
        """
        if not bool(outputs.isfinite().all()):
            raise UsageError(
                "a line carried a NaN or an infinite number while ADC ranges were calibrated",
                hint="look for them in the samples and the weights",
            )
        driven = (inputs != 0).any(-2, keepdim=True)
        seen = outputs.double() * driven  # moments of many numbers: the variance is a difference
        if self._absolute and self.scale is not None:
            seen = seen * self.scale
        self._count = _plus(self._count, driven.sum(-1))
        self._sum = _plus(self._sum, seen.sum(-1))
        self._power = _plus(self._power, seen.square().sum(-1))

    def reach(self, sigmas: float) -> Tensor | None:
        """Where each line's range ends: |mean| + sigmas x standard deviation, [..., n_out]; None if unread.

        At most 1/sigmas^2 of what was seen lies beyond.

        Source: Chebyshev's inequality.
        """
        if self._count is None or self._sum is None or self._power is None:
            return None
        count = self._count.clamp(min=1)
        mean = self._sum / count
        return mean.abs() + sigmas * (self._power / count - mean.square()).clamp(min=0).sqrt()


class InputMeter:
    """Mean, standard deviation and largest magnitude of what drives an array, all lines together."""

    def __init__(self) -> None:
        self._count = 0
        self._sum: Tensor | None = None
        self._power: Tensor | None = None
        self._largest: Tensor | None = None

    def see(self, vectors: Tensor) -> None:
        """Take in vectors, [..., batch, n_in]; size one where arrays share them."""
        seen, axes = vectors.double(), (-2, -1)
        if not seen.numel():
            return
        self._count += seen.shape[-2] * seen.shape[-1]
        self._sum = _plus(self._sum, seen.sum(axes, keepdim=True))
        self._power = _plus(self._power, seen.square().sum(axes, keepdim=True))
        largest = seen.abs().amax(axes, keepdim=True)
        self._largest = largest if self._largest is None else torch.maximum(self._largest, largest)

    def reach(self, sigmas: float) -> Tensor | None:
        """|mean| + sigmas x standard deviation, at most the largest magnitude, [..., 1, 1]; None if unread.

        1 where all inputs were zero.
        """
        if self._sum is None or self._power is None or self._largest is None:
            return None
        mean = self._sum / self._count
        deviation = (self._power / self._count - mean.square()).clamp(min=0).sqrt()
        found = torch.minimum(mean.abs() + sigmas * deviation, self._largest)
        return torch.where(found > 0, found, 1.0)


def _plus(total: Tensor | None, part: Tensor) -> Tensor:
    return part if total is None else total + part
