"""A linear map whose weight lies on tiles."""

from collections.abc import Callable, Sequence
from math import prod

import torch
from torch import Tensor

from ffebm.hardware import Crossbar
from ffebm.ir import Linear
from ffebm.plan import Piece
from ffebm.runtime.tiles.crossbar import CrossbarTile
from ffebm.runtime.tiles.master import MasteredTile
from ffebm.runtime.tiles.split import SplitTile
from ffebm.runtime.tiles.tile import Tile
from ffebm.runtime.tiles.window import Window

CHUNK = 2**21
"""Numbers that a tile is driven with at once: few enough to stay in a processor's cache."""


Product = Callable[[Tensor], Tensor]
"""A tile's `mvm` or `mvm_t`, or what is made of it."""


class TileProjection:
    """`W z` and `W^T y` on a tile, without bias.

    A convolution drives the tile with one window of the image after the other; samples go through in chunks.
    """

    def __init__(self, linear: Linear, array: MasteredTile) -> None:
        self._linear = linear
        self._array = array

    @torch.no_grad()
    def product(self, z: Tensor, weight: Tensor) -> Tensor:
        """W z.

        Args:
            z: [batch, channels, *size] of a convolution, [batch, ..., n_in] of a matrix.
            weight: The parameter, in the layout of the source model; the tile is programmed if it changed.
        """
        run = self._array.holding(weight).mvm
        if self._linear.op == "MatMul":
            return _on_last_axis(run, z)
        window = Window.of(self._linear, weight)
        if self._linear.op == "Conv":
            return self._gather(run, z, window, window.counts(z.shape[2:]))
        return self._scatter(run, z, window, window.size(z.shape[2:], self._linear.output_padding))

    @torch.no_grad()
    def product_t(self, y: Tensor, weight: Tensor, shape_of_z: Sequence[int]) -> Tensor:
        """W^T y.

        Args:
            y: What `product` returns.
            weight: As for `product`.
            shape_of_z: Shape of z; its batch does not matter and may be left out.
        """
        run = self._array.holding(weight).mvm_t
        if self._linear.op == "MatMul":
            return _on_last_axis(run, y)
        window = Window.of(self._linear, weight)
        size = tuple(shape_of_z[-len(window.kernel) :])
        if self._linear.op == "Conv":
            return self._scatter(run, y, window, size)
        return self._gather(run, y, window, size)

    def _gather(self, run: Product, image: Tensor, window: Window, counts: Sequence[int]) -> Tensor:
        """Windows of an image through the tile: [batch, channels, *size] -> [batch, channels, *counts]."""

        def gathered(part: Tensor) -> Tensor:
            columns = window.unfold(part, counts).reshape(self._linear.groups, -1, len(part) * prod(counts))
            return run(columns.mT).mT.reshape(-1, len(part), *counts).transpose(0, 1)

        return _by_chunks(gathered, image, image.shape[1] * prod(window.kernel) * prod(counts))

    def _scatter(self, run: Product, image: Tensor, window: Window, size: Sequence[int]) -> Tensor:
        """Pixels through the tile into windows: [batch, channels, *counts] -> [batch, channels, *size]."""
        counts = image.shape[2:]

        def scattered(part: Tensor) -> Tensor:
            pixels = part.transpose(0, 1).reshape(self._linear.groups, -1, len(part) * prod(counts))
            columns = run(pixels.mT).mT.reshape(-1, *window.kernel, len(part), *counts)
            return window.fold(columns, size)

        return _by_chunks(scattered, image, image.shape[1] * prod(window.kernel) * prod(counts))


def crossbar_projection(
    linear: Linear, pieces: Sequence[Piece], crossbar: Crossbar, generator: torch.Generator
) -> TileProjection:
    """A linear map on crossbars.

    Args:
        linear: The map.
        pieces: Where its weight lies.
        crossbar: What the tiles are.
        generator: Source of all noise.
    """

    def make_tile() -> Tile:
        return CrossbarTile(crossbar, generator)

    return TileProjection(linear, MasteredTile(linear, SplitTile(pieces, make_tile)))


def _on_last_axis(run: Product, values: Tensor) -> Tensor:
    """[batch, ..., n] through a tile of one group."""
    out = run(values.reshape(1, -1, values.shape[-1]))
    return out.reshape(*values.shape[:-1], out.shape[-1])


def _by_chunks(run: Product, image: Tensor, a_sample: int) -> Tensor:
    """Apply a function to so many samples at a time that their columns stay below `CHUNK`."""
    parts = torch.split(image, max(1, CHUNK // max(1, a_sample)))
    return torch.cat([run(part) for part in parts])
