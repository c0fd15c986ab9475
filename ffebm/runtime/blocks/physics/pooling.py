"""Pooling inside an energy block: the pooling, its transpose, and its value at frozen positions.

A pooling P is used in both directions: P(y) drives the layer above, and P^T at the positions that won
carries that layer's state back down.
"""

import math
from collections.abc import Sequence
from functools import cached_property

import torch
import torch.nn.functional as F  # noqa: N812 -- torch's own name for it
from torch import Tensor

from ffebm.graph.energy_block import Pool
from ffebm.graph.windows import n_windows
from ffebm.runtime.blocks.physics.shared_maximum import SharedMaximum, WindowAxis

_ops = torch.ops.aten


class Pooling:
    """A pooling of values with a known shape.

    Spatial axes are lifted to at least two. Where torch's own padding cannot say what is meant (unequal
    sides, or windows over the end), the input is padded beforehand and, for an average, divided by a map of
    counts.
    """

    def __init__(self, pool: Pool, shape: tuple[int, ...]) -> None:
        """Prepare a pooling of values [batch, *shape]."""
        rank = len(pool.kernel)
        lift = 2 - rank if rank < 2 else 0
        self.is_max = pool.op == "MaxPool"
        self._lift = lift
        self._kernel = [1] * lift + list(pool.kernel)
        self._strides = [1] * lift + list(pool.strides or (1,) * rank)
        self._dilations = [1] * lift + list(pool.dilations or (1,) * rank)
        begin = [0] * lift + list(pool.pads[:rank] or (0,) * rank)
        end = [0] * lift + list(pool.pads[rank:] or (0,) * rank)
        self._lead = shape[: len(shape) - rank]
        self._sizes = [1] * lift + list(shape[len(shape) - rank :])
        self._out = [
            n_windows(*axis, ceil=pool.ceil_mode)
            for axis in zip(
                self._sizes, self._kernel, self._strides, self._dilations, begin, end, strict=True
            )
        ]
        floors = [
            n_windows(*axis, ceil=False)
            for axis in zip(
                self._sizes, self._kernel, self._strides, self._dilations, begin, end, strict=True
            )
        ]
        half = all(2 * p <= k for p, k in zip(begin, self._kernel, strict=True))
        self._direct = begin == end and floors == self._out and half
        self._pads = begin if self._direct else [0] * len(begin)
        self._margins = [] if self._direct else self._edges(begin)
        self._begin = begin
        self._include = pool.count_include_pad
        self._counts = None if self._direct or self.is_max else self._count_map(begin, end)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the pooled values without the batch."""
        return (*self._lead, *self._out[self._lift :])

    def pool(self, y: Tensor) -> tuple[Tensor, Tensor | None]:
        """Pool values [batch, *shape]; for a maximum also where it was found."""
        y = self._spread_out(y, fill=-math.inf if self.is_max else 0.0)
        index = None
        if self.is_max:
            y = arranged(y)
            op = _ops.max_pool3d_with_indices if len(self._kernel) == 3 else _ops.max_pool2d_with_indices
            y, index = op(y, self._kernel, self._strides, self._pads, self._dilations, False)
        else:
            average = F.avg_pool3d if len(self._kernel) == 3 else F.avg_pool2d
            y = average(y, self._kernel, self._strides, self._pads, False, self._include or not self._direct)
            if self._counts is not None:
                y = y * self._counts.to(y)
        return y.reshape(y.shape[0], *self.shape), index

    def transpose(self, p: Tensor, index: Tensor | None) -> Tensor:
        """Carry pooled-side values back to the positions that they came from; [batch, *shape].

        An index of floating-point numbers holds the shares of each window's values.
        """
        if index is not None and index.is_floating_point():
            return self.fold(self.over_windows(p).unsqueeze(-1) * index)
        batch = p.shape[0]
        p = p.reshape(batch, *self._channels(), *self._out)
        # of this operand only the shape and the memory order are read
        like = torch.empty(
            batch, *self._channels(), *self._padded(), dtype=p.dtype, device=p.device, memory_format=_order(p)
        )
        if self.is_max:
            three = len(self._kernel) == 3
            op = _ops.max_pool3d_with_indices_backward if three else _ops.max_pool2d_with_indices_backward
            y: Tensor = op(p, like, self._kernel, self._strides, self._pads, self._dilations, False, index)
        else:
            if self._counts is not None:
                p = p * self._counts.to(p)
            op = _ops.avg_pool3d_backward if len(self._kernel) == 3 else _ops.avg_pool2d_backward
            include = self._include or not self._direct
            y = op(p, like, self._kernel, self._strides, self._pads, False, include, None)
        if self._margins:
            y = F.pad(y, [-m for m in self._margins])
        return y.reshape(batch, *self._lead, *self._sizes[self._lift :])

    def gather(self, y: Tensor, index: Tensor | None) -> Tensor:
        """P with its positions frozen: the linear map whose transpose is `transpose`."""
        if index is None:
            return self.pool(y)[0]
        if index.is_floating_point():
            p = torch.where(index > 0, index * self.windows(y), 0.0).sum(-1)
            return p.reshape(p.shape[0], *self.shape)
        y = self._spread_out(y, fill=0.0)
        flat = len(self._kernel)
        p = y.flatten(-flat).gather(-1, index.flatten(-flat))
        return p.reshape(p.shape[0], *self.shape)

    @cached_property
    def shared(self) -> SharedMaximum:
        """The windows of a maximum whose winners may share."""
        axes = zip(
            self._out, self._kernel, self._strides, self._dilations, self._begin, self._sizes, strict=True
        )
        return SharedMaximum([WindowAxis(*axis) for axis in axes])

    def windows(self, y: Tensor) -> Tensor:
        """The values of each window, [batch, channels, windows, values]."""
        return self.shared.windows(y.reshape(y.shape[0], math.prod(self._channels()), *self._sizes))

    def shares(self, y: Tensor, before: Tensor | None, above: Tensor | None, step: float) -> Tensor:
        """The next shares of the values of each window, [batch, channels, windows, values]."""
        lifted = y.reshape(y.shape[0], math.prod(self._channels()), *self._sizes)
        return self.shared.shares(lifted, before, above, step)

    def fold(self, shared: Tensor) -> Tensor:
        """The transpose of `windows`, [batch, *shape]."""
        return self.shared.fold(shared).reshape(shared.shape[0], *self._lead, *self._sizes[self._lift :])

    def over_windows(self, p: Tensor) -> Tensor:
        """Pooled-side values by window, [batch, channels, windows]."""
        return p.reshape(p.shape[0], math.prod(self._channels()), -1)

    def _channels(self) -> tuple[int, ...]:
        return self._lead if self._lead else (1,)

    def _spread_out(self, y: Tensor, fill: float) -> Tensor:
        if self._lift or not self._lead:
            y = y.reshape(y.shape[0], *self._channels(), *self._sizes)
        return F.pad(y, self._margins, value=fill) if self._margins else y

    def _padded(self) -> list[int]:
        if not self._margins:
            return self._sizes
        pairs = zip(self._margins[-2::-2], self._margins[::-2], strict=True)
        return [n + b + e for n, (b, e) in zip(self._sizes, pairs, strict=True)]

    def _edges(self, begin: Sequence[int]) -> list[int]:
        """Margins, in F.pad's order, so that exactly the wanted windows fit; negative ones crop."""
        margins: list[int] = []
        for axis in reversed(range(len(self._sizes))):
            reach = (self._out[axis] - 1) * self._strides[axis]
            reach += self._dilations[axis] * (self._kernel[axis] - 1) + 1
            margins += [begin[axis], reach - begin[axis] - self._sizes[axis]]
        return margins

    def _count_map(self, begin: Sequence[int], end: Sequence[int]) -> Tensor:
        """Window size over the number of values counted in each window, [1, 1, *pooled sizes]."""
        counts = torch.ones(1, 1, *([1] * len(self._sizes)), dtype=torch.float64)
        for axis, size in enumerate(self._sizes):
            low, high = (-begin[axis], size + end[axis]) if self._include else (0, size)
            starts = torch.arange(self._out[axis]) * self._strides[axis] - begin[axis]
            stops = (starts + self._kernel[axis]).clamp(max=high)
            inside = (stops - starts.clamp(min=low)).clamp(min=1).double()
            shape = [1] * counts.dim()
            shape[2 + axis] = -1
            counts = counts * (self._kernel[axis] / inside).reshape(shape)
        return counts


def arranged(values: Tensor) -> Tensor:
    """Values in the memory order in which a maximum over images is found fastest.

    On a CPU it takes a twentieth of the time with the channels last; convolutions take the same.
    """
    if values.dim() == 4 and values.device.type == "cpu":
        return values.contiguous(memory_format=torch.channels_last)
    return values


def _order(values: Tensor) -> torch.memory_format:
    """Channels last if the values are so and only so."""
    is_last = values.dim() == 4 and not values.is_contiguous()
    if is_last and values.is_contiguous(memory_format=torch.channels_last):
        return torch.channels_last
    return torch.contiguous_format
