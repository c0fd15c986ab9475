"""Products with a stationary weight, in both directions.

A tile is one array read forwards and backwards; `Projection` is what an energy block asks of it. Products of
a block go through projections only, so a noisy tile takes the place of the exact one without a change to the
block.
"""

from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F  # noqa: N812 -- torch's own name for it
from torch import Tensor

from ffebm.graph.energy_block import Linear
from ffebm.runtime.tiles.projection import Pooled, PoolProducts


class Projection(Protocol):
    """A linear map W and its transpose; biases are added elsewhere."""

    def product(self, z: Tensor, weight: Tensor) -> Tensor:
        """W z for values z [batch, *in]."""
        ...

    def pooled(self, z: Tensor, weight: Tensor, pool: PoolProducts) -> Pooled:
        """What `pool` makes of W z; it may be asked for some samples at a time, [some, *out]."""
        ...

    def product_t(self, y: Tensor, weight: Tensor, shape: tuple[int, ...]) -> Tensor:
        """W^T y for values y [batch, *out]; `shape` is that of z without the batch."""
        ...


class ExactProjection:
    """The linear map computed by torch; differentiable in both operands."""

    def __init__(self, linear: Linear) -> None:
        self._kind: _Kind = _MatMul(linear) if linear.op == "MatMul" else _Conv(linear)

    def product(self, z: Tensor, weight: Tensor) -> Tensor:
        """W z, [batch, *out]."""
        return self._kind.product(z, weight)

    def pooled(self, z: Tensor, weight: Tensor, pool: PoolProducts) -> Pooled:
        """What `pool` makes of W z, of all samples together."""
        return pool(self.product(z, weight))

    def product_t(self, y: Tensor, weight: Tensor, shape: tuple[int, ...]) -> Tensor:
        """W^T y, [batch, *shape]."""
        return self._kind.product_t(y, weight, shape)


def weight_grad(linear: Linear, z: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """Gradient of <y, W z> with respect to W, summed over the batch; computed digitally.

    Args:
        linear: The map.
        z: Its input, [batch, *in].
        y: Values at its output, [batch, *out].
        weight: W itself, for its shape and type.
    """
    kind: _Kind = _MatMul(linear) if linear.op == "MatMul" else _Conv(linear)
    return kind.weight_grad(z, y, weight)


class _Kind(Protocol):
    def product(self, z: Tensor, weight: Tensor) -> Tensor: ...
    def product_t(self, y: Tensor, weight: Tensor, shape: tuple[int, ...]) -> Tensor: ...
    def weight_grad(self, z: Tensor, y: Tensor, weight: Tensor) -> Tensor: ...


class _MatMul:
    """A matrix acting on the last axis."""

    def __init__(self, linear: Linear) -> None:
        self._transposed = linear.transposed

    def product(self, z: Tensor, weight: Tensor) -> Tensor:
        return z @ (weight.t() if self._transposed else weight)

    def product_t(self, y: Tensor, weight: Tensor, shape: tuple[int, ...]) -> Tensor:
        return y @ (weight if self._transposed else weight.t())

    def weight_grad(self, z: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        z, y = z.flatten(0, -2), y.flatten(0, -2)
        return y.t() @ z if self._transposed else z.t() @ y


_CONV: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_CONV_TRANSPOSE: dict[int, Callable[..., Tensor]] = {
    1: F.conv_transpose1d,
    2: F.conv_transpose2d,
    3: F.conv_transpose3d,
}


class _Conv:
    """A convolution or a transposed one.

    A transposed convolution is the transpose of the convolution with the same weight, so both are one pair of
    directions, `_gather` (a convolution) and `_scatter` (its transpose), used in opposite order.
    """

    def __init__(self, linear: Linear) -> None:
        self._is_transposed = linear.op == "ConvTranspose"
        self._linear = linear

    def product(self, z: Tensor, weight: Tensor) -> Tensor:
        if not self._is_transposed:
            return self._gather(z, weight)
        begin, end = self._pads(weight)
        extra = self._linear.output_padding or (0,) * len(begin)
        strides, dilations = self._steps(weight)
        sizes = [
            (n - 1) * s + d * (k - 1) + 1 - b - e + x
            for n, s, d, k, b, e, x in zip(
                z.shape[2:], strides, dilations, weight.shape[2:], begin, end, extra, strict=True
            )
        ]
        return self._scatter(z, weight, sizes)

    def product_t(self, y: Tensor, weight: Tensor, shape: tuple[int, ...]) -> Tensor:
        if self._is_transposed:
            z = self._gather(y, weight)
            # an output padding beyond the stride lets one more window fit
            return z if z.shape[1:] == shape else z[_corner(shape[1:])]
        return self._scatter(y, weight, shape[1:])

    def weight_grad(self, z: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        wide, narrow = (y, z) if self._is_transposed else (z, y)
        begin, end = self._pads(weight)
        strides, dilations = self._steps(weight)
        reach = [
            (n - 1) * s + d * (k - 1) + 1
            for n, s, d, k in zip(narrow.shape[2:], strides, dilations, weight.shape[2:], strict=True)
        ]
        over = [n + b + e - r for n, b, e, r in zip(wide.shape[2:], begin, end, reach, strict=True)]
        if begin != end or any(o >= s for o, s in zip(over, strides, strict=True)):
            rest = [r - b - n for r, b, n in zip(reach, begin, wide.shape[2:], strict=True)]
            wide, begin = F.pad(wide, _in_pad_order(begin, rest)), [0] * len(begin)
        grad: Tensor = torch.ops.aten.convolution_backward(
            narrow,
            wide,
            weight,
            None,
            strides,
            begin,
            dilations,
            False,
            [0] * len(begin),
            self._linear.groups,
            [False, True, False],
        )[1]
        return grad

    def _gather(self, z: Tensor, weight: Tensor) -> Tensor:
        begin, end = self._pads(weight)
        strides, dilations = self._steps(weight)
        if begin != end:
            z, begin = F.pad(z, _in_pad_order(begin, end)), [0] * len(begin)
        conv = _CONV[len(begin)]
        return conv(z, weight, None, strides, begin, dilations, self._linear.groups)

    def _scatter(self, y: Tensor, weight: Tensor, sizes: list[int] | tuple[int, ...]) -> Tensor:
        begin, end = self._pads(weight)
        strides, dilations = self._steps(weight)
        full = [
            (n - 1) * s + d * (k - 1) + 1
            for n, s, d, k in zip(y.shape[2:], strides, dilations, weight.shape[2:], strict=True)
        ]
        extra = [n - f + b + e for n, f, b, e in zip(sizes, full, begin, end, strict=True)]
        fits = all(0 <= x < max(s, d) for x, s, d in zip(extra, strides, dilations, strict=True))
        conv_t = _CONV_TRANSPOSE[len(begin)]
        if begin == end and fits:
            return conv_t(y, weight, None, strides, begin, extra, self._linear.groups, dilations)
        z = conv_t(y, weight, None, strides, 0, 0, self._linear.groups, dilations)
        rest = [n - f + b for n, f, b in zip(sizes, full, begin, strict=True)]
        return F.pad(z, _in_pad_order([-b for b in begin], rest))

    def _steps(self, weight: Tensor) -> tuple[list[int], list[int]]:
        ones = (1,) * (weight.dim() - 2)
        return list(self._linear.strides or ones), list(self._linear.dilations or ones)

    def _pads(self, weight: Tensor) -> tuple[list[int], list[int]]:
        rank = weight.dim() - 2
        pads = list(self._linear.pads or (0,) * (2 * rank))
        return pads[:rank], pads[rank:]


def _corner(sizes: tuple[int, ...]) -> tuple[slice, ...]:
    return (slice(None), slice(None), *(slice(n) for n in sizes))


def _in_pad_order(begin: list[int], end: list[int]) -> list[int]:
    """F.pad wants the last axis first, each as begin and end."""
    return [side for pair in zip(reversed(begin), reversed(end), strict=True) for side in pair]
