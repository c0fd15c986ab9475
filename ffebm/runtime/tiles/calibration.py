"""Measures what lines carry, so that the ranges of their ADCs can be set by data."""

from typing import Literal

from torch import Tensor

from ffebm.errors import UsageError

Calibration = Literal["measure", "set", "drop"]
"""From here on, measure; set the ranges by what was measured; or leave them as they were."""


class LineMeter:
    """Mean and standard deviation of what reaches each ADC of an array.

    A read whose inputs are all zero tells nothing, since every other vector is scaled to its largest
    magnitude; it is left out.
    """

    def __init__(self) -> None:
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


def _plus(total: Tensor | None, part: Tensor) -> Tensor:
    return part if total is None else total + part
