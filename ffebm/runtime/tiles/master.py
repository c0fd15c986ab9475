"""A weight on a tile and its digital master copy."""

from torch import Tensor

from ffebm.conductance import to_matrix
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

    def holding(self, weight: Tensor) -> Tile:
        """The tile, with the present value of a weight (in the layout of the source model)."""
        if self._changed(weight):
            self.tile.program(to_matrix(self._linear, weight.detach()))
            # An alias keeps the storage, so that its address is not given to another weight.
            self._master, self._version = weight.detach(), weight._version
        return self.tile

    def _changed(self, weight: Tensor) -> bool:
        master = self._master
        return (
            master is None
            or weight.data_ptr() != master.data_ptr()
            or weight._version != self._version
            or weight.shape != master.shape
            or weight.dtype != master.dtype
            or weight.device != master.device
        )
