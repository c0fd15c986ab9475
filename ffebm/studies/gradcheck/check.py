"""Makes the certificate of a plan's gradients."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import msgspec
import torch

from ffebm.errors import UsageError
from ffebm.runtime.blocks.estimators.contrast import FreePoint
from ffebm.runtime.blocks.estimators.gradient import EP, Gradient, Implicit, Unrolled
from ffebm.runtime.blocks.estimators.nudge import ErrorCurrent
from ffebm.runtime.blocks.estimators.nudged import Nudged
from ffebm.runtime.blocks.other_equilibria import OtherEquilibria
from ffebm.runtime.blocks.settling.settling import Equilibrium
from ffebm.runtime.blocks.tied_windows import TiedWindows
from ffebm.studies.gradcheck.bench import Bench, Grads, cosine, error, worst
from ffebm.studies.gradcheck.certificate import (
    EXACT,
    BetaPoint,
    Certificate,
    Fidelity,
    Need,
    Settling,
    Truncation,
)
from ffebm.training.calibration import calibrated_on

BETAS = (5.0, 2.0, 1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)
"""Nudging strengths that are tried, the largest first."""
BITS = (4, 5, 6, 7, 8, 9, 10, 12, 14)
"""Resolutions of ADCs that are tried for a target."""
SMALL = 1e-3
"""Nudging strength of the phases that are cut short."""
ROUNDING = 1e-12
"""Of the largest gradient: below it a gradient counts as zero."""
PHASES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Free sweeps at which the residual is looked at."""

CheckProgress = Callable[[str, int, int], None]
"""Called with what is done, how many runs are done and how many there are."""


@dataclass(frozen=True)
class CheckSettings:
    """What a certificate holds.

    Attributes:
        gradient: The estimator under test.
        single: It computes in 32 bits.
        sweeps: Also look at many nudging strengths and at phases cut short.
        target: Cosine to find the needs of; None looks for none.
    """

    gradient: Gradient
    single: bool = False
    sweeps: bool = True
    target: float | None = None

    def __post_init__(self) -> None:
        if self.target is not None and not 0 < self.target < 1:
            raise UsageError(f"a target cosine of {self.target}", allowed="between 0 and 1")


def check(bench: Bench, settings: CheckSettings, progress: CheckProgress | None = None) -> Certificate:
    """Compare the estimator with the exact adjoint.

    Args:
        bench: The plan and the samples.
        settings: What to look at.
        progress: Told how far it is.

    Raises:
        UsageError: If the plan has no energy block, or no weight that trains.
    """
    plan = bench.plan
    if not plan.blocks or not plan.trainable:
        raise UsageError(
            f"the plan of {plan.source.name} has {len(plan.blocks)} energy blocks and "
            f"{len(plan.trainable)} weights that train",
            allowed="at least one of each",
        )
    tell = _Counter(_runs(bench, settings), progress)
    exact, reference = bench.exact(Implicit())
    _require_finite("the exact adjoint", exact)
    exact = _without_rounding(exact)
    tell("exact adjoint")
    found, equilibria = bench.measured(settings.gradient, settings.single)
    tell("estimator")
    _require_finite("the estimator", found)
    owner = {weight: block.name for block in plan.blocks for weight in block.weights()}
    analog = frozenset(name for name in exact if name in owner and name in found)
    settling = _settling(bench, equilibria, reference, tell)
    betas = _betas(bench, settings, exact, analog, tell) if settings.sweeps else ()
    return Certificate(
        source=plan.source.name,
        digest=plan.source.digest,
        hardware=plan.hardware.name,
        data=bench.probe.name,
        samples=bench.probe.samples,
        estimator=str(settings.gradient),
        settle=str(plan.settle),
        precision="32 bits" if settings.single else "64 bits",
        mode="train" if bench.trains else "eval",
        fidelity=tuple(_fidelity(name, owner.get(name), found, exact) for name in exact),
        settling=settling,
        betas=betas,
        slope=slope(betas),
        truncations=_truncations(bench, exact, analog, tell) if settings.sweeps else (),
        target=settings.target,
        needs=_needs(bench, settings, exact, analog, tell),
        calibration=_calibration(bench),
        notes=(
            *_chosen(bench, settings.gradient, equilibria),
            *_notes(settling, reference),
            *_lost(found, exact),
        ),
    )


def _chosen(bench: Bench, gradient: Gradient, equilibria: Sequence[Equilibrium]) -> Iterator[str]:
    """The strengths that `beta="auto"` found."""
    if isinstance(gradient, EP) and gradient.beta == "auto":
        pairs = zip(bench.plan.blocks, equilibria, strict=True)
        found = [f"{b.name} {e.backward.beta:g}" for b, e in pairs if e.backward and e.backward.beta]
        yield f"beta found from the noise: {', '.join(found)}"


def _lost(found: Grads, exact: Grads) -> Iterator[str]:
    """Weights whose gradient never came."""
    for name, g in exact.items():
        if float(g.norm()) > 0 and not float(found.get(name, torch.zeros(1)).norm()) > 0:
            yield f"the gradient of {name} is zero, the exact one is not: more nudged sweeps, a larger beta"


def _calibration(bench: Bench) -> str:
    seen = bench.probe.calibration
    return calibrated_on(bench.plan, 0 if seen is None else len(seen[0][0]))


def _without_rounding(exact: Grads) -> Grads:
    """Gradients that are zero but for rounding, as of a bias before batch normalisation, are zero."""
    floor = ROUNDING * max((float(g.norm()) for g in exact.values()), default=0.0)
    return {name: g if float(g.norm()) > floor else torch.zeros_like(g) for name, g in exact.items()}


def _are_finite(grads: Grads) -> bool:
    return all(bool(torch.isfinite(g).all()) for g in grads.values())


def _require_finite(what: str, grads: Grads) -> None:
    for name, g in grads.items():
        if not bool(torch.isfinite(g).all()):
            raise UsageError(
                f"{what} gives {name!r} a gradient that is not finite",
                allowed="blocks that settle",
                hint="compile with --relaxation 0.5, a smaller --block-size, or smaller weights",
            )


class _Counter:
    """Counts runs."""

    def __init__(self, total: int, progress: CheckProgress | None) -> None:
        self._total, self._progress, self._done = total, progress, 0

    def __call__(self, what: str) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(what, self._done, self._total)


def _runs(bench: Bench, settings: CheckSettings) -> int:
    total = 3 + len(_phases(bench))
    if settings.sweeps:
        total += len(BETAS) + len(_lengths(bench))
    if settings.target is not None and bench.crossbar is not None:
        total += len(BITS) * len(BETAS)
    return total


def _fidelity(name: str, block: str | None, found: Grads, exact: Grads) -> Fidelity:
    ours = found.get(name, torch.zeros_like(exact[name]))
    size = float(exact[name].norm())
    return Fidelity(
        weight=name,
        block=block,
        cosine=cosine(ours, exact[name]),
        norm=float(ours.norm()) / size if size > 0 else None,
        error=error(ours, exact[name]),
    )


# --- settling ------------------------------------------------------------------------------------------


def _phases(bench: Bench) -> list[int]:
    return [sweeps for sweeps in PHASES if sweeps <= max(8, bench.plan.settle.free_sweeps)]


def _settling(
    bench: Bench, measured: Sequence[Equilibrium], reference: list[Equilibrium], tell: _Counter
) -> tuple[Settling, ...]:
    others = bench.other_equilibria(reference)
    tell("other equilibria")
    curves: list[list[tuple[int, float]]] = [[] for _ in measured]
    for sweeps in _phases(bench):
        plain = msgspec.structs.replace(bench.swept(), free_sweeps=sweeps, tol=None, strict=False)
        for curve, equilibrium in zip(curves, bench.equilibria(plain, exact=False), strict=True):
            curve.append((sweeps, float(equilibrium.residual.max())))
        tell(f"{sweeps} sweeps")
    tied = bench.tied_windows(reference)
    rows = zip(bench.plan.blocks, measured, others, tied, curves, strict=True)
    return tuple(_row(block.name, ours, far, ties, curve) for block, ours, far, ties, curve in rows)


def _row(
    block: str, found: Equilibrium, others: OtherEquilibria, tied: TiedWindows, curve: list[tuple[int, float]]
) -> Settling:
    known = found.rate[torch.isfinite(found.rate)]
    return Settling(
        block=block,
        settled=float(found.converged.double().mean()),
        sweeps=float(found.sweeps.double().mean()),
        residual=float(found.residual.max()),
        rate=float(known.median()) if len(known) else None,
        cycling=float((found.period > 0).double().mean()),
        nudged_residual=None if found.backward is None else float(found.backward.residual.max()),
        elsewhere=others.share(others.started),
        together=others.share(others.together),
        unknown=others.share(others.unknown),
        tied=tied.first_share,
        tied_settled=tied.settled_share,
        curve=tuple(curve),
    )


# --- nudging strength ------------------------------------------------------------------------------------


def _estimator(settings: CheckSettings) -> EP:
    return settings.gradient if isinstance(settings.gradient, EP) else EP()


def _betas(
    bench: Bench, settings: CheckSettings, exact: Grads, analog: frozenset[str], tell: _Counter
) -> tuple[BetaPoint, ...]:
    points = []
    for beta in BETAS:
        estimator = replace(_estimator(settings), beta=beta)
        found = (bench.exact if bench.crossbar is None else bench.measured)(estimator)[0]
        tell(f"beta {beta:g}")
        if not _are_finite(found):
            continue  # so strong a nudge lets a block without bounds run away
        largest, smallest = worst(found, exact, analog)
        errors = {n: e for n in sorted(analog) if (e := error(found[n], exact[n])) is not None}
        points.append(BetaPoint(beta=beta, error=largest, cosine=smallest, errors=errors))
    return tuple(points)


def slope(points: Sequence[BetaPoint]) -> float | None:
    """Slope of log error over log beta, where the error is below 30 % and above ten times the floor."""
    floor = max(min((point.error for point in points), default=0.0), EXACT)
    chosen = [p for p in points if 10 * floor < p.error < 0.3]
    if len(chosen) < 3:
        return None
    x = torch.tensor([math.log(p.beta) for p in chosen], dtype=torch.float64)
    y = torch.tensor([math.log(p.error) for p in chosen], dtype=torch.float64)
    return float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum())


def _needs(
    bench: Bench, settings: CheckSettings, exact: Grads, analog: frozenset[str], tell: _Counter
) -> tuple[Need, ...]:
    """The best nudging strength at each resolution, up to the first that reaches the target."""
    if settings.target is None:
        return ()
    needs = []
    for bits in BITS if bench.crossbar is not None else (0,):
        best = Need(adc_bits=bits, beta=0.0, cosine=-1.0)
        for beta in BETAS:
            estimator = replace(_estimator(settings), beta=beta)
            found = bench.measured(estimator, settings.single, bits or None)[0]
            smallest = worst(found, exact, analog)[1]
            if smallest > best.cosine:
                best = Need(adc_bits=bits, beta=beta, cosine=smallest)
            tell(f"{bits} bits, beta {beta:g}")
        needs.append(best)
        if best.cosine >= settings.target:
            break
    return tuple(needs)


# --- phases cut short ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CutShort(EP):
    """Equilibrium propagation whose nudged phases are cut short.

    Attributes:
        sweeps: Nudged sweeps, however the free phase settled.
    """

    sweeps: int = 1

    def nudge(self, free: FreePoint, current: ErrorCurrent) -> Nudged:
        """Settle under the nudge for so many sweeps, from the free state."""
        short = msgspec.structs.replace(free.settle, nudged_sweeps=self.sweeps, tol=None, anderson=0)
        return super().nudge(replace(free, settle=short), current)


def _lengths(bench: Bench) -> list[int]:
    most = min(20, bench.plan.settle.nudged_sweeps)
    return [t for t in range(1, most + 1) if t <= 8 or t % 4 == 0]


def _truncations(
    bench: Bench, exact: Grads, analog: frozenset[str], tell: _Counter
) -> tuple[Truncation, ...]:
    """EP after t nudged sweeps beside the adjoint back through t sweeps, from the settled free state.

    Source: Nest & Ernoult 2024 (arXiv 2409.03306), Figures 3 and 5; Ernoult et al. 2019 (arXiv 1905.13633).
    """
    names = [name for name in exact if name in analog and float(exact[name].norm()) > 0]
    nudged: dict[str, list[float]] = {name: [] for name in names}
    unrolled: dict[str, list[float]] = {name: [] for name in names}
    lengths = _lengths(bench)
    for t in lengths:
        pairs: tuple[tuple[dict[str, list[float]], Gradient], ...] = (
            (nudged, CutShort(SMALL, sweeps=t)),
            (unrolled, Unrolled(t)),
        )
        for held, estimator in pairs:
            found = bench.exact(estimator)[0]
            for name in names:
                g = exact[name]
                held[name].append(float((found[name] * g).sum() / g.square().sum()))
        tell(f"{t} nudged sweeps")
    return tuple(
        Truncation(
            weight=name, sweeps=tuple(lengths), nudged=tuple(nudged[name]), unrolled=tuple(unrolled[name])
        )
        for name in names
    )


def _notes(settling: Sequence[Settling], reference: Sequence[Equilibrium]) -> list[str]:
    notes = []
    for row, exact in zip(settling, reference, strict=True):
        lost = float((~exact.converged).double().mean())
        if lost:
            notes.append(
                f"{row.block}: {lost:.0%} of the samples did not settle completely: no exact gradient"
            )
        if row.tied or row.tied_settled:
            notes.append(
                f"{row.block}: rounding chooses the winner in {row.tied:.1%} of the windows of maxima in a "
                f"feedforward pass, in {row.tied_settled:.1%} where it has settled; noise on the samples "
                "(--dither) leaves none"
            )
        if row.elsewhere or row.together:
            notes.append(
                f"{row.block}: {row.elsewhere:.0%} of the samples settle elsewhere from another's state, "
                f"{row.together:.0%} when all layers move together: it has several equilibria "
                "(docs/gradients.md, Several equilibria)"
            )
    return notes
