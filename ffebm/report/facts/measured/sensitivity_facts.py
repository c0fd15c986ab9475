"""Sensitivity facts: what a study of sensitivity measured and offers, as a report shows it."""

from pathlib import Path
from typing import Literal

import msgspec

from ffebm.errors import Location, UsageError
from ffebm.plan.plan import Plan


class UnitFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the study varies on its own.

    Attributes:
        name: Of the block, or of the projection's weight.
        weights: Its weights that lie on tiles, by source name.
        macs: Multiply-accumulates of one inference.
        work: Those of all of the model's.
        alone: Accuracy with it alone on the plan's tiles, predicted from close samples; None if not measured.
    """

    name: str
    weights: tuple[str, ...]
    macs: int
    work: float
    alone: float | None


class PointFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One unit on tiles of some quality, everything else exact.

    Attributes:
        unit: Name of the unit.
        axis: "noise" or "bits".
        level: Factor of the plan's own noise, or bits of the converters.
        accuracy: Share of samples classified correctly.
        cosine: Between the unit's weight gradient and the exact one.
    """

    unit: str
    axis: str
    level: float
    accuracy: float
    cosine: float


class OfferFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A partition that a search found.

    Attributes:
        method: "by work" (the baseline) or "by superposition".
        target: Accuracy that was to be kept.
        digital: Weights to keep digital.
        on_tiles: Units that stay on tiles.
        work: Share of all multiply-accumulates that is left on tiles.
        accuracy: On the samples of the search.
        confirmed: On the whole test set, with fresh noise.
        evaluations: Accuracies that the search asked for.
        passes: Samples that went through the network for it.
    """

    method: str
    target: float
    digital: tuple[str, ...]
    on_tiles: tuple[str, ...]
    work: float
    accuracy: float
    confirmed: float
    evaluations: int
    passes: int


class SensitivityFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A study of sensitivity.

    Attributes:
        by: "block" or "projection".
        machine: Name of the machine.
        data: Name of the data.
        samples: Most test samples of one accuracy.
        probes: Training samples of a gradient.
        seeds: Runs that an accuracy is a mean over.
        beta: Nudging strength.
        exact: Accuracy with everything exact; None if not measured.
        units: What is varied, in the plan's order.
        points: The profile.
        offers: What the searches found.
    """

    by: str
    machine: str
    data: str
    samples: int
    probes: int
    seeds: int
    beta: float | Literal["auto"]
    exact: float | None
    units: tuple[UnitFacts, ...]
    points: tuple[PointFacts, ...]
    offers: tuple[OfferFacts, ...]


def read_sensitivity(plan: Plan, path: Path) -> SensitivityFacts:
    """Read the record of a study of a plan.

    Raises:
        UsageError: If it cannot be read, or is of another model, machine or compilation.
    """
    from ffebm.studies.sensitivity.record import identity_of, read_record  # torch costs two seconds
    from ffebm.studies.sensitivity.units import work_of

    record = read_record(path, hint="`ffebm sensitivity PLAN` writes one")
    setup, ours = record.setup, identity_of(plan)
    for what, name in (("plan", "model"), ("machine", "machine"), ("options", "compilation")):
        if getattr(setup, what) != ours[what]:
            raise UsageError(
                f"the study is of another {name}: {getattr(setup, what)}",
                allowed=f"one of this plan's: {ours[what]}",
                hint="`ffebm sensitivity PLAN` makes one",
                location=Location(str(path)),
            )
    work, effort, alone = work_of(plan), setup.effort, record.alone
    return SensitivityFacts(
        by=setup.by,
        machine=plan.hardware.name,
        data=setup.data.rpartition(" ")[0],
        samples=effort.samples,
        probes=effort.probes,
        seeds=effort.seeds,
        beta=effort.beta,
        exact=record.exact,
        units=tuple(
            UnitFacts(
                name=unit.name,
                weights=unit.weights,
                macs=unit.macs,
                work=unit.macs / work,
                alone=alone[unit.name].accuracy if unit.name in alone else None,
            )
            for unit in record.units
        ),
        points=tuple(msgspec.convert(point, PointFacts, from_attributes=True) for point in record.points),
        offers=tuple(msgspec.convert(offer, OfferFacts, from_attributes=True) for offer in record.offers),
    )
