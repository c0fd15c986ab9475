"""Convolutions as products of a matrix with columns, for any number of spatial axes."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from torch import Tensor
from torch.nn import functional

from ffebm.ir import Linear


@dataclass(frozen=True)
class Window:
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
    def of(cls, linear: Linear, weight: Tensor) -> "Window":
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

    def unfold(self, image: Tensor, counts: Sequence[int]) -> Tensor:
        """The windows of an image as columns.

        Args:
            image: [batch, channels, *size].
            counts: Windows along each axis.

        Returns:
            [channels, *kernel, batch, *counts], contiguous or a view of the image.
        """
        axes = range(len(counts))
        pads = [p for a in reversed(axes) for p in (self._begin(a), self._end(a))]
        padded = functional.pad(image, pads) if any(pads) else image
        batch, channels, *steps = padded.stride()
        return padded.as_strided(
            (image.shape[1], *self.kernel, image.shape[0], *counts),
            (
                channels,
                *(steps[a] * self.dilations[a] for a in axes),
                batch,
                *(steps[a] * self.strides[a] for a in axes),
            ),
        )

    def fold(self, columns: Tensor, size: Sequence[int]) -> Tensor:
        """The sum of windows in an image: the adjoint of `unfold`.

        Args:
            columns: [channels, *kernel, batch, *counts].
            size: Of the image.

        Returns:
            [batch, channels, *size].
        """
        n_axes = len(size)
        counts = columns.shape[n_axes + 2 :]
        image = columns.new_zeros(columns.shape[n_axes + 1], columns.shape[0], *size)
        for offset in product(*map(range, self.kernel)):
            spans = [self._span(a, offset[a], counts[a], size[a]) for a in range(n_axes)]
            here: tuple[slice | int, ...] = (slice(None), *offset)
            windows = (slice(None), slice(None), *(windows for _, windows in spans))
            pixels = (slice(None), slice(None), *(pixels for pixels, _ in spans))
            image.transpose(0, 1)[pixels] += columns[here][windows]
        return image

    def _begin(self, axis: int) -> int:
        return self.pads[axis]

    def _end(self, axis: int) -> int:
        return self.pads[axis + len(self.kernel)]

    def _extent(self, axis: int) -> int:
        """Pixels from the first to the last that a kernel covers, both included."""
        return (self.kernel[axis] - 1) * self.dilations[axis] + 1

    def _span(self, axis: int, offset: int, count: int, size: int) -> tuple[slice, slice]:
        """At a kernel offset: the pixels inside the image that windows meet, and which windows these are."""
        stride = self.strides[axis]
        start = offset * self.dilations[axis] - self._begin(axis)
        first = max(0, -(start // stride))
        last = max(first, min(count, (size - 1 - start) // stride + 1))
        return slice(start + first * stride, max(start + last * stride, 0), stride), slice(first, last)
