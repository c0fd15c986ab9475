"""A linear map whose weight lies on tiles."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from math import prod

import torch
from torch import Tensor

from ffebm.hardware import Crossbar, Transfer
from ffebm.ir import Linear
from ffebm.plan import Piece
from ffebm.runtime.tiles.crossbar import CrossbarTile
from ffebm.runtime.tiles.master import MasteredTile
from ffebm.runtime.tiles.noise import FrozenNoise
from ffebm.runtime.tiles.remedies import AccumulatingTile, TransferTile
from ffebm.runtime.tiles.sliced import SlicedTile
from ffebm.runtime.tiles.split import SplitTile
from ffebm.runtime.tiles.tile import Tile
from ffebm.runtime.tiles.window import Window

CHUNK = 2**19
"""Numbers on the lines of a tile at once: few enough to stay in a processor's cache."""

DEVICE_CHUNK = 2**26
"""The same on an accelerator: enough to keep it busy, few enough for its memory."""


Product = Callable[[Tensor], Tensor]
"""A tile's `mvm` or `mvm_t`, or what is made of it."""


class TileProjection:
    """`W z` and `W^T y` on a tile, without bias.

    A convolution drives the tile with one window of the image after the other; samples go through in chunks.

    Args:
        linear: The map.
        array: The tile with the weight.
        frozen: Noise of a circuit that settles by itself.
        number: Which of the projections with that noise this is.

    Attributes:
        array: The tile with the weight; projections of one weight can share it.
    """

    def __init__(
        self, linear: Linear, array: MasteredTile, frozen: FrozenNoise | None = None, number: int = 0
    ) -> None:
        self._linear = linear
        self.array = array
        self._frozen = frozen
        self._number = number

    @torch.no_grad()
    def product(self, z: Tensor, weight: Tensor) -> Tensor:
        """W z.

        Args:
            z: [batch, channels, *size] of a convolution, [batch, ..., n_in] of a matrix.
            weight: The parameter, in the layout of the source model; the tile is programmed if it changed.
        """
        run = self._ready(weight, 0).mvm
        if self._linear.op == "MatMul":
            return self._by_rows(run, z, weight)
        window = Window.of(self._linear, weight)
        if self._linear.op == "Conv":
            counts = window.counts(z.shape[2:])
            return self._by_chunks(partial(self._gather, run, window, counts), z, weight, counts)
        size = window.size(z.shape[2:], self._linear.output_padding)
        return self._by_chunks(partial(self._scatter, run, window, size), z, weight, z.shape[2:])

    @torch.no_grad()
    def product_t(self, y: Tensor, weight: Tensor, shape: tuple[int, ...]) -> Tensor:
        """W^T y.

        Args:
            y: What `product` returns.
            weight: As for `product`.
            shape: Shape of z without the batch.
        """
        run = self._ready(weight, 1).mvm_t
        if self._linear.op == "MatMul":
            return self._by_rows(run, y, weight)
        window = Window.of(self._linear, weight)
        size = tuple(shape[-len(window.kernel) :])
        if self._linear.op == "Conv":
            return self._by_chunks(partial(self._scatter, run, window, size), y, weight, y.shape[2:])
        return self._by_chunks(partial(self._gather, run, window, size), y, weight, size)

    def _ready(self, weight: Tensor, direction: int) -> Tile:
        """The tile with the weight on it, before a read."""
        tile = self.array.holding(weight)
        if self._frozen is not None:
            self._frozen.announce(2 * self._number + direction)
        return tile

    def _by_rows(self, run: Product, values: Tensor, weight: Tensor) -> Tensor:
        """The last axis through the tile: [batch, ..., n] -> [batch, ..., m]."""
        rows = values.reshape(-1, values.shape[-1])
        out = self._by_chunks(lambda part: run(part[None])[0], rows, weight, ())
        return out.reshape(*values.shape[:-1], out.shape[-1])

    def _gather(self, run: Product, window: Window, counts: Sequence[int], image: Tensor) -> Tensor:
        """Windows of an image through the tile: [batch, channels, *size] -> [batch, channels, *counts]."""
        columns = window.unfold(image, counts).flatten(0, len(counts))
        return self._through(run, columns).transpose(0, 1)

    def _scatter(self, run: Product, window: Window, size: Sequence[int], image: Tensor) -> Tensor:
        """Pixels through the tile into windows: [batch, channels, *counts] -> [batch, channels, *size]."""
        lines = self._through(run, image.transpose(0, 1))
        channels = len(lines) // prod(window.kernel)
        columns = lines.reshape(channels, *window.kernel, *lines.shape[1:])
        return window.fold(columns, size)

    def _through(self, run: Product, lines: Tensor) -> Tensor:
        """Lines of all groups through the tile: [lines, batch, *counts] -> [lines, batch, *counts]."""
        groups, uses = self._linear.groups, lines.shape[1:]
        out = run(lines.reshape(groups, len(lines) // groups, prod(uses)).mT).mT
        return out.reshape(groups * out.shape[1], *uses)

    def _by_chunks(self, run: Product, values: Tensor, weight: Tensor, counts: Sequence[int]) -> Tensor:
        """Apply `run` to some samples at a time, each of which drives the tile `counts` times."""
        n_lines = max(len(weight), self._linear.groups * weight[0].numel())
        chunk = CHUNK if values.device.type == "cpu" else DEVICE_CHUNK
        n_samples = max(1, chunk // (n_lines * max(1, prod(counts))))
        first, *others = torch.split(values, n_samples)
        made = run(first)
        if not others:
            return made.contiguous()
        out = made.new_empty(len(values), *made.shape[1:])
        out[:n_samples] = made
        for k, part in enumerate(others, 1):
            out[k * n_samples : (k + 1) * n_samples] = run(part)
        return out


def crossbar_projection(
    linear: Linear,
    pieces: Sequence[Piece],
    crossbar: Crossbar,
    generator: torch.Generator,
    machine: str = "0",
    frozen: FrozenNoise | None = None,
) -> TileProjection:
    """A linear map on crossbars.

    Args:
        linear: The map.
        pieces: Where its weight lies.
        crossbar: What the tiles are.
        generator: Source of all noise.
        machine: Name of the machine: what was drawn when its cells and converters were made follows from it.
        frozen: Read noise of a circuit that settles by itself.
    """
    numbers = count()

    def make() -> Tile:
        return make_tile(crossbar, generator, f"{machine}/{linear.weight}/{next(numbers)}", frozen)

    return TileProjection(linear, MasteredTile(linear, SplitTile(pieces, make)), frozen)


def make_tile(
    crossbar: Crossbar, generator: torch.Generator, name: str, frozen: FrozenNoise | None = None
) -> Tile:
    """A tile as it is described; `name` is its own in its machine."""
    if crossbar.slices > 1:
        return SlicedTile(crossbar, lambda k: CrossbarTile(crossbar, generator, f"{name}/slice {k}", k))
    tile, law = CrossbarTile(crossbar, generator, name, frozen=frozen), crossbar.update
    if law is None or law.remedy is None:
        return tile
    if isinstance(law.remedy, Transfer):
        return TransferTile(tile, CrossbarTile(crossbar, generator, f"{name}/fast"), law, law.remedy)
    return AccumulatingTile(tile, law)
