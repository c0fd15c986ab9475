"""Joining, cutting, repeating and padding tensors."""

from math import ceil

import torch
from torch import Tensor

from ffebm.runtime.kernels.call import Call, Kernel
from ffebm.runtime.kernels.dtypes import axes_of, axis_of, sizes
from ffebm.runtime.kernels.window import padded


def center_crop_pad(call: Call, x: Tensor, shape: Tensor) -> Tensor:
    """Cuts or pads with zeros around the centre, up to a size."""
    axes = axes_of(call.integers("axes", tuple(range(x.ndim))), x.ndim)
    begin, end = [0] * x.ndim, [0] * x.ndim
    for axis, want in zip(axes, sizes(shape), strict=True):
        more = want - x.shape[axis]
        begin[axis] = more // 2 if more > 0 else -(-more // 2)
        end[axis] = more - begin[axis]
    call.check_size(b + n + e for b, n, e in zip(begin, x.shape, end, strict=True))
    return padded(x, begin, end)


def concat(call: Call, *inputs: Tensor) -> Tensor:
    """Tensors joined along an axis."""
    axis = call.integer("axis", 1)
    return torch.cat(inputs, axis)


def expand(call: Call, x: Tensor, shape: Tensor) -> Tensor:
    """`x` repeated to a shape that it broadcasts to, or that broadcasts to it."""
    want = sizes(shape)
    n_axes = max(x.ndim, len(want))
    have = (1,) * (n_axes - x.ndim) + tuple(x.shape)
    want = [1] * (n_axes - len(want)) + want
    made = [n if target == 1 else target for n, target in zip(have, want, strict=True)]
    call.check_size(made)
    return x.expand(made)


def pad(
    call: Call, x: Tensor, pads: Tensor, value: Tensor | None = None, axes: Tensor | None = None
) -> Tensor:
    """Pads with a constant, the edge, a reflection or a wrap-around; negative padding cuts."""
    chosen = range(x.ndim) if axes is None else axes_of(sizes(axes), x.ndim)
    amounts = sizes(pads)
    begin, end = [0] * x.ndim, [0] * x.ndim
    for place, axis in enumerate(chosen):
        begin[axis], end[axis] = amounts[place], amounts[place + len(chosen)]
    call.check_size(b + n + e for b, n, e in zip(begin, x.shape, end, strict=True))
    mode = call.text("mode", "constant")
    if mode == "constant":
        return padded(x, begin, end, value=0 if value is None else value.item())
    for axis in range(x.ndim):
        if begin[axis] or end[axis]:
            x = x.index_select(axis, _source(mode, x, axis, begin[axis], end[axis]))
    return x


def _source(mode: str, x: Tensor, axis: int, begin: int, end: int) -> Tensor:
    """Which element of the axis each element of the padded axis is taken from."""
    n = x.shape[axis]
    position = torch.arange(-begin, n + end, device=x.device)
    if mode == "edge":
        return position.clamp(0, n - 1)
    if mode == "wrap":
        return position % n
    period = max(2 * (n - 1), 1)
    back_and_forth = position % period
    return torch.minimum(back_and_forth, period - back_and_forth) if n > 1 else back_and_forth * 0


def reverse_sequence(call: Call, x: Tensor, lengths: Tensor) -> Tensor:
    """Reverses the first elements of each sequence of the batch."""
    batch_axis, time_axis = call.integer("batch_axis", 1), call.integer("time_axis", 0)
    y = x.movedim((batch_axis, time_axis), (0, 1))
    time = torch.arange(y.shape[1], device=x.device)
    ends = lengths.to(torch.int64).unsqueeze(1)
    source = torch.where(time < ends, ends - 1 - time, time)
    batch = torch.arange(y.shape[0], device=x.device).unsqueeze(1)
    return y[batch, source].movedim((0, 1), (batch_axis, time_axis))


def slice_(
    call: Call,
    x: Tensor,
    starts: Tensor,
    ends: Tensor,
    axes: Tensor | None = None,
    steps: Tensor | None = None,
) -> Tensor:
    """Every step-th element from start to end, on each of the axes."""
    first, last = sizes(starts), sizes(ends)
    chosen = list(range(len(first))) if axes is None else axes_of(sizes(axes), x.ndim)
    strides = [1] * len(first) if steps is None else sizes(steps)
    for axis, start, end, step in zip(chosen, first, last, strides, strict=True):
        x = _sliced(x, axis, slice(start, end, step))
    return x


def _sliced(x: Tensor, axis: int, cut: slice) -> Tensor:
    n = x.shape[axis]
    start, end, step = cut.indices(n)
    if step > 0:
        return x[(slice(None),) * axis + (slice(start, max(start, end), step),)]
    start = min(max(start, 0), n - 1)  # backwards, ONNX begins within the axis, where Python begins before it
    # An end before the first element is -1 here, which must not count from the back.
    return x.index_select(axis, torch.arange(start, min(start, end), step, device=x.device))


def split(call: Call, x: Tensor, parts: Tensor | None = None) -> tuple[Tensor, ...]:
    """Cuts along an axis, into pieces of given sizes or all equal but the last."""
    axis = axis_of(call.integer("axis"), x.ndim)
    if parts is not None:
        return torch.split(x, sizes(parts), axis)
    if "split" in call.attrs:
        return torch.split(x, list(call.integers("split")), axis)
    count = call.integer("num_outputs", call.n_outputs)
    each = ceil(x.shape[axis] / count)
    pieces = [min(each, max(x.shape[axis] - i * each, 0)) for i in range(count)]
    return torch.split(x, pieces, axis)


def tile(call: Call, x: Tensor, repeats: Tensor) -> Tensor:
    """`x` repeated along each axis."""
    times = sizes(repeats)
    call.check_size((x.numel(), *times))
    return x.repeat(times)


def trilu(call: Call, x: Tensor, k: Tensor | None = None) -> Tensor:
    """The upper or lower triangle of each matrix, zeros elsewhere."""
    diagonal = 0 if k is None else int(k)
    row = torch.arange(x.shape[-2], device=x.device).unsqueeze(1)
    column = torch.arange(x.shape[-1], device=x.device)
    keep = column - row >= diagonal if call.integer("upper", 1) else column - row <= diagonal
    return torch.where(keep, x, torch.zeros((), dtype=x.dtype, device=x.device))


MOVEMENT: dict[str, Kernel] = {
    "CenterCropPad": center_crop_pad,
    "Concat": concat,
    "Expand": expand,
    "Pad": pad,
    "ReverseSequence": reverse_sequence,
    "Slice": slice_,
    "Split": split,
    "Tile": tile,
    "Trilu": trilu,
}
