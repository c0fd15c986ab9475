"""Ops that only change the layout of a tensor."""

from math import prod

from torch import Tensor

from ffebm.runtime.kernels.call import Call, Kernel
from ffebm.runtime.kernels.dtypes import axes_of, axis_of, sizes


def depth_to_space(call: Call, x: Tensor) -> Tensor:
    """Moves blocks of channels into the plane."""
    n, c, h, w = x.shape
    b = call.integer("blocksize")
    if call.text("mode", "DCR") == "DCR":
        y = x.reshape(n, b, b, c // b**2, h, w).permute(0, 3, 4, 1, 5, 2)
    else:
        y = x.reshape(n, c // b**2, b, b, h, w).permute(0, 1, 4, 2, 5, 3)
    return y.reshape(n, c // b**2, h * b, w * b)


def flatten(call: Call, x: Tensor) -> Tensor:
    """A matrix whose rows are the axes before `axis`."""
    axis = axis_of(call.integer("axis", 1), x.ndim)
    return x.reshape(prod(x.shape[:axis]), prod(x.shape[axis:]))


def identity(call: Call, x: Tensor) -> Tensor:
    """`x` itself."""
    return x


def reshape(call: Call, x: Tensor, shape: Tensor) -> Tensor:
    """A new shape; 0 keeps an axis unless zeros are allowed, -1 takes what is left."""
    size = sizes(shape)
    if not call.integer("allowzero"):
        size = [x.shape[axis] if n == 0 else n for axis, n in enumerate(size)]
    return x.reshape(size)


def space_to_depth(call: Call, x: Tensor) -> Tensor:
    """Moves blocks of the plane into channels."""
    n, c, h, w = x.shape
    b = call.integer("blocksize")
    y = x.reshape(n, c, h // b, b, w // b, b)
    order = (0, 3, 5, 1, 2, 4) if call.text("mode", "DCR") == "DCR" else (0, 1, 3, 5, 2, 4)
    return y.permute(order).reshape(n, c * b * b, h // b, w // b)


def squeeze(call: Call, x: Tensor, axes: Tensor | None = None) -> Tensor:
    """Drops axes of size one, all of them or those given."""
    chosen = call.integers("axes") if axes is None else sizes(axes)
    if axes is None and not chosen:
        return x.squeeze()
    dropped = axes_of(chosen, x.ndim)
    return x.reshape([n for axis, n in enumerate(x.shape) if axis not in dropped])


def transpose(call: Call, x: Tensor) -> Tensor:
    """Axes in another order; reversed if none is given."""
    return x.permute(call.integers("perm") or tuple(range(x.ndim))[::-1])


def unsqueeze(call: Call, x: Tensor, axes: Tensor | None = None) -> Tensor:
    """New axes of size one, at these positions of the result."""
    chosen = call.integers("axes") if axes is None else sizes(axes)
    for axis in sorted(axes_of(chosen, x.ndim + len(chosen))):
        x = x.unsqueeze(axis)
    return x


LAYOUT: dict[str, Kernel] = {
    "DepthToSpace": depth_to_space,
    "Flatten": flatten,
    "Identity": identity,
    "Reshape": reshape,
    "SpaceToDepth": space_to_depth,
    "Squeeze": squeeze,
    "Transpose": transpose,
    "Unsqueeze": unsqueeze,
}
