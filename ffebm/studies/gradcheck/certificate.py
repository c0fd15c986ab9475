"""What `ffebm gradcheck` found: how near estimated gradients are to the exact ones, as plain data."""

import math
from pathlib import Path

import msgspec

from ffebm.errors import Location, UsageError
from ffebm.files.decoded import decoded
from ffebm.files.write_file import write_file

SCHEMA = 1
"""Version of the certificate's format."""


class Fidelity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One gradient beside the exact one.

    Attributes:
        weight: Source name of the weight.
        block: Its energy block; None if its layer is digital.
        cosine: Cosine of the two gradients; None if one of them is zero.
        norm: Norm of the estimate over that of the exact gradient; None if that is zero.
        error: Norm of the difference over that of the exact gradient; None if that is zero.
    """

    weight: str
    block: str | None
    cosine: float | None
    norm: float | None
    error: float | None


class Settling(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a block settled.

    Attributes:
        block: The block.
        settled: Share of samples whose free phase converged.
        sweeps: Mean number of free sweeps.
        residual: Largest residual of a free phase.
        rate: Median factor by which a free sweep shrinks the residual; None if unknown.
        cycling: Share of samples in a limit cycle.
        nudged_residual: Largest residual behind the backward pass; None without one.
        elsewhere: Share of samples that settle elsewhere when they start where the one before settled.
        together: The same when all layers of the block move together, as in a circuit.
        unknown: The same that did not settle on one of these ways.
        tied: Share of the windows of its maxima whose winner only rounding decides, in a feedforward pass,
            before anything has come back from above.
        tied_settled: The same where it has settled.
        curve: Largest residual after 1, 2, 4, … free sweeps; every sample counts.
    """

    block: str
    settled: float
    sweeps: float
    residual: float
    rate: float | None
    cycling: float
    nudged_residual: float | None
    elsewhere: float
    together: float = 0.0
    unknown: float = 0.0
    tied: float = 0.0
    tied_settled: float = 0.0
    curve: tuple[tuple[int, float], ...] = ()


class BetaPoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Gradients at one nudging strength.

    Attributes:
        beta: Nudging strength.
        error: Largest relative error over the weights of blocks.
        cosine: Smallest cosine over the weights of blocks.
        errors: Relative error by weight.
    """

    beta: float
    error: float
    cosine: float
    errors: dict[str, float]


class Truncation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Gradients of phases cut short: equilibrium propagation beside the adjoint, sweep by sweep.

    Both are projected on the exact gradient: 1 is the exact one's own length.

    Attributes:
        weight: Source name.
        sweeps: Nudged sweeps, or sweeps that the adjoint goes back through.
        nudged: Projection of the EP gradient.
        unrolled: Projection of the truncated adjoint's.
    """

    weight: str
    sweeps: tuple[int, ...]
    nudged: tuple[float, ...]
    unrolled: tuple[float, ...]


class Need(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a cosine takes: the best that converters of a resolution reach.

    Attributes:
        adc_bits: Resolution of the ADCs; 0 on exact tiles.
        beta: The best nudging strength that was tried.
        cosine: Smallest cosine over the weights of blocks there.
    """

    adc_bits: int
    beta: float
    cosine: float


class Certificate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How near the gradients of a plan are to the exact ones.

    Attributes:
        schema: Version of the format.
        source: Name of the source model.
        digest: Its digest.
        hardware: Name of the machine.
        data: What the samples are.
        samples: How many.
        estimator: The estimator under test.
        settle: How blocks settled.
        precision: Element type that the estimator computed in; the exact gradient is always in 64 bits.
        mode: "train" or "eval": what batch normalisation does.
        fidelity: By weight, in the model's order.
        settling: By block.
        betas: Gradients over the nudging strength.
        slope: Slope of log error over log beta, fitted where the error is below 30 % and above ten times the
            floor; None with fewer than three such strengths.
        truncations: Phases cut short, by weight of a block.
        target: The cosine that was asked for; None without.
        needs: What reaches it.
        calibration: What ADC ranges are set by, in words; empty if samples have no say in them.
        notes: What the reader should know.
    """

    schema: int = SCHEMA
    source: str
    digest: str
    hardware: str
    data: str
    samples: int
    estimator: str
    settle: str
    precision: str
    mode: str
    fidelity: tuple[Fidelity, ...]
    settling: tuple[Settling, ...]
    betas: tuple[BetaPoint, ...] = ()
    slope: float | None = None
    truncations: tuple[Truncation, ...] = ()
    target: float | None = None
    needs: tuple[Need, ...] = ()
    calibration: str = ""
    notes: tuple[str, ...] = ()

    @property
    def worst(self) -> Fidelity | None:
        """The weight with the smallest cosine; None if none has one."""
        known = [row for row in self.fidelity if row.cosine is not None]
        return min(known, key=lambda row: -math.inf if row.cosine is None else row.cosine, default=None)


EXACT = 1e-12
"""Relative error below which a gradient in 64 bits is exact but for rounding."""


def save_certificate(certificate: Certificate, path: Path) -> None:
    """Write a certificate as JSON, whole or not at all.

    Raises:
        UsageError: If it cannot be written.
    """
    write_file(path, msgspec.json.format(msgspec.json.encode(certificate), indent=1) + b"\n")


def load_certificate(path: Path) -> Certificate:
    """Read a certificate.

    Raises:
        UsageError: If it cannot be read, or is none of this version.
    """
    where = Location(str(path))
    try:
        found = decoded(path.read_bytes(), Certificate)
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", location=where) from None
    except msgspec.DecodeError as error:
        raise UsageError(
            f"is no certificate: {error}", hint="`ffebm gradcheck` writes one", location=where
        ) from None
    if found.schema != SCHEMA:
        raise UsageError(
            f"is of version {found.schema}", allowed=f"this ffebm reads version {SCHEMA}", location=where
        )
    return found
