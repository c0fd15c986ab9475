"""What a tile is.

One array serves both directions: `mvm` drives its inputs and reads its outputs, `mvm_t` drives its outputs
and reads its inputs. Leading dimensions stand for arrays of equal size side by side, each with cells
and converters of its own; where an input has size one there, the arrays share it. Nothing here is
differentiable: gradients of energy blocks come from their equilibria.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from ffebm.errors import InternalError, UsageError
from ffebm.runtime.tiles.lines.calibration import Calibration
from ffebm.visible import visible

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


@dataclass(frozen=True)
class Health:
    """What of a tile has met an end of its range since it was programmed: all, and those beyond.

    Attributes:
        weights: Weights at or beyond the end of the range of weights.
        inputs: Conversions of DACs with a range of their own, clipped ones.
        readings: Readings of ADCs, clipped ones.
        steps: Steps of cells that learn in place, those below a pulse: each gets one by chance, or none.
    """

    weights: Readings = Readings()
    inputs: Readings = Readings()
    readings: Readings = Readings()
    steps: Readings = Readings()

    def __add__(self, other: "Health") -> "Health":
        return Health(
            self.weights + other.weights,
            self.inputs + other.inputs,
            self.readings + other.readings,
            self.steps + other.steps,
        )


def limits_met(found: Mapping[str, Health], least: float = 1e-3) -> Iterator[str]:
    """A line for each weight of which a share of at least `least` has met an end of its range."""
    for name, health in found.items():
        shares = {
            "weights at the end of their range": health.weights.share,
            "inputs clipped by DACs": health.inputs.share,
            "readings clipped by ADCs": health.readings.share,
            "steps below a pulse": health.steps.share,
        }
        said = [f"{100 * share:.1f} % of {what}" for what, share in shares.items() if share >= least]
        if said:
            yield f"{name}: {', '.join(said)}"


def remapped(tile: object, weight: str) -> None:
    """Have a tile that learns in place write what it holds anew, in a range that follows it.

    Args:
        tile: The tile; one of your own need not be able to do so.
        weight: Whose tile it is, for the message.

    Raises:
        UsageError: If it cannot do so.
    """
    remap = getattr(tile, "remap", None)
    if not callable(remap):
        raise UsageError(
            f"the tile for {visible(weight)!r}, a {type(tile).__name__}, cannot be remapped",
            allowed="tiles with a method remap()",
        )
    remap()


@runtime_checkable
class TakesProducts(Protocol):
    """A tile whose cells learn by the vectors on both of their lines."""

    def update_products(self, x: Tensor, d: Tensor) -> None:
        """Add d x^T for one pair after the other: [..., pairs, n_in] and [..., pairs, n_out]."""


def update_products(tile: object, x: Tensor, d: Tensor) -> None:
    """Have a tile take outer products.

    Args:
        tile: One that can.
        x: Vectors on word lines, [..., pairs, n_in].
        d: Those on bit lines, [..., pairs, n_out].
    """
    if not isinstance(tile, TakesProducts):
        raise InternalError(f"a {type(tile).__name__} takes no outer products")
    tile.update_products(x, d)


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

    def health(self) -> Health:
        """What has met an end of its range since the tile was programmed."""

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
