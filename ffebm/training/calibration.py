"""The samples that ADC ranges are calibrated on, and what is said about them."""

import torch
from torch import Tensor

from ffebm.hardware.description import AnalogGroup
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
    return bool(_following(plan))


def _following(plan: Plan) -> list[AnalogGroup]:
    """Groups of tiles in use whose ADCs have ranges that samples can set."""
    used = {tile.group for tile in plan.tiles}
    groups = [group for group in plan.hardware.analog if group.name in used]
    return [group for group in groups if group.settling == "clocked" and group.tile.follows_data]


def calibrated_on(plan: Plan, samples: int) -> str:
    """What the ranges of ADCs are, in words; empty if samples have no say in them.

    Args:
        plan: The plan.
        samples: How many they were calibrated on; 0 if on none.
    """
    if not follows_data(plan):
        return ""
    source = f"on {samples} samples" if samples else "for uniform inputs"
    reach = dict.fromkeys(f"{group.tile.crossbar().deviations:.3g}" for group in _following(plan))
    return f"ADC ranges: {' and '.join(reach)} standard deviations of what lines carry {source}"
