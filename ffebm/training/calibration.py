"""The samples that ADC ranges are calibrated on, and what is said about them."""

import torch
from torch import Tensor

from ffebm.plan.plan import Plan
from ffebm.training.data import Data

SAMPLES = 128
"""Training samples of a calibration."""


def calibration_batch(data: Data) -> tuple[tuple[Tensor, ...], Tensor]:
    """Training samples, a tensor for each input, and their labels; if there are fewer than `SAMPLES`, all.

    They are drawn once and for all.
    """
    order = torch.randperm(len(data.x_train), generator=torch.Generator().manual_seed(0))[:SAMPLES]
    return tuple(x[order] for x in data.train), data.y_train[order]


def follows_data(plan: Plan) -> bool:
    """Weights of the plan lie on crossbars with ADCs whose ranges samples can set."""
    tiles = plan.hardware.tiles
    return tiles.settling == "clocked" and tiles.tile.follows_data and any(plan.pieces())


def calibrated_on(plan: Plan, samples: int) -> str:
    """What the ranges of ADCs are, in words; empty if samples have no say in them.

    Args:
        plan: The plan.
        samples: How many they were calibrated on; 0 if on none.
    """
    if not follows_data(plan):
        return ""
    tile = plan.hardware.tiles.tile.crossbar()
    source = f"on {samples} samples" if samples else "for uniform inputs"
    return f"ADC ranges: {tile.deviations:.3g} standard deviations of what lines carry {source}"
