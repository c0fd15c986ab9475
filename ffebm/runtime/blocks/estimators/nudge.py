"""What nudges a block: an error current at its outputs, and the phase that settles under it.

All nudging points are one batch: rows by point, then by sample.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ffebm.runtime.blocks.estimators.contrast import FreePoint
from ffebm.runtime.blocks.settling.phase import Nudge, Phase

CostGradient = Callable[[Sequence[Tensor]], dict[int, Tensor]]
"""Gradient of the cost at the output layers, by layer, given the state of every layer."""


@dataclass(frozen=True)
class ErrorCurrent:
    """What nudges a block.

    Attributes:
        delta: dL/ds at the output layers of the free equilibrium, by layer, [batch, *layer].
        cost_gradient: The same as a function of the state, if the cost itself nudges.
    """

    delta: dict[int, Tensor]
    cost_gradient: CostGradient | None = None

    def largest(self) -> Tensor:
        """The largest magnitude; a scalar tensor."""
        return torch.stack([_magnitude(delta, 0) for delta in self.delta.values()]).max()

    def scale(self, relative: bool) -> Tensor:
        """What each sample's current is divided by for the nudge; gradients are multiplied by it again.

        Args:
            relative: Each sample's largest magnitude, so that all are nudged alike in any unit of the loss.
                Otherwise 1/batch, as a loss is usually a mean over the batch: a sample is nudged by its own
                current, as the published method does, unless that exceeds 1 somewhere; then by as much less.

        Returns:
            [batch]; 0 without a current.
        """
        if not relative:
            batch = len(next(iter(self.delta.values())))
            largest = self.largest()
            return torch.where(largest > 0, largest.clamp(min=1 / batch), 1 / batch).expand(batch)
        sizes = [_magnitude(delta, 1) for delta in self.delta.values() if delta[0].numel()]
        return torch.stack(sizes).amax(0)


def _magnitude(values: Tensor, first: int) -> Tensor:
    """Largest magnitude over the axes from `first` on; as fast in any memory order, since axes are named."""
    axes = tuple(range(first, values.dim()))
    return torch.maximum(values.detach().amax(axes), -values.detach().amin(axes))


def nudged_phase(free: FreePoint, current: ErrorCurrent, betas: list[complex], scale: Tensor) -> Phase:
    """A phase that begins at the free state, under the nudge of each point.

    Args:
        free: The block where it settled freely.
        current: What nudges it.
        betas: Strengths of the points.
        scale: What each sample's current is divided by, [batch].
    """
    n = len(betas)
    divisor = torch.where(scale == 0, 1.0, scale)
    constant: list[Tensor | None] = []
    for layer, drive in enumerate(free.drives.layers):
        if layer in current.delta and current.cost_gradient is None:
            constant.append(_less(drive, _nudge_of(free, layer, current.delta[layer], divisor), betas))
        else:
            constant.append(drive if drive is None or len(drive) == 1 else _repeat(drive, n))
    nudge = None
    if current.cost_gradient is not None:
        nudge = Nudge(frozenset(current.delta), _cost_nudge(current.cost_gradient, betas, divisor))
    drives = replace(free.drives, layers=constant)
    phase = Phase(free.circuit, free.weights, drives, n * free.phase.batch, nudge, free.phase.ties)
    phase.state = [_repeat(s, n) for s in free.phase.settled_state()]
    if any(isinstance(beta, complex) for beta in betas):
        phase.state = [s + 0j for s in phase.settled_state()]
    phase.indices = [None if index is None else _repeat(index, n) for index in free.phase.indices]
    return phase


def _nudge_of(free: FreePoint, layer: int, delta: Tensor, divisor: Tensor) -> Tensor:
    """The nudge of a layer at a strength of 1, times its scale, [batch, *layer]."""
    scale = free.circuit.layers[layer].activation.scale
    found = _over(free.circuit.driven(free.circuit.layers[layer].value, delta), divisor)
    return found if scale == 1.0 else found * scale


def _less(drive: Tensor | None, delta: Tensor, betas: Sequence[complex]) -> Tensor:
    """The drive less the nudge of each point, rows by point, then by sample; no memory but for the result."""
    if any(isinstance(beta, complex) for beta in betas):
        return torch.cat([(0 if drive is None else drive) - beta * delta for beta in betas])
    out = delta.new_empty(len(betas) * len(delta), *delta.shape[1:])
    for beta, part in zip(betas, out.chunk(len(betas)) if out.numel() else (), strict=False):
        torch.mul(delta, beta, out=part)
        torch.sub(delta.new_zeros(()) if drive is None else drive, part, out=part)
    return out


def _cost_nudge(
    cost_gradient: CostGradient, betas: list[complex], divisor: Tensor
) -> Callable[[Sequence[Tensor | None]], dict[int, Tensor]]:
    def drives(state: Sequence[Tensor | None]) -> dict[int, Tensor]:
        slopes = [cost_gradient(row) for row in by_point([s for s in state if s is not None], len(betas))]
        return {
            layer: torch.cat(
                [-beta.real * _over(slope[layer], divisor) for beta, slope in zip(betas, slopes, strict=True)]
            )
            for layer in slopes[0]
        }

    return drives


def times(values: Tensor, factors: Tensor) -> Tensor:
    """Values [batch, ...] times a factor a sample, [batch]."""
    return values * factors.view(-1, *[1] * (values.dim() - 1))


def _over(values: Tensor, divisors: Tensor) -> Tensor:
    """Values [batch, ...] over a divisor a sample, [batch]; its inverse may be too large for a number."""
    return values / divisors.view(-1, *[1] * (values.dim() - 1))


def _repeat(tensor: Tensor, n: int) -> Tensor:
    """Rows by point, then by sample, to be read only: those of one sample take no further memory."""
    if n == 1 or len(tensor) == 1:
        return tensor.expand(n * len(tensor), *tensor.shape[1:])
    return torch.cat([tensor] * n)


def by_point(state: list[Tensor], n: int) -> list[list[Tensor]]:
    """The state of every layer at each of n points, [batch, *layer]."""
    return [list(row) for row in zip(*(s.chunk(n) for s in state), strict=True)]
