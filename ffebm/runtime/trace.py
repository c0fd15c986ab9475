"""Records which steps of a plan ran, forward and backward."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

BACKWARD = {"digital": "digital_backward", "free": "nudged"}
"""What runs backward where a step ran forward."""


@dataclass
class Trace:
    """Steps in the order in which they ran.

    Attributes:
        steps: Kind of step as in a plan's schedule, and the name of the node or block.
    """

    steps: list[tuple[str, str]] = field(default_factory=list)


def marked(trace: Trace | None, kind: str, name: str, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Note a step that ran forward, and let its outputs note when an error comes back to them."""
    if trace is None:
        return dict(outputs)
    trace.steps.append((kind, name))
    return marked_again(trace, kind, name, outputs, [])


def marked_again(
    trace: Trace, kind: str, name: str, outputs: Mapping[str, Tensor], noted: list[bool]
) -> dict[str, Tensor]:
    """The same for a step that has been noted forward and runs once more; `noted` is shared by its runs."""
    result = {}
    for value, tensor in outputs.items():
        if tensor.requires_grad:
            result[value] = _Mark.apply(tensor, trace, (BACKWARD[kind], name), noted)  # type: ignore[no-untyped-call]
        else:
            result[value] = tensor
    return result


class _Mark(torch.autograd.Function):
    """The identity; its backward notes the step, once."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, trace: Trace, step: tuple[str, str], noted: list[bool]) -> Tensor:
        ctx.trace, ctx.step, ctx.noted = trace, step, noted
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        if not ctx.noted:
            ctx.noted.append(True)
            ctx.trace.steps.append(ctx.step)
        return grad, None, None, None
