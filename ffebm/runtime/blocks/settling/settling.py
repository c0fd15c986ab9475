"""Lets a block settle, and says how well it did.

The residual of a sample is the largest, over layers, of |update - state| / |update| in its last sweep, where
`update` is what the layer's equation asks for given its neighbours, and |.| is the Euclidean norm over the
layer's units (a layer with a root mean square below 1e-6 counts as zero). Relaxation does not enter it. It is
infinite if the state is not finite.

In a nudged phase it is the answer to the nudge that must settle: half the difference of the two nudged
states, or what a nudged state differs by from the free one. The change is measured against the answer's own
size, and a sample goes on until the nudge can have reached every layer; changes that rounding alone makes
count as none.

Samples are independent: each stops at its own sweep, and its result does not depend on the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ffebm.errors import NotSettledError
from ffebm.plan.schema import Settle
from ffebm.runtime.blocks.settling.anderson import Anderson
from ffebm.runtime.blocks.settling.limit_cycle import WATCHED, Watch
from ffebm.runtime.blocks.settling.phase import Note, Phase
from ffebm.runtime.blocks.settling.step_size import StepSize
from ffebm.runtime.blocks.settling.table import equilibrium_html
from ffebm.visible import visible

SETTLED = 1e-4
"""Largest residual of a sample that counts as converged when a fixed number of sweeps was asked for."""

NOISY = 2.0
"""Up to so many times what reads alone make of a settled state, a residual counts as noise."""

_DRAWS = 4
"""Sweeps over which the noise of a settled state is measured: one alone may be far too quiet by chance."""

_SHOWN = 8
"""Samples that a message names."""

_LOOK_EVERY = 8
"""On an accelerator, sweeps between looks at whether anything still moves: each look waits for the device."""


@dataclass(repr=False)
class Outcome:
    """How a phase went, sample by sample.

    Attributes:
        residual: Residual of the last sweep, [batch].
        sweeps: Sweeps done, [batch], integers.
        converged: Residual at most `tol`, or `SETTLED` if the number of sweeps was fixed, or at most `NOISY`
            times `noise`; [batch], booleans.
        rate: Factor by which the last sweep shrank the residual; 0 if exact, nan if unknown; [batch].
        period: Sweeps after which a sample that did not converge repeats itself; 0 if it does not; [batch],
            integers.
        beta: Strength of the nudge; None in a free phase.
        reached: There were sweeps enough for the nudge to reach every layer.
        timed: It ended when its time was over, as circuits do; `sweeps` are steps of that time.
        noise: The residual that noise of reads makes of a settled state; 0 if none was looked for, as where
            all samples settled without.
    """

    residual: Tensor
    sweeps: Tensor
    converged: Tensor
    rate: Tensor
    period: Tensor
    beta: float | None = None
    reached: bool = True
    timed: bool = False
    noise: float = 0.0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.words()}>"

    def words(self) -> str:
        """How the phase went, in one line."""
        batch = len(self.converged)
        said = f"{int(self.converged.sum())} of {batch} samples settled"
        if batch:
            noise = f"; noise alone makes {self.noise:.2g}" if self.noise else ""
            residual = f"residual up to {float(self.residual.max()):.2g}{noise}"
            said += f" ({'steps' if self.timed else 'sweeps'} up to {int(self.sweeps.max())}, {residual})"
        return said if self.beta is None else f"{said}, nudged by {self.beta:g}"


@dataclass(repr=False)
class Equilibrium(Outcome):
    """Where a block settled in its free phase, and how well.

    Attributes:
        state: State of each free layer by value name, [batch, *layer].
        inputs: What it was clamped to by value name, [batch, *shape].
        backward: How the last backward pass went: its nudged phases, or its solve for the adjoint; None
            before one.
    """

    state: dict[str, Tensor] = field(default_factory=dict)
    inputs: dict[str, Tensor] = field(default_factory=dict)
    backward: Outcome | None = None

    def words(self) -> str:
        """The layers, how the free phase went, and how the backward pass did."""
        back = "" if self.backward is None else f"; backward {self.backward.words()}"
        return f"of {visible(', '.join(self.state))}: {super().words()}{back}"

    def _repr_html_(self) -> str:
        """What a notebook shows: the range of each layer's state, and how the phases went."""
        phases: list[tuple[str, Outcome]] = [("free", self)]
        phases += [] if self.backward is None else [("backward", self.backward)]
        return equilibrium_html(
            self.state, [(name, one.converged, one.sweeps, one.residual) for name, one in phases]
        )


@dataclass(frozen=True)
class Rule:
    """When one phase stops.

    Attributes:
        sweeps: Most sweeps, at least one.
        settle: The other settings.
        order: Layers by colour.
        nodes: Rows per sample, ordered by node, then by sample; rows of one sample stop together.
        reach: Sweeps that a nudge takes to every layer; before them nothing has settled.
    """

    sweeps: int
    settle: Settle
    order: list[list[int]]
    nodes: int = 1
    reach: int = 1


def relax(phase: Phase, rule: Rule) -> Outcome:
    """Sweep until the rule says stop; the phase then holds the final state.

    A phase whose layers do not interact is exact after one sweep and stops there. So does one that a sweep
    leaves unchanged to the last bit, because every later sweep would too.
    """
    with torch.no_grad():
        if phase.is_split and not any(phase.circuit.is_coupled(i) for colour in rule.order for i in colour):
            phase.sweep(rule.order)
            return _unmoved(phase, rule, 1)
        if rule.settle.tol is None:
            return _settle_fixed(phase, rule)
        return _settle_to_tolerance(phase, rule, rule.settle.tol)


def require_settled(name: str, outcome: Outcome, rule: Rule) -> None:
    """Raise if a sample did not converge.

    Raises:
        NotSettledError: With the share of samples, their residual and what to change.
    """
    lost = ~outcome.converged
    if not bool(lost.any()):
        return
    n, batch = int(lost.sum()), len(lost)
    broken = outcome.residual.isinf().nonzero()[:, 0].tolist()
    if broken:
        raise NotSettledError(
            f"{name}: the state of {len(broken)} of {batch} samples is not finite: {listed_samples(broken)}",
            allowed="finite numbers",
            hint="look for NaN and infinite values in inputs and weights; without any the block diverges: "
            "try relaxation=0.5 in Settle, or smaller weights",
        )
    periods = sorted({int(period) for period in outcome.period[lost] if period > 0})
    cycle = f", in limit cycles of period {', '.join(map(str, periods))}" if periods else ""
    first = "winners='shared'" if periods else "more free_sweeps, anderson=5,"
    raise NotSettledError(
        f"{name}: {n} of {batch} samples ({n / batch:.1%}) did not settle in {rule.sweeps} sweeps, "
        f"residual up to {float(outcome.residual[lost].max()):.2e}{cycle}",
        allowed=f"residuals of at most {SETTLED if rule.settle.tol is None else rule.settle.tol:g}",
        hint=f"try {first} or relaxation=0.5 in Settle",
    )


def listed_samples(samples: Sequence[int]) -> str:
    """Some samples by number, for a message."""
    shown = ", ".join(map(str, samples[:_SHOWN]))
    more = f" and {len(samples) - _SHOWN} more" if len(samples) > _SHOWN else ""
    return f"sample{'s' if len(samples) > 1 else ''} {shown}{more}"


def allow_for_noise(phase: Phase, outcome: Outcome, rule: Rule) -> None:
    """Samples that move by no more than what noise of reads makes of a settled state have settled.

    The noise is measured from the state where the phase ended, the largest over samples and a few sweeps, and
    kept until a residual exceeds it. No other draw changes by that.

    Args:
        phase: The phase, at its end.
        outcome: How it went; its `noise` and `converged` are set.
        rule: By which it stopped.
    """
    source, kind = phase.circuit.noise_source, outcome.beta is not None
    if source is None or not outcome.reached or not len(outcome.residual):
        return
    lost = ~outcome.converged & outcome.residual.isfinite()
    if not bool(lost.any()):
        return
    known = phase.circuit.noise.get(kind)
    worst = float(outcome.residual[lost].max())
    if known is None or worst > NOISY * known:
        drawn = source.get_state()
        with torch.no_grad():
            step = 1.0 if rule.settle.relaxation == "auto" else rule.settle.relaxation
            found = phase.read_noise(rule.order, step, rule.reach, _DRAWS)
        source.set_state(drawn)
        known = float(found.nan_to_num(0.0, 0.0).max())
        phase.circuit.noise[kind] = known
    outcome.noise = known
    outcome.converged = outcome.converged | (lost & (outcome.residual <= NOISY * known))


def _settle_fixed(phase: Phase, rule: Rule) -> Outcome:
    watch, advance = Watch(), _Advance(rule)
    every = _LOOK_EVERY if phase.like.is_cuda else 1
    residual, previous = None, None
    for sweep in range(1, rule.sweeps + 1):
        note: Note = "moved" if sweep % every == 0 else "nothing"
        advance(phase, "residual" if advance.step.is_found or sweep >= rule.sweeps - 1 else note)
        if not phase.moved:
            return _unmoved(phase, rule, sweep)
        if rule.nodes == 1 and sweep > rule.sweeps - WATCHED:
            watch.see(phase)
        if phase.change is not None:
            residual, previous = _by_sample(phase, rule), residual
            advance.step.see(residual)
    return _outcome(phase, (residual, previous), rule, rule.sweeps, watch)


def _settle_to_tolerance(phase: Phase, rule: Rule, tol: float) -> Outcome:
    watch, advance = Watch(), _Advance(rule)
    ledger = _Ledger(phase, rule)
    part, previous = phase, None
    for sweep in range(1, rule.sweeps + 1):
        advance(part, "residual")
        if rule.nodes == 1 and sweep > rule.sweeps - WATCHED:
            watch.see(part)
        residual = _by_sample(part, rule)
        advance.step.see(residual)
        stops = (residual <= tol) & (sweep >= rule.reach) | (sweep == rule.sweeps)
        if bool(stops.any()):
            ledger.enter(part, stops, _outcome(part, (residual, previous), rule, sweep, watch))
            if ledger.is_full:
                break
            if phase.is_split and phase.circuit.edge is None:  # frozen noise is that of the whole batch
                kept = ledger.keep(~stops)
                part, residual = part.rows(kept), residual[~stops]
                advance.rows(kept)
                watch.rows(kept)
        previous = residual
    return ledger.close()


class _Advance:
    """One more sweep, from a state that may be extrapolated from the last ones.

    Attributes:
        step: How far each sample goes towards its updates.
    """

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self._order = rule.order
        self.step = StepSize(rule.settle.relaxation, rule.nodes, rule.reach)
        self._mixer = Anderson(rule.settle.anderson) if rule.settle.anderson else None
        # the first colour is overwritten at once; it carries nothing from sweep to sweep unless it is relaxed
        carried = rule.order[1:] if rule.settle.relaxation == 1.0 else rule.order
        self._carried = [layer for colour in carried for layer in colour]
        self._is_first = True

    def __call__(self, phase: Phase, note: Note) -> None:
        if self._mixer is not None and not self._is_first:
            self._extrapolate(phase, self._mixer)
        phase.sweep(self._order, self.step.rows, note)
        if self._is_first and phase.is_split:
            coupled = [[i for i in colour if phase.circuit.is_coupled(i)] for colour in self._order]
            self._order = [colour for colour in coupled if colour]
        self._is_first = False

    def rows(self, rows: Tensor) -> None:
        self.step.keep(rows[: len(rows) // self._rule.nodes])
        if self._mixer is not None:
            self._mixer.rows(rows)

    def _extrapolate(self, phase: Phase, mixer: Anderson) -> None:
        swept = [s for s in (phase.state[layer] for layer in self._carried) if s is not None]
        g = torch.cat([s.flatten(1) for s in swept], dim=1)
        mixed = mixer.mix(g)
        if mixed is not g:
            parts = torch.split(mixed, [s[0].numel() for s in swept], dim=1)
            for layer, s, part in zip(self._carried, swept, parts, strict=True):
                phase.assign(layer, phase.project(layer, part.reshape(s.shape)))
            mixed = torch.cat(
                [s.flatten(1) for s in (phase.state[i] for i in self._carried) if s is not None], dim=1
            )
        mixer.start(mixed)


class _Ledger:
    """What became of each sample, and its state from the sweep in which it stopped."""

    def __init__(self, phase: Phase, rule: Rule) -> None:
        self._phase = phase
        self._nodes = rule.nodes
        self._batch = phase.batch // rule.nodes
        self._open: Tensor | None = None  # samples in the present part, by number
        self._entered: Tensor | None = None
        self._outcome: Outcome | None = None
        self._state: list[Tensor] = []

    @property
    def is_full(self) -> bool:
        """Every sample has stopped."""
        return self._entered is not None and bool(self._entered.all())

    def enter(self, part: Phase, stops: Tensor, outcome: Outcome) -> None:
        """Enter the samples of a part that stop now."""
        if self._outcome is None or self._entered is None or self._open is None:
            self._open = torch.arange(self._batch, device=stops.device)
            self._entered = torch.zeros_like(stops)
            self._outcome = outcome
            self._state = (
                part.settled_state() if bool(stops.all()) else [s.clone() for s in part.settled_state()]
            )
        new = stops & ~self._entered[self._open]
        samples = self._open[new]
        self._entered[samples] = True
        for name in ("residual", "sweeps", "converged", "rate", "period"):
            getattr(self._outcome, name)[samples] = getattr(outcome, name)[new]
        here = _rows(new.nonzero()[:, 0], len(new), self._nodes)
        there = _rows(samples, self._batch, self._nodes)
        for kept, s in zip(self._state, part.settled_state(), strict=True):
            if kept is not s:
                kept[there] = s[here]

    def keep(self, stays: Tensor) -> Tensor:
        """Go on with some samples of the part only; their rows."""
        assert self._open is not None
        self._open = self._open[stays]
        return _rows(stays.nonzero()[:, 0], len(stays), self._nodes)

    def close(self) -> Outcome:
        """Put the entered states into the phase."""
        assert self._outcome is not None
        for layer, s in enumerate(self._state):
            if self._phase.state[layer] is not s:
                self._phase.assign(layer, s)
        return self._outcome


def _rows(samples: Tensor, batch: int, nodes: int) -> Tensor:
    return (torch.arange(nodes, device=samples.device)[:, None] * batch + samples).flatten()


def _by_sample(phase: Phase, rule: Rule) -> Tensor:
    assert phase.change is not None
    return phase.change if phase.answer is not None else phase.change.view(rule.nodes, -1).amax(0)


def _are_finite(phase: Phase, rule: Rule) -> Tensor:
    """Whether each sample's state is finite."""
    found = [_finite(s) for s in phase.settled_state()]
    return torch.stack(found).all(0).view(rule.nodes, -1).all(0)


def _finite(state: Tensor) -> Tensor:
    """Samples whose state is finite, [batch]; by extremes in place, so that a large map is not copied."""
    parts = torch.view_as_real(state) if state.is_complex() else state
    if not parts[:1].numel():
        return parts.new_ones(len(parts), dtype=torch.bool)
    axes = tuple(range(1, parts.dim()))
    return torch.isfinite(parts.amin(axes)) & torch.isfinite(parts.amax(axes))


def _unmoved(phase: Phase, rule: Rule, sweeps: int) -> Outcome:
    finite = _are_finite(phase, rule)
    residual = torch.where(finite, 0.0, torch.inf).to(phase.settled_state()[0].real.dtype)
    count = torch.full_like(finite, sweeps, dtype=torch.int64)
    rate = torch.where(finite, 0.0, torch.nan).to(residual.dtype)
    return Outcome(residual, count, finite, rate, torch.zeros_like(count))


def _outcome(
    phase: Phase, residuals: tuple[Tensor | None, Tensor | None], rule: Rule, sweep: int, watch: Watch
) -> Outcome:
    """How the samples of a phase stand after a sweep; `residuals` are those of this sweep and the last."""
    residual, previous = residuals
    assert residual is not None
    ratio = torch.full_like(residual, torch.nan) if previous is None else residual / previous
    rate = torch.where(residual > 0, ratio, 0.0)

    if sweep < rule.reach:
        residual = residual.clamp(min=1.0)  # of some layer's answer, all is missing
    residual = torch.where(_are_finite(phase, rule) & ~residual.isnan(), residual, torch.inf)
    converged = residual <= (SETTLED if rule.settle.tol is None else rule.settle.tol)

    period = torch.zeros_like(residual, dtype=torch.int64)
    if sweep == rule.sweeps and rule.nodes == 1 and not bool(converged.all()):
        period = torch.where(converged, 0, watch.period())
    return Outcome(residual, torch.full_like(period, sweep), converged, rate, period)
