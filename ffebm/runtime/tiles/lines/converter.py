"""Converters between digital numbers and the voltages and currents of lines.

Both kinds are signed and symmetric: `bits` give the codes -top ... top with top = 2^(bits - 1) - 1. A DAC
takes whole codes, and its errors are in the voltage that it makes of them; an ADC meets its errors first,
then clips and rounds. Arrays and the edges of circuits that settle by themselves share this model.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from ffebm import plugins
from ffebm.errors import UsageError
from ffebm.hardware.crossbar import Adc
from ffebm.hardware.description import Converter
from ffebm.runtime.tiles.noise import machine_normals

AdcCurve = Callable[[Tensor], Tensor]
"""What ADCs make of values in units of their range, each by itself, before they clip and round."""


def top_code(bits: int) -> int:
    """The largest code of a signed converter."""
    return int(2 ** (bits - 1) - 1)


def drive(values: Tensor, bits: int, limit: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """DACs: each vector, scaled to its own largest magnitude or clipped to a range, as codes.

    Args:
        values: Vectors over lines, [..., lines, batch].
        bits: Resolution of the DACs.
        limit: What the largest code stands for, [..., 1, 1]; None is each vector's largest magnitude.

    Returns:
        Codes, [..., lines, batch], and what the largest code stands for, [..., 1, batch] or the limit. A
        vector that is zero, or so small that its scale would overflow, has zero codes.
    """
    if limit is not None:
        top = top_code(bits)
        return (values * (top / limit)).round_().clamp_(-top, top), limit
    codes = values.abs()
    largest = codes.amax(dim=-2, keepdim=True)  # many times faster than torch's norms and aminmax
    scale = top_code(bits) / largest
    return torch.mul(values, scale.masked_fill_(scale.isinf(), 0.0), out=codes).round_(), largest


def code_slices(codes: Tensor, bits: int, slice_bits: int) -> Iterator[tuple[int, Tensor]]:
    """Input bit-slicing: the digits of signed codes, the lowest first.

    codes = sum_k 2^(k slice_bits) digits_k, with digits of magnitude below 2^slice_bits and the sign of the
    code.

    Args:
        codes: Whole numbers of at most `bits`, sign included.
        bits: Resolution of the DACs.
        slice_bits: Bits of the magnitude in one slice.

    Returns:
        Factor and digits of each slice.

    Source: Shafiee et al., ISCA 2016 (ISAAC, 10.1109/ISCA.2016.12).
    """
    base, sign, rest = 2**slice_bits, codes.sign(), codes.abs()
    for k in range(-(-(bits - 1) // slice_bits)):
        higher = (rest / base).floor_()
        yield base**k, (rest - higher * base).mul_(sign)
        rest = higher


def sense_(values: Tensor, bits: int) -> Tensor:
    """ADCs: clip and quantise in place.

    Args:
        values: In units of one code.
        bits: Resolution of the ADCs.

    Returns:
        How many were clipped, being half a code or more beyond the range; a scalar.
    """
    top = top_code(bits)
    values.round_()
    if _all_within(values, top):
        return torch.zeros((), dtype=torch.int64)
    clipped = values.abs().gt_(top).sum(-1).sum(dtype=torch.int64)
    values.clamp_(-top, top)
    return clipped


def curve_of(adc: Adc) -> AdcCurve | None:
    """What an ADC makes of values before it clips and rounds; None is a straight line.

    Raises:
        UsageError: If no installed package offers it, or it is no such function.
    """
    if not adc.curve:
        return None
    curve = plugins.load(plugins.CONVERTERS, adc.curve)
    probe = torch.linspace(-1, 1, 3)
    made = curve(probe.clone()) if callable(curve) else curve
    if not isinstance(made, Tensor) or made.shape != probe.shape:
        raise UsageError(
            f"the curve {adc.curve!r} makes {made!r} of {probe.tolist()}", allowed="a tensor of that shape"
        )
    return cast("AdcCurve", curve)


def bend_(values: Tensor, bits: int, curve: AdcCurve | None) -> None:
    """Bend values by the curve of ADCs, in place.

    Args:
        values: In units of one code.
        bits: Resolution of the ADCs.
        curve: None is a straight line.
    """
    if curve is not None:
        values.copy_(curve(values / top_code(bits)) * top_code(bits))


@dataclass(frozen=True)
class LineErrors:
    """What the converters of some lines get wrong, each by itself and for good.

    A converter turns a value v of its range [-1, 1] into gain v + offset.

    Attributes:
        gain: [..., lines, 1]; None where it is 1.
        offset: [..., lines, 1]; None where it is 0.
    """

    gain: Tensor | None
    offset: Tensor | None

    def on(self, codes: Tensor, top: int) -> Tensor:
        """What the converters make of values in codes, [..., lines, batch]; of DACs no longer whole ones."""
        if self.gain is not None:
            codes = codes * self.gain
        return codes if self.offset is None else codes + self.offset * top


@dataclass(frozen=True)
class CellLaw:
    """What cells that are no resistors make of voltages: sinh(k v) / sinh(k) of the largest one.

    The voltage law is the same for all cells, so that a line's current is still a product, with what each
    driven line's voltage counts for.

    Attributes:
        steepness: k.
        top: Steps of the largest voltage.
        driven: Errors of the DACs, which are in the voltages.
    """

    steepness: float
    top: int
    driven: LineErrors

    def currents(self, codes: Tensor) -> Tensor:
        """What the voltages of some codes count for, in codes of a resistor, [..., lines, batch]."""
        voltages = self.driven.on(codes, self.top) / self.top
        scale = self.top / math.sinh(self.steepness)
        return (voltages * self.steepness).sinh_().mul_(scale)


@dataclass(frozen=True)
class ReadLines:
    """What the ADCs of the lines that are read have each, [arrays, rows], float32.

    Attributes:
        gain: What a code stands for.
        noise: Standard deviation of the noise of a unit of power, in codes; None without noise.
        bias: In codes; None without.
        group: Rows that have the noise of an offset column in common; 0 without one.
        reading: Standard deviation of what each reading adds, in codes.
    """

    gain: Tensor
    noise: Tensor | None
    bias: Tensor | None
    group: int
    reading: float = 0.0


def line_errors(converter: Converter, shape: Sequence[int], like: Tensor, name: str) -> LineErrors:
    """The errors of a machine's converters.

    Args:
        converter: Their kind.
        shape: Of the lines, [..., lines].
        like: Gives type and device.
        name: Of the lines in their machine.
    """
    gain, offset = None, None
    if converter.gain is not None:
        gain = machine_normals(shape, like, f"{name}/gain").mul_(converter.gain.value).add_(1.0)[..., None]
    if converter.offset is not None:
        offset = machine_normals(shape, like, f"{name}/offset").mul_(converter.offset.value)[..., None]
    return LineErrors(gain, offset)


def _all_within(values: Tensor, top: int) -> bool:
    """A quick check that spares the counting of clipped values; not on devices, which it would wait for."""
    if values.device.type != "cpu" or not values.numel():
        return False
    low, high = values.aminmax()
    return bool(-top <= low and high <= top)
