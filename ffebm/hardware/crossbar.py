"""What a crossbar is made of: cells, converters, wires, and what each of them gets wrong.

Every effect is a table or a quantity that may be left out; what is left out is off and costs nothing.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ffebm.hardware.devices.cell import Cell, Verify
from ffebm.hardware.devices.update import Update
from ffebm.hardware.loading_factor import loading_factor
from ffebm.hardware.quantity import Count, Energy, Ratio, Resistance, Time


class Wires(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Resistance of the wires from cell to cell.

    A word line runs through both cells of each pair, whose bit lines lie beside each other, or through an
    offset column at its end.

    Attributes:
        row: Of a word line, from one cell to the next, and from the driver to the first.
        column: Of a bit line, from one cell to the next, and from the last to the virtual ground.
        solver: "exact": every node of the array; "fast": right to first order in the resistance.
    """

    row: Resistance
    column: Resistance
    solver: Literal["exact", "fast"] = "exact"


class Converter(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """A digital-to-analog or analog-to-digital converter, one a line.

    Attributes:
        bits: Resolution, sign included.
        energy: Of one conversion.
        time: Of one conversion.
        offset: Standard deviation, between converters, of what each adds, as a share of its range.
        gain: Standard deviation, between converters, of the relative error of each one's gain.
    """

    bits: Annotated[int, Meta(ge=2, le=24)]
    energy: Energy
    time: Time
    offset: Ratio | None = None
    gain: Ratio | None = None

    @property
    def top(self) -> int:
        """The largest code; codes are symmetric."""
        return int(2 ** (self.bits - 1) - 1)


class Dac(Converter, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Drives a line.

    Attributes:
        slice_bits: Bits of an input's magnitude that one read takes, lowest first: the array is read several
            times for one product, and what the ADCs read is shifted and added digitally. None takes all at
            once.
        range: What the largest code stands for in a forward read. "vector": the largest magnitude of each
            input vector, found digitally before it is converted; "fixed": `limit`; "data": set by samples,
            one for all lines of a piece, once a run has some, and by vector before. Transposed reads, whose
            error currents have no size of their own, go by vector.
        limit: Of a fixed range, in the unit of the model's values; larger inputs are clipped.
        sigmas: Of a range by data, |mean| + so many standard deviations of the inputs, at most the largest
            one seen. None: what the bits serve best, `loading_factor`.

    Source: input ranges of IBM/aihwkit, InputRangeParameter; range by vector: noise management ABS_MAX there.
    """

    slice_bits: Annotated[int, Meta(ge=1)] | None = None
    range: Literal["vector", "fixed", "data"] = "vector"
    limit: Annotated[float, Meta(gt=0, le=1e30)] | None = None
    sigmas: Annotated[float, Meta(gt=0, le=1000)] | None = None

    @property
    def deviations(self) -> float:
        """A range by data, in standard deviations of the inputs."""
        return loading_factor(self.bits) if self.sigmas is None else self.sigmas

    @property
    def slices(self) -> int:
        """Reads of the array for one product."""
        return 1 if self.slice_bits is None else -(-(self.bits - 1) // self.slice_bits)

    @property
    def top_step(self) -> int:
        """The largest number of steps that one read drives a line with."""
        return self.top if self.slice_bits is None else int(2**self.slice_bits - 1)


class Adc(Converter, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Reads a line.

    Attributes:
        range: What the largest code stands for. "calibrated": `deviations` of the heaviest line's
            output, the same for all lines of a piece; "column": of each line's own output; "maximal": the
            most that the heaviest line can reach; "level": such that a code is a level of a cell times a step
            of the DAC, so that sums within the codes are exact.
        calibration: Which outputs a calibrated range, as a whole or by column, is for. "data": those of a
            batch of samples, once a run has some, as converters of inference chips are set; before that, and
            with "uniform", those of inputs spread evenly over [-1, 1].
        curve: What it makes of a value before it clips and rounds, by the name that an installed package
            offers; empty is a straight line.
        noise: Standard deviation of what every reading adds anew before the curve, as a share of its range.

    Source: ADC ranges calibrated on profiled outputs, Xiao et al. 2022 (arXiv 2109.01262) and CrossSim; noise
    of readings, `out_noise` of IBM/aihwkit, IOParameters, there in the unit of `out_bound`.
    """

    range: Literal["calibrated", "column", "maximal", "level"] = "calibrated"
    calibration: Literal["data", "uniform"] = "data"
    curve: str = ""
    noise: Ratio | None = None

    @property
    def deviation(self) -> float:
        """Of the noise of a reading, in codes."""
        return 0.0 if self.noise is None else float(self.noise.value) * self.top


class Crossbar(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    kw_only=True,
    tag="crossbar",
    omit_defaults=True,
):
    """A tile with arrays of cells and converters on their lines.

    Attributes:
        rows: Word lines; each takes one input.
        cols: Outputs. Each has a bit line for each cell of its weights: two in a differential array, one in
            an array with an offset column; in each of `slices` arrays.
        cell: The memory element.
        dac: Drives the lines that inputs are on.
        adc: Reads the lines that outputs are on.
        adc_sigmas: The ADC's range, in standard deviations of a line's output; for ranges that are
            calibrated, as a whole or by column. None: what its bits serve best, `loading_factor`.
        read_time: Of the array in one read, without converters.
        write_time: Of one row programmed once.
        mapping: "differential": a weight is the difference of two cells. "offset": a weight is the difference
            between its cell and that of a column which all weights of a row share; the currents are
            subtracted before the ADC. "single": a weight is one cell, never negative, in a passive array
            whose lines are nodes of the circuit; 0 S stands for 0, and all weights of a block have one range.
        unused: What the cell of a pair is that a weight does not use, both where it is zero. "g_min": written
            like all others; "off": never formed, or behind a selector of its own, so that it neither
            conducts nor is noisy, written or read. A used cell then is at the share of g_max that the weight
            is of its range, of those below g_min the nearer of g_min and off.
        scale: What is scaled to the range of weights by a digital factor of its own: a "piece" of a matrix as
            a whole, or each "column" (output) of it, whose factor then multiplies what is read, and the
            inputs of a transposed read before their DACs.
        omega: Share of the range that the largest weight of a piece or column takes; above 1 larger weights
            are clipped to the end of the range.
        slices: Arrays over which the digits of a weight are spread, with base `cell.levels`.
        drivers: "shared": a word line runs through the arrays of all slices, and one DAC drives it; "own":
            each array has DACs of its own. Bit lines have DACs of their own for transposed reads.
        adder: Of one addition beside the converters: digits, slices of inputs, partial sums. None: there are
            no adders, and each costs an operation of the digital unit.
        mismatch: Standard deviation, between cells, of the relative difference between the conductance that
            the transposed read meets and the one that the forward read meets; drawn once for a machine.
        wires: Resistance of the wires; the array of a piece is as large as the piece.
        update: How cells learn in place; without it a digital master copy learns and is programmed.
    """

    rows: Count
    cols: Count
    cell: Cell
    dac: Dac
    adc: Adc
    adc_sigmas: Ratio | None = None
    read_time: Time
    write_time: Time
    mapping: Literal["differential", "offset", "single"] = "differential"
    unused: Literal["g_min", "off"] = "g_min"
    scale: Literal["piece", "column"] = "piece"
    omega: Annotated[float, Meta(gt=0, le=1000)] = 1.0
    slices: Annotated[int, Meta(ge=1, le=32)] = 1
    drivers: Literal["shared", "own"] = "shared"
    adder: Energy | None = None
    mismatch: Ratio | None = None
    wires: Wires | None = None
    update: Update | None = None

    @property
    def kind(self) -> Literal["crossbar"]:
        """Its name in a description and in a plan."""
        return "crossbar"

    @property
    def has_cells(self) -> bool:
        """Weights are conductances of cells on lines with converters."""
        return True

    @property
    def size(self) -> tuple[int, int] | None:
        """Most inputs and outputs; None: as many as a matrix has."""
        return self.rows, self.cols

    @property
    def converter_bits(self) -> tuple[int, int]:
        """Resolution of DACs and ADCs; 0 without."""
        return self.dac.bits, self.adc.bits

    @property
    def input_limit(self) -> float | None:
        """Largest input that is not clipped, where that is fixed."""
        return self.dac.limit

    @property
    def read_seconds(self) -> float:
        """One product of a matrix with a vector."""
        return (self.dac.time.value + self.read_time.value + self.adc.time.value) * self.dac.slices

    @property
    def verify(self) -> Verify | None:
        """How cells are written again that missed their target."""
        return self.cell.verify

    @property
    def learns_in_place(self) -> bool:
        """Cells take the steps of training by a law of their own; else a digital master copy learns."""
        return self.update is not None

    @property
    def drifts(self) -> bool:
        """Weights change with the time since they were programmed."""
        return self.cell.elapsed is not None

    @property
    def meaning(self) -> str:
        """What a conductance stands for, in words that tell one kind of cells from another."""
        cell = self.cell
        several = f", {cell.devices} devices a cell" if cell.devices > 1 else ""
        several += ", unused cells off" if self.unused == "off" else ""
        return (
            f"{self.slices} x {cell.levels} levels from {cell.g_min.value:g} to {cell.g_max.value:g} S, "
            f"{self.mapping}{several}"
        )

    def crossbar(self) -> "Crossbar":
        """The cells and converters, which a tile has that `has_cells`."""
        return self

    @property
    def deviations(self) -> float:
        """A calibrated range of the ADCs, in standard deviations of a line's output."""
        return loading_factor(self.adc.bits) if self.adc_sigmas is None else self.adc_sigmas.value

    @property
    def adc_follows_data(self) -> bool:
        """The ranges of the ADCs follow samples once a run has some."""
        return self.adc.range in {"calibrated", "column"} and self.adc.calibration == "data"

    @property
    def follows_data(self) -> bool:
        """Some ranges of converters follow samples once a run has some."""
        return self.adc_follows_data or self.dac.range == "data"

    @property
    def top_level(self) -> int:
        """Steps to the largest weight, all slices together: from one of zero, of single cells from g_min."""
        steps = int(self.cell.levels**self.slices) - 1
        return steps // 2 if self.mapping == "offset" else steps

    @property
    def is_single(self) -> bool:
        """A weight is one conductance."""
        return self.mapping == "single"

    @property
    def least_level(self) -> float:
        """Steps from a weight of zero to the lowest level: those of g_min, where that counts."""
        if not self.is_single:
            return 0.0
        cell = self.cell
        return float(cell.g_min.value * (cell.levels - 1) / (cell.g_max.value - cell.g_min.value))

    @property
    def span(self) -> float:
        """The conductance that the range of a weight stands for, in one array, siemens."""
        top = float(self.cell.g_max.value)
        return top if self.unused == "off" else top - float(self.cell.g_min.value)

    @property
    def used_cells_a_weight(self) -> int:
        """Cells of one weight that are written and read."""
        return self.slices if self.unused == "off" else self.cells_a_weight

    @property
    def cells_a_weight(self) -> int:
        """Cells of one weight, each of `cell.devices`, without an offset column."""
        return self.slices * (2 if self.mapping == "differential" else 1)
