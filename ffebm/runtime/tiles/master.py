"""A weight on a tile and its digital master copy."""

import torch
from torch import Tensor

from ffebm.conductance import from_matrix, to_matrix
from ffebm.ir import Linear
from ffebm.runtime.tiles.tile import Tile


class MasteredTile:
    """A tile that follows a parameter: it is programmed when the parameter has changed, once for each change.

    Interactions that share a weight share this object, so that they meet the same cells. Changes are seen as
    autograd sees them; one made through `.data` in place is not.
    """

    def __init__(self, linear: Linear, tile: Tile) -> None:
        """Take a tile for the weight of `linear`, as the matrices [groups, n_out, n_in]."""
        self.tile = tile
        self._linear = linear
        self._master: Tensor | None = None
        self._version = -1
        self._held: Tensor | None = None

    def holding(self, weight: Tensor) -> Tile:
        """The tile, with the present value of a weight (in the layout of the source model)."""
        if self._changed(weight):
            self.tile.program(to_matrix(self._linear, weight.detach()))
            self._held = None
            self._know(weight)
        return self.tile

    @property
    def is_learning(self) -> bool:
        """The cells, not a master copy, say what the weight is."""
        return self._held is not None

    @torch.no_grad()
    def learn(self, weight: Tensor) -> None:
        """Learn in place: a change of a parameter is a step of the cells, whose value the parameter then has.

        Args:
            weight: The parameter; its first value is programmed.
        """
        if not self._changed(weight):
            return
        if self._held is None:
            self.tile.program(to_matrix(self._linear, weight))
        else:
            self.tile.update(to_matrix(self._linear, weight) - self._held)
        self.show(weight)

    @torch.no_grad()
    def show(self, weight: Tensor) -> None:
        """Give a parameter the value that the cells hold."""
        weight.copy_(from_matrix(self._linear, self.tile.read(), tuple(weight.shape)))
        self._held = to_matrix(self._linear, weight.detach().clone())
        self._know(weight)

    def _know(self, weight: Tensor) -> None:
        # An alias keeps the storage, so that its address is not given to another weight.
        self._master, self._version = weight.detach(), weight._version

    def _changed(self, weight: Tensor) -> bool:
        """Another value than that of the last time; a copy with the same value is the same."""
        master = self._master
        if (
            master is None
            or weight.shape != master.shape
            or weight.dtype != master.dtype
            or weight.device != master.device
        ):
            return True
        if weight.data_ptr() == master.data_ptr():
            return weight._version != self._version
        return master._version != self._version or not torch.equal(weight, master)
