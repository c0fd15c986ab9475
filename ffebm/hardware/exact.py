"""A tile that computes exactly: the yardstick of all others, and their neutral answers."""

from typing import Literal

import msgspec

from ffebm.errors import InternalError
from ffebm.hardware.crossbar import Crossbar
from ffebm.hardware.devices.cell import Verify
from ffebm.hardware.devices.update import Update
from ffebm.hardware.quantity import Time


class Exact(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="exact"):
    """A tile that computes exactly, whatever the size of its matrices.

    It answers what every kind of tile answers: it has no cells, so nothing converts, drifts or is clipped.

    Attributes:
        read_time: Of one matrix-vector product.
        write_time: Of one update of everything on it.
    """

    read_time: Time
    write_time: Time

    @property
    def kind(self) -> Literal["exact"]:
        """Its name in a description and in a plan."""
        return "exact"

    @property
    def has_cells(self) -> bool:
        """Weights are conductances of cells on lines with converters."""
        return False

    @property
    def size(self) -> tuple[int, int] | None:
        """Most inputs and outputs; None: as many as a matrix has."""
        return None

    @property
    def slices(self) -> int:
        """Arrays over which a weight is spread."""
        return 1

    @property
    def converter_bits(self) -> tuple[int, int]:
        """Resolution of DACs and ADCs; 0 without."""
        return 0, 0

    @property
    def input_limit(self) -> float | None:
        """Largest input that is not clipped, where that is fixed."""
        return None

    @property
    def read_seconds(self) -> float:
        """One product of a matrix with a vector."""
        return self.read_time.value

    @property
    def update(self) -> Update | None:
        """How cells learn in place; None: a digital master copy learns."""
        return None

    @property
    def verify(self) -> Verify | None:
        """How cells are written again that missed their target."""
        return None

    @property
    def learns_in_place(self) -> bool:
        """Cells take the steps of training by a law of their own; else a digital master copy learns."""
        return False

    @property
    def drifts(self) -> bool:
        """Weights change with the time since they were programmed."""
        return False

    @property
    def follows_data(self) -> bool:
        """Some ranges of converters follow samples once a run has some."""
        return False

    @property
    def meaning(self) -> str:
        """What a conductance stands for, in words that tell one kind of cells from another."""
        return "exact"

    def crossbar(self) -> Crossbar:
        """The cells and converters, which a tile has that `has_cells`.

        Raises:
            InternalError: Always: it has none.
        """
        raise InternalError("an exact tile is asked for its cells")
