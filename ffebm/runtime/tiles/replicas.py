"""Copies of a weight that share its vectors out."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from ffebm.plan.schema import Piece
from ffebm.runtime.tiles.lines.calibration import Calibration
from ffebm.runtime.tiles.split import SplitTile
from ffebm.runtime.tiles.tile import Health, Readings, Tile


class ReplicatedTile:
    """Several tiles with one weight, each with cells, converters and noise of its own.

    Vector k of a sample goes to replica k modulo their number, in products and transposed products alike: so
    the error current of a window comes back through the cells that it went through. Writes and updates reach
    all; what is read is their mean.
    """

    def __init__(self, copies: Sequence[Tile]) -> None:
        """Take the copies, at least one."""
        self.copies = tuple(copies)

    def program(self, weight: Tensor) -> None:
        """[groups, n_out, n_in]."""
        for tile in self.copies:
            tile.program(weight)

    def read(self) -> Tensor:
        """[groups, n_out, n_in]."""
        first, *others = (tile.read() for tile in self.copies)
        # equal copies give exactly what one gives
        return first + sum((other - first for other in others), torch.zeros_like(first)) / len(self.copies)

    def mvm(self, x: Tensor) -> Tensor:
        """[groups, batch, n_in] -> [groups, batch, n_out], all vectors those of one sample."""
        return self.shared_out(x, torch.arange(x.shape[1], device=x.device))

    def mvm_t(self, y: Tensor) -> Tensor:
        """[groups, batch, n_out] -> [groups, batch, n_in], all vectors those of one sample."""
        return self.shared_out(y, torch.arange(y.shape[1], device=y.device), transposed=True)

    def shared_out(self, vectors: Tensor, numbers: Tensor, *, transposed: bool = False) -> Tensor:
        """Products, each by its replica.

        Args:
            vectors: [groups, batch, n_in], or [groups, batch, n_out] if transposed.
            numbers: Position of each vector in its sample, [batch].
            transposed: Products with the transposed weight.

        Returns:
            [groups, batch, n_out], or [groups, batch, n_in] if transposed.
        """
        whose = numbers % len(self.copies)
        shares = [(whose == number).nonzero()[:, 0] for number in range(len(self.copies))]
        products = [tile.mvm_t if transposed else tile.mvm for tile in self.copies]
        used = [number for number, own in enumerate(shares) if len(own)] or [0]
        made = [products[number](vectors[:, shares[number]]) for number in used]
        out = made[0].new_empty(*vectors.shape[:2], made[0].shape[-1])
        for number, some in zip(used, made, strict=True):
            out[:, shares[number]] = some
        return out

    def update(self, step: Tensor) -> None:
        """[groups, n_out, n_in]."""
        for tile in self.copies:
            tile.update(step)

    def readings(self) -> Readings:
        """Of all copies together."""
        return sum((tile.readings() for tile in self.copies), Readings())

    def health(self) -> Health:
        """Of all copies together."""
        return sum((tile.health() for tile in self.copies), Health())

    def at(self, seconds: float | None) -> None:
        """Reads of all copies come so long after programming."""
        for tile in self.copies:
            tile.at(seconds)

    def calibrate(self, stage: Calibration) -> None:
        """Set the ranges of each copy by data."""
        for tile in self.copies:
            tile.calibrate(stage)

    def state(self) -> dict[str, Tensor]:
        """Of all copies."""
        return {f"replica{n}.{k}": t for n, tile in enumerate(self.copies) for k, t in tile.state().items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up a state."""
        for n, tile in enumerate(self.copies):
            prefix = f"replica{n}."
            tile.restore({k.removeprefix(prefix): t for k, t in state.items() if k.startswith(prefix)})


def tile_of(pieces: Sequence[Piece], make_tile: Callable[[], Tile]) -> Tile:
    """The pieces of a weight as one tile: one copy of it, or its replicas."""
    replicas: dict[int, list[Piece]] = {}
    for piece in pieces:
        replicas.setdefault(piece.replica, []).append(piece)
    copies = [SplitTile(replicas[number], make_tile) for number in sorted(replicas)]
    return copies[0] if len(copies) == 1 else ReplicatedTile(copies)
