"""How a plan classifies labelled samples."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ffebm.errors import UsageError
from ffebm.plan.plan import Plan
from ffebm.plan.schema import Port
from ffebm.runtime.executor import Executor
from ffebm.training.data import Data, load_data
from ffebm.training.data.samples import as_input
from ffebm.visible import visible

BATCH = 256
"""Samples that run at once where nothing is trained."""


def data_for(plan: Plan, name: str, folder: Path | None = None) -> Data:
    """Data whose arrays of samples may be called as the inputs of a model.

    Args:
        plan: That of the model.
        name: As for `load_data`.
        folder: Where its files are, if it is read from a folder.

    Raises:
        UsageError: If there is no such data, or it is damaged.
    """
    return load_data(name, folder, [port.name for port in plan.inputs])


def fitted(plan: Plan, data: Data, pad: bool = False) -> Data:
    """The samples in the model's shapes and kinds, smaller images padded with zeros if `pad` says so.

    Raises:
        UsageError: If the samples are not the model's.
    """
    ports = plan.inputs
    if len(ports) != len(data.train):
        listed = ", ".join(port.name for port in ports)
        raise UsageError(
            f"{data.name} holds samples of {_inputs(len(data.train))}, the model takes "
            f"{_inputs(len(ports))}{': ' * bool(ports)}{visible(listed)}",
            allowed="an .npz file with an array for each input by its name, and labels y",
        )
    for y in (data.y_train, data.y_test):
        if y.is_floating_point() and not bool(torch.isfinite(y).all()):
            raise UsageError(
                f"labels of {data.name} hold a NaN or an infinite number", allowed="finite numbers"
            )
    names = [data.name] if len(ports) == 1 else [f"{visible(port.name)} of {data.name}" for port in ports]
    alone = [data.alone(k, name) for k, name in enumerate(names)]
    found = [
        _fitted(port, part, pad, dtype)
        for port, part, dtype in zip(ports, alone, input_dtypes(plan), strict=True)
    ]
    return data.of([part.x_train for part in found], [part.x_test for part in found])


def _inputs(count: int) -> str:
    return f"{count} input{'s' * (count != 1)}"


def _fitted(port: Port, data: Data, pad: bool, dtype: torch.dtype) -> Data:
    """The samples of one input."""
    shape = port.type.shape
    if shape is None:
        raise UsageError(
            f"input {visible(port.name)!r} is of unknown shape",
            allowed="inputs of known shape",
            hint="write your own loop",
        )
    shaped = data.shaped(shape[1:] if shape else (), pad)
    for x in (shaped.x_train, shaped.x_test):
        if not len(x):
            raise UsageError(f"{data.name} leaves no samples to train or test on", allowed="more samples")
        if x.is_floating_point() and not bool(torch.isfinite(x).all()):
            raise UsageError(f"{data.name} holds a NaN or an infinite number", allowed="finite numbers")
    return shaped.of([_held(shaped.x_train, dtype, data.name)], [_held(shaped.x_test, dtype, data.name)])


def input_dtypes(plan: Plan) -> tuple[torch.dtype, ...]:
    """The types of the model's inputs."""
    found = [getattr(torch, port.type.dtype, None) for port in plan.inputs]
    for port, dtype in zip(plan.inputs, found, strict=True):
        if not isinstance(dtype, torch.dtype):
            raise UsageError(
                f"the model takes {port.type.dtype}", allowed="numbers of a type that torch computes with"
            )
    return tuple(dtype for dtype in found if isinstance(dtype, torch.dtype))


def as_inputs(plan: Plan, x: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Samples as the model's inputs; bytes of images count as 0 to 1.

    Args:
        plan: The plan.
        x: Samples, a tensor for each input; a tensor alone if there is one.
    """
    parts = (x,) if isinstance(x, Tensor) else x
    return tuple(as_input(part, dtype) for part, dtype in zip(parts, input_dtypes(plan), strict=True))


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
    return logits_of(net(*as_inputs(net.plan, x)))


def logits_of(outputs: Tensor | tuple[Tensor, ...]) -> Tensor:
    """The first output of a run, [batch, classes]."""
    return torch.flatten(outputs[0] if isinstance(outputs, tuple) else outputs, 1)


def hits(found: Tensor, y: Tensor) -> int:
    """How many samples are classified correctly, by logits [batch, classes] and classes [batch]."""
    return int((found.argmax(1) == y).sum())


@torch.no_grad()
def all_logits(
    net: Executor, x: Tensor | Sequence[Tensor], rows: Callable[[Any], Tensor] = logits_of
) -> Tensor:
    """Logits of many samples, [samples, classes], in evaluation mode.

    Args:
        net: The network.
        x: The samples, a tensor for each input; a tensor alone if there is one.
        rows: Logits among the outputs; of the first if not given.
    """
    was_training = net.training
    net.eval()
    batches = zip(*(torch.split(part, BATCH) for part in as_inputs(net.plan, x)), strict=True)
    found = torch.cat([rows(net(*batch)) for batch in batches])
    net.train(was_training)
    return found
