"""Reductions along axes, and running sums."""

from collections.abc import Callable

import torch
from torch import Tensor

from ffebm.runtime.kernels.call import Call, Kernel
from ffebm.runtime.kernels.dtypes import axes_of, ordered, sizes, unordered, wide

Reduction = Callable[[Tensor, list[int], bool], Tensor]
"""reduction(values, axes, keep_axes) over axes that count from the front, at least one."""


def reduction(function: Reduction) -> Kernel:
    """A kernel that reduces over the axes given as input or attribute; over all if there are none."""

    def kernel(call: Call, x: Tensor, axes: Tensor | None = None) -> Tensor:
        return _reduced(call, function, wide(x), axes).to(x.dtype)

    return kernel


def _reduced(call: Call, function: Reduction, x: Tensor, axes: Tensor | None) -> Tensor:
    chosen = list(call.integers("axes")) if axes is None else sizes(axes)
    noop = not chosen and call.integer("noop_with_empty_axes") != 0
    if noop or x.ndim == 0:  # what the reduction does to a single element remains
        return function(x.unsqueeze(0), [0], False)
    over = axes_of(chosen, x.ndim) if chosen else list(range(x.ndim))
    return function(x, over, call.integer("keepdims", 1) == 1)


def reduce_max(call: Call, x: Tensor, axes: Tensor | None = None) -> Tensor:
    """Largest element; of none, the smallest number of the type."""
    return unordered(_reduced(call, _largest, _comparable(x), axes), x.dtype)


def reduce_min(call: Call, x: Tensor, axes: Tensor | None = None) -> Tensor:
    """Smallest element; of none, the largest number of the type."""
    return unordered(_reduced(call, _smallest, _comparable(x), axes), x.dtype)


def _comparable(x: Tensor) -> Tensor:
    return x.to(torch.uint8) if x.dtype == torch.bool else ordered(x)


def _largest(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return x.amax(axes, keep) if x.numel() else _sum(x, axes, keep) + _bound(x.dtype, low=True)


def _smallest(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return x.amin(axes, keep) if x.numel() else _sum(x, axes, keep) + _bound(x.dtype, low=False)


def _bound(dtype: torch.dtype, *, low: bool) -> float:
    if dtype.is_floating_point:
        return -float("inf") if low else float("inf")
    limits = torch.iinfo(dtype)
    return limits.min if low else limits.max


def _floating(x: Tensor) -> Tensor:
    return x if x.is_floating_point() else x.double()


def _sum(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return x.sum(axes, keep, dtype=x.dtype)


def _mean(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return _floating(x).mean(axes, keep)


def _product(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted(axes, reverse=True):
        x = x.prod(axis, keep, dtype=x.dtype)
    return x


def _l1(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return _sum(x.abs(), axes, keep)


def _l2(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(_floating(x), 2, axes, keep)
    return norm


def _log_sum(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return torch.log(x.sum(axes, keep))


def _log_sum_exp(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return torch.logsumexp(_floating(x), axes, keep)


def _sum_square(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return _sum(x * x, axes, keep)


def arg_max(call: Call, x: Tensor) -> Tensor:
    """Position of the largest element along the axis, the first or last one if there are several."""
    return _arg(call, ordered(x), torch.argmax)


def arg_min(call: Call, x: Tensor) -> Tensor:
    """Position of the smallest element along the axis, the first or last one if there are several."""
    return _arg(call, ordered(x), torch.argmin)


def _arg(call: Call, x: Tensor, find: Callable[[Tensor, int, bool], Tensor]) -> Tensor:
    axis, keep = call.integer("axis"), call.integer("keepdims", 1) == 1
    if not call.integer("select_last_index"):
        return find(x, axis, keep)
    return x.shape[axis] - 1 - find(x.flip(axis), axis, keep)


def cumulative(function: Callable[[Tensor, int], Tensor], start: int) -> Kernel:
    """A kernel for running sums or products, possibly backwards or without the element itself."""

    def kernel(call: Call, x: Tensor, axis: Tensor) -> Tensor:
        along = int(axis)
        reverse = bool(call.integer("reverse"))
        y = wide(x).flip(along) if reverse else wide(x)
        y = function(y, along)
        if call.integer("exclusive"):
            first = torch.full_like(y.narrow(along, 0, 1), start)
            y = torch.cat([first, y.narrow(along, 0, y.shape[along] - 1)], along)
        return (y.flip(along) if reverse else y).to(x.dtype)

    return kernel


REDUCTION: dict[str, Kernel] = {
    "ArgMax": arg_max,
    "ArgMin": arg_min,
    "CumProd": cumulative(torch.cumprod, 1),
    "CumSum": cumulative(torch.cumsum, 0),
    "ReduceL1": reduction(_l1),
    "ReduceL2": reduction(_l2),
    "ReduceLogSum": reduction(_log_sum),
    "ReduceLogSumExp": reduction(_log_sum_exp),
    "ReduceMax": reduce_max,
    "ReduceMean": reduction(_mean),
    "ReduceMin": reduce_min,
    "ReduceProd": reduction(_product),
    "ReduceSum": reduction(_sum),
    "ReduceSumSquare": reduction(_sum_square),
}
