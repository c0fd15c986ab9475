"""How long a recipe takes on the machine at hand: a few steps of training, measured."""

import itertools
import math
import time
from dataclasses import dataclass

import msgspec
import torch

from ffebm.compiler.driver import compile_model
from ffebm.plan.plan import Plan
from ffebm.recipes.recipe import Experiment, Images
from ffebm.runtime.executor import Executor
from ffebm.training.data import Data
from ffebm.training.estimator import estimator
from ffebm.training.settings import Training
from ffebm.training.trainer import Trainer

MOST = 32
"""Samples of a measured step; larger batches are taken to last longer in proportion."""
STEPS = 3
"""Measured after one that counts for nothing; the fastest one counts."""


@dataclass(frozen=True)
class Duration:
    """How long a recipe takes.

    Attributes:
        step: Seconds of a step of the optimiser.
        batch: Samples of it.
        measured: Samples of the step that was measured.
        epochs: Passes over the training samples.
        hours: Of all steps, without tests.
    """

    step: float
    batch: int
    measured: int
    epochs: int
    hours: float

    def words(self) -> str:
        """In one line."""
        how = "" if self.measured == self.batch else f", from one of {self.measured}"
        return (
            f"{self.step:.3g} s a step of {self.batch} samples{how}; "
            f"{self.hours:.3g} h for {self.epochs} epochs"
        )


def duration(recipe: Experiment, width: float, data: str, hardware: str = "ideal") -> Duration:
    """Train a few steps on random images, and measure.

    Args:
        recipe: The recipe.
        width: Factor of the channels.
        data: What the recipe trains on, by name.
        hardware: Shipped name or path of a description.

    Raises:
        UsageError: If the width, the data or the hardware is out of range.
    """
    images = recipe.images(data)
    plan = compile_model(
        recipe.model(width, data, seed=0),
        hardware=hardware,
        block_size=recipe.block_size,
        digital=recipe.digital,
        boundary=recipe.boundary,
        settle=recipe.settling(width),
        physics=recipe.physics,
    )
    training = recipe.settings(data, seed=0, width=width)
    measured = min(training.batch, MOST)
    step = training.batch / measured * _step(plan, training, measured, images)
    samples = images.samples * (1 - training.validation)
    hours = training.epochs * math.ceil(samples / training.batch) * step / 3600
    return Duration(step, training.batch, measured, training.epochs, hours)


def _step(plan: Plan, training: Training, batch: int, images: Images) -> float:
    """Seconds of a step on so many samples."""
    short = msgspec.structs.replace(
        training, epochs=1, batch=batch, schedule="constant", schedule_by="epochs", warmup=0, min_lr=0.0
    )
    short = msgspec.structs.replace(short, drop_factor=None, validation=0.0)
    random = torch.Generator().manual_seed(0)
    n = batch * (STEPS + 1)
    x = torch.randint(0, 256, (n, *images.shape), generator=random, dtype=torch.uint8)
    y = torch.randint(0, images.classes, (n,), generator=random)
    net = Executor(plan, gradient=estimator(short))
    ends: list[float] = []

    def ended(_seen: int, _total: int, _loss: float) -> None:
        ends.append(time.perf_counter())

    for _ in Trainer(net, Data("random images", x, y, x[:1], y[:1]), short).run(ended):
        pass
    return min(after - before for before, after in itertools.pairwise(ends))
