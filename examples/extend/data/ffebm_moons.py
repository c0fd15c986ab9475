"""A data set: two half moons that reach into each other, [2] -> 2 classes; drawn, not read."""

from math import pi
from pathlib import Path

import torch

from ffebm.training.data import Data


def moons(folder: Path | None) -> Data:
    """400 samples to train on and 100 to test on; always the same.

    A set that is read from files finds them in `folder`, the argument of `--data-folder`.
    """
    drawn = torch.Generator().manual_seed(0)
    y = torch.arange(500) % 2
    angle = pi * torch.rand(500, generator=drawn)
    upper = torch.stack([angle.cos(), angle.sin()], 1)
    x = torch.where(y[:, None] == 0, upper, torch.tensor([1.0, 0.5]) - upper)
    x += 0.1 * torch.randn(x.shape, generator=drawn)
    return Data("moons", x[:400], y[:400], x[400:], y[400:])
