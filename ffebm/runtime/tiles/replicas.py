"""Copies of a weight that share its vectors out."""

from collections.abc import Callable, Mapping, Sequence

import torch
from msgspec.structs import replace
from torch import Tensor

from ffebm.plan.schema import Piece
from ffebm.runtime.tiles.lines.calibration import Calibration
from ffebm.runtime.tiles.split import SplitTile
from ffebm.runtime.tiles.tile import Health, Readings, Tile, remapped, update_products


class ReplicatedTile:
    """Several copies of one weight, each on cells and converters of its own, that work side by side.

    Vector k of a sample goes to copy k modulo their number, in products and transposed products alike: so the
    error current of a window comes back through the cells that it went through. Writes and updates reach all;
    what is read is their mean. A copy that has fewer vectors than others reads its first one again, and what
    that gives counts only among the readings of its converters.

    Args:
        tile: Holds the matrices of all copies, [copies * groups, n_out, n_in], copy by copy.
        copies: How many there are.
        weight: Its name, for messages.
    """

    def __init__(self, tile: Tile, copies: int, weight: str = "") -> None:
        self.tile = tile
        self.copies = copies
        self._weight = weight

    def program(self, weight: Tensor) -> None:
        """[groups, n_out, n_in]."""
        self.tile.program(weight.repeat(self.copies, 1, 1))

    def each(self) -> Tensor:
        """What every copy holds, [copies, groups, n_out, n_in]."""
        held: Tensor = self.tile.read()
        return held.view(self.copies, len(held) // self.copies, *held.shape[1:])

    def read(self) -> Tensor:
        """[groups, n_out, n_in]."""
        first, *others = self.each()
        # equal copies give exactly what one gives
        mean: Tensor = first + sum((other - first for other in others), torch.zeros_like(first)) / self.copies
        return mean

    def mvm(self, x: Tensor) -> Tensor:
        """[groups, batch, n_in] -> [groups, batch, n_out], all vectors those of one sample."""
        return self.shared_out(x, torch.arange(x.shape[1], device=x.device))

    def mvm_t(self, y: Tensor) -> Tensor:
        """[groups, batch, n_out] -> [groups, batch, n_in], all vectors those of one sample."""
        return self.shared_out(y, torch.arange(y.shape[1], device=y.device), transposed=True)

    def shared_out(self, vectors: Tensor, numbers: Tensor, *, transposed: bool = False) -> Tensor:
        """Products, each by its copy.

        Args:
            vectors: [groups, batch, n_in], or [groups, batch, n_out] if transposed.
            numbers: Position of each vector in its sample, [batch].
            transposed: Products with the transposed weight.

        Returns:
            [groups, batch, n_out], or [groups, batch, n_in] if transposed.
        """
        (groups, batch, lines), columns = vectors.shape, vectors.mT  # vectors beside each other, as they lie
        if self._in_turn(numbers):
            most = batch // self.copies
            shares = columns.reshape(groups, lines, most, self.copies).permute(3, 0, 1, 2).flatten(0, 1)
            made = self._products(shares, transposed=transposed)
            return made.permute(1, 2, 3, 0).reshape(groups, -1, batch).mT
        taken, back = self._shares(numbers)
        shares = columns.index_select(2, taken).reshape(groups, lines, self.copies, -1)
        made = self._products(shares.permute(2, 0, 1, 3).flatten(0, 1), transposed=transposed)
        return made.permute(1, 2, 0, 3).flatten(2).index_select(2, back).mT

    def _products(self, shares: Tensor, *, transposed: bool) -> Tensor:
        """Of all copies: [copies * groups, lines, batch] -> [copies, groups, lines, batch]."""
        made = self.tile.mvm_t(shares.mT) if transposed else self.tile.mvm(shares.mT)
        return made.mT.reshape(self.copies, len(shares) // self.copies, *made.mT.shape[1:])

    def _in_turn(self, numbers: Tensor) -> bool:
        """Whether the vectors go to the first copy, the second and so on again and again, to all alike."""
        if not len(numbers) or len(numbers) % self.copies:
            return False
        turns = torch.arange(self.copies, device=numbers.device)
        return bool(((numbers % self.copies).view(-1, self.copies) == turns).all())

    def _shares(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Which vector each copy takes, [copies * most], and where each vector then is, [batch]."""
        if not len(numbers):
            return numbers, numbers
        whose = numbers % self.copies
        order, counts = torch.argsort(whose, stable=True), torch.bincount(whose, minlength=self.copies)
        first = counts.cumsum(0) - counts
        rank = torch.empty_like(order)
        rank[order] = torch.arange(len(order), device=order.device) - first[whose[order]]
        most = int(counts.max())
        back = whose * most + rank
        taken = order[first.clamp(max=len(order) - 1)].repeat_interleave(most)
        taken[back] = torch.arange(len(order), device=order.device)
        return taken, back

    def update(self, step: Tensor) -> None:
        """[groups, n_out, n_in]."""
        self.tile.update(step.repeat(self.copies, 1, 1))

    def update_products(self, x: Tensor, d: Tensor) -> None:
        """All copies take all outer products, by trains of their own.

        Args:
            x: [groups, pairs, n_in].
            d: [groups, pairs, n_out].
        """
        update_products(self.tile, x.repeat(self.copies, 1, 1), d.repeat(self.copies, 1, 1))

    def remap(self) -> None:
        """Write anew what each copy holds, in a range that its weights ask for now.

        Raises:
            UsageError: If a tile of one's own cannot do so.
        """
        remapped(self.tile, self._weight)

    def readings(self) -> Readings:
        """Of all copies together."""
        return self.tile.readings()

    def health(self) -> Health:
        """Of all copies together."""
        return self.tile.health()

    def at(self, seconds: float | None) -> None:
        """Reads of all copies come so long after programming."""
        self.tile.at(seconds)

    def calibrate(self, stage: Calibration) -> None:
        """Set the ranges of each copy by data."""
        self.tile.calibrate(stage)

    def state(self) -> dict[str, Tensor]:
        """Of all copies."""
        return self.tile.state()

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up a state."""
        self.tile.restore(state)


class TwoWayTile:
    """A weight on arrays for its products and others for transposed ones, as circuits that settle take it.

    Both are written, learn and are remapped alike, each with errors of its own; what is read is their mean.

    Args:
        forward: Holds the matrices, [groups, n_out, n_in].
        back: Holds their transposes, [groups, n_in, n_out].
        weight: Its name, for messages.
    """

    def __init__(self, forward: Tile, back: Tile, weight: str = "") -> None:
        self.forward = forward
        self.back = back
        self._weight = weight

    def program(self, weight: Tensor) -> None:
        """[groups, n_out, n_in]."""
        self.forward.program(weight)
        self.back.program(weight.mT)

    def read(self) -> Tensor:
        """[groups, n_out, n_in]."""
        there: Tensor = self.forward.read()
        return there + (self.back.read().mT - there) / 2  # equal ones give exactly what one gives

    def mvm(self, x: Tensor) -> Tensor:
        """[groups, batch, n_in] -> [groups, batch, n_out]."""
        return self.forward.mvm(x)

    def mvm_t(self, y: Tensor) -> Tensor:
        """[groups, batch, n_out] -> [groups, batch, n_in]."""
        return self.back.mvm(y)

    def shared_out(self, vectors: Tensor, numbers: Tensor, *, transposed: bool = False) -> Tensor:
        """Products, each by its copy, as `ReplicatedTile.shared_out`."""
        tile = self.back if transposed else self.forward
        return tile.shared_out(vectors, numbers) if isinstance(tile, ReplicatedTile) else tile.mvm(vectors)

    def update(self, step: Tensor) -> None:
        """[groups, n_out, n_in]."""
        self.forward.update(step)
        self.back.update(step.mT)

    def update_products(self, x: Tensor, d: Tensor) -> None:
        """Both take the outer products, by trains of their own.

        Args:
            x: [groups, pairs, n_in].
            d: [groups, pairs, n_out].
        """
        update_products(self.forward, x, d)
        update_products(self.back, d, x)

    def remap(self) -> None:
        """Write anew what each array holds, in a range that its weights ask for now.

        Raises:
            UsageError: If a tile of one's own cannot do so.
        """
        remapped(self.forward, self._weight)
        remapped(self.back, self._weight)

    def readings(self) -> Readings:
        """Of both."""
        return self.forward.readings() + self.back.readings()

    def health(self) -> Health:
        """Of both."""
        return self.forward.health() + self.back.health()

    def at(self, seconds: float | None) -> None:
        """Reads of both come so long after programming."""
        self.forward.at(seconds)
        self.back.at(seconds)

    def calibrate(self, stage: Calibration) -> None:
        """Set the ranges of both by data."""
        self.forward.calibrate(stage)
        self.back.calibrate(stage)

    def state(self) -> dict[str, Tensor]:
        """Of both."""
        ways = {"forward": self.forward, "back": self.back}
        return {f"{way}.{key}": t for way, tile in ways.items() for key, t in tile.state().items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up a state."""
        for way, tile in (("forward.", self.forward), ("back.", self.back)):
            tile.restore({k.removeprefix(way): t for k, t in state.items() if k.startswith(way)})


def tile_of(pieces: Sequence[Piece], make_tile: Callable[[], Tile]) -> Tile:
    """The pieces of a weight as one tile: one copy of it, its replicas, with transposes or without."""
    turned = [
        replace(piece, inputs=piece.outputs, outputs=piece.inputs, transposed=False)
        for piece in pieces
        if piece.transposed
    ]
    if turned:
        forward = tile_of([piece for piece in pieces if not piece.transposed], make_tile)
        return TwoWayTile(forward, tile_of(turned, make_tile), pieces[0].weight)
    copies = 1 + max(piece.replica for piece in pieces)
    if copies == 1:
        return SplitTile(pieces, make_tile)
    groups = 1 + max(piece.group for piece in pieces)
    apart = [replace(piece, group=piece.group + groups * piece.replica, replica=0) for piece in pieces]
    return ReplicatedTile(SplitTile(apart, make_tile), copies, pieces[0].weight)
