"""The step of each sample towards its updates: given, or found while it settles.

A plain sweep in two colours shrinks what is left by r, the square of the spectral radius of all updates at
once. Going omega of the way instead shrinks it by lambda, where (lambda + omega - 1)^2 = lambda omega^2 r for
layers in a chain that answer linearly; omega = 2 / (1 + sqrt(1 - r)) is fastest, with lambda = omega - 1. So
every few sweeps the lambda of a sample, seen in its residual, gives its r and the next omega. Clips and
maxima are not linear: omega has a bound, and goes half the way back to 1 where the residual has grown.

Source: Young 1954, "Iterative methods for solving partial difference equations of elliptic type", for
    matrices with property A; Hageman & Young 1981, "Applied iterative methods", chapter 9, for omega on the
    way.
"""

from typing import Literal

import torch
from torch import Tensor

EVERY = 3
"""Sweeps between two looks at the rate; the first come after a nudge has reached every layer."""
MOST = 1.5
"""Largest step: that of r = 8/9."""


class StepSize:
    """Steps of the samples of a phase.

    Attributes:
        is_found: Steps follow from residuals, which `see` must be told.
    """

    def __init__(self, chosen: float | Literal["auto"], nodes: int, reach: int) -> None:
        """Begin a phase.

        Args:
            chosen: The step of all samples, or "auto".
            nodes: Rows per sample, ordered by node, then by sample.
            reach: Sweeps that a nudge takes to every layer.
        """
        self.is_found = chosen == "auto"
        self._given = 1.0 if chosen == "auto" else chosen
        self._nodes, self._sweeps = nodes, 1 - reach
        self._steps: Tensor | None = None
        self._before: Tensor | None = None

    @property
    def rows(self) -> float | Tensor:
        """The step of each row, or of all."""
        return self._given if self._steps is None else self._steps.repeat(self._nodes)

    def see(self, residual: Tensor) -> None:
        """A sweep has ended.

        Args:
            residual: Of each sample, [samples].
        """
        if not self.is_found:
            return
        self._sweeps += 1
        if self._sweeps < 1 or (self._sweeps - 1) % EVERY:
            return
        if self._before is not None:
            omega = torch.ones_like(residual) if self._steps is None else self._steps
            rate = (residual / self._before).nan_to_num(2.0, 2.0) ** (1 / EVERY)
            self._steps = next_step(rate, omega)
        self._before = residual

    def keep(self, samples: Tensor) -> None:
        """Go on with some samples only.

        Args:
            samples: Their numbers.
        """
        self._steps, self._before = (None if t is None else t[samples] for t in (self._steps, self._before))


def next_step(rate: Tensor, omega: Tensor) -> Tensor:
    """The step that suits samples.

    Args:
        rate: Factor by which a sweep has shrunk the residual.
        omega: The step of those sweeps.
    """
    r = ((rate + omega - 1) ** 2 / (rate * omega**2)).clamp(max=1.0)
    best = (2 / (1 + (1 - r).sqrt())).clamp(max=MOST)
    # a rate of omega - 1 or less is that of a step which is large enough
    found = torch.where(rate > omega - 1, torch.maximum(best, omega), omega)
    return torch.where(rate < 1, found, (1 + omega) / 2)
