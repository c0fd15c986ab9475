"""Trains a plan by hybrid gradients with any torch optimiser; every epoch leaves a checkpoint."""

import hashlib
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils import clip_grad_norm_

from ffebm.errors import Location, UsageError
from ffebm.folder import read_folder
from ffebm.lock import claimed
from ffebm.run_record import RECORD, RUN, Epoch, RunRecord, run_record
from ffebm.runtime.calibration import calibrated_on, calibration_batch
from ffebm.runtime.checkpoint import (
    Checkpoint,
    load_checkpoint,
    optimizer_state,
    restore_optimizer,
    save_checkpoint,
)
from ffebm.runtime.classification import BATCH, fitted, hits, logits_of
from ffebm.runtime.data import Data
from ffebm.runtime.data.preparation import preparation
from ffebm.runtime.differences import differing
from ffebm.runtime.executor import Executor
from ffebm.runtime.gradient import EP, Gradient, Implicit, Unrolled
from ffebm.runtime.optimizer import make_optimizer
from ffebm.runtime.resuming import check_fits, expected, spoilt
from ffebm.runtime.save_onnx import model_files, source_model
from ffebm.runtime.settling import Equilibrium
from ffebm.training import Training

TRAINED = "trained.onnx"
"""The trained model in the run's folder."""

Progress = Callable[[int, int, float], None]
"""Called after each step with samples seen in this epoch, samples an epoch has, and the mean loss so far."""


def estimator(training: Training) -> Gradient:
    """The gradient estimator that the settings name.

    Raises:
        UsageError: If there is none of that name.
    """
    kinds: dict[str, Gradient] = {
        "ep": EP(beta=training.beta, cost=training.cost, relative=not training.cost),
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
        self.net.notices.enabled = False  # each epoch tells how blocks settled
        self.training = _checked(training)
        self.folder = folder
        self.device = _device(device)
        self.data = fitted(net.plan, data, self.training.pad)
        self._prepare = preparation(self.training, self.data)
        self._calibration = calibration_batch(self.data)
        self._samples = _digest(_bytes(data.x_train), _bytes(data.y_train))
        if net.plan.options.fold_batch_norm:
            raise UsageError(
                "the plan's batch normalisations are folded, for inference only",
                hint="compile without --fold-batch-norm",
            )
        net.to(self.device)
        self.optimizer = make_optimizer(self.training, net)
        self.epochs: list[Epoch] = []

    def resume(self) -> None:
        """Continue from the run folder.

        Raises:
            PlanError: If the folder holds no run, or what it holds does not fit.
            UsageError: If the run is another plan's, or was started with other settings.
        """
        if self.folder is None:
            raise UsageError("there is no run folder to resume from")
        checkpoint = load_checkpoint(self.folder)
        ours, theirs = self._record(), checkpoint.record
        same = theirs.training
        if self.training.schedule == "constant" and self.training.epochs >= len(theirs.epochs):
            same = msgspec.structs.replace(same, epochs=self.training.epochs)
        settings = differing(same, self.training)
        for other, saved, mine in (
            ("another plan", theirs.plan, ours.plan),
            ("other hardware", theirs.hardware, ours.hardware),
            ("other data", theirs.samples, ours.samples),
            ("other settings", *settings),
            ("another gradient", theirs.gradient, ours.gradient),
            ("another calibration", theirs.calibration, ours.calibration),
        ):
            if mine != saved:
                raise UsageError(
                    f"the run was started with {other}: {saved or 'none'}",
                    allowed=f"now asked for: {mine or 'none'}",
                    hint="resume with the same settings (--epochs may grow at a constant rate)",
                    location=Location(str(self.folder)),
                )
        check_fits(checkpoint, expected(self.net, self.optimizer), self.folder)
        held = {**self.net.weights(), **self.net.running_statistics()}
        with torch.no_grad():
            for name, tensor in held.items():
                tensor.copy_(checkpoint.weights[name])
        self.net.restore_cells(checkpoint.cells)
        restore_optimizer(self.optimizer, checkpoint)
        self.epochs = list(theirs.epochs)

    @property
    def calibration(self) -> str:
        """What ADC ranges are set by, in words; empty if samples have no say in them."""
        return calibrated_on(self.net.plan, len(self._calibration[0]))

    def run(self, progress: Progress | None = None) -> Iterator[Epoch]:
        """Train; yields the figures of each epoch after its checkpoint is written.

        Raises:
            PlanError: If something else is in the run folder's place.
            UsageError: If there is a run in the folder that was not resumed, another process trains in it, or
                the loss or a weight is not finite.
        """
        if self.folder is None:
            yield from self._run(progress)
            return
        with claimed(self.folder, "trains in it", "wait until it ends, or train in another folder"):
            yield from self._run(progress)

    def _run(self, progress: Progress | None) -> Iterator[Epoch]:
        if not self.epochs:
            self._check_free()
            self._save()
        while len(self.epochs) < self.training.epochs:
            self.epochs.append(self._epoch(len(self.epochs) + 1, progress))
            self._save()
            yield self.epochs[-1]

    def _check_free(self) -> None:
        """A new run replaces none that has got anywhere."""
        if self.folder is None or not (self.folder / RECORD).exists():
            return
        if run_record(read_folder(self.folder, RECORD, RUN), self.folder).epochs:
            raise UsageError(
                "there is a run in it already",
                hint="`resume` continues it; or train in another folder",
                location=Location(str(self.folder)),
            )

    def accuracy(self) -> float:
        """Share of test samples that are classified correctly."""
        return self.accuracy_on(self.data.x_test, self.data.y_test)

    def accuracy_on(self, x: Tensor, y: Tensor) -> float:
        """Share of samples that are classified correctly.

        Args:
            x: Samples in the model's shape, before their scale is changed.
            y: Class numbers.
        """
        was_training = self.net.training
        self.net.eval()
        right = 0
        with torch.no_grad():
            for start in range(0, len(x), BATCH):
                prepared = self._prepare(x[start : start + BATCH].to(self.device))
                right += hits(logits_of(self.net(prepared)), y[start : start + BATCH].to(self.device))
        self.net.train(was_training)
        return right / len(x)

    def _calibrate(self) -> None:
        """Set ADC ranges that follow data by training samples, as weights are now, for training."""
        x, y = (part.to(self.device) for part in self._calibration)
        self.net.train()
        self.net.calibrate(self._prepare(x), y, _cross_entropy)

    def _epoch(self, number: int, progress: Progress | None) -> Epoch:
        """One pass over the samples; all its randomness follows from the seed and its number.

        ADC ranges are calibrated again and again, as weights change most in the first steps: after 0, 1, 2,
        4, 8 … steps, and at the end for the forward reads of the test.
        """
        started = time.perf_counter()
        seed = self.training.seed * 100_003 + number
        self.net.reseed(seed)
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(self.data.x_train), generator=generator)
        self._set_rate(number)
        total, right, seen = 0.0, 0, 0
        settling = _Settling()
        for step, picked in enumerate(torch.split(order, self.training.batch)):
            if step & (step - 1) == 0:
                self._calibrate()
            x = self._prepare(self.data.x_train[picked].to(self.device), generator)
            y = self.data.y_train[picked].to(self.device)
            self.net.train()
            loss, logits = self._loss(x, y)
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            if self.training.clip_norm is not None:
                clip_grad_norm_(self.net.weights().values(), self.training.clip_norm)
            self.optimizer.step()
            seen += len(picked)
            total += float(loss.detach()) * len(picked)
            right += hits(logits, y)
            settling.see(self.net.equilibria)
            if progress is not None:
                progress(seen, len(order), total / seen)
        if not math.isfinite(total):
            raise UsageError(
                f"the loss is {total} in epoch {number}", hint="try a smaller --lr, or another --beta"
            )
        self.net.eval()
        self.net.calibrate(self._prepare(self._calibration[0].to(self.device)))
        return Epoch(
            epoch=number,
            loss=total / seen,
            train_accuracy=right / seen,
            test_accuracy=self.accuracy(),
            unsettled=settling.unsettled,
            sweeps=settling.sweeps,
            seconds=time.perf_counter() - started,
        )

    def _loss(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of a batch, and the logits at the free equilibrium."""
        free: list[Tensor] = []

        def cost(outputs: Tensor | tuple[Tensor, ...], target: Tensor) -> Tensor:
            logits = logits_of(outputs)
            if not free:  # the first call is the one at the free equilibrium
                free.append(logits.detach())
            return functional.cross_entropy(logits, target)

        loss = self.net.loss(x, y, cost)
        return loss, free[0]

    def _set_rate(self, number: int) -> None:
        rate, least = self.training.lr, self.training.min_lr
        if self.training.schedule == "cosine":
            rate = least + (rate - least) * 0.5 * (
                1 + math.cos(math.pi * (number - 1) / self.training.epochs)
            )
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def _record(self) -> RunRecord:
        plan = self.net.plan
        return RunRecord(
            plan=plan.source.digest,
            hardware=f"{plan.hardware.name} {_digest(msgspec.json.encode(plan.hardware))}",
            samples=self._samples,
            gradient=f"{self.net.gradient}; {self.net.settle}; blocks {plan.options}",
            calibration=self.calibration,
            training=self.training,
            epochs=tuple(self.epochs),
            groups=optimizer_state(self.optimizer)[1],
        )

    def _save(self) -> None:
        name = spoilt(self.net)
        if name:
            raise UsageError(
                f"weight {name!r} holds a NaN or an infinite number behind epoch {len(self.epochs)}",
                hint="try a smaller --lr; the run folder still holds the epoch before",
            )
        if self.folder is None:
            return
        held = {**self.net.weights(), **self.net.running_statistics()}
        state = optimizer_state(self.optimizer)[0]
        checkpoint = Checkpoint(self._record(), dict(held), state, self.net.machine.cells())
        save_checkpoint(self.folder, checkpoint, _as_onnx(self.net))


def _cross_entropy(outputs: Tensor | tuple[Tensor, ...], target: Tensor) -> Tensor:
    return functional.cross_entropy(logits_of(outputs), target)


class _Settling:
    """Mean figures of free phases, over blocks and samples."""

    def __init__(self) -> None:
        self._unsettled, self._sweeps, self._looked = 0.0, 0.0, 0

    def see(self, equilibria: list[Equilibrium]) -> None:
        for equilibrium in equilibria:
            self._unsettled += float((~equilibrium.converged).float().mean())
            self._sweeps += float(equilibrium.sweeps.float().mean())
            self._looked += 1

    @property
    def unsettled(self) -> float:
        return self._unsettled / max(1, self._looked)

    @property
    def sweeps(self) -> float:
        return self._sweeps / max(1, self._looked)


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.contiguous().numpy().data.cast("B")


def _digest(*parts: bytes | memoryview) -> str:
    """Short name of some content."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:16]


def _as_onnx(net: Executor) -> dict[str, bytes]:
    """The trained model as files by name; none if the source was no ONNX model."""
    if not net.plan.model:
        return {}
    learnt = {k: v.detach().cpu().numpy() for k, v in {**net.weights(), **net.running_statistics()}.items()}
    return model_files(source_model(net.plan, learnt, Path(TRAINED)), TRAINED)


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
    if training.clip_norm is not None and not 0 < training.clip_norm < math.inf:
        raise UsageError(
            f"clip_norm is {training.clip_norm}", allowed="a finite number above 0", hint="leave it out"
        )
    if training.schedule not in {"constant", "cosine"}:
        raise UsageError(f"schedule {training.schedule!r}", allowed="constant or cosine")
    if not 0 <= training.min_lr <= training.lr:
        raise UsageError(f"min_lr is {training.min_lr}", allowed=f"from 0 to lr, {training.lr:g}")
    if training.min_lr and training.schedule == "constant":
        raise UsageError(
            f"min_lr is {training.min_lr} at a constant rate", hint="add --schedule cosine, or leave it out"
        )
    return training
