"""Measured statistics of devices: noise and drift that depend on the conductance.

With x a conductance as a share of g_max, programming misses by a normal number of deviation p(x), drift has
an exponent nu = |m(x) + s(x) xi| with xi of each cell, and a read t seconds after programming misses by the
share q(x) sqrt(log((t + r) / (2 r))) of what the cell then conducts: noise of a spectrum 1 / f that has
gathered from programming on, read for r seconds.

Source: IBM/aihwkit 1.1.0, inference/noise/pcm.py (after Nandakumar et al., ICECS 2019,
10.1109/ICECS46596.2019.8964852, and Joshi et al. 2020, arXiv 1906.03138) and inference/noise/hermes.py
(after Le Gallo et al. 2023, arXiv 2212.02872; two devices a cell are programmed as by Vasilopoulos et al.,
TED 2023).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

SMALLEST = 1e-7
"""Share of g_max below which a conductance counts as this much, for logarithms."""

ByConductance = Callable[[Tensor], Tensor]
"""A function of conductances as shares of g_max, [...]."""


@dataclass(frozen=True)
class DeviceStatistics:
    """What is measured of a kind of device.

    Attributes:
        programming: Coefficients of p(x), siemens at `reference`, the constant first.
        reference: The g_max that they are for, siemens; p grows in proportion to g_max.
        mean: Of the exponent of drift, m(x).
        spread: Of the exponent of drift between cells, s(x).
        read: Noise of a read, q(x).
        start: Time after programming from which conductances drift, seconds.
        reading: Time that a read takes, r, seconds.
    """

    programming: tuple[float, ...]
    reference: float
    mean: ByConductance
    spread: ByConductance
    read: ByConductance
    start: float
    reading: float

    def programmed(self, target: Tensor, g_max: float) -> Tensor:
        """Standard deviation of conductances when they are programmed to a target, siemens."""
        return _polynomial(self.programming, target / g_max) * (g_max / self.reference)

    def exponents(self, target: Tensor, g_max: float, drawn: Tensor) -> Tensor:
        """Exponents of drift of cells that were programmed to a target; `drawn` are standard normal."""
        share = (target / g_max).abs().clamp(min=SMALLEST)
        return (self.mean(share) + self.spread(share) * drawn).abs()

    def decay(self, exponents: Tensor, seconds: float) -> Tensor:
        """By which cells have decayed so long after programming; 1 up to `start`."""
        return torch.exp(exponents * -math.log(max(1.0, seconds / self.start)))

    def read_noise(self, programmed: Tensor, g_max: float, seconds: float) -> Tensor:
        """Standard deviation of a read so long after programming, as a share of what a cell then conducts.

        Args:
            programmed: What it conducted when it was programmed, siemens.
            g_max: Largest conductance, siemens.
            seconds: Since programming; no noise has gathered within the time of a read.
        """
        gathered = math.log(max(1.0, (seconds + self.reading) / (2.0 * self.reading)))
        return self.read((programmed / g_max).abs().clamp(min=SMALLEST)) * math.sqrt(gathered)


def _polynomial(coefficients: tuple[float, ...], share: Tensor) -> Tensor:
    """sum_k c_k x^k."""
    found = torch.full_like(share, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        found = found * share + coefficient
    return found


def _logarithm(slope: float, offset: float, low: float, high: float) -> ByConductance:
    """A line over log x between bounds."""
    return lambda share: (share.log() * slope + offset).clamp(low, high)


def _branches(edge: float, below: ByConductance, above: tuple[float, ...]) -> ByConductance:
    """One curve below an edge, a polynomial from it on."""
    return lambda share: torch.where(share < edge, below(share), _polynomial(above, share))


_HERMES_MEAN = _branches(0.0945, _logarithm(-0.0387, -0.0182, 0.0720, 0.13), (0.0736, -0.0126, -0.0436))

STATISTICS = {
    "pcm": DeviceStatistics(
        programming=(0.26348e-6, 1.9650e-6, -1.1731e-6),
        reference=25e-6,
        mean=_logarithm(-0.0155, 0.0244, 0.049, 0.1),
        spread=_logarithm(-0.0125, -0.0059, 0.008, 0.045),
        read=lambda share: (0.0088 / share.pow(0.65).clamp(min=1e-3)).clamp(max=0.2),
        start=20.0,
        reading=250e-9,
    ),
    "hermes-1": DeviceStatistics(
        programming=(0.15781817e-6, 2.32443916e-6, -2.16310839e-6, 0.68841818e-6),
        reference=10.35e-6,
        mean=_HERMES_MEAN,
        spread=_branches(0.3039, _logarithm(-0.0120, -0.0023, 0.0124, 0.04), (0.0104, 0.0116, -0.0165)),
        read=_branches(0.1591, _logarithm(-0.0078, 0.0038, 0.0179, 0.04), (0.0088, 0.0768, -0.1352, 0.0664)),
        start=200.0,
        reading=512e-9,
    ),
    "hermes-2": DeviceStatistics(
        programming=(0.16603222e-6, 4.71806468e-6, -8.48101252e-6, 4.68961419e-6),
        reference=20.7e-6,
        mean=_HERMES_MEAN,
        spread=_branches(0.3055, _logarithm(-0.0117, -0.0057, 0.0091, 0.04), (0.0073, 0.0093, -0.0118)),
        read=_branches(0.16, _logarithm(-0.0117, -0.0069, 0.015, 0.04), (0.0123, 0.0211, -0.0280, 0.0069)),
        start=300.0,
        reading=512e-9,
    ),
}
"""By the name that a description gives."""
