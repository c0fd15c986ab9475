"""What an Executor is given: inputs by name, of the right shape, with samples."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ffebm.errors import UsageError
from ffebm.plan.plan import Plan
from ffebm.plan.schema import Port
from ffebm.plan.structure import Record

pytree.register_pytree_node(
    Record,
    lambda record: (list(record.values()), (record.class_name, tuple(record))),
    lambda values, named: Record(named[0], dict(zip(named[1], values, strict=True))),
)

LossFunction = Callable[..., Tensor]
"""loss_fn(outputs, target) -> scalar."""


def inputs_by_name(
    ports: Sequence[Port], nested: tuple[Any, ...], by_name: Mapping[str, Any]
) -> dict[str, Tensor]:
    """The inputs of a run by name.

    Args:
        ports: What the model takes.
        nested: In the model's order; nested ones as the torch model takes them.
        by_name: The others.

    Raises:
        UsageError: If inputs are missing, unknown or of another shape.
    """
    names = [port.name for port in ports]
    inputs = [leaf for leaf in pytree.tree_leaves(nested) if isinstance(leaf, Tensor)]
    named = _flat_names(by_name)
    if len(inputs) > len(names):
        raise UsageError(f"{len(inputs)} inputs", allowed=f"the model takes {names}")
    values = dict(zip(names, inputs, strict=False))
    for name, value in named.items():
        if name not in names or name in values:
            raise UsageError(f"input {name!r} is unknown or given twice", allowed=f"the model takes {names}")
        values[name] = value
    missing = [name for name in names if name not in values]
    if missing:
        raise UsageError(f"input {missing[0]!r} is missing", allowed=f"the model takes {names}")
    for port in ports:
        _check_shape(port.name, port.type.shape, tuple(values[port.name].shape))
    return values


def _flat_names(named: Mapping[str, Any]) -> dict[str, Tensor]:
    """Named tensors; one inside a nested argument is named after the way to it, as torch.export does."""
    found = {}
    for path, leaf in pytree.tree_flatten_with_path(dict(named))[0]:
        if isinstance(leaf, Tensor):
            keys = (getattr(key, "key", getattr(key, "idx", getattr(key, "name", key))) for key in path)
            found["_".join(str(key) for key in keys)] = leaf
    return found


def check_calibration(
    ports: Sequence[Port], inputs: tuple[Any, ...], target: Tensor | None, loss_fn: LossFunction | None
) -> None:
    """A loss goes with a target, and every input holds samples that lines can carry."""
    if (target is None) != (loss_fn is None):
        found = "a target without a loss_fn" if loss_fn is None else "a loss_fn without a target"
        raise UsageError(found, allowed="both, or neither for a pass forward only")
    tensors = (leaf for leaf in pytree.tree_leaves(inputs) if isinstance(leaf, Tensor))
    for port, value in zip(ports, tensors, strict=False):
        if value.ndim and not len(value):
            raise UsageError(f"input {port.name!r} holds no samples", allowed="at least one")
        if value.is_floating_point() and bool(torch.isnan(value).any()):  # a mask may be -inf
            raise UsageError(f"input {port.name!r} holds a NaN", allowed="numbers")


def check_types(plan: Plan, values: Mapping[str, Tensor], dtype_of: Callable[[str], torch.dtype]) -> None:
    """An input has the type of the weights that have its type in the model; they may have been cast.

    Args:
        plan: What runs.
        values: The inputs by name.
        dtype_of: The present type of a weight.

    Raises:
        UsageError: If one has another.
    """
    for port in plan.inputs:
        like = next((n for n, array in plan.weights.items() if str(array.dtype) == port.type.dtype), None)
        if like is not None and values[port.name].dtype != dtype_of(like):
            found, allowed = (
                str(dtype).removeprefix("torch.") for dtype in (values[port.name].dtype, dtype_of(like))
            )
            raise UsageError(f"input {port.name!r} is {found}", allowed=allowed)


def _check_shape(name: str, expected: tuple[int | str, ...] | None, found: tuple[int, ...]) -> None:
    """The batch may be of any size; every other known size must fit."""
    if expected is None:
        return
    fits = len(expected) == len(found) and all(
        not isinstance(want, int) or want == have
        for want, have in list(zip(expected, found, strict=False))[1:]
    )
    if not fits:
        raise UsageError(
            f"input {name!r} is {list(found)}", allowed=f"{list(expected)}, the batch of any size"
        )
