"""Plans without weights, for cost and schedules alone; arrays that say what a weight is, and hold nothing."""

import numpy as np

from ffebm.errors import UsageError
from ffebm.graph.tensor import Array, TensorType
from ffebm.plan.schema import PlanData
from ffebm.plan.tensor_file import storable

NOTE = "its weights were left out: it is for cost and schedules alone, and cannot run"
MOST_KEPT = 1024
"""Elements up to which a weight stays in a plan without weights: shapes may be computed from so few."""


def stand_in(kind: TensorType) -> Array:
    """An array of zeros that takes the memory of one.

    Args:
        kind: Its type, of known sizes.

    Raises:
        ValueError: If no plan has arrays of that type, or it has no sizes.

    >>> stand_in(TensorType("float32", (1000, 1000))).strides
    (0, 0)
    """
    shape = tuple(size for size in kind.shape or () if isinstance(size, int) and size >= 0)
    if kind.shape != shape:
        raise ValueError(f"{kind} has no sizes")
    try:
        zero = np.zeros((), np.dtype(kind.dtype))
    except TypeError:
        raise ValueError(f"{kind} is of no known type") from None
    if not storable(zero):
        raise ValueError(f"{kind} holds no numbers")
    return np.broadcast_to(zero, shape)


def leave_out(plan: PlanData) -> None:
    """Take the values of large weights out of a plan; constants that are no weights stay."""
    names = [name for name in plan.weight_names() if plan.weights[name].size > MOST_KEPT]
    plan.left_out = {name: _type_of(plan.weights[name]) for name in sorted(names)}
    plan.notes = (*plan.notes, NOTE)
    plan.weights = {**plan.weights, **{name: stand_in(kind) for name, kind in plan.left_out.items()}}


def _type_of(array: Array) -> TensorType:
    return TensorType(str(array.dtype), tuple(array.shape))


def needs_weights(plan: PlanData) -> None:
    """Refuse a plan whose weights were left out where they are needed.

    Raises:
        UsageError: If they were.
    """
    if plan.options.no_weights:
        raise UsageError(
            f"the plan of {plan.source.name} holds no weights, and cannot run",
            allowed="what needs none: show, report, explain, explore, export --to zigzag",
            hint="for a plan that runs, compile the model without --no-weights (no_weights=False)",
        )
