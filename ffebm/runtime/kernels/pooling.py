"""Pooling: windows and whole planes."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor
from torch.nn import functional

from ffebm.runtime.kernels.call import Call, Kernel
from ffebm.runtime.kernels.window import Window, padded, window_of

_CONV = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_AVERAGE = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}
_MAX = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}
_MAX_INDICES = {
    1: functional.max_pool1d_with_indices,
    2: functional.max_pool2d_with_indices,
    3: functional.max_pool3d_with_indices,
}


def average_pool(call: Call, x: Tensor) -> Tensor:
    """Mean of each window; padding counts only if asked for."""
    window = _pool_window(call, x)
    size = x.shape[2:]
    counts_padding = call.integer("count_include_pad")
    ones = torch.ones(1, 1, *size, dtype=x.dtype, device=x.device)
    inside = padded(ones, window.begin, window.end, value=float(counts_padding))
    fitted = window.fitted(size, round_up=bool(call.integer("ceil_mode")))
    rest = [end - now for end, now in zip(fitted.end, window.end, strict=True)]
    counted = _window_sum(padded(inside, (0,) * len(rest), rest), window)
    return _window_sum(padded(x, fitted.begin, fitted.end), window) / counted


def lp_pool(call: Call, x: Tensor) -> Tensor:
    """Lp norm of each window."""
    window = _pool_window(call, x).fitted(x.shape[2:], round_up=bool(call.integer("ceil_mode")))
    p = call.number("p", 2)
    powers = padded(x.abs() ** p, window.begin, window.end)
    return _window_sum(powers, window) ** (1 / p)


def max_pool(call: Call, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
    """Largest element of each window, and where it is in the whole input if asked for."""
    size = x.shape[2:]
    window = _pool_window(call, x).fitted(size, round_up=bool(call.integer("ceil_mode")))
    n_axes = len(size)
    as_torch = window.symmetric and all(
        2 * pad <= k for pad, k in zip(window.begin, window.kernel, strict=True)
    )
    padding = window.begin if as_torch else (0,) * n_axes
    lowest = -float("inf") if x.is_floating_point() else torch.iinfo(x.dtype).min
    plane = x if as_torch else padded(x, window.begin, window.end, value=lowest)
    if call.n_outputs == 1:
        return _MAX[n_axes](plane, window.kernel, window.strides, padding, window.dilations)
    y, where = _MAX_INDICES[n_axes](plane, window.kernel, window.strides, padding, window.dilations)
    shift = (0,) * n_axes if as_torch else window.begin
    position = _unravelled(where, plane.shape[2:])
    position = [at - begin for at, begin in zip(position, shift, strict=True)]
    if call.integer("storage_order"):
        position, size = position[::-1], size[::-1]
    first = torch.arange(y.shape[0] * y.shape[1], device=x.device) * prod(size)
    return y, _ravelled(position, size) + first.reshape(y.shape[:2] + (1,) * n_axes)


def max_unpool(call: Call, x: Tensor, where: Tensor, output_shape: Tensor | None = None) -> Tensor:
    """Puts each element back to where max pooling took it from; zeros elsewhere."""
    window = _pool_window(call, x)
    size = [
        (n - 1) * stride - begin - end + extent
        for n, stride, begin, end, extent in zip(
            x.shape[2:], window.strides, window.begin, window.end, window.extents, strict=True
        )
    ]
    shape = [*x.shape[:2], *size]
    call.check_size(shape)
    y = torch.zeros(prod(shape), dtype=x.dtype, device=x.device)
    y = y.scatter(0, where.reshape(-1), x.reshape(-1)).reshape(shape)
    if output_shape is None:
        return y
    call.check_size(int(want) for want in output_shape.tolist())
    grown = [int(want) - n for want, n in zip(output_shape.tolist()[2:], size, strict=True)]
    return padded(y, (0,) * len(size), grown)


def global_average_pool(call: Call, x: Tensor) -> Tensor:
    """Mean over all spatial axes."""
    return x.mean(_spatial(x), keepdim=True)


def global_lp_pool(call: Call, x: Tensor) -> Tensor:
    """Lp norm over all spatial axes."""
    p = call.number("p", 2)
    return (x.abs() ** p).sum(_spatial(x), keepdim=True) ** (1 / p)


def global_max_pool(call: Call, x: Tensor) -> Tensor:
    """Largest element over all spatial axes."""
    return x.amax(_spatial(x), keepdim=True)


def _pool_window(call: Call, x: Tensor) -> Window:
    return window_of(call, call.integers("kernel_shape"), x.shape[2:])


def _spatial(x: Tensor) -> tuple[int, ...]:
    return tuple(range(2, x.ndim))


def _window_sum(x: Tensor, window: Window) -> Tensor:
    """Sum of each window of a plane that is already padded."""
    n_axes = len(window.kernel)
    if all(dilation == 1 for dilation in window.dilations):
        return _AVERAGE[n_axes](x, window.kernel, window.strides) * prod(window.kernel)
    taps = torch.ones(1, 1, *window.kernel, dtype=x.dtype, device=x.device)
    planes = x.reshape(-1, 1, *x.shape[2:])
    y = _CONV[n_axes](planes, taps, None, window.strides, 0, window.dilations)
    return y.reshape(*x.shape[:2], *y.shape[2:])


def _unravelled(flat: Tensor, size: Sequence[int]) -> list[Tensor]:
    position: list[Tensor] = []
    for n in reversed(size):
        position.insert(0, flat % n)
        flat = flat // n
    return position


def _ravelled(position: Sequence[Tensor], size: Sequence[int]) -> Tensor:
    flat = torch.zeros_like(position[0])
    for at, n in zip(position, size, strict=True):
        flat = flat * n + at
    return flat


POOLING: dict[str, Kernel] = {
    "AveragePool": average_pool,
    "GlobalAveragePool": global_average_pool,
    "GlobalLpPool": global_lp_pool,
    "GlobalMaxPool": global_max_pool,
    "LpPool": lp_pool,
    "MaxPool": max_pool,
    "MaxUnpool": max_unpool,
}
