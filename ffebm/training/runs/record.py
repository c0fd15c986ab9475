"""The record of a training run: settings and figures; `record.json` in the run's folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from ffebm.errors import Location, PlanError
from ffebm.files.decoded import decoded
from ffebm.files.folder import FolderKind
from ffebm.plan.schema import Options, Settle
from ffebm.training.settings import Training

RECORD = "record.json"
SCHEMA = 1
"""Version of a run's folder; another version is refused."""
RUN = FolderKind("run", "ffebm train PLAN --data DATA", "train again, or take an older copy of the folder")


class Epoch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Figures of one epoch.

    Attributes:
        epoch: Number, from 1.
        loss: Mean training loss.
        train_accuracy: Share of training labels classified correctly while training; None without classes.
        test_accuracy: Share of test labels classified correctly after the epoch; None without classes.
        test_loss: Mean loss of the test samples after the epoch.
        average_accuracy: As test_accuracy, with the average of the weights; None without one.
        average_loss: As test_loss, with the average of the weights; None without one.
        validation_accuracy: As test_accuracy on samples held out, with the average of the weights if there is
            one; None if none are held out.
        validation_loss: As test_loss on them, likewise.
        lr: Learning rate of the last step.
        unsettled: Share of samples and blocks whose free phase did not settle.
        sweeps: Mean sweeps of a block's free phase.
        tied: Share of the windows of maxima inside blocks whose winner only rounding decides, in a
            feedforward pass of the first batch, before anything has come back from above.
        tied_settled: The same where the blocks have settled.
        elsewhere: Share of samples and blocks that settle elsewhere from where the sample before has settled,
            of the first samples of the first batch, by exact products in 64 bits.
        elsewhere_together: The same when all layers of a block move together.
        elsewhere_unknown: The same whose block did not settle on one of these ways.
        seconds: Wall-clock time.
    """

    epoch: int
    loss: float
    train_accuracy: float | None
    test_accuracy: float | None
    test_loss: float | None = None
    average_accuracy: float | None = None
    average_loss: float | None = None
    validation_accuracy: float | None = None
    validation_loss: float | None = None
    lr: float | None = None
    unsettled: float
    sweeps: float = 0.0
    tied: float = 0.0
    tied_settled: float = 0.0
    elsewhere: float = 0.0
    elsewhere_together: float = 0.0
    elsewhere_unknown: float = 0.0
    seconds: float

    @property
    def figure(self) -> float:
        """What early stopping and the schedule "plateau" wait for to grow.

        It is the accuracy, or the negative loss where nothing is right or wrong: of the samples held out to
        validate on, else of the average of the weights, else of the weights themselves.
        """
        for accuracy, loss in (
            (self.validation_accuracy, self.validation_loss),
            (self.average_accuracy, self.average_loss),
            (self.test_accuracy, self.test_loss),
        ):
            if accuracy is not None:
                return accuracy
            if loss is not None:
                return -loss
        return -self.loss


class RunRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A training run so far.

    Attributes:
        schema: Version of the format.
        plan: Digest of the plan's source model.
        hardware: Name and digest of the machine.
        samples: Digest of the training samples.
        gradient: The gradient estimator, how blocks settle and what the plan was compiled with, in words.
        estimator: The estimator: the name of its class as "type", and its fields; empty in records that say
            it in words alone.
        settle: How blocks settle; None in such records.
        options: What the plan was compiled with; None in such records.
        calibration: What ADC ranges are set by, in words; empty if samples have no say in them.
        training: The settings.
        epochs: Figures, one an epoch.
        groups: The optimiser's settings, as torch keeps them.
        loss: What is made small, in words.
        class_weights: The weight of each class; empty if all weigh alike.
        scaler: The scale of gradients in "fp16", as torch keeps it.
        threads: Threads that torch computed with; 0 in records that do not say it.
    """

    schema: int = SCHEMA
    plan: str
    hardware: str
    samples: str
    gradient: str
    estimator: dict[str, Any] = {}
    settle: Settle | None = None
    options: Options | None = None
    calibration: str = ""
    training: Training
    epochs: tuple[Epoch, ...] = ()
    groups: tuple[dict[str, Any], ...] = ()
    loss: str = ""
    class_weights: tuple[float, ...] = ()
    scaler: dict[str, int | float] = {}
    threads: int = 0


def run_record(files: Mapping[str, bytes], path: Path) -> RunRecord:
    """The record among the files of a run's folder.

    Args:
        files: Their contents by name.
        path: The folder, for messages.

    Raises:
        PlanError: If there is none, or it cannot be read, is of another version or contradicts itself.
    """
    where = Location(str(path))
    try:
        content = files[RECORD]
        found = decoded(content, _RecordVersion).schema
        if found != SCHEMA:
            raise PlanError(
                f"the run is of version {found}",
                allowed=f"this ffebm reads version {SCHEMA}",
                hint="train again with this version",
                location=where,
            )
        record = decoded(content, RunRecord)
    except KeyError:
        raise PlanError(f"{RECORD} is missing", hint=RUN.mended_by, location=where) from None
    except msgspec.DecodeError as error:
        raise PlanError(
            f"the run record cannot be read: {error}", hint=RUN.mended_by, location=where
        ) from None
    for position, epoch in enumerate(record.epochs, 1):
        if epoch.epoch != position:
            raise PlanError(
                f"the run record has epoch {epoch.epoch} in place {position}",
                hint=RUN.mended_by,
                location=where,
            )
    return record


class _RecordVersion(msgspec.Struct):
    schema: int = SCHEMA
