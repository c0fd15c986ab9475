"""Resampling: resizing, and reading an image at given points."""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, floor

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ffebm.runtime.kernels.call import Call, Kernel
from ffebm.runtime.kernels.dtypes import axes_of, sizes


@dataclass(frozen=True)
class ResizedAxis:
    """How one axis is resized.

    Attributes:
        axis: Which one.
        n: Its size.
        n_out: Its new size.
        scale: New size by old one, before rounding.
        start: Where the region begins, as a fraction of the axis.
        end: Where the region ends.
    """

    axis: int
    n: int
    n_out: int
    scale: float
    start: float
    end: float

    def positions(self, mode: str) -> Tensor:
        """Where each new element lies on the old axis.

        In single precision, as onnxruntime has it, which decides what is nearest: element 8 of an axis that
        grows by 1.6 lies on element 5, not before it.
        """
        at = torch.arange(self.n_out, dtype=torch.float32)
        scale = torch.tensor(self.scale, dtype=torch.float32)
        return self._positions(mode, at, scale).double()

    def _positions(self, mode: str, at: Tensor, scale: Tensor) -> Tensor:
        length = self.scale * self.n
        if mode == "asymmetric":
            return at / scale
        if mode == "align_corners":
            return at * (self.n - 1) / (length - 1) if self.n_out > 1 else at * 0
        if mode == "tf_crop_and_resize":
            if self.n_out == 1:
                return at * 0 + (self.start + self.end) * (self.n - 1) / 2
            step = (self.end - self.start) * (self.n - 1) / (length - 1)
            return self.start * (self.n - 1) + at * step
        if mode == "pytorch_half_pixel" and self.n_out == 1:
            return at * 0
        if mode == "tf_half_pixel_for_nn":  # of opset 11 alone
            return (at + 0.5) / scale
        shift = self.n / 2 * (1 - self.n_out / length) if mode == "half_pixel_symmetric" else 0.0
        return shift + ((at + 0.5) / scale - 0.5)


_PLACES = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_crop_and_resize",
    "tf_half_pixel_for_nn",
)
_NEAREST: dict[str, Callable[[Tensor], Tensor]] = {
    "ceil": torch.ceil,
    "floor": torch.floor,
    "round_prefer_ceil": lambda at: torch.floor(at + 0.5),
    "round_prefer_floor": lambda at: torch.ceil(at - 0.5),
}


def resize(
    call: Call,
    x: Tensor,
    roi: Tensor | None = None,
    scales: Tensor | None = None,
    target: Tensor | None = None,
) -> Tensor:
    """Resizes axes by nearest, linear or cubic interpolation, one after the other."""
    mode = call.text("coordinate_transformation_mode", "half_pixel")
    if mode not in _PLACES:
        raise call.unusable("coordinate_transformation_mode", mode, f"one of {', '.join(_PLACES)}")
    nearest = call.text("mode", "nearest") == "nearest"
    y = x if x.is_floating_point() or nearest else x.float()
    resized = _axes(call, x, roi, scales, target)
    new = {axis.axis: axis.n_out for axis in resized}
    call.check_size(new.get(axis, n) for axis, n in enumerate(x.shape))
    for axis in resized:
        if axis.n_out == axis.n and axis.scale == 1 and mode != "tf_crop_and_resize":
            continue
        at = axis.positions(mode)
        if nearest:
            y = y.index_select(axis.axis, _nearest(call, at, axis.n).to(x.device))
        else:
            weights = _weights(call, at, axis).to(y)
            y = (y.movedim(axis.axis, -1) @ weights.T).movedim(-1, axis.axis)
        if mode == "tf_crop_and_resize":
            outside = ((at < 0) | (at > axis.n - 1)).to(x.device)
            outside = outside.reshape([-1 if i == axis.axis else 1 for i in range(x.ndim)])
            y = torch.where(outside, call.number("extrapolation_value"), y)
    return y.to(x.dtype)


def _axes(
    call: Call, x: Tensor, roi: Tensor | None, scales: Tensor | None, target: Tensor | None
) -> list[ResizedAxis]:
    chosen = axes_of(call.integers("axes", tuple(range(x.ndim))), x.ndim)
    whole = [0.0] * len(chosen) + [1.0] * len(chosen)
    regions = whole if roi is None or not roi.numel() else roi.tolist()
    old = [x.shape[axis] for axis in chosen]
    if scales is not None and scales.numel():
        factors = [float(factor) for factor in scales.tolist()]
        new = [floor(np.float32(n) * np.float32(factor)) for n, factor in zip(old, factors, strict=True)]
    else:
        new = [] if target is None else sizes(target)
        factors = [want / n for want, n in zip(new, old, strict=True)]
        policy = call.text("keep_aspect_ratio_policy", "stretch")
        if policy != "stretch":
            common = min(factors) if policy == "not_larger" else max(factors)
            factors = [common] * len(old)
            new = [floor(common * n + 0.5) for n in old]
    starts, ends = regions[: len(chosen)], regions[len(chosen) :]
    return [ResizedAxis(*facts) for facts in zip(chosen, old, new, factors, starts, ends, strict=True)]


def _nearest(call: Call, at: Tensor, n: int) -> Tensor:
    choose = _NEAREST[call.text("nearest_mode", "round_prefer_floor")]
    return choose(at).to(torch.int64).clamp(0, n - 1)


def _weights(call: Call, at: Tensor, axis: ResizedAxis) -> Tensor:
    """How much each old element contributes to each new one, [n_out, n]."""
    cubic = call.text("mode") == "cubic"
    shrink = min(axis.scale, 1.0) if call.integer("antialias") else 1.0
    margin = ceil((2 if cubic else 1) / shrink) + 1
    place = torch.arange(-margin, axis.n + margin)
    distance = ((place - at.clamp(-1, axis.n).unsqueeze(1)) * shrink).abs()
    factor = call.number("cubic_coeff_a", -0.75)
    weights = _cubic(distance, factor) if cubic else (1 - distance).clamp(min=0)
    if call.integer("exclude_outside"):
        weights = torch.where((place >= 0) & (place < axis.n), weights, 0)
    weights = weights / weights.sum(1, keepdim=True)
    inside = place.clamp(0, axis.n - 1).expand_as(weights)  # the edge stands for what is outside
    return torch.zeros(axis.n_out, axis.n, dtype=weights.dtype).scatter_add(1, inside, weights)


def _cubic(distance: Tensor, a: float) -> Tensor:
    """Cubic convolution; Source: Keys 1981, equation 4."""
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return torch.where(distance <= 1, near, torch.where(distance < 2, far, 0))


def affine_grid(call: Call, theta: Tensor, size: Tensor) -> Tensor:
    """The points of a regular grid moved by an affine map."""
    call.check_size((*sizes(size)[:1], *sizes(size)[2:], len(size) - 2))
    return functional.affine_grid(theta, sizes(size), align_corners=bool(call.integer("align_corners")))


_GRID_MODES = {"linear": "bilinear", "cubic": "bicubic"}


def grid_sample(call: Call, x: Tensor, grid: Tensor) -> Tensor:
    """An image read at the points of a grid."""
    mode = call.text("mode", "linear")
    return functional.grid_sample(
        x,
        grid,
        mode=_GRID_MODES.get(mode, mode),
        padding_mode=call.text("padding_mode", "zeros"),
        align_corners=bool(call.integer("align_corners")),
    )


def roi_align(call: Call, x: Tensor, rois: Tensor, batch: Tensor) -> Tensor:
    """Pools each region of an image into cells, from points on a regular grid in each cell."""
    rows, columns = call.integer("output_height", 1), call.integer("output_width", 1)
    half_pixel = call.text("coordinate_transformation_mode", "half_pixel") == "half_pixel"
    corners = rois * call.number("spatial_scale", 1.0) - (0.5 if half_pixel else 0.0)
    call.check_size((len(rois), x.shape[1], rows, columns))
    pooled = []
    for (left, top, right, bottom), image in zip(corners, x[batch.to(torch.int64)], strict=True):
        height, width = bottom - top, right - left
        if not half_pixel:
            height, width = height.clamp(min=1), width.clamp(min=1)
        down = _cell_points(call, top, height, rows, x.shape[2])
        across = _cell_points(call, left, width, columns, x.shape[3])
        parts = torch.stack(
            [image[:, i][:, :, j] * (wi.unsqueeze(1) * wj) for i, wi in down for j, wj in across]
        )
        # [4 corners, channels, rows, points, columns, points]
        parts = parts.reshape(4, x.shape[1], rows, -1, columns, across[0][0].numel() // columns)
        if call.text("mode", "avg") == "avg":
            pooled.append(parts.sum(0).mean((2, 4)))
        else:
            pooled.append(parts.amax((0, 3, 5)))
    return torch.stack(pooled)


def _cell_points(
    call: Call, start: Tensor, length: Tensor, cells: int, n: int
) -> list[tuple[Tensor, Tensor]]:
    """The two neighbours of each sampled point of an axis, as (index, weight)."""
    count = call.integer("sampling_ratio") or max(ceil(float(length.detach()) / cells), 1)
    at = torch.arange(cells * count, dtype=start.dtype, device=start.device) + 0.5
    at = start + at * length / (cells * count)
    inside = (at >= -1) & (at <= n)
    at = at.clamp(0, n - 1)
    low = at.detach().floor().to(torch.int64)
    high = (low + 1).clamp(max=n - 1)
    part = at - low
    return [(low, torch.where(inside, 1 - part, 0)), (high, torch.where(inside, part, 0))]


RESIZE: dict[str, Kernel] = {
    "AffineGrid": affine_grid,
    "GridSample": grid_sample,
    "Resize": resize,
    "RoiAlign": roi_align,
}
