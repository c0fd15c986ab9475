"""Run facts: what a training run recorded, as a report shows it."""

from pathlib import Path

import msgspec

from ffebm.errors import Location, UsageError
from ffebm.files.folder import read_folder
from ffebm.plan.plan import Plan
from ffebm.training.runs.record import RECORD, RUN, Epoch, run_record


class RunFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A training run.

    Attributes:
        gradient: The gradient estimator, in words.
        settings: Names and values of the run's settings.
        epochs: Figures, one an epoch.
    """

    gradient: str
    settings: tuple[tuple[str, str], ...]
    epochs: tuple[Epoch, ...]


def read_run(plan: Plan, path: Path) -> RunFacts:
    """Read the record of a training run of a plan.

    Raises:
        PlanError: If it is no run folder, or damaged.
        UsageError: If the run is of another model.
    """
    record = run_record(read_folder(path, RECORD, RUN), path)
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
    settings |= {"calibration": record.calibration} if record.calibration else {}
    return RunFacts(
        gradient=record.gradient,
        settings=tuple((key, str(value)) for key, value in {**settings, "hardware": record.hardware}.items()),
        epochs=record.epochs,
    )
