"""The memory element of a crossbar, and what each one gets wrong."""

import math
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ffebm.hardware.quantity import Conductance, Energy, Ratio, Time


class Verify(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Write-and-verify: a cell that is off by more than the tolerance is written again.

    Attributes:
        writes: Most writes of one cell, the first one included.
        tolerance: Largest error of a cell that is left alone, as a share of g_max - g_min.
    """

    writes: Annotated[int, Meta(ge=2, le=1000)]
    tolerance: Ratio


class Stuck(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Cells that cannot be written; which ones is drawn once for a machine.

    Attributes:
        at_min: Share of cells that stay at g_min.
        at_max: Share of cells that stay at g_max.
    """

    at_min: Ratio
    at_max: Ratio


class Drift(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Conductances that decay with the time since they were programmed.

    Attributes:
        exponent: Mean drift exponent nu of the cells.
        spread: Standard deviation of nu between cells, drawn once for a machine.
        start: Time after programming from which the law holds, t0; programmed values are those of t0.
        elapsed: Time from programming to every read.
        compensation: "global": one digital factor an array makes up for the mean decay.
    """

    exponent: Ratio
    spread: Ratio
    start: Time
    elapsed: Time
    compensation: Literal["none", "global"] = "none"


class Statistics(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Measured statistics of a kind of device, in place of constant noises and one law of drift.

    Deviations of programming and reading and the exponents of drift depend on the conductance of a cell.

    Attributes:
        name: "pcm": phase-change memory; "hermes-1", "hermes-2": of the HERMES chip, one device a cell or two
            side by side. What each is, is in `ffebm/runtime/tiles/devices/statistics.py`.
        elapsed: Time from programming to every read.
        compensation: "global": one digital factor an array makes up for the mean decay.
        noise: Factor of all deviations of programming and reading.
    """

    name: Literal["pcm", "hermes-1", "hermes-2"]
    elapsed: Time
    compensation: Literal["none", "global"] = "none"
    noise: Annotated[float, Meta(ge=0, le=1000)] = 1.0


CHARACTERISED = {"pcm": None, "hermes-1": 10.35e-6, "hermes-2": 20.7e-6}
"""The largest conductance, siemens, that statistics hold for; None: they follow `g_max`.

Source: IBM/aihwkit, inference/noise/hermes.py.
"""


class Cell(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """One memory element of a crossbar.

    Attributes:
        levels: Conductances that a cell can be programmed to, evenly spaced.
        g_min: Smallest conductance.
        g_max: Largest conductance.
        programming_noise: Standard deviation of a programmed conductance, as a share of g_max - g_min; None
            with statistics.
        read_noise: Standard deviation of a conductance at each read, as a share of g_max - g_min; with
            statistics what comes beside theirs, or None.
        read_energy: Of one cell in one read.
        write_energy: Of one cell programmed once.
        verify: How cells are written again that missed their target.
        variation: Standard deviation, between cells, of the factor by which a write misses its target: drawn
            once for a machine, so the same at every write.
        stuck: Cells that cannot be written.
        drift: How conductances decay.
        statistics: Measured noise and drift that depend on the conductance, by name.
        devices: Devices side by side that make up a cell, written to one conductance each; a line carries the
            sum of their currents. All else here is of one device.
        nonlinearity: Current at the voltage of the largest code over that at half of it; None is a resistor,
            whose ratio is 2.

    Source: several devices a weight: Boybat et al. 2018 (10.1038/s41467-018-04933-y), here without their
    arbitration of single updates; `num_devices` of IBM/aihwkit, inference/noise/hermes.py; ratio of currents:
    NL of NeuroSim, Chen, Peng & Yu 2018 (10.1109/TCAD.2018.2789723), there at the voltage of a write.
    """

    levels: Annotated[int, Meta(ge=2)]
    g_min: Conductance
    g_max: Conductance
    read_energy: Energy
    write_energy: Energy
    programming_noise: Ratio | None = None
    read_noise: Ratio | None = None
    verify: Verify | None = None
    variation: Ratio | None = None
    stuck: Stuck | None = None
    drift: Drift | None = None
    statistics: Statistics | None = None
    devices: Annotated[int, Meta(ge=1, le=64)] = 1
    nonlinearity: Ratio | None = None

    @property
    def steepness(self) -> float:
        """The k of a current g V sinh(k v / V) / sinh(k), V that of the largest code; 0 is a resistor.

        From sinh(k) / sinh(k / 2) = 2 cosh(k / 2), the ratio.

        Source: Jiang et al. 2016, A compact model for metal-oxide resistive random access memory with
        experiment verification, IEEE Trans. Electron Devices 63: the current goes with sinh(v / V0).
        """
        ratio = 2.0 if self.nonlinearity is None else float(self.nonlinearity.value)
        return 2.0 * math.acosh(max(1.0, ratio / 2.0))

    @property
    def driven_power(self) -> float:
        """Mean square of the current at voltages spread evenly over [-V, V], for 1 at V: 1/3 of a resistor.

        The mean of sinh^2(k u) over u is sinh(2 k) / (4 k) - 1/2.
        """
        k = self.steepness
        return 1.0 / 3.0 if k < 1e-3 else (math.sinh(2.0 * k) / (4.0 * k) - 0.5) / math.sinh(k) ** 2

    @property
    def programming_deviation(self) -> float:
        """Of a programmed device, as a share of its range, where it is the same for all; else 0."""
        return 0.0 if self.programming_noise is None else float(self.programming_noise.value)

    @property
    def read_deviation(self) -> float:
        """Of a cell at each read, as a share of its range, where it is the same for all; else 0.

        Devices side by side miss their conductances independently.
        """
        return 0.0 if self.read_noise is None else float(self.read_noise.value) / math.sqrt(self.devices)

    @property
    def elapsed(self) -> float | None:
        """Seconds from programming to every read, of cells that drift; None of others."""
        drifting = self.statistics or self.drift
        return None if drifting is None else float(drifting.elapsed.value)

    @property
    def compensates_drift(self) -> bool:
        """One digital factor an array makes up for the mean decay."""
        drifting = self.statistics or self.drift
        return drifting is not None and drifting.compensation == "global"
