"""Remedies for devices whose pulses are coarse or asymmetric."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from ffebm.hardware.description import Transfer, Update
from ffebm.runtime.tiles.crossbar import CrossbarTile
from ffebm.runtime.tiles.devices.choppers import Choppers
from ffebm.runtime.tiles.lines.calibration import Calibration
from ffebm.runtime.tiles.tile import Health, Readings


class AccumulatingTile:
    """Mixed precision: steps add up in a digital rest; whole pulses of it go to the cells.

    Args:
        tile: Holds the weight.
        law: Its update.

    Source: Nandakumar et al. 2020 (arXiv 2001.11773).
    """

    def __init__(self, tile: CrossbarTile, law: Update) -> None:
        self._tile = tile
        self._law = law
        self._rest = torch.empty(0)

    def program(self, weight: Tensor) -> None:
        """[..., n_out, n_in]; nothing is left to add."""
        self._tile.program(weight)
        self._rest = torch.zeros_like(weight)

    def read(self) -> Tensor:
        """What the cells hold, [..., n_out, n_in]."""
        return self._tile.read()

    def mvm(self, x: Tensor) -> Tensor:
        """[..., batch, n_in] -> [..., batch, n_out]."""
        return self._tile.mvm(x)

    def mvm_t(self, y: Tensor) -> Tensor:
        """[..., batch, n_out] -> [..., batch, n_in]."""
        return self._tile.mvm_t(y)

    @torch.no_grad()
    def update(self, step: Tensor) -> None:
        """Add to the rest, [..., n_out, n_in], and pulse the cells by the whole pulses in it."""
        pulse = self._law.pulse.value * self._tile.reach
        rest = self._rest + step
        # a part in a thousand: a pulse that rounding has left just short is a whole one
        whole = (rest / pulse * 1.001).trunc().clamp_(-self._law.pulses, self._law.pulses) * pulse
        self._rest = rest - whole
        self._tile.update(whole)

    @torch.no_grad()
    def remap(self) -> None:
        """Give the tile the range that its weights ask for now; what is left to add stays."""
        self._tile.remap()

    def readings(self) -> Readings:
        """Of the tile."""
        return self._tile.readings()

    def health(self) -> Health:
        """Of the tile, whose pulses are whole."""
        return self._tile.health()

    def at(self, seconds: float | None) -> None:
        """Reads of the tile come so long after programming."""
        self._tile.at(seconds)

    def calibrate(self, stage: Calibration) -> None:
        """Set the ADC ranges of the tile by data."""
        self._tile.calibrate(stage)

    def state(self) -> dict[str, Tensor]:
        """The cells and the rest."""
        return {**self._tile.state(), "rest": self._rest}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up a state."""
        self._tile.restore(state)
        self._rest = state["rest"]


class TransferTile:
    """Tiki-Taka: a fast array takes the steps and is read, now and then, into the slow one with the weight.

    The fast array starts at its symmetric point, where pulses up and down are equal and to which noise draws
    it back; what it holds is counted from there. A transfer reads it line by line through its converters.
    With a buffer what is read adds up digitally until it is worth whole pulses. With a chopper steps go to
    the fast array, and come back, with signs that flip.

    Args:
        array: Holds the weight.
        fast: Takes the steps.
        law: The update of both.
        remedy: When and how much is transferred.
        generator: Source of what a chopper flips.

    Source: Gokmen & Haensch 2020 (arXiv 1909.07908), with the fast array out of the forward pass; Gokmen 2021
    (TTv2, 10.3389/frai.2021.699148): buffer; Rasch et al. 2024 (10.1038/s41467-024-51221-z): choppers.
    """

    def __init__(
        self,
        array: CrossbarTile,
        fast: CrossbarTile,
        law: Update,
        remedy: Transfer,
        generator: torch.Generator,
    ) -> None:
        symmetric = law.symmetric_point
        self._array = array
        self._slow = AccumulatingTile(array, law) if remedy.buffered else array
        self._fast = fast
        self._symmetric = law.asymmetry.value if symmetric is None else symmetric
        self._remedy = remedy
        self._choppers = None if remedy.chopper is None else Choppers(remedy.chopper, generator)
        self._count = 0

    @property
    def _at_rest(self) -> Tensor:
        """The weight at the symmetric point of the fast array, [..., 1, 1] or [..., n_out, 1]."""
        return self._array.middle + self._symmetric * self._array.reach

    @torch.no_grad()
    def program(self, weight: Tensor) -> None:
        """[..., n_out, n_in]; the fast array holds nothing."""
        self._slow.program(weight)
        self._fast.hold(torch.full_like(weight, self._symmetric), self._array.reach)
        self._count = 0
        if self._choppers is not None:
            self._choppers.start(weight)

    def read(self) -> Tensor:
        """What the slow cells hold, [..., n_out, n_in]."""
        return self._slow.read()

    def mvm(self, x: Tensor) -> Tensor:
        """[..., batch, n_in] -> [..., batch, n_out]."""
        return self._slow.mvm(x)

    def mvm_t(self, y: Tensor) -> Tensor:
        """[..., batch, n_out] -> [..., batch, n_in]."""
        return self._slow.mvm_t(y)

    @torch.no_grad()
    def update(self, step: Tensor) -> None:
        """Pulse the fast array, [..., n_out, n_in]; transfer if it is time."""
        self._fast.update(step if self._choppers is None else step * self._choppers.signs)
        self._transfer()

    @torch.no_grad()
    def update_products(self, x: Tensor, d: Tensor) -> None:
        """Pulse the fast array by the outer products of an update; transfer if it is time.

        Args:
            x: [..., pairs, n_in].
            d: [..., pairs, n_out].
        """
        if self._choppers is not None:
            x, d = self._choppers.on_lines(x, d)
        self._fast.update_products(x, d)
        self._transfer()

    def _transfer(self) -> None:
        """An update is done: if it is time, read the fast array line by line, and pulse the slow one."""
        self._count += 1
        if self._count % self._remedy.every == 0:
            held = self._array.read()
            lines = torch.eye(held.shape[-1], dtype=held.dtype, device=held.device)
            found = self._fast.mvm(lines.expand(*held.shape[:-2], *lines.shape)).mT - self._at_rest
            if self._choppers is not None:
                found = found * self._choppers.signs
                self._choppers.transferred()
            self._slow.update(found * self._remedy.rate.value)

    @torch.no_grad()
    def remap(self) -> None:
        """Give both arrays the range that the weights ask for now; the fast one keeps what it has collected.

        It is set exactly, as when it is programmed, up to the end of its range.
        """
        collected = self._fast.read() - self._at_rest
        self._slow.remap()
        shares = (collected / self._array.reach + self._symmetric).clamp_(-1.0, 1.0)
        self._fast.hold(shares, self._array.reach)

    def readings(self) -> Readings:
        """Of the slow array: those that take part in products."""
        return self._slow.readings()

    def health(self) -> Health:
        """Of the slow array; steps are those of the fast one."""
        return replace(self._slow.health(), steps=self._fast.health().steps)

    def at(self, seconds: float | None) -> None:
        """Reads of both arrays come so long after programming."""
        self._slow.at(seconds)
        self._fast.at(seconds)

    def calibrate(self, stage: Calibration) -> None:
        """Set the ADC ranges of the slow array by data; the fast one is read line by line."""
        self._slow.calibrate(stage)

    def state(self) -> dict[str, Tensor]:
        """Both arrays, the choppers and the updates since programming."""
        found = {f"{name}.{key}": t for name, part in self._parts() for key, t in part.state().items()}
        return {**found, "count": torch.tensor(self._count)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up a state."""
        for name, part in self._parts():
            part.restore(
                {k.removeprefix(f"{name}."): t for k, t in state.items() if k.startswith(f"{name}.")}
            )
        self._count = int(state["count"])

    def _parts(self) -> Iterator[tuple[str, AccumulatingTile | CrossbarTile | Choppers]]:
        """What has a state, with the name that begins its own."""
        yield "slow", self._slow
        yield "fast", self._fast
        if self._choppers is not None:
            yield "chopper", self._choppers
