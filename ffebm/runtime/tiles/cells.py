"""Pairs of memory cells, and how weights are written into them."""

import torch
from torch import Tensor

from ffebm.conductance import to_pair
from ffebm.hardware import Crossbar
from ffebm.runtime.tiles.noise import normals


class PairedCells:
    """Differential pairs: a weight of [-1, 1] is (plus - minus) / (g_max - g_min).

    Attributes:
        plus: Conductances of the cells that count up, [..., n_out, n_in], siemens.
        minus: Conductances of the cells that count down, [..., n_out, n_in], siemens.
    """

    def __init__(self, crossbar: Crossbar, generator: torch.Generator) -> None:
        self._crossbar = crossbar
        self._generator = generator
        self.plus = torch.empty(0)
        self.minus = torch.empty(0)

    def program(self, signed_levels: Tensor) -> None:
        """Write every pair; each cell misses its target by programming noise and stays at or above 0 S.

        Args:
            signed_levels: Targets in level steps, [..., n_out, n_in]; they need not be whole.
        """
        plus, minus = to_pair(signed_levels, self._crossbar)
        self.plus, self.minus = self._written(plus), self._written(minus)

    def held(self) -> Tensor:
        """What the pairs stand for, [..., n_out, n_in], in units of the whole conductance range."""
        return (self.plus - self.minus) / self._span

    def move(self, change: Tensor) -> None:
        """Add to what the pairs stand for.

        A simple law: a pair is written anew at the sum of what it holds and the change, limited to the
        conductance range but not to levels, with programming noise; a pair that stays is left alone.

        Args:
            change: [..., n_out, n_in], in units of the whole conductance range.
        """
        plus, minus = self.plus, self.minus
        self.program((self.held() + change).clamp_(-1.0, 1.0) * (self._crossbar.cell.levels - 1))
        still = change == 0
        self.plus, self.minus = torch.where(still, plus, self.plus), torch.where(still, minus, self.minus)

    @property
    def _span(self) -> float:
        return self._crossbar.cell.g_max.value - self._crossbar.cell.g_min.value

    def _written(self, target: Tensor) -> Tensor:
        noise = self._crossbar.cell.programming_noise.value
        if noise == 0:
            return target
        drawn = normals(target.shape, target, self._generator)
        return drawn.mul_(noise * self._span).add_(target).clamp_(min=0.0)
