"""A linear map whose weight lies on tiles."""

from collections.abc import Callable, Sequence
from itertools import count
from math import prod

import torch
from torch import Tensor

from ffebm.graph.energy_block import Linear
from ffebm.hardware.description import Crossbar, Transfer
from ffebm.plan.schema import Piece
from ffebm.runtime.tiles.crossbar import CommonRange, CrossbarTile
from ffebm.runtime.tiles.master import MasteredTile
from ffebm.runtime.tiles.noise import FrozenNoise
from ffebm.runtime.tiles.remedies import AccumulatingTile, TransferTile
from ffebm.runtime.tiles.replicas import ReplicatedTile, TwoWayTile, tile_of
from ffebm.runtime.tiles.sliced import SlicedTile
from ffebm.runtime.tiles.tile import Tile
from ffebm.runtime.tiles.unfolding import Unfolding, bands

CHUNK = 2**19
"""Numbers on the lines of a tile at once, 2 MiB of float32: few enough to stay in a processor's cache."""

DEVICE_CHUNK = 2**26
"""The same on an accelerator: enough to keep it busy, few enough for its memory."""


Numbers = Callable[[], Tensor]
"""Positions of vectors in their samples, [batch]; asked only where replicas share them out."""

Pooled = tuple[Tensor, Tensor | None]
"""Values, [batch, channels, *size], and where maxima were found."""

PoolProducts = Callable[[Tensor], Pooled]
"""Makes them of the products of some samples, [some, channels, *size]."""

Product = Callable[[Tensor, Numbers], Tensor]
"""A tile's `mvm` or `mvm_t`, [groups, batch, n] -> [groups, batch, m]."""


class TileProjection:
    """`W z` and `W^T y` on a tile, without bias.

    A convolution drives the tile with one window of the image after the other. Samples, and the windows of a
    large image, go through in chunks: memory beyond operands and results does not grow with the image. Chunks
    follow from shapes alone. They change no product but for the rounding of its sums; read noise is drawn
    chunk by chunk, so other chunks (those of an accelerator) meet other numbers of the same law.

    Args:
        linear: The map.
        array: The tile with the weight.
        frozen: Noise of a circuit that settles by itself.
        number: Which of the projections with that noise this is.
        first: Copy of the weight that takes the first vector of a sample.

    Attributes:
        array: The tile with the weight; projections of one weight can share it.
    """

    def __init__(
        self,
        linear: Linear,
        array: MasteredTile,
        frozen: FrozenNoise | None = None,
        number: int = 0,
        first: int = 0,
    ) -> None:
        self._linear = linear
        self.array = array
        self._frozen = frozen
        self._number = number
        self._first = first

    @torch.no_grad()
    def product(self, z: Tensor, weight: Tensor) -> Tensor:
        """W z.

        Args:
            z: [batch, channels, *size] of a convolution, [batch, ..., n_in] of a matrix.
            weight: The parameter, in the layout of the source model; the tile is programmed if it changed.
        """
        return self.pooled(z, weight, _alone)[0].contiguous()

    @torch.no_grad()
    def pooled(self, z: Tensor, weight: Tensor, pool: PoolProducts) -> Pooled:
        """What `pool` makes of W z, chunk by chunk while the products are in the cache.

        Args:
            z: As for `product`.
            weight: As for `product`.
            pool: Makes values and places of maxima, sample by sample, of the products of some samples.
        """
        run = self._ready(weight, transposed=False)
        if self._linear.op == "MatMul":  # chunks of rows are no samples
            return pool(self._by_rows(run, z, weight))
        window = Unfolding.of(self._linear, weight)
        if self._linear.op == "Conv":
            return self._gather(run, window, window.counts(z.shape[2:]), z, weight, pool)
        size = window.size(z.shape[2:], self._linear.output_padding)
        return self._scatter(run, window, size, z, weight, pool)

    @torch.no_grad()
    def product_t(self, y: Tensor, weight: Tensor, shape: tuple[int, ...]) -> Tensor:
        """W^T y.

        Args:
            y: What `product` returns.
            weight: As for `product`.
            shape: Shape of z without the batch.
        """
        run = self._ready(weight, transposed=True)
        if self._linear.op == "MatMul":
            return self._by_rows(run, y, weight)
        window = Unfolding.of(self._linear, weight)
        size = tuple(shape[-len(window.kernel) :])
        if self._linear.op == "Conv":
            return self._scatter(run, window, size, y, weight, _alone)[0].contiguous()
        return self._gather(run, window, size, y, weight, _alone)[0].contiguous()

    def _ready(self, weight: Tensor, *, transposed: bool) -> Product:
        """Products with the tile that has the weight on it, before a read."""
        tile = self.array.holding(weight)
        if self._frozen is not None:
            self._frozen.announce(2 * self._number + transposed)
        if isinstance(tile, ReplicatedTile | TwoWayTile):
            first = self._first
            return lambda vectors, numbers: tile.shared_out(vectors, numbers() + first, transposed=transposed)
        product = tile.mvm_t if transposed else tile.mvm
        return lambda vectors, _: product(vectors)

    def _by_rows(self, run: Product, values: Tensor, weight: Tensor) -> Tensor:
        """The last axis through the tile: [batch, ..., n] -> [batch, ..., m]."""
        rows, each = values.reshape(-1, values.shape[-1]), prod(values.shape[1:-1])
        done = 0

        def some(part: Tensor) -> Tensor:
            nonlocal done
            first, done = done, done + len(part)
            return run(part[None], lambda: torch.arange(first, done, device=part.device) % each)[0]

        out = _joined(some, _alone, rows, self._uses_at_once(rows, weight))[0].contiguous()
        return out.reshape(*values.shape[:-1], out.shape[-1])

    def _gather(
        self,
        run: Product,
        window: Unfolding,
        counts: Sequence[int],
        image: Tensor,
        weight: Tensor,
        pool: PoolProducts,
    ) -> Pooled:
        """Windows of an image through the tile: [batch, channels, *size] -> [batch, channels, *counts]."""
        most = self._uses_at_once(image, weight)
        parts = bands(counts, most)

        def some(samples: Tensor) -> Tensor:
            padded, out = window.padded(samples), None
            for band in parts:
                columns = window.unfold(padded, band).flatten(0, len(counts))
                made = self._through(run, columns, _numbers(counts, band, columns)).transpose(0, 1)
                if len(parts) == 1:
                    return made
                if out is None:
                    out = made.new_empty(*made.shape[:2], *counts)
                out[(slice(None), slice(None), *band)] = made
            assert out is not None  # an image has windows
            return out

        return _joined(some, pool, image, most // max(1, prod(counts)))

    def _scatter(
        self,
        run: Product,
        window: Unfolding,
        size: Sequence[int],
        image: Tensor,
        weight: Tensor,
        pool: PoolProducts,
    ) -> Pooled:
        """Pixels through the tile into windows: [batch, channels, *counts] -> [batch, channels, *size]."""
        counts, most = image.shape[2:], self._uses_at_once(image, weight)
        parts = bands(counts, most)
        n_channels = weight.shape[1] * self._linear.groups

        def some(samples: Tensor) -> Tensor:
            out = samples.new_zeros(len(samples), n_channels, *size)
            for band in reversed(parts):
                pixels = samples[(slice(None), slice(None), *band)].transpose(0, 1)
                lines = self._through(run, pixels, _numbers(counts, band, pixels))
                window.fold(lines.reshape(n_channels, *window.kernel, *lines.shape[1:]), band, out)
            return out

        return _joined(some, pool, image, most // max(1, prod(counts)))

    def _through(self, run: Product, lines: Tensor, numbers: Numbers) -> Tensor:
        """Lines of all groups through the tile: [lines, batch, *counts] -> [lines, batch, *counts]."""
        groups, uses = self._linear.groups, lines.shape[1:]
        out = run(lines.reshape(groups, len(lines) // groups, prod(uses)).mT, numbers).mT
        return out.reshape(groups * out.shape[1], *uses)

    def _uses_at_once(self, values: Tensor, weight: Tensor) -> int:
        """How many vectors the tile takes before its lines hold a chunk; at least one."""
        n_lines = max(len(weight), self._linear.groups * weight[0].numel())
        chunk = CHUNK if values.device.type == "cpu" else DEVICE_CHUNK
        return max(1, chunk // n_lines)


def _numbers(counts: Sequence[int], band: Sequence[slice], lines: Tensor) -> Numbers:
    """Positions of windows in their image, sample by sample: those of a band, for [lines, batch, *band]."""

    def made() -> Tensor:
        places = torch.arange(prod(counts), device=lines.device).reshape(tuple(counts))
        return places[tuple(band)].flatten().repeat(lines.shape[1])

    return made


def _alone(made: Tensor) -> Pooled:
    """Products that nothing pools."""
    return made, None


def _joined(run: Callable[[Tensor], Tensor], pool: PoolProducts, values: Tensor, n_samples: int) -> Pooled:
    """What `pool` makes of what `run` makes of some samples at a time, one at least."""
    first, *others = torch.split(values, max(1, n_samples))
    made, index = pool(run(first))
    if not others:
        return made, index
    wholes = _Whole(made, len(values)), None if index is None else _Whole(index, len(values))
    for part in others:
        made, index = pool(run(part))
        wholes[0].add(made)
        if wholes[1] is not None and index is not None:
            wholes[1].add(index)
    return wholes[0].value, None if wholes[1] is None else wholes[1].value


class _Whole:
    """Samples that are made a part at a time, in the memory order of the first part."""

    def __init__(self, first: Tensor, n_samples: int) -> None:
        is_last = first.dim() == 4 and not first.is_contiguous()
        is_last = is_last and first.is_contiguous(memory_format=torch.channels_last)
        order = torch.channels_last if is_last else torch.contiguous_format
        sizes = (n_samples, *first.shape[1:])
        self.value = torch.empty(sizes, dtype=first.dtype, device=first.device, memory_format=order)
        self._done = 0
        self.add(first)

    def add(self, part: Tensor) -> None:
        """The next samples."""
        self.value[self._done : self._done + len(part)] = part
        self._done += len(part)


def crossbar_projection(  # noqa: PLR0913 -- as for a tile
    linear: Linear,
    pieces: Sequence[Piece],
    crossbar: Crossbar,
    generator: torch.Generator,
    machine: str = "0",
    frozen: FrozenNoise | None = None,
    common: CommonRange | None = None,
) -> TileProjection:
    """A linear map on crossbars.

    Args:
        linear: The map.
        pieces: Where its weight lies.
        crossbar: What the tiles are.
        generator: Source of all noise.
        machine: Name of the machine: what was drawn when its cells and converters were made follows from it.
        frozen: Read noise of a circuit that settles by itself.
        common: Range of a circuit of single cells.
    """
    numbers = count()
    fan_in = max(piece.inputs[1] for piece in pieces)

    def make() -> Tile:
        name = f"{machine}/{linear.weight}/{next(numbers)}"
        return make_tile(crossbar, generator, name, frozen, fan_in, common)

    return TileProjection(linear, MasteredTile(linear, tile_of(pieces, make)), frozen)


def make_tile(
    crossbar: Crossbar,
    generator: torch.Generator,
    name: str,
    frozen: FrozenNoise | None = None,
    fan_in: int | None = None,
    common: CommonRange | None = None,
) -> Tile:
    """A tile as it is described; `name` is its own in its machine, `fan_in` is that of its layer."""
    if crossbar.slices > 1:
        return SlicedTile(crossbar, lambda k: CrossbarTile(crossbar, generator, f"{name}/slice {k}", k))
    tile = CrossbarTile(crossbar, generator, name, frozen=frozen, fan_in=fan_in, common=common)
    law = crossbar.update
    if law is None or law.remedy is None:
        return tile
    if isinstance(law.remedy, Transfer):
        fast = CrossbarTile(crossbar, generator, f"{name}/fast")
        return TransferTile(tile, fast, law, law.remedy, generator)
    return AccumulatingTile(tile, law)
