"""The exact tile: the yardstick of all others."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ffebm.errors import InternalError
from ffebm.runtime.tiles.lines.calibration import Calibration
from ffebm.runtime.tiles.tile import Health, Readings


class IdealTile:
    """Holds its weight exactly; `mvm` is `torch.matmul`."""

    def __init__(self) -> None:
        self._weight: Tensor | None = None

    def program(self, weight: Tensor) -> None:
        """Copy a weight, [..., n_out, n_in]."""
        self._weight = weight.detach().clone()

    def read(self) -> Tensor:
        """A copy of the weight, [..., n_out, n_in]."""
        return self._programmed().clone()

    @torch.no_grad()
    def mvm(self, x: Tensor) -> Tensor:
        """[..., batch, n_in] -> [..., batch, n_out]."""
        return torch.matmul(x, self._programmed().mT)

    @torch.no_grad()
    def mvm_t(self, y: Tensor) -> Tensor:
        """[..., batch, n_out] -> [..., batch, n_in]."""
        return torch.matmul(y, self._programmed())

    @torch.no_grad()
    def update(self, step: Tensor) -> None:
        """Add exactly, [..., n_out, n_in]."""
        self._weight = self._programmed() + step

    def readings(self) -> Readings:
        """None: an exact tile has no converters."""
        return Readings()

    def health(self) -> Health:
        """Nothing: an exact tile has no ranges."""
        return Health()

    def at(self, seconds: float | None) -> None:
        """Nothing: an exact tile does not drift."""

    def calibrate(self, stage: Calibration) -> None:
        """Nothing: an exact tile has no converters."""

    def state(self) -> dict[str, Tensor]:
        """The weight."""
        return {"weight": self._programmed()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up a state."""
        self._weight = state["weight"]

    def _programmed(self) -> Tensor:
        if self._weight is None:
            raise InternalError("a tile is used before it is programmed")
        return self._weight
