"""How a plan classifies labelled samples."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ffebm.errors import UsageError
from ffebm.plan.plan import Plan
from ffebm.runtime.executor import Executor
from ffebm.training.data import Data
from ffebm.training.data.samples import as_input

BATCH = 256
"""Samples that run at once where nothing is trained."""


def fitted(plan: Plan, data: Data, pad: bool = False) -> Data:
    """The samples in the model's shape and kind, smaller images padded with zeros if `pad` says so.

    Raises:
        UsageError: If the model takes several inputs, or the samples are not its.
    """
    ports = plan.inputs
    if len(ports) != 1 or ports[0].type.shape is None:
        raise UsageError(
            f"the model takes {len(ports)} inputs",
            allowed="one input of known shape",
            hint="write your own loop",
        )
    shape = ports[0].type.shape
    shaped = data.shaped(shape[1:] if shape else (), pad)
    for x in (shaped.x_train, shaped.x_test):
        if not len(x):
            raise UsageError(f"{data.name} leaves no samples to train or test on", allowed="more samples")
        if x.is_floating_point() and not bool(torch.isfinite(x).all()):
            raise UsageError(f"{data.name} holds a NaN or an infinite number", allowed="finite numbers")
    for y in (shaped.y_train, shaped.y_test):
        if y.is_floating_point() and not bool(torch.isfinite(y).all()):
            raise UsageError(
                f"labels of {data.name} hold a NaN or an infinite number", allowed="finite numbers"
            )
    dtype = input_dtype(plan)
    return replace(
        shaped,
        x_train=_held(shaped.x_train, dtype, data.name),
        x_test=_held(shaped.x_test, dtype, data.name),
    )


def input_dtype(plan: Plan) -> torch.dtype:
    """The type of the model's first input."""
    name = plan.inputs[0].type.dtype
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise UsageError(f"the model takes {name}", allowed="numbers of a type that torch computes with")
    return found


def _held(x: Tensor, dtype: torch.dtype, name: str) -> Tensor:
    """Samples as they are kept in memory: whole numbers for a model that takes such, else float32."""
    if x.dtype == torch.uint8:  # bytes of images, which `as_input` scales
        return x
    if dtype.is_floating_point:
        return x.float()
    kept = x.to(dtype)
    if not torch.equal(kept.to(x.dtype), x):
        found = str(dtype).removeprefix("torch.")
        raise UsageError(f"samples of {name} are no {found}, which the model takes", allowed="whole numbers")
    return kept


def logits(net: Executor, x: Tensor) -> Tensor:
    """The first output, [batch, classes], of samples [batch, *shape]; bytes of images count as 0 to 1."""
    return logits_of(net(as_input(x, input_dtype(net.plan))))


def logits_of(outputs: Tensor | tuple[Tensor, ...]) -> Tensor:
    """The first output of a run, [batch, classes]."""
    return torch.flatten(outputs[0] if isinstance(outputs, tuple) else outputs, 1)


def hits(found: Tensor, y: Tensor) -> int:
    """How many samples are classified correctly, by logits [batch, classes] and classes [batch]."""
    return int((found.argmax(1) == y).sum())


@torch.no_grad()
def all_logits(net: Executor, x: Tensor, rows: Callable[[Any], Tensor] = logits_of) -> Tensor:
    """Logits of many samples, [samples, classes], in evaluation mode.

    Args:
        net: The network.
        x: The samples.
        rows: Logits among the outputs; of the first if not given.
    """
    was_training = net.training
    net.eval()
    dtype = input_dtype(net.plan)
    found = torch.cat([rows(net(as_input(part, dtype))) for part in torch.split(x, BATCH)])
    net.train(was_training)
    return found
