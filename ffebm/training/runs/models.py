"""The models that a run leaves beside its checkpoint."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from ffebm.plan.plan import Plan
from ffebm.runtime.save_onnx import model_files, source_model

TRAINED, AVERAGED, BEST = "trained.onnx", "averaged.onnx", "best.onnx"
"""Models in the run's folder: as trained, with averaged weights, and that of the best epoch."""


def trained_models(
    plan: Plan, trained: Mapping[str, Tensor], averaged: Mapping[str, Tensor], best: Mapping[str, Tensor]
) -> dict[str, bytes]:
    """Files by name; none of what is empty, and none at all if the source was no ONNX model.

    Args:
        plan: What was trained.
        trained: Weights and running statistics by their names in the source model.
        averaged: The same, of the average of the weights.
        best: The same, of the best epoch.
    """
    files: dict[str, bytes] = {}
    for name, tensors in ((TRAINED, trained), (BEST, best), (AVERAGED, averaged)):
        if tensors and plan.model:
            learnt = {key: tensor.detach().cpu().numpy() for key, tensor in tensors.items()}
            files |= model_files(source_model(plan, learnt, Path(name)), name)
    return files
