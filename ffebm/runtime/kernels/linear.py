"""Linear maps: convolutions and matrix products."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor
from torch.nn import functional

from ffebm.runtime.kernels.call import Call, Kernel, with_optional
from ffebm.runtime.kernels.dtypes import wide
from ffebm.runtime.kernels.window import Window, padded, window_of

_CONV = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_CONV_TRANSPOSE = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}


def conv(call: Call, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolution over one to three spatial axes."""
    window = window_of(call, weight.shape[2:], x.shape[2:])
    if window.symmetric:
        padding = window.begin
    else:
        x = padded(x, window.begin, window.end)
        padding = (0,) * len(window.kernel)
    convolve = _CONV[len(window.kernel)]
    return convolve(x, weight, bias, window.strides, padding, window.dilations, call.integer("group", 1))


def conv_transpose(call: Call, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Transposed convolution: scatters each element through the weight, then crops the padding."""
    size = x.shape[2:]
    window = window_of(call, weight.shape[2:], size)
    extra = call.integers("output_padding", (0,) * len(size))
    full = [
        (n - 1) * stride + extent
        for n, stride, extent in zip(size, window.strides, window.extents, strict=True)
    ]
    call.check_size((x.shape[0], weight.shape[1], *full))
    begin, end = window.begin, window.end
    auto_pad = call.text("auto_pad", "NOTSET")
    target: Sequence[int] = call.integers("output_shape")[-len(size) :]
    if not target and auto_pad.startswith("SAME"):
        target = [n * stride for n, stride in zip(size, window.strides, strict=True)]
    if target:
        total = [n + more - want for n, more, want in zip(full, extra, target, strict=True)]
        half = tuple(pad // 2 for pad in total)
        rest = tuple(pad - pad // 2 for pad in total)
        begin, end = (half, rest) if auto_pad == "SAME_UPPER" else (rest, half)
    scatter = _CONV_TRANSPOSE[len(size)]
    y = scatter(x, weight, None, window.strides, 0, 0, call.integer("group", 1), window.dilations)
    crop = [more - pad for more, pad in zip(extra, end, strict=True)]
    call.check_size(n - b + c for n, b, c in zip(y.shape[2:], begin, crop, strict=True))
    y = padded(y, [-pad for pad in begin], crop)
    return y if bias is None else y + bias.reshape(-1, *(1 for _ in size))


def gemm(call: Call, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    """Computes alpha * a' @ b' + beta * c, where ' may transpose."""
    a = a.T if call.integer("transA") else a
    b = b.T if call.integer("transB") else b
    y = torch.matmul(wide(a), wide(b)).to(a.dtype)
    y = _scaled(y, call.number("alpha", 1.0))
    return y if c is None else y + _scaled(c, call.number("beta", 1.0))


def matmul(call: Call, a: Tensor, b: Tensor) -> Tensor:
    """Matrix product, batched over the leading axes; `transB`, which ONNX does not have, transposes `b`."""
    b = b.mT if call.integer("transB") else b
    return torch.matmul(wide(a), wide(b)).to(a.dtype)


def deform_conv(call: Call, x: Tensor, weight: Tensor, offset: Tensor, *rest: Tensor | None) -> Tensor:
    """Convolution whose taps are moved by offsets, [batch, groups * taps * 2, rows, columns]."""
    bias, mask = with_optional(rest, 2)
    (n, channels, height, width), groups = x.shape, call.integer("offset_group", 1)
    window = window_of(call, weight.shape[2:], (height, width))
    rows, columns = offset.shape[2:]
    taps = prod(window.kernel)
    shape = (n * groups, taps, rows, columns)
    base = [_tap_positions(window, i, offset) for i in (0, 1)]
    down = base[0] + offset.reshape(n * groups, taps, 2, rows, columns)[:, :, 0]
    across = base[1] + offset.reshape(n * groups, taps, 2, rows, columns)[:, :, 1]
    grid = torch.stack([(2 * across + 1) / width - 1, (2 * down + 1) / height - 1], -1)
    planes = x.reshape(n * groups, channels // groups, height, width)
    read = functional.grid_sample(planes, grid.reshape(n * groups, -1, columns, 2), align_corners=False)
    read = read.reshape(n * groups, -1, *shape[1:])
    if mask is not None:
        read = read * mask.reshape(n * groups, 1, *shape[1:])
    read = read.reshape(n, call.integer("group", 1), -1, rows, columns)
    flat = weight.reshape(call.integer("group", 1), -1, weight[0].numel())
    y = torch.einsum("gok,ngkhw->ngohw", flat, read).flatten(1, 2)
    return y if bias is None else y + bias.reshape(-1, 1, 1)


def _tap_positions(window: Window, axis: int, offset: Tensor) -> Tensor:
    """Where the taps of each window lie on one of two axes, [taps, rows or 1, columns or 1]."""
    steps = torch.arange(offset.shape[2 + axis], device=offset.device) * window.strides[axis]
    taps = torch.arange(window.kernel[axis], device=offset.device) * window.dilations[axis]
    grid = torch.meshgrid(*(torch.arange(k, device=offset.device) for k in window.kernel), indexing="ij")
    tap = taps[grid[axis].reshape(-1)] - window.begin[axis]
    return tap.reshape(-1, 1, 1) + steps.reshape((-1, 1) if axis == 0 else (1, -1))


def einsum(call: Call, *inputs: Tensor) -> Tensor:
    """Sum of products in Einstein's notation."""
    return torch.einsum(call.text("equation").replace(" ", ""), *inputs)


def _scaled(x: Tensor, factor: float) -> Tensor:
    return x if factor == 1.0 else (x * factor).to(x.dtype)


LINEAR: dict[str, Kernel] = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "DeformConv": deform_conv,
    "Einsum": einsum,
    "Gemm": gemm,
    "MatMul": matmul,
}
