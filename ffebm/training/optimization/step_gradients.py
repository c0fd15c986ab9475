"""The gradient of one step of an optimiser, from the batches that make it."""

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from ffebm.runtime.blocks.outer_products import OuterProducts
from ffebm.runtime.executor import Executor
from ffebm.training.optimization.precision import Precision


class StepGradients:
    """Gradients of batches, each times its share, and what cells take as outer products instead.

    Args:
        net: The network.
        optimizer: Whose step it is.
        precision: How backward passes are scaled.
        clip_norm: Longest gradient that a step takes; None leaves all as they are.
    """

    def __init__(
        self, net: Executor, optimizer: torch.optim.Optimizer, precision: Precision, clip_norm: float | None
    ) -> None:
        self._net, self._optimizer, self._precision = net, optimizer, precision
        self._clip_norm = clip_norm
        self._products: list[tuple[OuterProducts, float]] = []  # of a step, with the share of their batch

    @property
    def weights(self) -> list[Tensor]:
        """Weights in the order of the optimiser."""
        return [weight for group in self._optimizer.param_groups for weight in group["params"]]

    def begin(self) -> None:
        """Start a step: nothing is left of the one before."""
        self._optimizer.zero_grad()
        self._products.clear()

    def add(self, loss: Tensor, share: float) -> None:
        """Add the gradients of a batch, times its share.

        The gradients are multiplied, not the loss: a nudge in the unit of the loss would become weaker.
        """
        if share == 1.0:
            self._go_back(loss, share)
            return
        weights = self.weights
        before = [weight.grad for weight in weights]
        for weight in weights:
            weight.grad = None
        self._go_back(loss, share)
        for weight, grad in zip(weights, before, strict=True):
            if weight.grad is None:
                weight.grad = grad
            else:
                weight.grad.mul_(share)
                weight.grad = weight.grad if grad is None else weight.grad.add_(grad)

    def take(self) -> None:
        """Step, and have cells take the outer products of all batches of the step."""
        self._precision.step(self._optimizer, self._clip)
        rate = float(self._optimizer.param_groups[0]["lr"])
        for products, share in self._products:
            self._net.pulse(products, rate * share)
        self._products.clear()

    def _go_back(self, loss: Tensor, share: float) -> None:
        """One backward pass; cells that take outer products take them at the end of the step."""
        with self._net.outer_products() as products:
            self._precision.backward(loss)
        self._products.append((products, share))

    def _clip(self) -> None:
        if self._clip_norm is not None:
            clip_grad_norm_(self._net.weights().values(), self._clip_norm)
