"""Run facts: what a training run recorded, as a report shows it."""

from pathlib import Path

import msgspec

from ffebm.errors import Location, UsageError
from ffebm.plan import Plan


class EpochFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of one epoch.

    Attributes:
        epoch: Number, from 1.
        loss: Mean training loss.
        train_accuracy: Share of training samples classified correctly while training.
        test_accuracy: Share of test samples classified correctly after the epoch.
        unsettled: Share of samples and blocks whose free phase did not settle.
        sweeps: Mean sweeps of a block's free phase; 0 if the record has none.
        seconds: Wall-clock time.
    """

    epoch: int
    loss: float
    train_accuracy: float
    test_accuracy: float
    unsettled: float
    sweeps: float = 0.0
    seconds: float


class RunFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A training run.

    Attributes:
        gradient: The gradient estimator, in words.
        settings: Names and values of the run's settings.
        epochs: Figures, one an epoch.
    """

    gradient: str
    settings: tuple[tuple[str, str], ...]
    epochs: tuple[EpochFacts, ...]


def read_run(plan: Plan, path: Path) -> RunFacts:
    """Read the record of a training run of a plan.

    Raises:
        PlanError: If it is no run folder, or damaged.
        UsageError: If the run is of another model.
    """
    from ffebm.runtime.run_record import load_checkpoint  # torch costs two seconds

    record = load_checkpoint(path).record
    if record.plan != plan.source.digest:
        raise UsageError(
            f"the run trained another model than {plan.source.name}",
            allowed="a run of this plan's model",
            hint="`ffebm train PLAN` leaves its record in PLAN.run",
            location=Location(str(path)),
        )
    settings = {
        key: value for key, value in msgspec.structs.asdict(record.training).items() if value is not None
    }
    return RunFacts(
        gradient=record.gradient,
        settings=tuple((key, str(value)) for key, value in {**settings, "hardware": record.hardware}.items()),
        epochs=tuple(msgspec.convert(msgspec.structs.asdict(epoch), EpochFacts) for epoch in record.epochs),
    )
