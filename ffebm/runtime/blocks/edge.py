"""The edge of a block that settles by itself: DACs for what enters, ADCs for what leaves, once a phase."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from ffebm.hardware.description import Converter, Crossbar
from ffebm.runtime.tiles.lines.converter import LineErrors, bend_, curve_of, drive, line_errors, sense_
from ffebm.runtime.tiles.noise import FrozenNoise, read_normals


class Edge:
    """Converters of a block, one for each element of what they drive or read.

    Args:
        crossbar: Whose converters they are.
        frozen: Noise inside the block.
        name: Of the block in its machine.
    """

    def __init__(self, crossbar: Crossbar, frozen: FrozenNoise, name: str) -> None:
        self._crossbar = crossbar
        self._curve = curve_of(crossbar.adc)
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
        dac = self._crossbar.dac
        codes, largest = drive(values.flatten(1).mT, dac.bits)
        driven = self._errors(dac, f"{name}/dac", values).on(codes, dac.top)
        return (driven * (largest / dac.top)).mT.reshape(values.shape)

    @torch.no_grad()
    def sense(self, name: str, values: Tensor) -> Tensor:
        """What the ADCs make of values.

        The range is the largest magnitude of each sample; a calibrated one is `deviations` times its root
        mean square, if that is less.

        Args:
            name: What is read.
            values: [batch, *shape].
        """
        adc, limit = self._crossbar.adc, self._limit(values).reshape(1, -1)
        codes = values.flatten(1).mT * (adc.top / limit).masked_fill_(limit == 0, 0.0)
        sensed = self._errors(adc, f"{name}/adc", values).on(codes, adc.top)
        if adc.deviation:
            drawn = read_normals(sensed.shape, sensed, self._frozen.anew)
            sensed = drawn.mul_(adc.deviation).add_(sensed)
        bend_(sensed, adc.bits, self._curve)
        sense_(sensed, adc.bits)
        return (sensed * (limit / adc.top)).mT.reshape(values.shape)

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

    def _errors(self, converter: Converter, name: str, values: Tensor) -> LineErrors:
        """What the converters of each element get wrong, [elements, 1]."""
        return line_errors(converter, (prod(values.shape[1:]),), values, f"{self._name}/{name}")


def _largest(values: Tensor) -> Tensor:
    """Largest magnitude of each sample, [batch, 1, ...]."""
    axes: Sequence[int] = range(1, values.dim())
    return values.abs().amax(tuple(axes), keepdim=True) if values.numel() else values.abs()
