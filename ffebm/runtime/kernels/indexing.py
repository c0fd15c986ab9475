"""Reading and writing elements by index."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ffebm.errors import UsageError
from ffebm.runtime.kernels.call import Call, Kernel
from ffebm.runtime.kernels.dtypes import axis_of, ordered, unordered, wide


def compress(call: Call, x: Tensor, condition: Tensor) -> Tensor:
    """The slices whose condition holds."""
    if "axis" in call.attrs:
        return x.index_select(call.integer("axis"), condition.nonzero().squeeze(1))
    return x.reshape(-1)[: condition.numel()][condition[: x.numel()]]


def gather(call: Call, x: Tensor, indices: Tensor) -> Tensor:
    """Slices of x at these positions of the axis."""
    axis = axis_of(call.integer("axis"), x.ndim)
    n = x.shape[axis]
    flat = _from_front(indices.reshape(-1), n)
    try:
        slices = x.index_select(axis, flat)
    except IndexError:
        low, high = int(indices.min()), int(indices.max())
        raise UsageError(
            f"Gather reads at {low} to {high} of an axis of {n}",
            allowed=f"{-n} to {n - 1}",
            hint="tokens or positions of the input are beyond the model's table",
        ) from None
    return slices.reshape((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))


def gather_elements(call: Call, x: Tensor, indices: Tensor) -> Tensor:
    """Single elements at these positions of the axis."""
    axis = axis_of(call.integer("axis"), x.ndim)
    return wide(x).gather(axis, _from_front(indices, x.shape[axis])).to(x.dtype)


def gather_nd(call: Call, x: Tensor, indices: Tensor) -> Tensor:
    """Slices of x at positions over its first axes, after the batch axes."""
    batch = call.integer("batch_dims")
    return x[_positions(indices, x, batch)]


def _positions(indices: Tensor, x: Tensor, batch: int = 0) -> tuple[Tensor, ...]:
    """Indices whose last axis is a position in x, as one index tensor an axis."""
    n_axes = indices.ndim - 1
    grids = [
        torch.arange(x.shape[axis], device=x.device).reshape([-1 if i == axis else 1 for i in range(n_axes)])
        for axis in range(batch)
    ]
    return (*grids, *indices.to(torch.int64).unbind(-1))


def non_zero(call: Call, x: Tensor) -> Tensor:
    """Positions of the elements that are not zero, one a column."""
    return wide(x).nonzero().T


def one_hot(call: Call, indices: Tensor, depth: Tensor, values: Tensor) -> Tensor:
    """The second value at each index of a new axis, the first one elsewhere."""
    n = int(depth)
    axis = axis_of(call.integer("axis", -1), indices.ndim + 1)
    call.check_size((indices.numel(), n))
    place = indices.to(torch.int64)
    hot = _from_front(place, n).unsqueeze(-1) == torch.arange(n, device=indices.device)
    return torch.where(hot, values[1], values[0]).movedim(-1, axis)


def scatter_elements(call: Call, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    """`x` with single elements replaced by, or combined with, the updates."""
    axis = axis_of(call.integer("axis"), x.ndim)
    place = _from_front(indices, x.shape[axis])
    how = call.text("reduction", "none")
    if how == "none":
        return x.scatter(axis, place, updates)
    return x.scatter_reduce(axis, place, updates, _REDUCE[how])


_REDUCE = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def scatter_nd(call: Call, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    """`x` with slices replaced by, or combined with, the updates."""
    where = _positions(indices, x)
    how = call.text("reduction", "none")
    if how in ("none", "add"):
        return x.index_put(where, updates, accumulate=how == "add")
    rows = torch.zeros(indices.shape[:-1], dtype=torch.int64, device=x.device)
    for axis, index in enumerate(where):
        rows = rows * x.shape[axis] + _from_front(index, x.shape[axis])
    width = x[0:0].numel() if not where else _count(x.shape[len(where) :])
    flat = rows.reshape(-1, 1) * width + torch.arange(width, device=x.device)
    y = x.reshape(-1).scatter_reduce(0, flat.reshape(-1), updates.reshape(-1), _REDUCE[how])
    return y.reshape(x.shape)


def _count(shape: Sequence[int]) -> int:
    return int(torch.Size(shape).numel())


def tensor_scatter(call: Call, cache: Tensor, update: Tensor, write_indices: Tensor | None = None) -> Tensor:
    """A cache with the update of each batch written along the axis, from its own start."""
    axis = axis_of(call.integer("axis", -2), cache.ndim)
    length, room = update.shape[axis], cache.shape[axis]
    start = torch.zeros(1, dtype=torch.int64, device=cache.device) if write_indices is None else write_indices
    place = start.reshape(-1, 1) + torch.arange(length, device=cache.device)
    if call.text("mode", "linear") == "circular":
        place = place % room
    shape = [place.shape[0] if i == 0 else length if i == axis else 1 for i in range(cache.ndim)]
    return cache.scatter(axis, place.reshape(shape).expand(update.shape), update)


def top_k(call: Call, x: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """The k largest or smallest elements along the axis, the first one first among equals."""
    axis, count = call.integer("axis", -1), int(k)
    largest = bool(call.integer("largest", 1))
    values, where = ordered(x).sort(dim=axis, descending=largest, stable=True)
    return unordered(values.narrow(axis, 0, count), x.dtype), where.narrow(axis, 0, count)


def unique(call: Call, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Unique elements or slices: themselves, where each is first, which one each is, and how often."""
    axis = call.integer("axis") if "axis" in call.attrs else None
    if axis is None:
        values, inverse, counts = torch.unique(x, return_inverse=True, return_counts=True)
        inverse, n = inverse.reshape(-1), x.numel()
    else:
        values, inverse, counts = torch.unique(x, return_inverse=True, return_counts=True, dim=axis)
        n = x.shape[axis]
    place = torch.arange(n, device=x.device)
    first = torch.full_like(counts, n).scatter_reduce(0, inverse, place, "amin")
    if call.integer("sorted", 1):
        return values, first, inverse, counts
    order = first.argsort()
    values = values.index_select(0 if axis is None else axis, order)
    return values, first[order], order.argsort()[inverse], counts[order]


def _from_front(indices: Tensor, n: int) -> Tensor:
    """Possibly negative indices as ones that count from the front."""
    indices = indices.to(torch.int64)
    return torch.where(indices < 0, indices + n, indices)


INDEXING: dict[str, Kernel] = {
    "Compress": compress,
    "Gather": gather,
    "GatherElements": gather_elements,
    "GatherND": gather_nd,
    "NonZero": non_zero,
    "OneHot": one_hot,
    "Scatter": scatter_elements,
    "ScatterElements": scatter_elements,
    "ScatterND": scatter_nd,
    "TensorScatter": tensor_scatter,
    "TopK": top_k,
    "Unique": unique,
}
