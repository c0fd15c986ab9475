"""The analog tile: an array of cell pairs between converters."""

import torch
from torch import Tensor

from ffebm.conductance import adc_range, full_scale, to_levels
from ffebm.errors import InternalError
from ffebm.hardware import Crossbar
from ffebm.runtime.tiles.cells import PairedCells
from ffebm.runtime.tiles.readout import Readout, readout
from ffebm.runtime.tiles.tile import Readings


class CrossbarTile:
    """Crossbars of one kind, one for each leading index of the weight.

    Programming scales a weight to the conductance range, rounds it to levels, writes a pair of cells each and
    sets the range of the ADCs from the levels. A read scales each input vector to its largest magnitude,
    converts it, multiplies it with the cells under read noise, and converts what comes out.
    """

    def __init__(self, crossbar: Crossbar, generator: torch.Generator) -> None:
        self._crossbar = crossbar
        self._generator = generator
        self._cells = PairedCells(crossbar, generator)
        self._scale: Tensor | None = None
        self._limits: tuple[Tensor, Tensor]
        self._readouts: dict[bool, Readout] = {}
        self._total = 0
        self._clipped: Tensor | None = None

    @property
    def clipped(self) -> float:
        """Share of the ADC readings since the tile was programmed that were beyond the range."""
        return self.readings().share

    @torch.no_grad()
    def program(self, weight: Tensor) -> None:
        """Quantise a weight, [..., n_out, n_in], and write it with programming noise."""
        n_out, n_in = weight.shape[-2:]
        if n_in > self._crossbar.rows or n_out > self._crossbar.cols:
            raise InternalError(
                f"a piece of {n_in} x {n_out} does not fit",
                allowed=f"a crossbar has {self._crossbar.rows} rows and {self._crossbar.cols} columns",
            )
        self._scale = full_scale(weight)
        levels = to_levels(weight, self._scale, self._crossbar.cell.levels)
        self._cells.program(levels)
        self._limits = adc_range(levels, self._crossbar), adc_range(levels.mT, self._crossbar)
        self._readouts.clear()
        self._total, self._clipped = 0, None

    @torch.no_grad()
    def read(self) -> Tensor:
        """The weight that the cells now hold, [..., n_out, n_in], without read noise."""
        return self._cells.held() * self._programmed()

    @torch.no_grad()
    def mvm(self, x: Tensor) -> Tensor:
        """[..., batch, n_in] -> [..., batch, n_out]."""
        return self._read(x, transposed=False)

    @torch.no_grad()
    def mvm_t(self, y: Tensor) -> Tensor:
        """[..., batch, n_out] -> [..., batch, n_in], through the same cells with ADC ranges of its own."""
        return self._read(y, transposed=True)

    @torch.no_grad()
    def update(self, step: Tensor) -> None:
        """Move the cells by a step in units of the weight, [..., n_out, n_in].

        Scale and ADC ranges stay as they were programmed; see `PairedCells.move` for the law.
        """
        self._cells.move(step / self._programmed())
        self._readouts.clear()

    def readings(self) -> Readings:
        """What the ADCs have read, in both directions, since the tile was programmed."""
        return Readings(self._total, 0 if self._clipped is None else int(self._clipped))

    def _programmed(self) -> Tensor:
        """The scale of the weight, [..., 1, 1]."""
        if self._scale is None:
            raise InternalError("a tile is used before it is programmed")
        return self._scale

    def _read(self, vectors: Tensor, *, transposed: bool) -> Tensor:
        scale = self._programmed()
        if transposed not in self._readouts:
            held = self._cells.held()
            self._readouts[transposed] = readout(
                held.mT if transposed else held, scale, self._limits[transposed], self._crossbar
            )
        out, clipped = self._readouts[transposed].read(vectors, self._generator)
        self._total += out.numel()
        self._clipped = clipped if self._clipped is None else self._clipped + clipped
        return out
