"""What a tile is.

One array serves both directions: `mvm` drives its inputs and reads its outputs, `mvm_t` drives its outputs
and reads its inputs. Leading dimensions stand for arrays of equal size side by side, each with cells
and converters of its own; where an input has size one there, the arrays share it. Nothing here is
differentiable: gradients of energy blocks come from their equilibria.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from ffebm.runtime.tiles.calibration import Calibration

SPREAD = "spread."
"""Begins the names, in a state, of what a calibration has found."""


@dataclass(frozen=True)
class Readings:
    """What the ADCs of a tile have read since it was programmed.

    Attributes:
        total: Readings of single lines.
        clipped: Those beyond the ADC's range.
    """

    total: int = 0
    clipped: int = 0

    @property
    def share(self) -> float:
        """Clipped readings as a share of all; 0 before the first."""
        return self.clipped / self.total if self.total else 0.0

    def __add__(self, other: "Readings") -> "Readings":
        return Readings(self.total + other.total, self.clipped + other.clipped)


class Tile(Protocol):
    """A stationary weight with its product, its transposed product and its update."""

    def program(self, weight: Tensor) -> None:
        """Write a weight, [..., n_out, n_in]."""

    def read(self) -> Tensor:
        """The weight that the tile now holds, [..., n_out, n_in]."""

    def mvm(self, x: Tensor) -> Tensor:
        """Products with the weight, [..., batch, n_in] -> [..., batch, n_out]."""

    def mvm_t(self, y: Tensor) -> Tensor:
        """Products with the transposed weight, [..., batch, n_out] -> [..., batch, n_in]."""

    def update(self, step: Tensor) -> None:
        """Add to the weight in place by the device's own law, [..., n_out, n_in]."""

    def readings(self) -> Readings:
        """What the ADCs have read since the tile was programmed."""

    def at(self, seconds: float | None) -> None:
        """Reads come so long after programming, as cells that drift then are; None is as described."""

    def calibrate(self, stage: Calibration) -> None:
        """Set the ranges of ADCs that follow data.

        Args:
            stage: "measure": from here on what reaches the ADCs is measured, and they neither clip nor round.
                "set" ends it and sets their ranges by it, in both directions; "drop" ends it.
        """

    def state(self) -> dict[str, Tensor]:
        """What the tile holds and what calibrations have found, for it to go on from; not its noise."""

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up a state of a tile like this one."""
