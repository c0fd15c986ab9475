"""Object detection: choosing among overlapping boxes."""

import torch
from torch import Tensor

from ffebm.runtime.kernels.call import Call, Kernel, with_optional


def non_max_suppression(call: Call, boxes: Tensor, scores: Tensor, *limits: Tensor | None) -> Tensor:
    """The best boxes of each class that do not overlap a better one, as (batch, class, box)."""
    most, overlap, least = (None if limit is None else limit.item() for limit in with_optional(limits, 3))
    chosen = []
    for batch, class_scores in enumerate(scores):
        overlaps = _overlaps(_corners(call, boxes[batch])) > (overlap or 0.0)
        for class_, score in enumerate(class_scores):
            kept = _kept(score, overlaps, int(most or 0), least)
            chosen += [(batch, class_, box) for box in kept]
    return torch.tensor(chosen, dtype=torch.int64, device=boxes.device).reshape(-1, 3)


def _kept(score: Tensor, overlaps: Tensor, most: int, least: float | None) -> list[int]:
    kept: list[int] = []
    for box in score.argsort(descending=True, stable=True).tolist():
        if len(kept) == most or (least is not None and score[box] <= least):
            break
        if not overlaps[box, kept].any():
            kept.append(box)
    return kept


def _corners(call: Call, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Lower and upper corners, [boxes, 2]."""
    if call.integer("center_point_box"):
        centre, half = boxes[:, :2], boxes[:, 2:] / 2
        return centre - half, centre + half
    return torch.minimum(boxes[:, :2], boxes[:, 2:]), torch.maximum(boxes[:, :2], boxes[:, 2:])


def _overlaps(corners: tuple[Tensor, Tensor]) -> Tensor:
    """Intersection over union of each two boxes; zero if one has no area."""
    low, high = corners
    area = (high - low).prod(1)
    sides = torch.minimum(high.unsqueeze(1), high) - torch.maximum(low.unsqueeze(1), low)
    shared = sides.clamp(min=0).prod(2)
    union = area.unsqueeze(1) + area - shared
    return torch.where(shared > 0, shared / union, 0)


DETECTION: dict[str, Kernel] = {
    "NonMaxSuppression": non_max_suppression,
}
