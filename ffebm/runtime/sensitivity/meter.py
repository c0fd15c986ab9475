"""Measures a plan with some of its weights on tiles and the others computed exactly."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec
import torch
from msgspec import Meta
from torch import Tensor
from torch.nn import functional

from ffebm.hardware import Crossbar
from ffebm.plan import Plan
from ffebm.runtime.calibration import calibration_batch
from ffebm.runtime.classification import all_logits, hits, logits, logits_of
from ffebm.runtime.data import Data
from ffebm.runtime.data.samples import floats
from ffebm.runtime.executor import Executor
from ffebm.runtime.gradient import EP, Gradient, Implicit
from ffebm.runtime.sensitivity.units import Unit

Tiles = Mapping[str, Crossbar | None]
"""What weights lie on, by source name; None computes exactly."""


class Effort(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much one figure takes.

    Attributes:
        samples: Test samples of one accuracy, drawn once and for all; if there are fewer, all of them.
        probes: Training samples of a gradient or a distortion, likewise.
        seeds: Runs with noise of their own over which an accuracy is a mean.
        beta: Nudging strength of equilibrium propagation.
    """

    samples: Annotated[int, Meta(ge=1)] = 1000
    probes: Annotated[int, Meta(ge=1)] = 128
    seeds: Annotated[int, Meta(ge=1)] = 1
    beta: float = 0.1


@dataclass(frozen=True)
class Meter:
    """Accuracies, distortions and gradients.

    Attributes:
        plan: The plan; its own tiles hold whatever a measurement does not name.
        data: Samples in the model's shape.
        effort: How much one figure takes.
    """

    plan: Plan
    data: Data
    effort: Effort

    def accuracy(self, tiles: Tiles) -> float:
        """Mean share of the samples that are classified correctly."""
        order = torch.randperm(len(self.data.x_test), generator=torch.Generator().manual_seed(0))
        picked = order[: self.effort.samples]
        return self._accuracy(tiles, self.data.x_test[picked], self.data.y_test[picked])

    def confirmed(self, tiles: Tiles) -> float:
        """The same over the whole test set."""
        return self._accuracy(tiles, self.data.x_test, self.data.y_test)

    def distortions(self, units: Sequence[Unit], weights: Sequence[str]) -> dict[str, float]:
        """How far each unit alone on its tiles moves the logits.

        Args:
            units: What goes on tiles, one after the other.
            weights: All weights that can.

        Returns:
            By the unit's name, the mean square of what it changes in the differences between logits.
        """
        x = self._probe()[0]
        exact: Tiles = dict.fromkeys(weights)
        ideal = _centred(all_logits(self._net(exact, EP()), x))
        found = {}
        for unit in units:
            tiles = {name: tile for name, tile in exact.items() if name not in unit.weights}
            moved = _centred(all_logits(self._net(tiles, EP()), x))
            found[unit.name] = float((moved - ideal).square().sum(1).mean())
        return found

    def gradients(self, tiles: Tiles, *, exact: bool = False) -> dict[str, Tensor]:
        """Gradients of the weights on the probes, in evaluation mode.

        Args:
            tiles: As for an accuracy.
            exact: By the exact adjoint of the equilibrium instead of equilibrium propagation.
        """
        net = self._net(tiles, Implicit() if exact else EP(beta=self.effort.beta), backward=True)
        x, y = self._probe()
        functional.cross_entropy(logits(net, x), y).backward()  # type: ignore[no-untyped-call]
        return {name: w.grad for name, w in net.weights().items() if w.grad is not None}

    def _accuracy(self, tiles: Tiles, x: Tensor, y: Tensor) -> float:
        seeds = self.effort.seeds
        right = sum(hits(all_logits(self._net(tiles, EP(), seed), x), y) for seed in range(seeds))
        return right / (seeds * len(x))

    def _probe(self) -> tuple[Tensor, Tensor]:
        order = torch.randperm(len(self.data.x_train), generator=torch.Generator().manual_seed(1))
        picked = order[: self.effort.probes]
        return self.data.x_train[picked], self.data.y_train[picked]

    def _net(self, tiles: Tiles, gradient: Gradient, seed: int = 0, backward: bool = False) -> Executor:
        """The plan on these tiles, their ADC ranges calibrated for what is to be measured."""
        net = Executor(self.plan, gradient=gradient, seed=seed, tiles=tiles)
        x, y = calibration_batch(self.data)
        net.calibrate(floats(x), y, _cross_entropy if backward else None)
        return net


def cosine(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
    """Cosine between two gradients in parts; 1 of two zero ones, 0 if one is zero."""
    a, b = (torch.cat([part.flatten() for part in parts]).double() for parts in (ours, theirs))
    lengths = float(a.norm() * b.norm())
    return float(a @ b) / lengths if lengths else float(bool((a == b).all()))


def _cross_entropy(outputs: Tensor | tuple[Tensor, ...], target: Tensor) -> Tensor:
    return functional.cross_entropy(logits_of(outputs), target)


def _centred(found: Tensor) -> Tensor:
    """Logits without their mean, which decides nothing."""
    return found - found.mean(1, keepdim=True)
