"""How good a network is on samples."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ffebm.errors import UsageError
from ffebm.runtime.executor import Executor
from ffebm.training.classification import BATCH
from ffebm.training.data.preparation import Preparations
from ffebm.training.loss import Loss
from ffebm.training.optimization.precision import Precision
from ffebm.training.tally import LEAST


class Evaluation:
    """Loss and accuracy of samples, in evaluation mode.

    Args:
        loss: What is measured.
        prepare: What samples become before the model reads them.
        precision: Of digital ops.
        device: Where to compute.
        calibration: Training samples and their targets, by which ADC ranges that follow data are set.
    """

    def __init__(
        self,
        loss: Loss,
        prepare: Preparations,
        precision: Precision,
        device: torch.device,
        calibration: tuple[tuple[Tensor, ...], Tensor],
    ) -> None:
        self.loss, self._prepare, self._precision = loss, prepare, precision
        self._device, self._calibration = device, calibration

    def calibrate(self, net: Executor, *, backward: bool) -> None:
        """Set ADC ranges that follow data, as weights are now.

        Args:
            net: Left in the mode that its ranges are for: training with a backward pass, else evaluation.
            backward: Ranges of the reads of a gradient, too.
        """
        inputs, targets = self._calibration
        net.train(backward)
        with self._precision.computing():
            x = self._prepare([x.to(self._device) for x in inputs])
            net.calibrate(x, *((targets.to(self._device), self.loss) if backward else ()))

    @torch.no_grad()
    def measured(self, net: Executor, inputs: Sequence[Tensor], y: Tensor) -> tuple[float, float | None]:
        """Mean loss and accuracy; no accuracy if the loss has no right and wrong.

        Args:
            net: Left in the mode it was in.
            inputs: Samples in the model's shape, before their scale is changed, by input.
            y: Targets.
        """
        was_training = net.training
        net.eval()
        total, amount, right, labels = 0.0, 0.0, 0, 0
        for start in range(0, len(y), BATCH):
            part = slice(start, start + BATCH)
            target = y[part].to(self._device)
            with self._precision.computing():
                outputs = net(*self._prepare([x[part].to(self._device) for x in inputs]))
            share = self.loss.amount(target)
            total, amount = total + float(self.loss(outputs, target)) * share, amount + share
            right += self.loss.hits(self.loss.scores(outputs), target)
            labels += self.loss.labels(target)
        net.train(was_training)
        return total / max(amount, LEAST), right / max(labels, 1) if self.loss.counts else None

    def accuracy(self, net: Executor, inputs: Sequence[Tensor], y: Tensor) -> float:
        """Share of labels that are classified correctly.

        Raises:
            UsageError: If the loss has no right and wrong.
        """
        found = self.measured(net, inputs, y)[1]
        if found is None:
            raise UsageError(f"with loss {self.loss.name!r} there is no accuracy", allowed="class numbers")
        return found
