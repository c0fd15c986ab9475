"""Measures a plan with some of its weights on tiles and the others computed exactly."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

import msgspec
import torch
from msgspec import Meta
from torch import Tensor

from ffebm.errors import UsageError
from ffebm.hardware.description import Crossbar
from ffebm.plan.plan import Plan
from ffebm.runtime.blocks.estimators.gradient import EP, Gradient, Implicit
from ffebm.runtime.executor import Executor
from ffebm.training.calibration import calibration_batch
from ffebm.training.classification import all_logits, as_inputs, hits
from ffebm.training.data import Data
from ffebm.training.loss import Loss, loss_of
from ffebm.training.settings import Training

VariedTiles = Mapping[str, Crossbar | None]
"""What weights lie on, by source name; None computes exactly."""


class Effort(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much one figure takes.

    Attributes:
        samples: Test samples of one accuracy, drawn once and for all; if there are fewer, all of them.
        probes: Training samples of a gradient, likewise.
        seeds: Runs with noise of their own over which an accuracy is a mean.
        beta: Nudging strength of equilibrium propagation; "auto" finds it
            from the noise of the tiles.
    """

    samples: Annotated[int, Meta(ge=1)] = 1000
    probes: Annotated[int, Meta(ge=1)] = 128
    seeds: Annotated[int, Meta(ge=1)] = 1
    beta: float | Literal["auto"] = "auto"


@dataclass(frozen=True)
class Meter:
    """Logits, accuracies and gradients.

    Attributes:
        plan: The plan; its own tiles hold whatever a measurement does not name.
        data: Samples in the model's shape.
        effort: How much one figure takes.
    """

    plan: Plan
    data: Data
    effort: Effort

    @cached_property
    def loss(self) -> Loss:
        """The loss of the first output against one class number a sample.

        Raises:
            UsageError: If the data has no such labels, or the output no score a class.
        """
        y = self.data.y_train
        if y.is_floating_point() or y.ndim != 1:
            raise UsageError(
                f"labels of {self.data.name} are {str(y.dtype).removeprefix('torch.')}{list(y.shape)}",
                allowed="one class number a sample, of which a share is classified correctly",
            )
        return loss_of(self.plan, self.data, Training(data=self.data.name))

    def labels(self) -> Tensor:
        """Classes of the samples of an accuracy, [samples]."""
        return self.data.y_test[self._picked()]

    def logits(self, tiles: VariedTiles, places: Tensor | None = None) -> Tensor:
        """Logits of the samples of an accuracy, with noise of every seed.

        Args:
            tiles: What weights lie on.
            places: Which of the samples to run; None runs all.

        Returns:
            [seeds, samples, classes].
        """
        picked = self._picked()
        kept = picked if places is None else picked[places]
        x = [part[kept] for part in self.data.test]
        nets = (self._net(tiles, EP(), seed) for seed in range(self.effort.seeds))
        return torch.stack([all_logits(net, x, self.loss.scores) for net in nets])

    def confirmed(self, tiles: VariedTiles) -> float:
        """Share of the whole test set that is classified correctly, with noise that no search has seen."""
        x, y, seeds = self.data.test, self.data.y_test, self.effort.seeds
        nets = (self._net(tiles, EP(), seed) for seed in range(seeds, 2 * seeds))
        right = sum(hits(all_logits(net, x, self.loss.scores), y) for net in nets)
        return right / (seeds * len(y))

    def gradients(self, tiles: VariedTiles, *, exact: bool = False) -> dict[str, Tensor]:
        """Gradients of the weights on the probes, in evaluation mode.

        Args:
            tiles: As for an accuracy.
            exact: By the exact adjoint of the equilibrium instead of equilibrium propagation.
        """
        net = self._net(tiles, Implicit() if exact else EP(beta=self.effort.beta), backward=True)
        x, y = self._probe()
        self.loss(net(*self._inputs(x)), y).backward()  # type: ignore[no-untyped-call]
        return {name: w.grad for name, w in net.weights().items() if w.grad is not None}

    def _picked(self) -> Tensor:
        order = torch.randperm(len(self.data.x_test), generator=torch.Generator().manual_seed(0))
        return order[: self.effort.samples]

    def _probe(self) -> tuple[tuple[Tensor, ...], Tensor]:
        order = torch.randperm(len(self.data.x_train), generator=torch.Generator().manual_seed(1))
        picked = order[: self.effort.probes]
        return tuple(x[picked] for x in self.data.train), self.data.y_train[picked]

    def _net(self, tiles: VariedTiles, gradient: Gradient, seed: int = 0, backward: bool = False) -> Executor:
        """The plan on these tiles, their ADC ranges calibrated for what is to be measured."""
        net = Executor(self.plan, gradient=gradient, seed=seed, tiles=tiles)
        net.notices.enabled = False  # the figures are of whatever state the sweeps reach
        x, y = calibration_batch(self.data)
        if backward:
            net.calibrate(self._inputs(x), y, self.loss)
        else:
            net.calibrate(self._inputs(x))
        return net

    def _inputs(self, x: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return as_inputs(self.plan, x)


def cosine(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
    """Cosine between two gradients in parts; 1 of two zero ones, 0 if one is zero."""
    a, b = (torch.cat([part.flatten() for part in parts]).double() for parts in (ours, theirs))
    lengths = float(a.norm() * b.norm())
    return float(a @ b) / lengths if lengths else float(bool((a == b).all()))
