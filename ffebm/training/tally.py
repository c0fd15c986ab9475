"""Counts what an epoch of training has seen."""

import math
from collections.abc import Callable, Sequence

import torch

from ffebm.runtime.blocks.other_equilibria import OtherEquilibria
from ffebm.runtime.blocks.settling.settling import Equilibrium
from ffebm.runtime.blocks.tied_windows import TiedWindows

LEAST = float(torch.finfo(torch.float32).tiny)
"""What a mean is at least divided by."""


class Tally:
    """Figures of an epoch while it runs.

    Attributes:
        step: Mean loss of the step, as far as it has run.
        first: That of the epoch's first step; nan before it has ended.
        seen: Samples so far.
        tied: Windows of maxima that only rounding decides, of the batches that were looked at.
        others: Samples of these that settle elsewhere on another way, all blocks together.
    """

    def __init__(self) -> None:
        self.step, self.first, self.seen = 0.0, math.nan, 0
        self._total, self._amount, self._right, self._labels = 0.0, 0.0, 0, 0
        self.tied = TiedWindows()
        self.others = OtherEquilibria()
        self._unsettled, self._sweeps, self._looked = 0.0, 0.0, 0

    def begin(self) -> None:
        """A step begins."""
        self.step = 0.0

    def see(self, loss: float, right: int, labels: int) -> None:
        """A batch has run.

        Args:
            loss: Its part of the step's mean loss.
            right: How many labels are right.
            labels: How many labels there are.
        """
        self.step += loss
        self._right += right
        self._labels += labels

    def end(self, amount: float, samples: int) -> None:
        """A step has run.

        Args:
            amount: What its mean loss is taken over.
            samples: How many samples it had.
        """
        self._total += self.step * amount
        self._amount += amount
        self.seen += samples
        if math.isnan(self.first):
            self.first = self.step

    def settle(self, equilibria: list[Equilibrium]) -> None:
        """Free phases have run."""
        for equilibrium in equilibria:
            self._unsettled += float((~equilibrium.converged).float().mean())
            self._sweeps += float(equilibrium.sweeps.float().mean())
            self._looked += 1

    def meet(self, summed: Callable[[Sequence[float]], list[float]]) -> None:
        """Count what other processes have seen as well; the loss of each step counts all of them already.

        Args:
            summed: Adds numbers up over all processes.
        """
        found = summed([self._right, self._labels, self._unsettled, self._sweeps, self._looked])
        self._right, self._labels, self._looked = (round(found[place]) for place in (0, 1, 4))
        self._unsettled, self._sweeps = found[2:4]

    @property
    def loss(self) -> float:
        """Mean over what was seen."""
        return self._total / max(self._amount, LEAST)

    @property
    def accuracy(self) -> float:
        """Share of labels that are right."""
        return self._right / max(self._labels, 1)

    @property
    def unsettled(self) -> float:
        """Share of samples and blocks whose free phase did not settle."""
        return self._unsettled / max(1, self._looked)

    @property
    def sweeps(self) -> float:
        """Mean sweeps of a free phase."""
        return self._sweeps / max(1, self._looked)
