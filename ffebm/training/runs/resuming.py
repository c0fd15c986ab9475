"""Holds a checkpoint against the run that is to go on from it."""

import copy
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from ffebm.errors import Location, PlanError, UsageError
from ffebm.plan.schema import Options, Settle
from ffebm.runtime.blocks.estimators.gradient import Gradient
from ffebm.runtime.executor import Executor
from ffebm.runtime.kernels.dtypes import tensor_of
from ffebm.training.differences import differing, differing_values
from ffebm.training.estimator import as_known_to
from ffebm.training.optimization.rates import TO_THE_END
from ffebm.training.runs.checkpoint import Checkpoint, optimizer_state
from ffebm.training.runs.record import RUN, RunRecord
from ffebm.training.settings import Training

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Expected:
    """What the checkpoint of a run looks like.

    Attributes:
        weights: Weights and running statistics.
        state: What the optimiser keeps of every parameter.
        groups: The optimiser's settings.
        cells: What cells that learn in place hold.
        odd: Weights that are not finite in the plan.
        average: The average of the weights; empty if none is taken.
        best: Weights and running statistics of the best epoch; empty if they are not kept.
        scaler: The scale of gradients; empty if they have none.
        constraints: What weights are held by.
    """

    weights: Tensors
    state: Tensors
    groups: tuple[dict[str, Any], ...]
    cells: Tensors
    odd: frozenset[str]
    average: Tensors = field(default_factory=dict)
    best: Tensors = field(default_factory=dict)
    scaler: Mapping[str, int | float] = field(default_factory=dict)
    constraints: Tensors = field(default_factory=dict)


def expected(
    net: Executor,
    optimizer: torch.optim.Optimizer,
    training: Training,
    scaler: Mapping[str, int | float],
    constraints: Tensors,
) -> Expected:
    """What the checkpoint of a run looks like; nothing changes.

    Args:
        net: Its network.
        optimizer: Its optimiser.
        training: Its settings.
        scaler: The scale of its gradients.
        constraints: What its weights are held by.
    """
    twin = copy.deepcopy(optimizer)
    for group in twin.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.ones_like(parameter)
    type(twin).step(twin)  # a schedule has put a step of its own on the one that trains
    weights = {**net.weights(), **net.running_statistics()}
    held = {name: tensor.detach().clone() for name, tensor in weights.items()}
    return Expected(
        weights=held,
        state=optimizer_state(twin)[0],
        groups=optimizer_state(optimizer)[1],
        cells=net.machine.programmed_cells({n: t for n, t in held.items() if n in net.plan.trainable}),
        odd=not_finite({name: tensor_of(net.plan.weights[name]) for name in held}),
        average={} if training.ema is None else {name: held[name] for name in net.plan.trainable},
        best={} if training.patience is None else held,
        scaler=scaler,
        constraints=constraints,
    )


def not_finite(tensors: Tensors) -> frozenset[str]:
    """Names of tensors that hold a NaN or an infinite number."""
    return frozenset(name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all()))


def spoilt(net: Executor) -> str:
    """A weight or running statistic that has become a NaN or infinite since it was compiled; "" if none."""
    held = {**net.weights(), **net.running_statistics()}
    found = sorted(not_finite(held))
    odd = not_finite({name: tensor_of(net.plan.weights[name]) for name in found})
    return next((name for name in found if name not in odd), "")


def check_is_same(ours: RunRecord, theirs: RunRecord, gradient: Gradient, path: Path) -> None:
    """Refuse to go on from a run of another kind.

    Args:
        ours: What the run would record.
        theirs: What the one in the folder has recorded.
        gradient: The estimator of the run.
        path: The run's folder.

    Raises:
        UsageError: If they differ in anything but a growing number of epochs that no schedule depends on.
    """
    same, training = theirs.training, ours.training
    if training.schedule not in TO_THE_END and training.epochs >= len(theirs.epochs):
        same = msgspec.structs.replace(same, epochs=training.epochs)
    settings = differing(same, training)
    for other, saved, mine in (
        ("another plan", theirs.plan, ours.plan),
        ("other hardware", theirs.hardware, ours.hardware),
        ("other data", theirs.samples, ours.samples),
        ("other settings", *settings),
        *_estimation(ours, theirs, gradient),
        ("another calibration", theirs.calibration, ours.calibration),
    ):
        if mine != saved:
            raise UsageError(
                f"the run was started with {other}: {saved or 'none'}",
                allowed=f"now asked for: {mine or 'none'}",
                hint="resume with the same settings (--epochs may grow unless the schedule ends with it)",
                location=Location(str(path)),
            )


def _estimation(ours: RunRecord, theirs: RunRecord, gradient: Gradient) -> Iterator[tuple[str, str, str]]:
    """What may differ of the estimator, of settling and of the plan's options: theirs, ours.

    Records that hold them in words alone are compared by these.
    """
    if theirs.settle is None or theirs.options is None or ours.settle is None or ours.options is None:
        yield "another gradient", theirs.gradient, _as_recorded(ours.gradient, theirs.gradient)
        return
    known = as_known_to(theirs.estimator, gradient)
    yield "another gradient", *differing_values(theirs.estimator, known)
    yield "other settling", *differing(theirs.settle, ours.settle)
    yield "other options of the compiler", *differing(theirs.options, ours.options)


def _as_recorded(ours: str, theirs: str) -> str:
    """A gradient in words without the options that the recorded words do not know, where they are at rest.

    An option that came to `Settle` or `Options` after a run was recorded leaves the run as it was at its
    default; at any other value the words still differ.

    Args:
        ours: Of the run that would go on.
        theirs: What the folder has recorded.
    """
    for known in (*msgspec.structs.fields(Settle), *msgspec.structs.fields(Options)):
        if known.required or re.search(rf"[(\s]{known.name}=", theirs):
            continue
        default = known.default if known.default_factory is msgspec.NODEFAULT else known.default_factory()
        ours = re.sub(rf", {known.name}={re.escape(repr(default))}(?=[,)])", "", ours)
    return ours


def check_fits(checkpoint: Checkpoint, run: Expected, path: Path) -> None:
    """Refuse a checkpoint that a run cannot go on from.

    Args:
        checkpoint: What was read.
        run: What is expected.
        path: The run's folder.

    Raises:
        PlanError: At the first thing that is missing, unknown, of another shape or type, or not finite.
    """
    problem = next(_problems(checkpoint, run), None)
    if problem is not None:
        raise PlanError(
            f"the checkpoint does not fit: {problem}", hint=RUN.mended_by, location=Location(str(path))
        )


def _problems(checkpoint: Checkpoint, run: Expected) -> Iterator[str]:
    yield from _differences("weight", checkpoint.weights, run.weights, whole=True)
    for name in sorted(not_finite(checkpoint.weights) - run.odd):
        yield f"weight {name!r} holds a NaN or an infinite number"
    yield from _differences("optimiser state", checkpoint.state, run.state, whole=False)
    for name, tensor in checkpoint.state.items():
        if bool(torch.isnan(tensor).any()):
            yield f"optimiser state {name!r} holds a NaN"
    yield from _groups(checkpoint.record.groups, run.groups)
    begun = bool(checkpoint.record.epochs)
    yield from _differences("cells", checkpoint.cells, run.cells, whole=begun)
    for name in sorted(not_finite(checkpoint.cells)):
        yield f"cells {name!r} hold a NaN or an infinite number"
    yield from _differences("average", checkpoint.average, run.average, whole=begun)
    yield from _differences("best", checkpoint.best, run.best, whole=begun)
    for name in sorted((not_finite(checkpoint.average) | not_finite(checkpoint.best)) - run.odd):
        yield f"the average or best {name!r} holds a NaN or an infinite number"
    yield from _differences("constraint", checkpoint.constraints, run.constraints, whole=True)
    for name in sorted(not_finite(checkpoint.constraints)):
        yield f"constraint {name!r} holds a NaN or an infinite number"
    scaler = checkpoint.record.scaler
    if scaler.keys() != run.scaler.keys() or not all(0 <= value < math.inf for value in scaler.values()):
        yield f"the scale of gradients is {scaler}"


def _differences(kind: str, found: Tensors, wanted: Tensors, *, whole: bool) -> Iterator[str]:
    """Where tensors differ in names, shapes or types.

    Args:
        kind: What they are.
        found: Of the checkpoint.
        wanted: Of the run.
        whole: All of them are needed; else all of what begins alike before the last dot, or nothing of it.
    """
    present = {name.rpartition(".")[0] for name in found}
    for name, tensor in wanted.items():
        if name not in found:
            if whole or name.rpartition(".")[0] in present:
                yield f"{kind} {name!r} is missing"
        elif _look(found[name]) != _look(tensor):
            yield f"{kind} {name!r} is {_look(found[name])}, not {_look(tensor)}"
    for name in found:
        if name not in wanted:
            yield f"{kind} {name!r} is unknown"


def _look(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def _groups(found: tuple[dict[str, Any], ...], wanted: tuple[dict[str, Any], ...]) -> Iterator[str]:
    """Settings follow from the run's own, but for the learning rate, which follows from the epoch."""
    if len(found) != len(wanted):
        yield f"the optimiser has {len(found)} groups of settings, not {len(wanted)}"
    for theirs, ours in zip(found, wanted, strict=False):
        for name, value in theirs.items():
            if name not in ours:
                yield f"the optimiser's setting {name!r} is unknown"
            elif name == "lr":
                if not _is_rate(value):
                    yield f"the learning rate is {value!r}"
            elif value != _plain(ours[name]):
                yield f"the optimiser's setting {name} is {value!r}, not {ours[name]!r}"


def _is_rate(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


def _plain(value: object) -> object:
    """A setting as it comes back from a record."""
    return [_plain(part) for part in value] if isinstance(value, tuple | list) else value
