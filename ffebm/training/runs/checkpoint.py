"""The folder of a training run: its record and what it continues from, checked, without pickle."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import safetensors.torch
import torch
from torch import Tensor

from ffebm.errors import Location, PlanError
from ffebm.files.folder import read_folder, write_folder
from ffebm.training.runs.record import RECORD, RUN, RunRecord, run_record

CHECKPOINT = "checkpoint.safetensors"
KINDS = ("weights", "optimizer", "cells", "average", "best", "constraints")
"""What tensors of a checkpoint are, in the order of `Checkpoint`; their names begin with it."""


class Checkpoint(msgspec.Struct, frozen=True):
    """What a run continues from.

    Attributes:
        record: The run so far.
        weights: Weights and running statistics by source name.
        state: The optimiser's tensors, `<parameter>.<name>`.
        cells: What cells that learn in place hold; empty where a digital master copy learns.
        average: The average of the weights over steps; empty if none is taken.
        best: Weights and running statistics of the best epoch; empty if they are not kept.
        constraints: What weights are held by; empty if by nothing that goes on from step to step.
    """

    record: RunRecord
    weights: dict[str, Tensor]
    state: dict[str, Tensor]
    cells: dict[str, Tensor] = {}
    average: dict[str, Tensor] = {}
    best: dict[str, Tensor] = {}
    constraints: dict[str, Tensor] = {}


def save_checkpoint(path: Path, checkpoint: Checkpoint, model: Mapping[str, bytes]) -> None:
    """Write a run folder; all of it or nothing.

    Args:
        path: The folder.
        checkpoint: What to write.
        model: The trained models as files by name; empty if the source is none of ONNX.
    """
    _, *parts = msgspec.structs.astuple(checkpoint)
    tensors = {f"{kind}/{k}": v for kind, part in zip(KINDS, parts, strict=True) for k, v in part.items()}
    files = {
        RECORD: msgspec.json.format(msgspec.json.encode(checkpoint.record), indent=1),
        CHECKPOINT: safetensors.torch.save({k: v.detach().cpu().contiguous() for k, v in tensors.items()}),
    }
    write_folder(path, {**files, **model}, RECORD, RUN)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a run folder and check it.

    Raises:
        PlanError: If it is no run folder, or damaged.
    """
    return checkpoint_among(read_folder(path, RECORD, RUN), path)


def checkpoint_among(files: Mapping[str, bytes], path: Path) -> Checkpoint:
    """The checkpoint among the files of a run's folder.

    Args:
        files: Their contents by name.
        path: The folder, for messages.

    Raises:
        PlanError: If there is none, or it cannot be read.
    """
    record = run_record(files, path)
    where = Location(str(path))
    if CHECKPOINT not in files:
        raise PlanError(f"{CHECKPOINT} is missing", hint=RUN.mended_by, location=where)
    try:
        tensors = safetensors.torch.load(files[CHECKPOINT])
    except (safetensors.SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise PlanError(
            f"the checkpoint cannot be read: {error}", hint=RUN.mended_by, location=where
        ) from None
    kinds: dict[str, dict[str, Tensor]] = {kind: {} for kind in KINDS}
    for name, tensor in tensors.items():
        kind, _, own = name.partition("/")
        if kind not in kinds:
            raise PlanError(
                f"the checkpoint holds {name!r}",
                allowed=", ".join(f"{kind}/…" for kind in KINDS),
                hint=RUN.mended_by,
                location=where,
            )
        kinds[kind][own] = tensor
    return Checkpoint(record, *kinds.values())


def optimizer_state(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], tuple[dict[str, Any], ...]]:
    """An optimiser's state as tensors, and its settings as plain data."""
    document = optimizer.state_dict()
    tensors = {
        f"{index}.{key}": value if isinstance(value, Tensor) else torch.tensor(value)
        for index, state in document["state"].items()
        for key, value in state.items()
        if value is not None
    }
    groups = tuple({k: v for k, v in group.items() if k != "params"} for group in document["param_groups"])
    return tensors, groups


def restore_optimizer(optimizer: torch.optim.Optimizer, checkpoint: Checkpoint) -> None:
    """Give an optimiser the state and the learning rate of a checkpoint that fits it."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in checkpoint.state.items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = tensor
    document = optimizer.state_dict()
    for group, saved in zip(document["param_groups"], checkpoint.record.groups, strict=True):
        group["lr"] = saved.get("lr", group["lr"])
    optimizer.load_state_dict({"state": state, "param_groups": document["param_groups"]})
