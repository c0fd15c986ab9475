"""Cells of one kind: how they are written, and what they are when they are read."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ffebm.hardware.description import Cell
from ffebm.runtime.tiles.devices.statistics import STATISTICS
from ffebm.runtime.tiles.noise import machine_normals, machine_source, normals


class CellArray:
    """Cells of one kind.

    What a cell is by nature (the factor by which its writes miss, whether it is stuck, how fast it drifts) is
    drawn once for a machine; noise is drawn at each write.

    Args:
        cell: The memory element.
        generator: Source of programming noise.
        name: Of the array in its machine.
        unused_off: Cells that are to be at 0 S are off for good: no write, no noise, no fault.

    Attributes:
        each: Conductances as written, siemens; of several devices a cell [devices, *cells], else [*cells].
        elapsed: Seconds from programming to reads; None takes those of the description.
    """

    def __init__(
        self, cell: Cell, generator: torch.Generator, name: str, *, unused_off: bool = False
    ) -> None:
        self._cell = cell
        self._unused_off = unused_off
        self._generator = generator
        self._name = name
        self._nature: dict[str, Tensor] = {}
        self._target = torch.empty(0)  # what exponents of drift follow, with measured statistics
        self.each = torch.empty(0)
        self.elapsed: float | None = None

    @property
    def conductance(self) -> Tensor:
        """Of the cells as written, siemens: the mean of their devices."""
        return self._joined(self.each)

    def write(self, target: Tensor) -> None:
        """Bring every device of every cell to its target, siemens, as well as it goes.

        A write moves a device from g to

            g' = g + (target - g) (1 + variation xi) + programming_noise (g_max - g_min) xi',    at least 0 S,

        with xi fixed for a cell and xi' new at each write; the first write starts from 0 S. Measured
        statistics give a deviation that follows the target. With write-and-verify the cells that are off by
        more than the tolerance are written again. Stuck cells stay where they are.

        Source: additive programming noise as in IBM/aihwkit, inference/noise/pcm.py; write-and-verify,
        Papandreou et al., ICECS 2010 (10.1109/ICECS.2010.5724687); stuck cells as Device_SAF of MNSIM 2.0.
        """
        self._target = target
        target = self._beside(target)
        found = self._written(target, None)
        verify = self._cell.verify
        for _ in range(verify.writes - 1 if verify else 0):
            assert verify is not None
            off = (found - target).abs_() > verify.tolerance.value * self._span
            if not bool(off.any()):
                break
            found = torch.where(off, self._written(target, found), found)
        self.each = self._formed(self._stuck(found))

    def put(self, conductance: Tensor) -> None:
        """Set every cell exactly, but for stuck ones: to what pulses have made of it."""
        self.each = self._formed(self._stuck(self._beside(conductance)), conductance)
        self._target = self.conductance

    def restore(self, each: Tensor, target: Tensor) -> None:
        """Take up devices as they were written, and what their cells were to be, siemens."""
        self.each, self._target = each, target

    def factor(self, like: Tensor) -> Tensor | None:
        """The factor of each cell's writes; None without variation."""
        return None if self._cell.variation is None else self._natural("variation", self._variation, like)

    def seen(self, mismatch: float | None = None, name: str = "") -> Tensor:
        """Conductances of the cells at the time of a read, siemens.

        G(t) = G(t0) (t / t0)^-nu, with nu of each cell from a normal distribution; up to t0, G(t0). With
        measured statistics nu follows the conductance that the cell was to be written to.

        Args:
            mismatch: Standard deviation of the share by which a read in the other direction meets another
                conductance; None without.
            name: Of these shares in the machine.

        Source: Joshi et al. 2020 (arXiv 1906.03138); IBM/aihwkit, inference/noise/pcm.py.
        """
        found = self._seen()
        if mismatch is not None:
            found = found * machine_normals(found.shape, found, name).mul_(mismatch).add_(1.0)
        return self._joined(found)

    def _seen(self) -> Tensor:
        """The same of each device."""
        elapsed, measured = self._seconds, self._cell.statistics
        if elapsed is None:
            return self.each
        if measured is not None:
            device, drawn = STATISTICS[measured.name], self._drawn_drift()
            nu = device.exponents(self._target, self._cell.g_max.value, drawn)
            return self.each * device.decay(nu, elapsed)
        return self.each * self._decay(elapsed)

    def _formed(self, found: Tensor, target: Tensor | None = None) -> Tensor:
        """What is found of devices, but for cells that are off: those that are to be at 0 S."""
        target = self._target if target is None else target
        return torch.where(target == 0, 0.0, found) if self._unused_off else found

    def _beside(self, cells: Tensor) -> Tensor:
        """What cells have, for each of their devices."""
        several = self._cell.devices
        return cells if several == 1 else cells.expand(several, *cells.shape).contiguous()

    def _joined(self, each: Tensor) -> Tensor:
        """The mean of the devices of each cell."""
        return each if self._cell.devices == 1 else each.mean(0)

    def read_noise(self) -> Tensor | None:
        """Standard deviation of each cell at a read, siemens; None if it is the same for all."""
        elapsed, measured = self._seconds, self._cell.statistics
        if measured is None or elapsed is None or measured.noise == 0:
            return self._noise_of_formed()
        device = STATISTICS[measured.name]
        share = device.read_noise(self.each, self._cell.g_max.value, elapsed)
        apart = share * self._seen() * measured.noise
        own = apart if self._cell.devices == 1 else apart.square().sum(0).sqrt_() / self._cell.devices
        formed = self._noise_of_formed()
        return own if formed is None else torch.hypot(own, formed)

    def _noise_of_formed(self) -> Tensor | None:
        """The noise that is the same for all cells which are not off; None if none is."""
        if not self._unused_off or not self._cell.read_deviation:
            return None
        held = self.conductance
        return (held > 0).to(held.dtype) * (self._cell.read_deviation * self._span)

    @property
    def _seconds(self) -> float | None:
        """From programming to reads; None if nothing depends on it."""
        described = self._cell.elapsed
        return described if described is None or self.elapsed is None else self.elapsed

    def _decay(self, elapsed: float) -> Tensor | float:
        """By which the cells have decayed so long after programming, by one law for all."""
        drift = self._cell.drift
        assert drift is not None
        ratio = max(1.0, elapsed / drift.start.value)
        nu = drift.exponent.value
        if drift.spread.value == 0:
            return math.exp(-nu * math.log(ratio))
        return torch.exp((self._drawn_drift() * drift.spread.value + nu) * -math.log(ratio))

    def _drawn_drift(self) -> Tensor:
        """How each cell differs from others in drift, standard normal."""
        return self._natural("drift", lambda like: machine_normals(like.shape, like, f"{self._name}/drift"))

    @property
    def _span(self) -> float:
        return self._cell.g_max.value - self._cell.g_min.value

    def _written(self, target: Tensor, start: Tensor | None) -> Tensor:
        """After one write from `start`; None is 0 S."""
        aim = target
        if self._cell.variation is not None:
            factor = self._natural("variation", self._variation, target)
            aim = target * factor if start is None else start + (target - start) * factor
        deviation = self._programming_deviation(target)
        if deviation is None:
            return aim.clamp(min=0.0) if self._cell.variation is not None else aim
        drawn = normals(target.shape, target, self._generator)
        return drawn.mul_(deviation).add_(aim).clamp_(min=0.0)

    def _programming_deviation(self, target: Tensor) -> Tensor | float | None:
        """Of a write to a target, siemens; None without noise."""
        measured = self._cell.statistics
        if measured is not None:
            deviation = STATISTICS[measured.name].programmed(target, self._cell.g_max.value)
            return deviation * measured.noise if measured.noise else None
        return self._cell.programming_deviation * self._span or None

    def _variation(self, like: Tensor) -> Tensor:
        assert self._cell.variation is not None
        drawn = machine_normals(like.shape, like, f"{self._name}/variation")
        return drawn.mul_(self._cell.variation.value).add_(1.0)

    def _stuck(self, found: Tensor) -> Tensor:
        stuck = self._cell.stuck
        if stuck is None:
            return found
        at_min, at_max = stuck.at_min.value, stuck.at_max.value

        def draw(like: Tensor) -> Tensor:
            source = machine_source(f"{self._name}/stuck")
            drawn = torch.rand(*like.shape, generator=source, dtype=torch.float64)
            return ((drawn < at_min).byte() + 2 * (drawn >= 1.0 - at_max).byte()).to(like.device)

        where = self._natural("stuck", draw, found)
        found = torch.where(where == 1, self._cell.g_min.value, found)
        return torch.where(where == 2, self._cell.g_max.value, found)

    def _natural(self, what: str, draw: Callable[[Tensor], Tensor], like: Tensor | None = None) -> Tensor:
        """A property of the cells, drawn when it is first needed."""
        like = self.each if like is None else like
        known = self._nature.get(what)
        if known is None or known.shape != like.shape or known.device != like.device:
            known = self._nature[what] = draw(like)
        return known
