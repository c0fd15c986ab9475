"""Maxima whose winners may share: what lets a block settle where a sharp maximum would go round for ever.

The layer above a max-pooling sends its state s back to the largest value of each window. Where s is negative
it pushes that value down, until another wins, is pushed down in its turn, and the block cycles. The energy
has its minimum at the tie. With shares m of the values y of a window, m >= 0 and sum m = 1,

    |s| max_j y_j = max_m |s| sum_j m_j y_j,

so the tie is a saddle point in m, which the projected ascent m <- simplex(m + (step / |s|) y) finds. A window
whose maximum is unique has all its share there, as with sharp winners; so has every window with s >= 0.

Source: Arrow, Hurwicz & Uzawa 1958, "Studies in linear and non-linear programming", chapter 10, for the
    ascent; Duchi et al. 2008, "Efficient projections onto the l1-ball", fig. 1, for the projection.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_STEEPEST = 1e12
"""Most that a difference of values counts for in a step; beyond it the larger value takes all."""
_PADDING = -1e30
"""Value of padding: finite, so that what is multiplied by it and left out has a derivative of 0."""


@dataclass(frozen=True)
class WindowAxis:
    """How windows lie along an axis: number, kernel, stride, dilation, leading pad, and the axis' size."""

    count: int
    kernel: int
    stride: int
    dilation: int
    begin: int
    size: int

    def positions(self) -> Tensor:
        """Of every value of every window, [count, kernel]; negative or beyond `size` where it is padding."""
        starts = torch.arange(self.count) * self.stride - self.begin
        return starts[:, None] + torch.arange(self.kernel) * self.dilation


class SharedMaximum:
    """Windows over values [batch, channels, *sizes] and the shares of their values."""

    def __init__(self, axes: Sequence[WindowAxis]) -> None:
        """Find which values each window holds."""
        self._sizes = [axis.size for axis in axes]
        self._n = 1
        for size in self._sizes:
            self._n *= size
        flat = torch.zeros(1, 1, dtype=torch.int64)
        inside = torch.ones(1, 1, dtype=torch.bool)
        for axis in axes:
            here = axis.positions()
            fits = (here >= 0) & (here < axis.size)
            flat = (flat[:, None, :, None] * axis.size + here[None, :, None, :]).flatten(2).flatten(0, 1)
            inside = (inside[:, None, :, None] & fits[None, :, None, :]).flatten(2).flatten(0, 1)
        self._positions = torch.where(inside, flat, self._n)

    def windows(self, y: Tensor) -> Tensor:
        """The values of each window, [batch, channels, windows, values]; far below all others for padding."""
        flat = y.flatten(2)
        padded = torch.cat([flat, torch.full_like(flat[..., :1], _PADDING)], dim=2)
        return padded[..., self._positions.to(y.device)]

    def fold(self, shared: Tensor) -> Tensor:
        """The transpose of `windows`: what each value gets from its windows, [batch, channels, *sizes]."""
        flat = shared.new_zeros(*shared.shape[:2], self._n + 1)
        flat = flat.index_add(2, self._positions.to(shared.device).flatten(), shared.flatten(2))
        return flat[..., : self._n].reshape(*flat.shape[:2], *self._sizes)

    def shares(self, y: Tensor, before: Tensor | None, state: Tensor | None, step: float) -> Tensor:
        """The next shares.

        Args:
            y: Values, [batch, channels, *sizes].
            before: The shares so far, [batch, channels, windows, values]; None takes sharp winners.
            state: State of the layer above, [batch, channels, windows].
            step: Size of the ascent: the inverse of how much a value answers to its own share.

        Returns:
            [batch, channels, windows, values].
        """
        windows = self.windows(y)
        largest, winner = windows.max(-1, keepdim=True)
        sharp = torch.zeros_like(windows).scatter(-1, winner, 1.0)
        if before is None or state is None:
            return sharp
        pull = state.unsqueeze(-1)
        gain = (step / (-pull).clamp(min=step / _STEEPEST)).clamp(max=_STEEPEST)
        ascended = simplex(before + gain * (windows - largest))
        return torch.where(pull < 0, ascended, sharp)


def simplex(values: Tensor) -> Tensor:
    """The nearest points of no negative component and sum 1, along the last axis; -inf becomes 0."""
    ordered = values.sort(-1, descending=True).values
    count = torch.arange(1, values.shape[-1] + 1, dtype=values.dtype, device=values.device)
    level = (ordered.nan_to_num(neginf=-(_STEEPEST**2)).cumsum(-1) - 1) / count
    last = (ordered > level).sum(-1, keepdim=True) - 1
    return (values - level.gather(-1, last)).clamp(min=0)


def tied(shares: Tensor) -> Tensor:
    """Where several values of a window share, [batch, channels, windows, values], booleans."""
    holds = shares > 0
    return holds & (holds.sum(-1, keepdim=True) > 1)


def centred(values: Tensor, among: Tensor) -> Tensor:
    """Values less their mean among some of each window, [..., values]; 0 elsewhere."""
    count = among.sum(-1, keepdim=True).clamp(min=1)
    mean = torch.where(among, values, 0.0).sum(-1, keepdim=True) / count
    return torch.where(among, values - mean, 0.0)
