"""How a plan classifies labelled samples."""

import math

import torch
from torch import Tensor

from ffebm.errors import UsageError
from ffebm.plan import Plan
from ffebm.runtime.data import Data
from ffebm.runtime.data.samples import floats
from ffebm.runtime.executor import Executor

BATCH = 256
"""Samples that run at once where nothing is trained."""


def fitted(plan: Plan, data: Data, pad: bool = False) -> Data:
    """The samples in the model's shape, smaller images padded with zeros if `pad` says so.

    Raises:
        UsageError: If the model takes several inputs, or the samples or their classes are not its.
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
    _check_labels(plan, shaped)
    return shaped


def logits(net: Executor, x: Tensor) -> Tensor:
    """The first output, [batch, classes], of samples [batch, *shape]; bytes count as 0 to 1."""
    return logits_of(net(floats(x)))


def logits_of(outputs: Tensor | tuple[Tensor, ...]) -> Tensor:
    """The first output of a run, [batch, classes]."""
    return torch.flatten(outputs[0] if isinstance(outputs, tuple) else outputs, 1)


def hits(found: Tensor, y: Tensor) -> int:
    """How many samples are classified correctly, by logits [batch, classes] and classes [batch]."""
    return int((found.argmax(1) == y).sum())


@torch.no_grad()
def all_logits(net: Executor, x: Tensor) -> Tensor:
    """Logits of many samples, [samples, classes], in evaluation mode."""
    was_training = net.training
    net.eval()
    found = torch.cat([logits(net, part) for part in torch.split(x, BATCH)])
    net.train(was_training)
    return found


def _check_labels(plan: Plan, data: Data) -> None:
    """Class numbers must be outputs of the model, samples finite, and the test set not empty."""
    shape = plan.outputs[0].type.shape if plan.outputs else None
    sizes = [size for size in (shape or ())[1:] if isinstance(size, int)]
    classes = math.prod(sizes) if shape is not None and len(sizes) == len(shape) - 1 else None
    for x, y in ((data.x_train, data.y_train), (data.x_test, data.y_test)):
        if not len(x):
            raise UsageError(f"{data.name} leaves no samples to train or test on", allowed="more samples")
        if x.is_floating_point() and not bool(torch.isfinite(x).all()):
            raise UsageError(f"{data.name} holds a NaN or an infinite number", allowed="finite numbers")
        low, high = int(y.min()), int(y.max())
        if low < 0 or (classes is not None and high >= classes):
            raise UsageError(
                f"{data.name} has class numbers from {low} to {high}",
                allowed=f"the model tells {classes} classes, 0 to {(classes or 0) - 1}",
            )
