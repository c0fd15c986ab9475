"""The samples and the loss that gradients are compared on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ffebm.errors import UsageError
from ffebm.plan.plan import Plan
from ffebm.plan.schema import Port
from ffebm.runtime.kernels.dtypes import tensor_of
from ffebm.studies.inference import read_inputs
from ffebm.training.calibration import SAMPLES, calibration_batch
from ffebm.training.classification import fitted, input_dtypes
from ffebm.training.data import Data
from ffebm.training.data.preparation import preparations
from ffebm.training.loss import Loss, loss_of
from ffebm.training.settings import Training

Batch = tuple[tuple[Tensor, ...], Tensor | None]
"""Inputs in the model's order, and class numbers if there are any."""


@dataclass(frozen=True)
class Probe:
    """Samples with what their outputs are compared with.

    Attributes:
        name: What they are.
        inputs: In the model's order, [batch, …].
        target: Labels, [batch, …]; None compares with random directions.
        calibration: What ADC ranges are calibrated on; None leaves them as they are for uniform inputs.
        of_labels: The loss against labels.
    """

    name: str
    inputs: tuple[Tensor, ...]
    target: Tensor | None = None
    calibration: Batch | None = None
    of_labels: Loss | None = None

    @property
    def samples(self) -> int:
        """How many."""
        return len(self.inputs[0])

    def loss(self, outputs: Tensor | tuple[Tensor, ...], target: Tensor) -> Tensor:
        """The loss against labels; else, of each output s, mean over samples of <r, s> + |s|^2 / 2.

        The directions r are fixed cosines, and both terms are divided by the number of elements.

        Args:
            outputs: Of the model.
            target: Labels, [batch, …]; empty if there are none.
        """
        if self.of_labels is not None:
            return self.of_labels(outputs, target)
        total = torch.zeros((), dtype=torch.float64)
        for k, s in enumerate(outputs if isinstance(outputs, tuple) else (outputs,)):
            if not s.is_floating_point():
                continue
            n = s[0].numel()
            direction = torch.cos(torch.arange(n, dtype=torch.float64) ** 2 + k).to(s.dtype).view(s.shape[1:])
            total = total + ((direction * s + 0.5 * s * s).sum() / (n * len(s))).double()
        return total


def labelled(plan: Plan, data: Data, training: Training, samples: int) -> Probe:
    """The first training samples, prepared as for training but not augmented.

    Raises:
        UsageError: If the data does not fit the model.
    """
    fit = fitted(plan, data, training.pad)
    loss = loss_of(plan, fit, training)
    prepare = preparations(training, fit, input_dtypes(plan))
    inputs, y = prepare([x[:samples] for x in fit.train]), fit.y_train[:samples]
    seen, classes = calibration_batch(fit)
    name = f"the first {len(y)} training samples of {data.name}"
    return Probe(name, inputs, y, (prepare(seen), classes), loss)


def from_file(plan: Plan, path: Path, samples: int) -> Probe:
    """The first samples of a file of inputs.

    Raises:
        UsageError: If the inputs do not fit the model.
    """
    arrays = read_inputs(plan, path)
    whole = tuple(tensor_of(arrays[port.name]) for port in plan.inputs)
    inputs, seen = (tuple(x[:count] for x in whole) for count in (samples, SAMPLES))
    name = f"the first {len(inputs[0])} samples of {path.name}"
    return Probe(name, inputs, calibration=(seen, None))


def random(plan: Plan, samples: int, seed: int) -> Probe:
    """Standard normal inputs.

    Raises:
        UsageError: If an input is of integers or of open shape: what it may hold is the model's secret.
    """
    generator = torch.Generator().manual_seed(seed)
    inputs = tuple(_random(port, samples, generator) for port in plan.inputs)
    return Probe(f"{samples} standard normal samples", inputs)


def _random(port: Port, samples: int, generator: torch.Generator) -> Tensor:
    shape: Sequence[int | str] = port.type.shape or ()
    sizes = [size for size in shape[1:] if isinstance(size, int)]
    if not port.type.dtype.startswith("float") or not shape or len(sizes) != len(shape) - 1:
        raise UsageError(
            f"input {port.name!r} is {port.type}, for which nothing can be drawn",
            allowed="inputs of floating-point numbers, open in their first axis only",
            hint="give samples with --data or --input",
        )
    first = shape[0] if isinstance(shape[0], int) else samples
    return torch.randn(first, *sizes, generator=generator)
