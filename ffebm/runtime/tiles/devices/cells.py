"""Memory cells: how they are written, and what they hold when they are read."""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ffebm.hardware.description import Cell, Crossbar, LinearStep, Update
from ffebm.plan.conductance import to_pair
from ffebm.runtime.tiles.devices.pulses import Slopes, pulsed, struck_
from ffebm.runtime.tiles.devices.statistics import STATISTICS
from ffebm.runtime.tiles.devices.trains import coincidences
from ffebm.runtime.tiles.devices.wires import conducted, conducted_pairs
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


class PairedCells:
    """Weights as differences: a weight of [-1, 1] is (plus - minus) / span, g_max - g_min.

    In an array of single cells it is plus / span, so never negative; where unused cells are off the span is
    g_max.

    Args:
        crossbar: The tile.
        generator: Source of programming noise.
        name: Of the tile in its machine.
        index: The slice of the weight that is held.
    """

    def __init__(
        self, crossbar: Crossbar, generator: torch.Generator, name: str = "", index: int = 0
    ) -> None:
        self._crossbar = crossbar
        self._generator = generator
        self._name = name
        self._index = index
        self._up, self._down = (
            CellArray(crossbar.cell, generator, f"{name}/{side}", unused_off=crossbar.unused == "off")
            for side in ("plus", "minus")
        )
        self._held: dict[bool, Tensor] = {}
        self._drawn: Slopes | None = None

    @property
    def plus(self) -> Tensor:
        """Conductances of the cells that count up, as written, [..., n_out, n_in], siemens."""
        return self._up.conductance

    @property
    def minus(self) -> Tensor:
        """Those that count down: as many, an offset column for all, [..., 1, n_in], or none, siemens."""
        return self._down.conductance

    def program(self, digits: Tensor) -> None:
        """Write every cell.

        Args:
            digits: Targets in level steps, [..., n_out, n_in]; they need not be whole.
        """
        self._held.clear()
        plus, minus = to_pair(digits, self._crossbar, self._index)
        self._up.write(plus)
        self._down.write(minus)

    def held(self, *, transposed: bool = False) -> Tensor:
        """What the pairs stand for when they are read, [..., n_out, n_in], in units of the conductance range.

        A transposed read meets conductances that differ by `mismatch` xi of their size, xi fixed for a cell.

        Args:
            transposed: As the transposed read meets it (in the same order of indices).
        """
        apart = transposed and self._crossbar.mismatch is not None
        if apart not in self._held:
            mismatch = self._crossbar.mismatch
            share = mismatch.value if apart and mismatch is not None else None
            plus, minus = (
                side.seen(share, f"{self._name}/mismatch {name}")
                for side, name in ((self._up, "plus"), (self._down, "minus"))
            )
            self._held[apart] = self._difference(plus, minus)
        return self._held[apart]

    def compensation(self) -> Tensor | None:
        """The factor that makes up for the mean drift of an array, [..., 1, 1]; None without one.

        sum |w(t0)| / sum |w(t)| over the array: what a calibration read of every line finds then and now.

        Source: Joshi et al. 2020 (arXiv 1906.03138): global drift compensation.
        """
        if not self._crossbar.cell.compensates_drift:
            return None
        written = self._difference(self.plus, self.minus).abs().sum((-2, -1), keepdim=True)
        now = self.held().abs().sum((-2, -1), keepdim=True)
        return torch.where(now > 0, written / now.clamp(min=torch.finfo(now.dtype).tiny), 1.0)

    def noise(self) -> tuple[Tensor, Tensor | None] | None:
        """Variances of a read, in units of the conductance range squared; None if cells are alike.

        Wires and the mismatch of the two directions change them in second order and are left out.

        Returns:
            Of the weights, [..., n_out, n_in], and of the cells of an offset column, [..., 1, n_in].
        """
        up, down = self._up.read_noise(), self._down.read_noise()
        if up is None or down is None:
            return None
        if self._crossbar.is_single:
            return (up / self._crossbar.span).square(), None
        own, other = (up / self._crossbar.span).square(), (down / self._crossbar.span).square()
        return (own, other) if self._crossbar.mapping == "offset" else (own + other, None)

    def move(self, change: Tensor) -> None:
        """Add to what the pairs stand for.

        A simple law: a pair is written anew at the sum of what it holds and the change, limited to the
        conductance range but not to levels, with programming noise; a pair that stays is left alone.

        Args:
            change: [..., n_out, n_in], in units of the whole conductance range.
        """
        self._held.clear()
        plus, minus = self._up.each, self._down.each
        top = min(self._crossbar.top_level, self._crossbar.cell.levels - 1)
        lowest = 0 if self._crossbar.is_single else -top
        self.program((self.digits() + change * (self._crossbar.cell.levels - 1)).clamp_(lowest, top))
        still = change == 0
        self._up.each = torch.where(still, plus, self._up.each)
        if self._crossbar.mapping != "differential":
            self._down.each = minus
        else:
            self._down.each = torch.where(still, minus, self._down.each)

    def pulse(self, change: Tensor, law: Update) -> None:
        """Learn in place; see `pulsed`. Only one cell of a differential pair is off g_min, before and after.

        Args:
            change: [..., n_out, n_in], in shares of the range of weights, -1 to 1.
            law: The device.
        """
        digits = self.digits()
        weight = self._shares(digits).clamp_(-1.0, 1.0)
        factor = self._up.factor(self.plus)
        after = pulsed(weight, change, law, self._generator, factor, self._slopes(weight, law))
        self.put(torch.where(after == weight, digits, self.digits_of(after)))

    def pulse_products(self, x: Tensor, d: Tensor, law: Update) -> None:
        """Learn in place, outer product by outer product; see `coincidences`.

        Args:
            x: [..., pairs, n_in].
            d: [..., pairs, n_out]; d x counts pulses.
            law: The device.
        """
        digits = self.digits()
        before = self._shares(digits).clamp_(-1.0, 1.0)
        factor, slopes = self._up.factor(self.plus), self._slopes(before, law)
        after = before.clone(memory_format=torch.contiguous_format)
        for counts in coincidences(x, d, law.pulses, self._generator):
            struck_(after, counts, law, self._generator, factor, slopes)
        self.put(torch.where(after == before, digits, self.digits_of(after)))

    def _shares(self, digits: Tensor) -> Tensor:
        """Weights in shares of their range, -1 to 1; of single cells from g_min to g_max."""
        shares = digits / self._crossbar.top_level
        return 2.0 * shares - 1.0 if self._crossbar.is_single else shares

    def digits_of(self, shares: Tensor) -> Tensor:
        """Level steps of weights in shares of their range, -1 to 1."""
        return (shares + 1.0 if self._crossbar.is_single else 2.0 * shares) * (self._crossbar.top_level / 2)

    def _slopes(self, like: Tensor, law: Update) -> Slopes | None:
        """How the pulses of each pair depend on its weight, where pairs differ in it: |slope + spread xi|."""
        if not isinstance(law.step, LinearStep) or law.step.spread.value == 0:
            return None
        if self._drawn is None or self._drawn[0].shape != like.shape or self._drawn[0].device != like.device:
            spread = law.step.spread.value
            up, down = (
                machine_normals(like.shape, like, f"{self._name}/slope {way}").mul_(spread)
                for way in ("up", "down")
            )
            self._drawn = up.add_(law.step.up.value).abs_(), down.add_(law.step.down.value).abs_()
        return self._drawn

    def put(self, digits: Tensor) -> None:
        """Set every cell exactly, but for stuck ones and a written offset column; digits as for `program`."""
        self._held.clear()
        plus, minus = to_pair(digits, self._crossbar, self._index)
        self._up.put(plus)
        if self._crossbar.mapping == "differential" or not self.minus.numel():
            self._down.put(minus)

    def digits(self) -> Tensor:
        """What the pairs stand for as written, in level steps, [..., n_out, n_in]."""
        minus = self._crossbar.cell.g_min.value if self._crossbar.is_single else self.minus
        return (self.plus - minus) * ((self._crossbar.cell.levels - 1) / self._crossbar.span)

    def at(self, seconds: float | None) -> None:
        """Reads come so long after programming; None is as described."""
        self._held.clear()
        self._up.elapsed = self._down.elapsed = seconds

    def state(self) -> dict[str, Tensor]:
        """The conductances as written, of each device."""
        return {"plus": self._up.each, "minus": self._down.each}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up a state of a tile, with the digits that it was to hold."""
        self._held.clear()
        plus, minus = to_pair(state["digits"], self._crossbar, self._index)
        self._up.restore(state["plus"], plus)
        self._down.restore(state["minus"], minus)

    def _difference(self, plus: Tensor, minus: Tensor) -> Tensor:
        """What bit lines find, in units of the conductance range: of two arrays, or of one and its column."""
        if self._crossbar.is_single:
            return plus / self._crossbar.span
        wires = self._crossbar.wires
        if wires is not None and self._crossbar.mapping == "offset":
            plus, minus = conducted(torch.cat([plus, minus], -2), wires).tensor_split([-1], -2)
        elif wires is not None:
            plus, minus = conducted_pairs(plus, minus, wires)
        return (plus - minus) / self._crossbar.span
