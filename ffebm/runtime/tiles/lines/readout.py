"""One direction of reading an array: DACs, the product with its read noise, ADCs."""

import math
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Literal

import torch
from torch import Tensor

from ffebm.hardware.description import Crossbar
from ffebm.runtime.tiles.lines.calibration import LineMeter
from ffebm.runtime.tiles.lines.converter import (
    AdcCurve,
    CellLaw,
    LineErrors,
    ReadLines,
    bend_,
    code_slices,
    curve_of,
    drive,
    line_errors,
    sense_,
    top_code,
)
from ffebm.runtime.tiles.noise import read_normals

Column = Literal["none", "read", "driven"]
"""An offset column is read beside the lines in the forward direction and driven in the transposed one."""


@dataclass(frozen=True)
class CellNoise:
    """Read noise of cells that differ: a line gets the sum of what each of its cells adds.

    A cell of deviation s that is driven with v adds s v to its line; all of a line together a normal number
    of deviation sqrt(sum s^2 v^2).

    Attributes:
        own: Variances of the weights, [..., n_out, n_in], in units of the conductance range squared.
        common: Of an offset column, whose noise all lines of an array have in common, [..., 1, n_in]; None
            without one, and in a transposed read, where each of its cells is on a line of its own.
        summed: Of the cells of an offset column in a transposed read, which are driven with the sum of all
            inputs, [..., n_out, 1].
        scale: From the conductance range to the unit of the product, [..., 1, 1] or [..., n_out, 1].
    """

    own: Tensor
    common: Tensor | None
    summed: Tensor | None
    scale: Tensor

    def drawn(self, vectors: Tensor, generator: torch.Generator) -> Tensor:
        """Noise of a read, [..., n_out, batch], of vectors [..., n_in, batch]."""
        power = vectors.square()
        variance = self.own @ power
        if self.summed is not None:
            variance = variance + self.summed * vectors.sum(-2, keepdim=True).square()
        noise = read_normals(variance.shape, variance, generator) * variance.sqrt_()
        if self.common is not None:
            shared = (self.common @ power).sqrt_()
            noise = noise + read_normals(shared.shape, shared, generator) * shared
        return noise * self.scale


def cell_noise(
    variances: tuple[Tensor, Tensor | None] | None, scale: Tensor, *, transposed: bool
) -> CellNoise | None:
    """Noise of cells that differ.

    Args:
        variances: Of weights, [..., n_out, n_in], and of an offset column, [..., 1, n_in], as in a forward
            read; None: cells are alike.
        scale: From the conductance range to the unit of the product.
        transposed: The read is the transposed one.
    """
    if variances is None:
        return None
    own, column = variances
    if not transposed:
        return CellNoise(own, column, None, scale)
    return CellNoise(own.mT, None, None if column is None else column.mT, scale)


@dataclass
class ArrayProduct:
    """Products of an array with vectors, under read noise.

    A cell that misses its conductance by n adds n v to its line, each cell and read independently, so noise
    is drawn at the outputs. With a deviation sigma of a cell, a line of a differential array gets a normal
    number of deviation sqrt(2) sigma ||v||_2. With an offset column a line gets sigma ||v||_2 of its own and
    as much in common with all lines of the array; read backwards, where the column is driven with the sum of
    all inputs, sigma sqrt(||v||_2^2 + (sum v)^2) of its own.

    Attributes:
        weight: [..., n_out, n_in].
        noise: Standard deviation of a cell (of a pair in a differential array) in units of the weight, [...,
            1, 1] or [..., n_out, 1]; None without.
        column: How an offset column takes part.
        cells: Noise of cells that differ, beside `noise`; None where all are alike.

    Source: the variance of a sum of independent normal numbers; a test draws every cell.
    """

    weight: Tensor
    noise: Tensor | None
    column: Column = "none"
    cells: CellNoise | None = None
    _folded: dict[tuple[int, ...], Tensor] = field(default_factory=dict)

    def of(self, vectors: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Multiply.

        Args:
            vectors: [..., n_in, batch]; size one where arrays share them.
            generator: Source of read noise.

        Returns:
            A contiguous buffer and its view as products, [..., n_out, batch].
        """
        shared = self.shared(vectors)
        flat = vectors.reshape(math.prod(vectors.shape[:-2]), *vectors.shape[-2:])
        folded = self.fold(shared)
        if self.noise is None:
            buffer = torch.bmm(folded, flat)
            return buffer, self._under_cells(self.unfold(buffer, shared), vectors, generator)
        power = vectors.square().sum(dim=-2, keepdim=True)
        if self.column == "driven":
            power += vectors.sum(dim=-2, keepdim=True).square_()
        buffer = read_normals((*folded.shape[:-1], flat.shape[-1]), folded, generator)
        view = self.unfold(buffer, shared)
        if self.column == "read":
            view += read_normals((*view.shape[:-2], 1, view.shape[-1]), buffer, generator)
        view *= self.noise * power.sqrt_()
        return buffer.baddbmm_(folded, flat), self._under_cells(view, vectors, generator)

    def _under_cells(self, view: Tensor, vectors: Tensor, generator: torch.Generator) -> Tensor:
        """Products with the noise of cells that differ added, in place."""
        return view if self.cells is None else view.add_(self.cells.drawn(vectors, generator))

    def shared(self, vectors: Tensor) -> list[int]:
        """Leading dimensions along which arrays share the vectors, [..., n_in, batch]."""
        return [d for d, size in enumerate(self.weight.shape[:-2]) if vectors.shape[d] == 1 and size > 1]

    def _order(self, shared: list[int]) -> list[int]:
        """Leading dimensions, those along which the arrays share their inputs last."""
        return [d for d in range(self.weight.ndim - 2) if d not in shared] + shared

    def fold(self, shared: list[int]) -> Tensor:
        """The weight with arrays of the same inputs as one: [arrays, n_shared * n_out, n_in], inputs once."""
        key = tuple(shared)
        if key not in self._folded:
            n_out, n_in = self.weight.shape[-2:]
            rows = math.prod(self.weight.shape[d] for d in shared) * n_out
            ordered = self.weight.permute(*self._order(shared), -2, -1)
            self._folded[key] = ordered.reshape(-1, rows, n_in)
        return self._folded[key]

    def fold_lines(self, lines: Tensor, shared: list[int]) -> Tensor:
        """What lines have, [..., 1 or n_out, 1], in the order of `fold`: [arrays, n_shared * n_out]."""
        whole = lines.expand(*self.weight.shape[:-1], 1).permute(*self._order(shared), -2, -1)
        sizes = self.fold(shared).shape
        return whole.reshape(sizes[:-1]).to(self.weight.dtype).contiguous()

    def unfold(self, buffer: Tensor, shared: list[int]) -> Tensor:
        """[arrays, n_shared * n_out, batch] as [..., n_out, batch], a view."""
        order, sizes = self._order(shared), self.weight.shape
        view = buffer.view(*(sizes[d] for d in order), sizes[-2], buffer.shape[-1])
        return view.permute(*(order.index(d) for d in range(len(order))), -2, -1)


@dataclass(frozen=True)
class Readout:
    """An array as seen from the lines that are driven.

    All of it works in codes: the factors of both converters are multiplied into the weight once, when it is
    programmed, so that a product of codes is what the ADCs round.

    Attributes:
        product: The array; its weight is in ADC codes a driven code.
        gain: What one ADC code stands for, [..., 1, 1] or [..., n_out, 1], in units of the weight times the
            largest input.
        bias: What the offsets of the converters add, [..., n_out, 1], in ADC codes; None without.
        dac_bits: Resolution of the DACs.
        adc_bits: Resolution of the ADCs.
        slice_bits: Bits of an input that one read takes; None takes all at once.
        factor: From the conductance range to ADC codes a driven code, [..., 1, 1] or [..., n_out, 1].
        curve: What the ADCs make of a value before they clip and round; None is a straight line.
        noise: Standard deviation of what each reading of an ADC adds, in codes.
        law: Of cells that are no resistors; None is a resistor's.
    """

    product: ArrayProduct
    gain: Tensor
    bias: Tensor | None
    dac_bits: int
    adc_bits: int
    slice_bits: int | None
    factor: Tensor
    curve: AdcCurve | None = None
    noise: float = 0.0
    law: CellLaw | None = None
    _of_rows: dict[tuple[int, ...], ReadLines] = field(default_factory=dict)

    def read(
        self,
        x: Tensor,
        generator: torch.Generator,
        meter: LineMeter | None = None,
        limit: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Products of the array with vectors.

        Args:
            x: [..., batch, n_in]; size one where arrays share it.
            generator: Source of read noise.
            meter: Measures what reaches the ADCs, which then neither clip nor round.
            limit: Range of the DACs, [..., 1, 1]; None is each vector's largest magnitude.

        Returns:
            Products, [..., batch, n_out], and how many readings were clipped, a scalar.
        """
        if meter is None and self._is_fused(x, limit):
            return self._read_fused(x.mT, generator, limit)
        vectors = x.mT
        if min(vectors.stride()[-2:]) > 1:  # copies that take turns leave neither lines nor vectors together
            vectors = vectors.contiguous()
        codes, largest = drive(vectors, self.dac_bits, limit)
        if meter is not None:
            meter.scale = largest
        if self.slice_bits is None:
            out, clipped = self._once(codes, generator, meter)
        else:
            slices = code_slices(codes, self.dac_bits, self.slice_bits)
            _, lowest = next(slices)
            out, clipped = self._once(lowest, generator, meter)
            for factor, digits in slices:
                part, more = self._once(digits, generator, meter)
                out.add_(part, alpha=factor)
                clipped = clipped + more
        return out.mul_(self.gain * largest).mT, clipped

    def _is_fused(self, x: Tensor, limit: Tensor | None) -> bool:
        """Whether two passes do: in single precision, without slices, curves, noise or law of cells."""
        is_plain = self.slice_bits is None and self.curve is None and (limit is None or limit.numel() == 1)
        is_plain = is_plain and self.product.cells is None and self.law is None
        types = {x.dtype, self.product.weight.dtype}
        return is_plain and x.device.type == "cpu" and types == {torch.float32} and x.numel() > 0

    def _read_fused(
        self, vectors: Tensor, generator: torch.Generator, limit: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """As `read`, with vectors [..., n_in, batch]."""
        product, passes = self.product, _passes()
        shared = product.shared(vectors)
        flat = vectors.reshape(math.prod(vectors.shape[:-2]), *vectors.shape[-2:])
        fixed = None if limit is None else float(limit)
        codes, largest, root = passes.driven(flat, top_code(self.dac_bits), fixed, product.column == "driven")
        buffer = torch.bmm(product.fold(shared), codes)
        seed = 0
        if product.noise is not None or self.noise:
            seed = int(torch.empty((), dtype=torch.int64).random_(-(2**63), None, generator=generator))
        clipped = passes.sensed_(buffer, (largest, root), self._rows(shared), top_code(self.adc_bits), seed)
        return product.unfold(buffer, shared).mT, torch.tensor(clipped)

    def _rows(self, shared: list[int]) -> ReadLines:
        """What each line of the arrays with the same inputs has."""
        key, product = tuple(shared), self.product
        if key not in self._of_rows:
            noise = None if product.noise is None else product.fold_lines(product.noise, shared)
            bias = None if self.bias is None else product.fold_lines(self.bias, shared)
            group = product.weight.shape[-2] if product.column == "read" else 0
            gain = product.fold_lines(self.gain, shared)
            self._of_rows[key] = ReadLines(gain, noise, bias, group, self.noise)
        return self._of_rows[key]

    def _once(
        self, codes: Tensor, generator: torch.Generator, meter: LineMeter | None
    ) -> tuple[Tensor, Tensor]:
        """One read of the array: ADC codes, [..., n_out, batch], and how many were clipped."""
        driven = codes if self.law is None else self.law.currents(codes)
        buffer, view = self.product.of(driven, generator)
        if self.bias is not None:
            view += self.bias
        if meter is not None:
            meter.see(view, codes)
            return view, torch.zeros((), dtype=torch.int64)
        if self.noise:
            buffer.add_(read_normals(buffer.shape, buffer, generator), alpha=self.noise)
        bend_(buffer, self.adc_bits, self.curve)
        return view, sense_(buffer, self.adc_bits)


@cache
def _passes() -> ModuleType:
    """The compiled passes; numba takes half a second to import, which exact tiles do without."""
    return import_module("ffebm.runtime.tiles.lines.fused")


def readout(
    held: Tensor,
    scale: Tensor,
    limit: Tensor,
    crossbar: Crossbar,
    *,
    transposed: bool = False,
    name: str = "",
) -> Readout:
    """The readout of programmed cells.

    Args:
        held: What the pairs stand for, [..., n_out, n_in], in units of the whole conductance range;
            transposed for the transposed read.
        scale: The weight that the whole conductance range stands for, [..., 1, 1].
        limit: Range of the ADCs, [..., 1, 1] or [..., n_out, 1], from `conductance.adc_range`.
        crossbar: The tile.
        transposed: The read is the transposed one.
        name: Of the lines in their machine.
    """
    dac, adc = crossbar.dac, crossbar.adc
    top, top_out = dac.top_step, adc.top
    driven = line_errors(dac, held.shape[:-2] + held.shape[-1:], held, f"{name}/dac")
    sensed = line_errors(adc, held.shape[:-1], held, f"{name}/adc")
    law = None
    if crossbar.cell.steepness:  # errors of DACs are then in what the law takes
        law, driven = CellLaw(crossbar.cell.steepness, top, driven), LineErrors(None, None)
    factor = top_out / (limit * top)
    if sensed.gain is not None:
        factor = factor * sensed.gain
    weight = held * factor
    bias = _bias(weight, driven, sensed, top, top_out)
    if driven.gain is not None:
        weight = weight * driven.gain.mT
    column, noise = read_noise(crossbar, transposed=transposed)
    return Readout(
        ArrayProduct(weight, factor * noise if noise else None, column),
        gain=scale * limit * top / (dac.top * top_out),
        bias=bias,
        dac_bits=dac.bits,
        adc_bits=adc.bits,
        slice_bits=dac.slice_bits,
        factor=factor,
        curve=curve_of(adc),
        noise=adc.deviation,
        law=law,
    )


def read_noise(crossbar: Crossbar, *, transposed: bool) -> tuple[Column, float]:
    """How an offset column takes part, and the deviation of a cell or pair as a share of the range."""
    sigma = crossbar.cell.read_deviation
    if crossbar.unused == "off":  # cells differ: `cell_noise`
        return "none", 0.0
    if crossbar.mapping == "differential":
        return "none", math.sqrt(2.0) * sigma
    if crossbar.is_single:
        return "none", sigma
    return ("driven" if transposed else "read"), sigma


def _bias(weight: Tensor, driven: LineErrors, sensed: LineErrors, top: int, top_out: int) -> Tensor | None:
    """What offsets of DACs and ADCs add to a reading, [..., n_out, 1], in ADC codes."""
    bias = None if driven.offset is None else weight @ (driven.offset * top)
    if sensed.offset is None:
        return bias
    own = sensed.offset * top_out
    return own if bias is None else bias + own
