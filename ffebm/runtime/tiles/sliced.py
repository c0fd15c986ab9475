"""A weight whose digits are spread over several arrays."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from ffebm.hardware.description import Crossbar
from ffebm.plan.conductance import range_scale, to_digits, to_levels, weight_range
from ffebm.runtime.tiles.crossbar import BEYOND, CrossbarTile
from ffebm.runtime.tiles.lines.calibration import Calibration
from ffebm.runtime.tiles.tile import Health, Readings


class SlicedTile:
    """Bit slices: w = scale sum_k levels^k digit_k / top_level, one array with its own converters for each k.

    What the ADCs of the slices read is shifted and added digitally.

    Args:
        crossbar: What the tile is made of.
        make_slice: Makes the array of a slice.

    Source: Shafiee et al., ISCA 2016 (ISAAC, 10.1109/ISCA.2016.12).
    """

    def __init__(self, crossbar: Crossbar, make_slice: Callable[[int], CrossbarTile]) -> None:
        self._crossbar = crossbar
        self._slices = [make_slice(index) for index in range(crossbar.slices)]
        self._weights = Readings()

    @torch.no_grad()
    def program(self, weight: Tensor) -> None:
        """Quantise a weight, [..., n_out, n_in], and write its digits."""
        scale = weight_range(weight, self._crossbar, weight.shape[-1])
        self._weights = Readings(weight.numel(), int((weight.abs() > scale * BEYOND).sum()))
        digits = to_digits(to_levels(weight, scale, self._crossbar), self._crossbar)
        for index, (tile, digit) in enumerate(zip(self._slices, digits, strict=True)):
            tile.write(digit, range_scale(scale, self._crossbar, index))

    def read(self) -> Tensor:
        """The weight that the cells now hold, [..., n_out, n_in]."""
        return torch.stack([tile.read() for tile in self._slices]).sum(0)

    def mvm(self, x: Tensor) -> Tensor:
        """[..., batch, n_in] -> [..., batch, n_out]."""
        return torch.stack([tile.mvm(x) for tile in self._slices]).sum(0)

    def mvm_t(self, y: Tensor) -> Tensor:
        """[..., batch, n_out] -> [..., batch, n_in]."""
        return torch.stack([tile.mvm_t(y) for tile in self._slices]).sum(0)

    def update(self, step: Tensor) -> None:
        """Write the sum of what is held and a step, [..., n_out, n_in], anew: digits carry over."""
        self.program(self.read() + step)

    def readings(self) -> Readings:
        """Of all slices together."""
        return sum((tile.readings() for tile in self._slices), Readings())

    def health(self) -> Health:
        """Of all slices together; weights count once."""
        return replace(sum((tile.health() for tile in self._slices), Health()), weights=self._weights)

    def at(self, seconds: float | None) -> None:
        """Reads of all slices come so long after programming."""
        for tile in self._slices:
            tile.at(seconds)

    def calibrate(self, stage: Calibration) -> None:
        """Set the ADC ranges of each slice by data."""
        for tile in self._slices:
            tile.calibrate(stage)

    def state(self) -> dict[str, Tensor]:
        """Of all slices."""
        return {f"{n}.{key}": t for n, tile in enumerate(self._slices) for key, t in tile.state().items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up a state."""
        for n, tile in enumerate(self._slices):
            tile.restore({k.removeprefix(f"{n}."): t for k, t in state.items() if k.startswith(f"{n}.")})
