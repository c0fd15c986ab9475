"""Pairs of memory cells, or single ones, as weights: how these are written, read and learn."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ffebm.hardware.description import Crossbar, LinearStep, Update
from ffebm.plan.conductance import to_pair
from ffebm.runtime.tiles.devices.cell_array import CellArray
from ffebm.runtime.tiles.devices.pulses import Slopes, pulsed, struck_
from ffebm.runtime.tiles.devices.trains import coincidences
from ffebm.runtime.tiles.devices.wires import conducted, conducted_pairs
from ffebm.runtime.tiles.noise import machine_normals


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
