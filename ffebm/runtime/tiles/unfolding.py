"""Convolutions as products of a matrix with columns, for any number of spatial axes."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from math import prod

from torch import Tensor
from torch.nn import functional

from ffebm.graph.energy_block import Linear

Band = tuple[slice, ...]
"""Windows beside each other: a range of them along each axis."""


@dataclass(frozen=True)
class Unfolding:
    """How a kernel moves over an image.

    Attributes:
        kernel: Sizes of the kernel.
        strides: Steps of the kernel.
        pads: Begin of each axis, then end of each axis.
        dilations: Steps inside the kernel.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    dilations: tuple[int, ...]

    @classmethod
    def of(cls, linear: Linear, weight: Tensor) -> "Unfolding":
        """The window of a convolution or transposed convolution with this weight."""
        kernel = tuple(weight.shape[2:])
        ones = (1,) * len(kernel)
        return cls(
            kernel,
            linear.strides or ones,
            linear.pads or (0,) * (2 * len(kernel)),
            linear.dilations or ones,
        )

    def counts(self, size: Sequence[int]) -> tuple[int, ...]:
        """How many windows fit along each axis of an image."""
        reach = [size[a] + self._begin(a) + self._end(a) - self._extent(a) for a in range(len(size))]
        return tuple(r // s + 1 for r, s in zip(reach, self.strides, strict=True))

    def size(self, counts: Sequence[int], extra: Sequence[int]) -> tuple[int, ...]:
        """The image that so many windows are folded into; `extra` at the ends, if any."""
        extra = tuple(extra) or (0,) * len(counts)
        return tuple(
            (counts[a] - 1) * self.strides[a] + self._extent(a) - self._begin(a) - self._end(a) + extra[a]
            for a in range(len(counts))
        )

    def padded(self, image: Tensor) -> Tensor:
        """An image, [batch, channels, *size], with the pads around it."""
        pads = [p for a in reversed(range(len(self.kernel))) for p in (self._begin(a), self._end(a))]
        return functional.pad(image, pads) if any(pads) else image

    def unfold(self, padded: Tensor, band: Band) -> Tensor:
        """Some windows of an image as columns.

        Args:
            padded: From `padded`, [batch, channels, *size].
            band: Which windows.

        Returns:
            [channels, *kernel, batch, *windows], a view.
        """
        axes = range(len(band))
        batch, channels, *steps = padded.stride()
        return padded.as_strided(
            (padded.shape[1], *self.kernel, padded.shape[0], *(n.stop - n.start for n in band)),
            (
                channels,
                *(steps[a] * self.dilations[a] for a in axes),
                batch,
                *(steps[a] * self.strides[a] for a in axes),
            ),
            padded.storage_offset() + sum(band[a].start * self.strides[a] * steps[a] for a in axes),
        )

    def fold(self, columns: Tensor, band: Band, image: Tensor) -> None:
        """Add some windows to an image: the adjoint of `unfold` and `padded`.

        Bands in falling order add to each pixel in the same order as all windows at once.

        Args:
            columns: [channels, *kernel, batch, *windows].
            band: Which windows these are.
            image: [batch, channels, *size].
        """
        axes = range(len(band))
        for offset in product(*map(range, self.kernel)):
            spans = [self._span(a, offset[a], band[a], image.shape[2 + a]) for a in axes]
            here: tuple[slice | int, ...] = (slice(None), *offset)
            windows = (slice(None), slice(None), *(windows for _, windows in spans))
            pixels = (slice(None), slice(None), *(pixels for pixels, _ in spans))
            image.transpose(0, 1)[pixels] += columns[here][windows]

    def _begin(self, axis: int) -> int:
        return self.pads[axis]

    def _end(self, axis: int) -> int:
        return self.pads[axis + len(self.kernel)]

    def _extent(self, axis: int) -> int:
        """Pixels from the first to the last that a kernel covers, both included."""
        return (self.kernel[axis] - 1) * self.dilations[axis] + 1

    def _span(self, axis: int, offset: int, band: slice, size: int) -> tuple[slice, slice]:
        """At a kernel offset: pixels inside the image that a band meets, and which of it meet them."""
        stride = self.strides[axis]
        start = offset * self.dilations[axis] - self._begin(axis)
        first = max(band.start, -(start // stride))
        last = max(first, min(band.stop, (size - 1 - start) // stride + 1))
        pixels = slice(start + first * stride, max(start + last * stride, 0), stride)
        return pixels, slice(first - band.start, last - band.start)


def bands(counts: Sequence[int], most: int) -> list[Band]:
    """All windows, in their order, in bands of at most `most`: rows first, parts of a row where one is more.

    Args:
        counts: Windows along each axis.
        most: At least 1.
    """
    if prod(counts) <= most:
        return [tuple(slice(0, n) for n in counts)]
    n_rows, *rest = counts
    if prod(rest) > most:
        return [(slice(row, row + 1), *part) for row in range(n_rows) for part in bands(rest, most)]
    n_bands = -(-n_rows // (most // prod(rest)))
    edges = [n_rows * k // n_bands for k in range(n_bands + 1)]
    return [(slice(a, b), *(slice(0, n) for n in rest)) for a, b in pairwise(edges)]
