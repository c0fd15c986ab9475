"""The edge of a block that settles by itself: DACs for what enters, ADCs for what leaves, once a phase."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ffebm.hardware.description import Converter, Crossbar
from ffebm.runtime.tiles.lines.converter import line_errors
from ffebm.runtime.tiles.noise import FrozenNoise


class Edge:
    """Converters of a block, one for each element of what they drive or read.

    Args:
        crossbar: Whose converters they are.
        frozen: Noise inside the block.
        name: Of the block in its machine.
    """

    def __init__(self, crossbar: Crossbar, frozen: FrozenNoise, name: str) -> None:
        self._crossbar = crossbar
        self._frozen = frozen
        self._name = name

    def begin_phase(self) -> None:
        """Noise inside the block becomes another."""
        self._frozen.begin_phase()

    @torch.no_grad()
    def drive(self, name: str, values: Tensor) -> Tensor:
        """What the DACs make of values; the range is the largest magnitude of each sample.

        Args:
            name: What is driven.
            values: [batch, *shape].
        """
        return self._converted(self._crossbar.dac, f"{name}/dac", values, _largest(values))

    @torch.no_grad()
    def sense(self, name: str, values: Tensor) -> Tensor:
        """What the ADCs make of values.

        The range is the largest magnitude of each sample; a calibrated one is `deviations` times its root
        mean square, if that is less.

        Args:
            name: What is read.
            values: [batch, *shape].
        """
        return self._converted(self._crossbar.adc, f"{name}/adc", values, self._limit(values))

    @torch.no_grad()
    def rounding(self, values: Tensor) -> Tensor:
        """Norm of the rounding error of `sense`, a scalar: errors spread evenly over a step.

        Args:
            values: [batch, *shape].
        """
        steps = self._limit(values).square().sum() * (values[:1].numel() / 12)
        return steps.sqrt() / self._crossbar.adc.top

    def _limit(self, values: Tensor) -> Tensor:
        """The range of the ADCs, by sample, [batch, 1, ...]."""
        limit = _largest(values)
        if self._crossbar.adc.range != "calibrated":
            return limit
        deviation = values.flatten(1).square().mean(1).sqrt_().reshape(limit.shape)
        return torch.minimum(limit, deviation * self._crossbar.deviations)

    def _converted(self, converter: Converter, name: str, values: Tensor, limit: Tensor) -> Tensor:
        """Gain v + offset, clipped to the range and rounded to its codes."""
        top = converter.top
        codes = values * (top / limit).masked_fill_(limit == 0, 0.0)
        errors = line_errors(converter, values.shape[1:], values, f"{self._name}/{name}")
        if errors.gain is not None:
            codes *= errors.gain[..., 0]
        if errors.offset is not None:
            codes += errors.offset[..., 0] * top
        return codes.round_().clamp_(-top, top).mul_(limit / top)


def _largest(values: Tensor) -> Tensor:
    """Largest magnitude of each sample, [batch, 1, ...]."""
    axes: Sequence[int] = range(1, values.dim())
    return values.abs().amax(tuple(axes), keepdim=True) if values.numel() else values.abs()
