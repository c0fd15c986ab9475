"""Certificates and studies made up for a plan: no figure was measured."""

from ffebm.plan.plan import Plan
from ffebm.report.facts.measured.run_facts import RunFacts
from ffebm.studies.gradcheck.certificate import BetaPoint, Certificate, Fidelity, Need, Settling, Truncation
from ffebm.studies.sensitivity.effects import Axis
from ffebm.studies.sensitivity.meter import Effort
from ffebm.studies.sensitivity.record import SCHEMA, Alone, Offer, Point, Setup, StudyRecord, identity_of
from ffebm.studies.sensitivity.units import units_of
from ffebm.training.runs.record import Epoch

LEVELS: tuple[tuple[Axis, float], ...] = (("noise", 0.0), ("noise", 2.0), ("bits", 4.0), ("bits", 8.0))


def certificate_of(plan: Plan) -> Certificate:
    """A certificate with something in every field."""
    owners = {weight: block.name for block in plan.blocks for weight in block.weights()}
    return Certificate(
        source=plan.source.name,
        digest=plan.source.digest,
        hardware=plan.hardware.name,
        data="random inputs",
        samples=4,
        estimator="EP(beta=0.1)",
        settle=str(plan.settle),
        precision="64 bits",
        mode="train",
        fidelity=tuple(
            Fidelity(
                weight=weight,
                block=owners.get(weight),
                cosine=None if number == 1 else 1 - 0.01 * number,
                norm=None if number == 1 else 1 + 0.02 * number,
                error=None if number == 1 else 0.03 * number,
            )
            for number, weight in enumerate(plan.weight_names())
        ),
        settling=tuple(
            Settling(
                block=block.name,
                settled=1.0 - 0.25 * (number == 1),
                sweeps=3.5,
                residual=0.5**8 * number,
                rate=0.5 if number else None,
                cycling=0.0,
                nudged_residual=1e-6 if number else None,
                elsewhere=0.0,
                curve=tuple((n, 0.5**n * number) for n in (1, 2, 4, 8)),
            )
            for number, block in enumerate(plan.blocks)
        ),
        betas=tuple(
            BetaPoint(beta=b, error=b * b, cosine=1 - b * b / 2, errors={w: b * b for w in owners})
            for b in (0.5, 0.1, 0.01)
        ),
        slope=2.0,
        truncations=tuple(
            Truncation(weight=w, sweeps=(1, 2, 4), nudged=(0.5, 0.8, 0.99), unrolled=(0.49, 0.81, 1.0))
            for w in owners
        ),
        target=0.9,
        needs=(
            Need(adc_bits=4, beta=0.5, cosine=0.8123),
            Need(adc_bits=6, beta=0.2, cosine=0.9456),
        ),
        notes=("block1: 25% of the samples did not settle completely: no exact gradient",),
    )


def study_of(plan: Plan) -> StudyRecord:
    """A study with something in every field; the last unit stays digital in what it offers."""
    units = units_of(plan, "block")
    return StudyRecord(
        schema=SCHEMA,
        setup=Setup(**identity_of(plan), data="made-up data 0123", by="block", effort=Effort(samples=50)),
        units=units,
        exact=0.91,
        points=tuple(
            Point(
                unit=unit.name,
                axis=axis,
                level=level,
                accuracy=0.9 - 0.01 * number - 0.02 * level,
                cosine=0.99 - 0.02 * number,
                cosines={unit.name: 0.99},
            )
            for number, unit in enumerate(units)
            for axis, level in LEVELS
        ),
        alone={
            unit.name: Alone(accuracy=0.9 - 0.001 * number, damage=0.01, logits=b"")
            for number, unit in enumerate(units)
        },
        offers=(
            _offer(plan, "by superposition", units[-1].weights, tuple(u.name for u in units[:-1])),
            _offer(plan, "by work", units[0].weights, tuple(u.name for u in units[1:])),
        ),
    )


def _offer(plan: Plan, method: str, digital: tuple[str, ...], on_tiles: tuple[str, ...]) -> Offer:
    return Offer(
        method="by work" if method == "by work" else "by superposition",
        target=0.9,
        digital=digital,
        on_tiles=on_tiles,
        work=0.75 if method == "by work" else 0.875,
        accuracy=0.905,
        confirmed=0.9025,
        evaluations=len(plan.blocks),
        passes=1234,
    )


def run_of(epochs: int = 4) -> RunFacts:
    """A training run whose loss is 1/n."""
    return RunFacts(
        gradient="EP(beta=0.1)",
        settings=(("lr", "0.01"),),
        epochs=tuple(
            Epoch(
                epoch=n,
                loss=1 / n,
                train_accuracy=0.5,
                test_accuracy=0.4,
                unsettled=0.0,
                sweeps=2.5,
                seconds=2.0,
            )
            for n in range(1, epochs + 1)
        ),
    )
