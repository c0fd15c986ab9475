"""Trains a plan by hybrid gradients with any torch optimiser; every epoch leaves a checkpoint."""

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from ffebm.errors import InternalError, Location, UsageError
from ffebm.files.folder import read_folder
from ffebm.files.lock import claimed
from ffebm.runtime.blocks.other_equilibria import OtherEquilibria
from ffebm.runtime.blocks.tied_windows import TiedWindows
from ffebm.runtime.executor import Executor
from ffebm.training.calibration import calibrated_on, calibration_batch
from ffebm.training.classification import fitted, input_dtypes
from ffebm.training.data import Data
from ffebm.training.data.preparation import preparations
from ffebm.training.data.samples import split_off
from ffebm.training.devices.ranks import ALONE, Ranks
from ffebm.training.devices.shared_batch import SharedBatch, check_synchronised
from ffebm.training.estimator import recorded
from ffebm.training.evaluation import Evaluation
from ffebm.training.loss import loss_of
from ffebm.training.optimization.average import Average
from ffebm.training.optimization.constraint import constraints
from ffebm.training.optimization.optimizer import check_products, make_optimizer
from ffebm.training.optimization.precision import Precision
from ffebm.training.optimization.rates import Rates, checked_schedule
from ffebm.training.optimization.step_gradients import StepGradients
from ffebm.training.runs.checkpoint import (
    Checkpoint,
    load_checkpoint,
    optimizer_state,
    restore_optimizer,
    save_checkpoint,
)
from ffebm.training.runs.models import trained_models
from ffebm.training.runs.record import RECORD, RUN, Epoch, RunRecord, run_record
from ffebm.training.runs.resuming import check_fits, check_is_same, expected, spoilt
from ffebm.training.settings import Training, check_settings
from ffebm.training.tally import LEAST, Tally

EXPLODED = 1e6
"""A loss this many times the first one (or 1, if that is less) is beyond all bounds."""
OTHERS = 16
"""Samples of an epoch whose blocks are settled on other ways, too: as long as about four steps of 32."""
_LARGEST = float(torch.finfo(torch.float32).max) ** 0.5
"""Of weights, whose squares must be finite."""

Progress = Callable[[int, int, float], None]
"""Called after each step with samples seen in this epoch, samples an epoch has, and the mean loss so far."""


class Trainer:
    """One training run.

    Args:
        net: The network; its weights are trained in place.
        data: Samples in any shape with the model's number of elements.
        training: The settings.
        folder: Where the run is recorded; None keeps no record.
        device: Where to compute.
        ranks: The processes that train it together; each has a trainer with the same arguments.

    Raises:
        UsageError: If the settings or the data do not fit.
    """

    def __init__(
        self,
        net: Executor,
        data: Data,
        training: Training,
        folder: Path | None = None,
        device: str = "cpu",
        ranks: Ranks = ALONE,
    ) -> None:
        self.net = net
        self.ranks = ranks
        self._shared: SharedBatch | None = None
        self.net.notices.enabled = False  # each epoch tells how blocks settled
        check_settings(training)
        checked_schedule(training)
        self.training = training
        self.folder = folder
        self.device = _device(device)
        whole = fitted(net.plan, data, self.training.pad)
        self.data, self.validation = split_off(whole, self.training.validation, self.training.seed)
        self.loss = loss_of(net.plan, self.data, self.training)
        self._prepare = preparations(self.training, self.data, input_dtypes(net.plan))
        self._precision = Precision(self.training.precision, self.device)
        calibration = calibration_batch(self.data)
        self._calibrated_on = calibrated_on(net.plan, len(calibration[1]))
        self._evaluation = Evaluation(self.loss, self._prepare, self._precision, self.device, calibration)
        self._samples = _digest(*map(_bytes, (data.x_train, data.y_train, *data.more_train)))
        if net.plan.options.fold_batch_norm:
            raise UsageError(
                "the plan's batch normalisations are folded, for inference only",
                hint="compile without --fold-batch-norm",
            )
        net.check_gradient()
        net.to(self.device)
        if ranks.size > 1 and net.machine.learns_in_place:
            raise UsageError(
                "cells that learn in place, on several devices: each device would hold weights of its own",
                allowed="one device, or a machine whose weights have a digital master copy",
            )
        if self.training.sync_batch_statistics:
            check_synchronised(net.plan, self.training, len(self.data.x_train), ranks)
            net.together = self._shared = SharedBatch(ranks)
        check_products(self.training, net)
        self.optimizer = make_optimizer(self.training, net)
        self._gradients = StepGradients(net, self.optimizer, self._precision, self.training.clip_norm)
        self.constraints = constraints(self.training, net)
        samples = self.training.batch * self.training.accumulate
        self._rates = Rates(self.training, self.optimizer, -(-len(self.data.x_train) // samples))
        self.average = None if self.training.ema is None else Average(self.training.ema, net)
        self._bounded = [name for name, size in _largest(net).items() if size < _LARGEST]
        self.best: dict[str, Tensor] = {}
        self.threads = torch.get_num_threads()
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
        theirs = checkpoint.record
        check_is_same(self._record(), theirs, self.net.gradient, self.folder)
        wanted = expected(
            self.net, self.optimizer, self.training, self._precision.state(), self._constraints()
        )
        check_fits(checkpoint, wanted, self.folder)
        held = {**self.net.weights(), **self.net.running_statistics()}
        with torch.no_grad():
            for name, tensor in held.items():
                tensor.copy_(checkpoint.weights[name])
        self.net.restore_cells(checkpoint.cells)
        self._rates.replay([epoch.figure for epoch in theirs.epochs])
        restore_optimizer(self.optimizer, checkpoint)
        self._precision.restore(theirs.scaler)
        for constraint in self.constraints:
            constraint.restore(checkpoint.constraints)
        if self.average is not None:
            self.average.restore(checkpoint.average, self.device)
        self.best = dict(checkpoint.best)
        self.threads = theirs.threads
        self.epochs = list(theirs.epochs)

    @property
    def calibration(self) -> str:
        """What ADC ranges are set by, in words; empty if samples have no say in them."""
        return self._calibrated_on

    def run(self, progress: Progress | None = None) -> Iterator[Epoch]:
        """Train; yields the figures of each epoch after its checkpoint is written.

        Raises:
            PlanError: If something else is in the run folder's place.
            UsageError: If there is a run in the folder that was not resumed, another process trains in it, or
                the loss or a weight is not finite.
        """
        if self.folder is None or not self.ranks.is_first:
            yield from self._run(progress)
            return
        with claimed(self.folder, "trains in it", "wait until it ends, or train in another folder"):
            yield from self._run(progress)

    def _run(self, progress: Progress | None) -> Iterator[Epoch]:
        if not self.epochs:
            self._check_free()
            self._save()
        while len(self.epochs) < self.training.epochs and not self.has_stopped:
            self.epochs.append(self._epoch(len(self.epochs) + 1, progress))
            self._check_alike()
            self._rates.ended(self.epochs[-1].figure)
            if self.training.patience is not None and self.best_epoch == len(self.epochs):
                self.best = {name: tensor.detach().clone() for name, tensor in self._result().items()}
            self._save()
            yield self.epochs[-1]

    def _check_free(self) -> None:
        """A new run replaces none that has got anywhere."""
        if not self.ranks.is_first or self.folder is None or not (self.folder / RECORD).exists():
            return
        if run_record(read_folder(self.folder, RECORD, RUN), self.folder).epochs:
            raise UsageError(
                "there is a run in it already",
                hint="`resume` continues it; or train in another folder",
                location=Location(str(self.folder)),
            )

    @property
    def best_epoch(self) -> int:
        """Number of the epoch with the best figure, the first of equal ones; 0 before there is any."""
        figures = [epoch.figure for epoch in self.epochs]
        return 1 + figures.index(max(figures)) if figures else 0

    @property
    def has_stopped(self) -> bool:
        """So many epochs as the patience says brought nothing better."""
        patience = self.training.patience
        return patience is not None and len(self.epochs) - self.best_epoch >= patience

    def accuracy(self) -> float:
        """Share of test labels that are classified correctly.

        Raises:
            UsageError: If the loss has no right and wrong.
        """
        return self.accuracy_on(self.data.test, self.data.y_test)

    def accuracy_on(self, x: Tensor | tuple[Tensor, ...], y: Tensor) -> float:
        """Share of labels that are classified correctly.

        Args:
            x: Samples in the model's shape, before their scale is changed; a tuple of several inputs'.
            y: Class numbers.

        Raises:
            UsageError: If the loss has no right and wrong.
        """
        return self._evaluation.accuracy(self.net, x if isinstance(x, tuple) else (x,), y)

    def _epoch(self, number: int, progress: Progress | None) -> Epoch:
        """One pass over the samples; all its randomness follows from the seed and its number.

        ADC ranges are calibrated again and again, as weights change most in the first steps: after 0, 1, 2,
        4, 8 … steps, and at the end for the forward reads of the test.
        """
        started = time.perf_counter()
        seed = (self.training.seed * 100_003 + number) % 2**63  # what torch can seed with
        self.net.reseed(self.ranks.seed(seed))
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(self.data.x_train), generator=generator)
        if not self.ranks.is_first:
            generator.manual_seed(self.ranks.seed(seed))
        tally = Tally()
        # a product beyond torch's numbers means all samples
        together = min(self.training.batch * self.training.accumulate, max(len(order), 1))
        for step, picked in enumerate(torch.split(order, together)):
            if step & (step - 1) == 0:
                self._evaluation.calibrate(self.net, backward=True)
            self._step(picked, generator, tally)
            self._check(number, step + 1, tally)
            self._rates.stepped()
            if progress is not None:
                progress(tally.seen, len(order), tally.loss)
        tally.meet(self.ranks.summed)
        self.ranks.mean(list(self.net.running_statistics().values()))
        ended = self._ended(number, tally, self._figures(seed), started) if self.ranks.is_first else None
        return self.ranks.from_first(ended)

    def _ended(self, number: int, tally: Tally, figures: Mapping[str, float | None], started: float) -> Epoch:
        """The record of an epoch.

        Args:
            number: Of the epoch.
            tally: What it has seen.
            figures: What it has reached.
            started: When it began.
        """
        rate = float(self.optimizer.param_groups[0]["lr"])
        return Epoch(
            epoch=number,
            loss=tally.loss,
            train_accuracy=tally.accuracy if self.loss.counts else None,
            unsettled=tally.unsettled,
            sweeps=tally.sweeps,
            tied=tally.tied.first_share,
            tied_settled=tally.tied.settled_share,
            elsewhere=tally.others.share(tally.others.started),
            elsewhere_together=tally.others.share(tally.others.together),
            elsewhere_unknown=tally.others.share(tally.others.unknown),
            lr=rate,
            **figures,
            seconds=time.perf_counter() - started,
        )

    def _step(self, picked: Tensor, generator: torch.Generator, tally: Tally) -> None:
        """One step of the optimiser, of as many batches as the settings say.

        Each batch counts by its share of what the mean of all of them is taken over.
        """
        whole = self.loss.amount(self.data.y_train[picked])
        self._gradients.begin()
        tally.begin()
        for part in filter(len, map(self.ranks.share, torch.split(picked, self.training.batch))):
            x = self._prepare([x[part].to(self.device) for x in self.data.train], generator)
            y = self.data.y_train[part].to(self.device)
            share = self.loss.amount(y) / max(whole, LEAST)
            self.net.train()
            if self._shared is not None:
                self._shared.share = share
            with self._precision.computing():
                loss, scores = self._loss(x, y)
            tally.see(float(loss.detach()) * share, self.loss.hits(scores, y), self.loss.labels(y))
            tally.settle(self.net.equilibria)
            if not tally.seen and not tally.others.samples:  # the first batch stands for all
                tally.tied = sum(self.net.tied_windows(), TiedWindows())
                tally.others = sum(self.net.other_equilibria(most=OTHERS), OtherEquilibria())
            if math.isfinite(self._agreed(tally.step)):
                self._gradients.add(loss, share)
        (tally.step,) = self.ranks.summed([tally.step])
        tally.end(whole, len(picked))
        if math.isfinite(tally.step):
            self.ranks.sum_gradients(self._gradients.weights)
            self._gradients.take()
            for constraint in self.constraints:
                constraint.apply()
            if self.average is not None:
                self.average.update()

    def _agreed(self, loss: float) -> float:
        """A loss so far; where all processes have to go back together, that of all of them."""
        return loss if self._shared is None else self.ranks.summed([loss])[0]

    def _check_alike(self) -> None:
        """All processes hold the same weights; each has taken all steps itself."""
        ours = _digest(*(_bytes(weight.detach().cpu()) for weight in self.net.weights().values()))
        if self.ranks.size > 1 and ours != self.ranks.from_first(ours):
            raise InternalError(f"process {self.ranks.rank} holds other weights than the first one")

    def _check(self, number: int, step: int, tally: Tally) -> None:
        """Stop where the loss or a weight is beyond all bounds.

        Raises:
            UsageError: If it is.
        """
        first = self.epochs[0].loss if self.epochs else tally.first
        sizes = _largest(self.net)
        spoilt = next((name for name in self._bounded if not sizes[name] < _LARGEST), "")
        if tally.step <= EXPLODED * max(1.0, abs(first)) and not spoilt:
            return
        found = f"the loss is {tally.step:.3g} in step {step} of epoch {number}, {first:.3g} at first"
        if math.isfinite(tally.step) and spoilt:
            found = f"weight {spoilt!r} reaches {sizes[spoilt]:.3g} in step {step} of epoch {number}"
        kept = f"; what epoch {number - 1} has left stays, for --resume" if number > 1 else ""
        raise UsageError(
            found,
            allowed=f"at most {EXPLODED:g} times the first loss, and finite weights",
            hint=f"try a smaller --lr, --clip-norm, --warmup or another --beta{kept}",
        )

    def _figures(self, seed: int) -> dict[str, float | None]:
        """What an epoch has reached, by names of `Epoch`."""
        self._evaluation.calibrate(self.net, backward=False)
        test = (self.data.test, self.data.y_test)
        figures: dict[str, float | None] = {}
        figures["test_loss"], figures["test_accuracy"] = self._evaluation.measured(self.net, *test)
        result = self.net
        if self.average is not None and self.average.tensors:
            result = self.average.network(seed)
            self._evaluation.calibrate(result, backward=False)
            figures["average_loss"], figures["average_accuracy"] = self._evaluation.measured(result, *test)
        if self.validation is not None:
            figures["validation_loss"], figures["validation_accuracy"] = self._evaluation.measured(
                result, *self.validation
            )
        return figures

    def _loss(self, x: tuple[Tensor, ...], y: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of a batch, and the scores at the free equilibrium."""
        free: list[Tensor] = []

        def cost(outputs: Any, target: Tensor) -> Tensor:
            if not free:  # the first call is the one at the free equilibrium
                free.append(self.loss.scores(outputs).detach())
            return self.loss(outputs, target)

        loss = self.net.loss(x, y, cost)
        return loss, free[0]

    def _result(self) -> dict[str, Tensor]:
        """What the run has learnt so far: the average of the weights if there is one, and statistics."""
        weights = self.net.weights() if self.average is None else self.average.tensors
        return {**weights, **self.net.running_statistics()}

    def _constraints(self) -> dict[str, Tensor]:
        """What weights are held by, to go on from."""
        return {
            name: tensor for constraint in self.constraints for name, tensor in constraint.state().items()
        }

    def _record(self) -> RunRecord:
        plan = self.net.plan
        return RunRecord(
            plan=plan.source.digest,
            hardware=f"{plan.hardware.name} {_digest(msgspec.json.encode(plan.hardware))}",
            samples=self._samples,
            gradient=f"{self.net.gradient}; {self.net.settle}; blocks {plan.options}",
            estimator=recorded(self.net.gradient),
            settle=self.net.settle,
            options=plan.options,
            calibration=self.calibration,
            training=self.training,
            epochs=tuple(self.epochs),
            groups=optimizer_state(self.optimizer)[1],
            loss=str(self.loss),
            class_weights=() if self.loss.weights is None else tuple(self.loss.weights.tolist()),
            scaler=self._precision.state(),
            threads=torch.get_num_threads(),
        )

    def _save(self) -> None:
        name = spoilt(self.net)
        if name:
            raise UsageError(
                f"weight {name!r} holds a NaN or an infinite number behind epoch {len(self.epochs)}",
                hint="try a smaller --lr; the run folder still holds the epoch before",
            )
        if self.folder is None or not self.ranks.is_first:
            return
        held = {**self.net.weights(), **self.net.running_statistics()}
        average = {} if self.average is None else self.average.tensors
        averaged = {**average, **self.net.running_statistics()} if average else {}
        state = optimizer_state(self.optimizer)[0]
        cells = self.net.machine.cells()
        checkpoint = Checkpoint(
            self._record(), dict(held), state, cells, average, self.best, self._constraints()
        )
        save_checkpoint(self.folder, checkpoint, trained_models(self.net.plan, held, averaged, self.best))


def _largest(net: Executor) -> dict[str, float]:
    """The largest magnitude in each trainable weight; a NaN if it holds one."""
    weights = {name: w.detach().abs().max().double() for name, w in net.weights().items() if w.numel()}
    return dict(zip(weights, torch.stack(list(weights.values())).tolist(), strict=True)) if weights else {}


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.contiguous().numpy().data.cast("B")


def _digest(*parts: bytes | memoryview) -> str:
    """Short name of some content."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:16]


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, ImportError) as error:
        first = str(error).splitlines()[0]
        raise UsageError(f"device {name!r} cannot be used: {first}", hint="--device cpu") from None
    return device
