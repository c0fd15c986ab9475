"""One direction of reading an array: DACs, the product with its read noise, ADCs."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ffebm.hardware import Crossbar
from ffebm.runtime.tiles.converter import drive, sense_, top_code
from ffebm.runtime.tiles.noise import normals


@dataclass
class Readout:
    """An array as seen from the lines that are driven.

    All of it works in codes: the factors of both converters are multiplied into the weight once, when it is
    programmed, so that a product of codes is what the ADCs round.

    Attributes:
        codes: The weight, [..., n_out, n_in], in ADC codes a DAC code.
        gain: What one ADC code stands for, [..., 1, 1], in units of the weight times the largest input.
        noise: Read noise of a pair, [..., 1, 1], standard deviation in ADC codes a DAC code; None without.
        dac_bits: Resolution of the DACs.
        adc_bits: Resolution of the ADCs.
    """

    codes: Tensor
    gain: Tensor
    noise: Tensor | None
    dac_bits: int
    adc_bits: int
    _folded: dict[tuple[int, ...], Tensor] = field(default_factory=dict)

    def read(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Products of the array with vectors.

        Read noise is drawn at the outputs. A cell that misses its conductance by n adds n v to its line, each
        cell and read independently, so a line of a differential pair array gets a normal number of standard
        deviation sqrt(2) sigma ||v||_2.

        Args:
            x: [..., batch, n_in]; size one where arrays share it.
            generator: Source of read noise.

        Returns:
            Products, [..., batch, n_out], and how many readings were clipped, a scalar.

        Source: the variance of a sum of independent normal numbers; a test draws every cell.
        """
        codes, largest = drive(x.mT, self.dac_bits)
        shared = [d for d, size in enumerate(self.codes.shape[:-2]) if codes.shape[d] == 1 and size > 1]
        buffer = torch.bmm(self._fold(shared), codes.reshape(math.prod(codes.shape[:-2]), *codes.shape[-2:]))
        if self.noise is not None:
            spread = self.noise * codes.square().sum(dim=-2, keepdim=True).sqrt_()
            drawn = normals(buffer.shape, buffer, generator)
            self._unfold(buffer, shared).addcmul_(self._unfold(drawn, shared), spread)
        clipped = sense_(buffer, self.adc_bits)
        return self._unfold(buffer, shared).mul_(self.gain * largest).mT, clipped

    def _order(self, shared: list[int]) -> list[int]:
        """Leading dimensions, those along which the arrays share their inputs last."""
        return [d for d in range(self.codes.ndim - 2) if d not in shared] + shared

    def _fold(self, shared: list[int]) -> Tensor:
        """The weight with arrays of the same inputs as one: [arrays, n_shared * n_out, n_in], inputs once."""
        key = tuple(shared)
        if key not in self._folded:
            n_out, n_in = self.codes.shape[-2:]
            rows = math.prod(self.codes.shape[d] for d in shared) * n_out
            ordered = self.codes.permute(*self._order(shared), -2, -1)
            self._folded[key] = ordered.reshape(-1, rows, n_in)
        return self._folded[key]

    def _unfold(self, buffer: Tensor, shared: list[int]) -> Tensor:
        """[arrays, n_shared * n_out, batch] as [..., n_out, batch], a view."""
        order, sizes = self._order(shared), self.codes.shape
        view = buffer.view(*(sizes[d] for d in order), sizes[-2], buffer.shape[-1])
        return view.permute(*(order.index(d) for d in range(len(order))), -2, -1)


def readout(held: Tensor, scale: Tensor, limit: Tensor, crossbar: Crossbar) -> Readout:
    """The readout of programmed cells.

    Args:
        held: What the pairs stand for, [..., n_out, n_in], in units of the whole conductance range;
            transposed for the transposed read.
        scale: The weight that the whole conductance range stands for, [..., 1, 1].
        limit: Range of the ADCs, [..., 1, 1], from `conductance.adc_range`.
        crossbar: The tile.
    """
    dac, adc = crossbar.dac.bits, crossbar.adc.bits
    factor = top_code(adc) / (limit * top_code(dac))
    read_noise = crossbar.cell.read_noise.value
    return Readout(
        codes=held * factor,
        gain=scale * limit / top_code(adc),
        noise=factor * (math.sqrt(2.0) * read_noise) if read_noise else None,
        dac_bits=dac,
        adc_bits=adc,
    )
