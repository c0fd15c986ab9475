"""Trains a plan by hybrid gradients with any torch optimiser; every epoch leaves a checkpoint."""

import hashlib
import inspect
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import torch
from torch.nn import functional

from ffebm.errors import Location, UsageError
from ffebm.runtime.classification import all_logits, fitted, hits, logits
from ffebm.runtime.data import Data
from ffebm.runtime.executor import Executor
from ffebm.runtime.gradient import EP, Gradient, Implicit, Unrolled
from ffebm.runtime.run_record import (
    Checkpoint,
    Epoch,
    Record,
    Training,
    load_checkpoint,
    optimizer_state,
    restore_optimizer,
    save_checkpoint,
)

Progress = Callable[[int, int, float], None]
"""Called after each step with samples seen in this epoch, samples an epoch has, and the mean loss so far."""


def estimator(training: Training) -> Gradient:
    """The gradient estimator that the settings name.

    Raises:
        UsageError: If there is none of that name.
    """
    kinds: dict[str, Gradient] = {
        "ep": EP(beta=training.beta),
        "implicit": Implicit(),
        "unrolled": Unrolled(),
    }
    if training.gradient not in kinds:
        raise UsageError(f"gradient {training.gradient!r}", allowed=", ".join(kinds))
    return kinds[training.gradient]


class Trainer:
    """One training run.

    Args:
        net: The network; its weights are trained in place.
        data: Samples in any shape with the model's number of elements.
        training: The settings.
        folder: Where the run is recorded; None keeps no record.
        device: Where to compute.

    Raises:
        UsageError: If the settings or the data do not fit.
    """

    def __init__(
        self, net: Executor, data: Data, training: Training, folder: Path | None = None, device: str = "cpu"
    ) -> None:
        self.net = net
        self.training = _checked(training)
        self.folder = folder
        self.device = _device(device)
        self.data = fitted(net.plan, data)
        if net.plan.options.fold_batch_norm:
            raise UsageError(
                "the plan's batch normalisations are folded, for inference only",
                hint="compile without --fold-batch-norm",
            )
        net.to(self.device)
        self.optimizer = _optimizer(self.training, list(net.weights().values()))
        self.epochs: list[Epoch] = []

    def resume(self) -> None:
        """Continue from the run folder.

        Raises:
            UsageError: If the run is another plan's, or was started with other settings.
        """
        if self.folder is None:
            raise UsageError("there is no run folder to resume from")
        checkpoint = load_checkpoint(self.folder)
        ours, theirs = self._record(), checkpoint.record
        same = theirs.training
        if self.training.schedule == "constant" and self.training.epochs >= len(theirs.epochs):
            same = msgspec.structs.replace(same, epochs=self.training.epochs)
        for name, mine, saved in (
            ("plan", ours.plan, theirs.plan),
            ("hardware", ours.hardware, theirs.hardware),
            ("data", ours.samples, theirs.samples),
            ("gradient", ours.gradient, theirs.gradient),
            ("settings", self.training, same),
        ):
            if mine != saved:
                raise UsageError(
                    f"the run was started with another {name}: {saved}",
                    allowed=f"now asked for: {mine}",
                    hint="resume with the same settings (--epochs may grow at a constant rate)",
                    location=Location(str(self.folder)),
                )
        held = {**self.net.weights(), **self.net.running_statistics()}
        with torch.no_grad():
            for name, tensor in held.items():
                tensor.copy_(checkpoint.weights[name])
        self.net.restore_cells(checkpoint.cells)
        restore_optimizer(self.optimizer, checkpoint)
        self.epochs = list(theirs.epochs)

    def run(self, progress: Progress | None = None) -> Iterator[Epoch]:
        """Train; yields the figures of each epoch after its checkpoint is written."""
        if not self.epochs:
            self._save()
        while len(self.epochs) < self.training.epochs:
            self.epochs.append(self._epoch(len(self.epochs) + 1, progress))
            self._save()
            yield self.epochs[-1]

    def accuracy(self) -> float:
        """Share of test samples that are classified correctly."""
        found = all_logits(self.net, self.data.x_test.to(self.device))
        return hits(found, self.data.y_test.to(self.device)) / len(self.data.x_test)

    def _epoch(self, number: int, progress: Progress | None) -> Epoch:
        """One pass over the samples; all its randomness follows from the seed and its number."""
        started = time.perf_counter()
        seed = self.training.seed * 100_003 + number
        self.net.reseed(seed)
        order = torch.randperm(len(self.data.x_train), generator=torch.Generator().manual_seed(seed))
        self._set_rate(number)
        total, right, unsettled, looked = 0.0, 0, 0.0, 0
        seen = 0
        for picked in torch.split(order, self.training.batch):
            x, y = self.data.x_train[picked].to(self.device), self.data.y_train[picked].to(self.device)
            self.net.train()
            found = logits(self.net, x)
            loss = functional.cross_entropy(found, y)
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            seen += len(picked)
            total += float(loss.detach()) * len(picked)
            right += hits(found.detach(), y)
            for equilibrium in self.net.equilibria:
                unsettled += float((~equilibrium.converged).float().mean())
                looked += 1
            if progress is not None:
                progress(seen, len(order), total / seen)
        if not math.isfinite(total):
            raise UsageError(
                f"the loss is {total} in epoch {number}", hint="try a smaller --lr, or another --beta"
            )
        return Epoch(
            epoch=number,
            loss=total / seen,
            train_accuracy=right / seen,
            test_accuracy=self.accuracy(),
            unsettled=unsettled / looked if looked else 0.0,
            seconds=time.perf_counter() - started,
        )

    def _set_rate(self, number: int) -> None:
        rate = self.training.lr
        if self.training.schedule == "cosine":
            rate *= 0.5 * (1 + math.cos(math.pi * (number - 1) / self.training.epochs))
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def _record(self) -> Record:
        plan = self.net.plan
        return Record(
            plan=plan.source.digest,
            hardware=f"{plan.hardware.name} {_digest(msgspec.json.encode(plan.hardware))}",
            samples=_digest(*(t.numpy().tobytes() for t in (self.data.x_train, self.data.y_train))),
            gradient=f"{self.net.gradient}; {self.net.settle}; blocks {plan.options}",
            training=self.training,
            epochs=tuple(self.epochs),
            groups=optimizer_state(self.optimizer)[1],
        )

    def _save(self) -> None:
        if self.folder is None:
            return
        held = {**self.net.weights(), **self.net.running_statistics()}
        state = optimizer_state(self.optimizer)[0]
        checkpoint = Checkpoint(self._record(), dict(held), state, self.net.machine.cells())
        save_checkpoint(self.folder, checkpoint, _as_onnx(self.net))


def _digest(*parts: bytes) -> str:
    """Short name of some content."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:16]


def _as_onnx(net: Executor) -> bytes:
    if not net.plan.model:
        return b""
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / "trained.onnx"
        net.save_onnx(path)
        return path.read_bytes()


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, ImportError) as error:
        first = str(error).splitlines()[0]
        raise UsageError(f"device {name!r} cannot be used: {first}", hint="--device cpu") from None
    return device


def _checked(training: Training) -> Training:
    for name, value, least in (
        ("epochs", training.epochs, 1),
        ("batch", training.batch, 1),
        ("lr", training.lr, 0),
    ):
        if value < least or not math.isfinite(value):
            raise UsageError(f"{name} is {value}", allowed=f"at least {least}")
    if training.schedule not in {"constant", "cosine"}:
        raise UsageError(f"schedule {training.schedule!r}", allowed="constant or cosine")
    return training


def _optimizer(training: Training, weights: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser of that name, with the settings that were given."""
    kinds = {
        name.lower(): kind
        for name, kind in vars(torch.optim).items()
        if isinstance(kind, type)
        and issubclass(kind, torch.optim.Optimizer)
        and name not in {"Optimizer", "LBFGS", "SparseAdam"}
    }
    kind = kinds.get(training.optimizer.lower())
    if kind is None:
        names = ", ".join(sorted(k.__name__ for k in kinds.values()))
        raise UsageError(f"no optimiser is called {training.optimizer!r}", allowed=names)
    if not weights:
        raise UsageError("the model has no trainable weights")
    settings: dict[str, Any] = {"lr": training.lr}
    for name in ("weight_decay", "momentum"):
        value = getattr(training, name)
        if value is not None:
            if name not in inspect.signature(kind).parameters:
                raise UsageError(
                    f"{kind.__name__} takes no {name}", hint=f"leave --{name.replace('_', '-')} out"
                )
            settings[name] = value
    try:
        optimizer: torch.optim.Optimizer = kind(weights, **settings)
    except ValueError as error:
        raise UsageError(f"{kind.__name__} cannot be used: {error}") from None
    return optimizer
