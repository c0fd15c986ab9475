"""What a study of sensitivity has measured so far, as a file that it continues from."""

import hashlib
import math
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import torch
from torch import Tensor

from ffebm.errors import Location, UsageError
from ffebm.files.decoded import decoded
from ffebm.files.write_file import write_file
from ffebm.plan.plan import Plan
from ffebm.studies.sensitivity.effects import Axis
from ffebm.studies.sensitivity.meter import Effort
from ffebm.studies.sensitivity.units import By, Unit
from ffebm.training.calibration import calibrated_on, calibration_batch
from ffebm.training.data import Data
from ffebm.training.differences import differing

SCHEMA = 2


class Setup(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every figure of a study depends on.

    Attributes:
        plan: Digest of the plan's source model.
        machine: Name of the machine, and a digest of its description.
        options: How the plan was compiled and how its blocks settle, in words.
        data: Name of the data, and a digest of its test samples.
        by: What is varied on its own.
        effort: How much one figure takes.
        calibration: What ADC ranges are set by, in words; empty if samples have no say in them.
    """

    plan: str
    machine: str
    options: str
    data: str
    by: By
    effort: Effort
    calibration: str = ""


def setup_of(plan: Plan, data: Data, by: By, effort: Effort) -> Setup:
    """The setup of a study."""
    samples = (data.x_test, data.y_test, *data.more_test)
    return Setup(
        **identity_of(plan),
        data=f"{data.name} {_digest(*(t.numpy().tobytes() for t in samples))}",
        by=by,
        effort=effort,
        calibration=calibrated_on(plan, len(calibration_batch(data)[1])),
    )


def identity_of(plan: Plan) -> dict[str, str]:
    """Fields of a setup that tell the plan: the digest of its model, its machine, how it was compiled."""
    return {
        "plan": plan.source.digest,
        "machine": f"{plan.hardware.name} {_digest(msgspec.json.encode(plan.hardware))}",
        "options": f"{plan.options}; {plan.settle}",
    }


def _digest(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:16]


class Point(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One unit on tiles of some quality, everything else exact.

    Attributes:
        unit: Name of the unit.
        axis: "noise" or "bits".
        level: Factor of the plan's own noise, or bits of the converters.
        accuracy: Share of samples classified correctly.
        cosine: Between the unit's weight gradient by equilibrium propagation and the exact one.
        cosines: The same of every unit, whose gradients pass through the tiles of this one.
    """

    unit: str
    axis: Axis
    level: float
    accuracy: float
    cosine: float
    cosines: dict[str, float]


class Trial(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The accuracy of one partition.

    Attributes:
        on_tiles: Units on the plan's own tiles; the others are exact.
        accuracy: Share of samples classified correctly.
        logits: Of the rivals of close samples, [seeds, close, rivals], as `packed`.
    """

    on_tiles: tuple[str, ...]
    accuracy: float
    logits: bytes


class Alone(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one unit on the plan's own tiles does, run on close samples only.

    Attributes:
        accuracy: Predicted of all samples.
        damage: Mean square of what it changes in the margin between the two largest logits.
        logits: Of the rivals of close samples, [seeds, close, rivals], as `packed`.
    """

    accuracy: float
    damage: float
    logits: bytes


class Offer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one way of searching found.

    Attributes:
        method: "by work" (the baseline) or "by superposition".
        target: Accuracy that was to be kept.
        digital: Names of the weights to keep digital.
        on_tiles: Units that stay on tiles.
        work: Share of all multiply-accumulates that is left on tiles.
        accuracy: On the samples of the search.
        confirmed: On the whole test set, with fresh noise.
        evaluations: Accuracies that the search asked for.
        passes: Samples that went through the network for it, with units alone and calibrations.
    """

    method: Literal["by work", "by superposition"]
    target: float
    digital: tuple[str, ...]
    on_tiles: tuple[str, ...]
    work: float
    accuracy: float
    confirmed: float
    evaluations: int
    passes: int


class StudyRecord(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A study so far.

    Attributes:
        schema: Version of the format.
        setup: What the figures depend on.
        units: What is varied, in the plan's order.
        exact: Accuracy with everything exact; None before it is measured.
        exact_logits: Of all samples with everything exact, [samples, classes], as `packed`.
        points: The profile.
        alone: What each unit alone does, by name.
        trials: Accuracies of partitions.
        offers: What the searches of the last run found.
    """

    schema: int
    setup: Setup
    units: tuple[Unit, ...]
    exact: float | None = None
    exact_logits: bytes = b""
    points: tuple[Point, ...] = ()
    alone: dict[str, Alone] = {}
    trials: tuple[Trial, ...] = ()
    offers: tuple[Offer, ...] = ()


def packed(values: Tensor) -> bytes:
    """Numbers as float32, the least significant byte first."""
    return values.numpy().astype("<f4").tobytes()


def unpacked(held: bytes, *shape: int) -> Tensor:
    """What `packed` wrote, as a tensor of that shape; a size of -1 is what is left.

    Raises:
        UsageError: If it is of another size, or holds a NaN.
    """
    numbers, known = len(held) // 4, math.prod(size for size in shape if size >= 0)
    fits = numbers % max(1, known) == 0 and numbers > 0 if -1 in shape else numbers == known
    if len(held) % 4 or not fits:
        raise UsageError(
            f"the record of the study holds {len(held)} bytes of logits, which do not fit its setup",
            hint="name another file with -o, or delete this one",
        )
    found = torch.from_numpy(np.frombuffer(held, "<f4").astype(np.float32)).reshape(shape)
    if bool(torch.isnan(found).any()):
        raise UsageError(
            "the record of the study holds logits that are no numbers",
            hint="name another file with -o, or delete this one",
        )
    return found


def save_record(record: StudyRecord, path: Path) -> None:
    """Write the file, all of it or nothing."""
    write_file(path, msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n")


def load_record(path: Path, setup: Setup, units: tuple[Unit, ...]) -> StudyRecord:
    """Continue from a file, or begin if there is none.

    Raises:
        UsageError: If the file is none of a study, or of another one.
    """
    if not path.exists():
        return StudyRecord(schema=SCHEMA, setup=setup, units=units)
    where = Location(str(path))
    found = read_record(path, hint="name another file with -o")
    before = found.setup
    for other, theirs, ours in (
        ("another plan", before.plan, setup.plan),
        ("another machine", before.machine, setup.machine),
        ("other options", before.options, setup.options),
        ("other data", before.data, setup.data),
        ("other units", before.by, setup.by),
        ("another effort", *differing(before.effort, setup.effort)),
        ("another calibration", before.calibration, setup.calibration),
    ):
        if ours != theirs:
            raise UsageError(
                f"it holds a study with {other}: {theirs or 'none'}",
                allowed=f"now asked for: {ours or 'none'}",
                hint="name another file with -o, or delete this one",
                location=where,
            )
    if found.units != units:
        raise UsageError(
            "it holds a study of another version", hint="name another file with -o", location=where
        )
    return found


def read_record(path: Path, hint: str) -> StudyRecord:
    """Read a file, of whatever study.

    Args:
        path: The file.
        hint: What to do if it is none.

    Raises:
        UsageError: If it is no record of a study, or of another version.
    """
    where = Location(str(path))
    try:
        found = decoded(path.read_bytes(), StudyRecord)
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", hint=hint, location=where) from None
    except msgspec.DecodeError as error:
        raise UsageError(f"this is no record of a study: {error}", hint=hint, location=where) from None
    if found.schema != SCHEMA:
        raise UsageError("it holds a study of another version", hint=hint, location=where)
    return found
