"""The samples that ADC ranges are calibrated on, and what is said about them."""

import torch
from torch import Tensor

from ffebm.hardware.description import Crossbar
from ffebm.plan.plan import Plan
from ffebm.training.data import Data

SAMPLES = 128
"""Training samples of a calibration."""


def calibration_batch(data: Data) -> tuple[Tensor, Tensor]:
    """Training samples and their classes, drawn once and for all; if there are fewer than `SAMPLES`, all."""
    order = torch.randperm(len(data.x_train), generator=torch.Generator().manual_seed(0))[:SAMPLES]
    return data.x_train[order], data.y_train[order]


def follows_data(plan: Plan) -> bool:
    """Weights of the plan lie on crossbars with ADCs whose ranges samples can set."""
    tiles = plan.hardware.tiles
    if tiles.settling == "continuous" or not isinstance(tiles.tile, Crossbar):
        return False
    return tiles.tile.follows_data and any(tile.kind == "crossbar" for tile, _ in plan.pieces())


def calibrated_on(plan: Plan, samples: int) -> str:
    """What the ranges of ADCs are, in words; empty if samples have no say in them.

    Args:
        plan: The plan.
        samples: How many they were calibrated on; 0 if on none.
    """
    tile = plan.hardware.tiles.tile
    if not follows_data(plan) or not isinstance(tile, Crossbar):
        return ""
    source = f"on {samples} samples" if samples else "for uniform inputs"
    return f"ADC ranges: {tile.deviations:.3g} standard deviations of what lines carry {source}"
