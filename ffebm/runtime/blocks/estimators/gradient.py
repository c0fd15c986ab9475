"""How the gradient of an energy block is estimated from the error current at its outputs.

Every estimator finds how the equilibrium answers to a nudge, lambda = -ds/dbeta, and one bilinear contrast
turns it into gradients. With D the slopes of the activations and J the symmetric matrix of couplings at the
equilibrium,

    lambda = D (delta + J lambda),   dL/dw = d/dbeta dE/dw,   dL/dx = d/dbeta dE/dx.

Source: Nest & Ernoult 2024 (arXiv 2409.03306), Theorem 3.1; Scellier & Bengio 2017 (arXiv 1602.05179).
"""

import cmath
import math
from dataclasses import dataclass, replace
from typing import Literal, Protocol, cast

import msgspec
import torch
from torch import Tensor

from ffebm.errors import UsageError
from ffebm.limits import as_number, is_whole
from ffebm.runtime.blocks.circuit import Circuit
from ffebm.runtime.blocks.estimators.adjoint import solve_adjoint
from ffebm.runtime.blocks.estimators.auto_beta import choose_beta
from ffebm.runtime.blocks.estimators.contrast import FreePoint, Gradients, Response, contrast
from ffebm.runtime.blocks.estimators.nudge import ErrorCurrent, nudged_phase, times
from ffebm.runtime.blocks.estimators.nudged import Nudged, settling_answer
from ffebm.runtime.blocks.physics.physics import Moving
from ffebm.runtime.blocks.settling.phase import Phase
from ffebm.runtime.blocks.settling.settling import Outcome, Rule, allow_for_noise, relax
from ffebm.runtime.blocks.settling.transient import move, outcome_of

DEFAULT_BETA = 0.1


@dataclass(frozen=True)
class EP:
    """Equilibrium propagation: the block settles again under a weak nudge.

    Attributes:
        beta: Strength of the nudge; its sign matters for one point only. "auto" measures the noise of the
            tiles and finds the strength for each block (`auto_beta`) when the block is first nudged after a
            reseeding; `Equilibrium.backward.beta` tells it.
        points: 2 nudges to both sides (error of order beta^2), 1 to one side (order beta), more on a circle
            in the complex plane (order beta^points; smooth activations without kinks only).
        cost: The last block is nudged by the cost itself, evaluated anew in each sweep, rather than by its
            gradient at the free equilibrium.
        relative: The nudge is measured by each sample's error current: beta is its largest value at the
            block's outputs, whatever the unit of the loss. False nudges by beta times the sample's current as
            it is, as the published method does: beta then has a meaning for one loss only. None is True
            where tiles read, because they have a resolution that a weak nudge falls below; it is False in
            blocks that are computed exactly, where a weaker nudge is a better one, and where the cost nudges.

    Source: Laborieux et al. 2021 (arXiv 2006.03824) for two points; Laborieux & Zenke 2022 (arXiv 2209.00530)
        for more.
    """

    beta: float | Literal["auto"] = DEFAULT_BETA
    points: int = 2
    cost: bool = False
    relative: bool | None = None

    def __post_init__(self) -> None:
        if not is_whole(self.points):
            raise UsageError(f"{self.points!r} nudging points", allowed="a whole number of at least 1")
        if self.beta == "auto" and self.points > 2:
            raise UsageError(f'beta="auto" with {self.points} points', allowed="1 or 2 points, or a number")
        if self.beta != "auto" and (self.beta == 0 or not math.isfinite(as_number(self.beta))):
            raise UsageError(f"beta is {self.beta!r}", allowed='a finite strength other than 0, or "auto"')
        if self.points < 1 or (self.points > 2 and self.cost):
            allowed = "at least 1; 1 or 2 if the cost itself nudges"
            raise UsageError(f"{self.points} nudging points", allowed=allowed)

    def is_relative(self, circuit: Circuit) -> bool:
        """Whether the nudge of a block is measured by each sample's error current."""
        return not (self.cost or circuit.is_exact) if self.relative is None else self.relative

    def check(self, circuit: Circuit, *, moves: bool, by_cost: bool) -> None:
        """Refuse to nudge a block as it cannot be nudged.

        Args:
            circuit: The block.
            moves: It moves as a circuit in its own time.
            by_cost: The cost itself nudges it.

        Raises:
            UsageError: If it has kinks or maxima and there are more than two points, or if it settles by
                itself and its nudge does not stay all through a phase.
        """
        if self.points > 2:
            _require_holomorphic(circuit)
        if moves or circuit.edge is not None:
            _require_steady(circuit, self.points, by_cost)

    def gradients(self, free: FreePoint, current: ErrorCurrent) -> tuple[Gradients, Outcome]:
        """Gradients of the loss, and how the nudged phases went."""
        nudged = self.nudge(free, current)
        return nudged.gradients(free), nudged.outcome

    def nudge(self, free: FreePoint, current: ErrorCurrent) -> Nudged:
        """Settle under the nudge, all points as one batch, from the free state."""
        if self.beta == "auto":
            return replace(self, beta=self._measured(free, current)).nudge(free, current)
        betas = self._betas(self.beta, free)
        moves = free.motion is not None
        self.check(free.circuit, moves=moves, by_cost=current.cost_gradient is not None)
        scale = current.scale(self.is_relative(free.circuit))
        if free.motion is not None:
            return self._moved(free, current, betas, scale)
        free.circuit.begin_phase()
        phase = nudged_phase(free, current, betas, scale)
        phase.answer = settling_answer(betas, self.points, free.phase.settled_state())
        # colours in reversed order, so that a nudge of the last layer spreads at once
        order = free.circuit.colours[::-1]
        reach = free.circuit.sweeps_to_all(order, current.delta)
        rule = Rule(free.settle.nudged_sweeps, free.settle, order, len(betas), reach)
        if self.points > 2 and free.settle.anderson:
            rule = replace(rule, settle=msgspec.structs.replace(rule.settle, anderson=0))
        outcome = relax(phase, rule)
        outcome.beta, outcome.reached = self.beta, rule.sweeps >= rule.reach
        if free.settle.tol is not None:
            allow_for_noise(phase, outcome, rule)
        phase.state = list(free.circuit.sensed(phase.settled_state()))
        return Nudged(phase, betas, scale, self.points, outcome)

    def _moved(self, free: FreePoint, current: ErrorCurrent, betas: list[complex], scale: Tensor) -> Nudged:
        """Let the circuit move under one nudge after the other, each from where the one before has led."""
        phase = nudged_phase(free, current, betas, scale)
        motion, state, samples = free.motion, list(free.phase.state), free.phase.batch
        states, updates = [], []
        for point in range(len(betas)):
            free.circuit.begin_phase()
            rows = torch.arange(point * samples, (point + 1) * samples, device=scale.device)
            part = phase.rows(rows)
            part.state = state
            motion = move(part, "nudged", motion)
            state = list(part.state)
            states.append(part.settled_state())
            updates.append(part.updates())
        phase.answer = settling_answer(betas, self.points, free.phase.settled_state())
        phase.state = [torch.cat(layer) for layer in zip(*states, strict=True)]
        asked = [torch.cat(layer) for layer in zip(*updates, strict=True)]
        outcome = outcome_of(phase, asked, "nudged")
        outcome.beta = betas[0].real
        phase.state = list(free.circuit.sensed(phase.settled_state()))
        return Nudged(phase, betas, scale, self.points, outcome)

    def _measured(self, free: FreePoint, current: ErrorCurrent) -> float:
        """The strength that suits the block's noise, found once and kept; without a current, not yet."""
        if not 0 < float(current.largest()) < math.inf:
            return DEFAULT_BETA
        rest = free.phase.settled_state()

        def answer(beta: float) -> list[Tensor]:
            nudged = replace(self, beta=beta).nudge(free, current)
            at = nudged.states()
            pairs = zip(at[0], at[1] if len(at) > 1 else rest, strict=True)
            return [times(a - b, nudged.scale / (self.points * beta)) for a, b in pairs]

        if free.circuit.beta is None:
            per_beta = current.scale(self.is_relative(free.circuit)) * (
                math.sqrt(2.0) / self.points
            )  # two states differ
            rounding = free.circuit.rounding([times(s, per_beta) for s in rest])
            free.circuit.beta = choose_beta(answer, rounding, self.points == 1)
        return free.circuit.beta

    def _betas(self, beta: float, free: FreePoint) -> list[complex]:
        if self.points == 1:
            # what the free phase leaves unsettled would count as answer, so that it goes on beside the nudge
            sweeps = free.settle.tol is not None and free.motion is None
            is_rough = sweeps and free.circuit.edge is None
            return [beta, 0.0] if is_rough else [beta]
        if self.points == 2:
            return [beta, -beta]
        # the other half of the circle are their conjugates, with conjugate states
        return [beta * cmath.exp(2j * math.pi * n / self.points) for n in range(self.points // 2 + 1)]


@dataclass(frozen=True)
class Implicit:
    """The exact adjoint of the equilibrium, by a linear solve: the yardstick of the other estimators.

    Attributes:
        tol: Residual relative to the error current at which a sample's solve stops; in single precision at
            least 1e-6.
        max_iterations: Most applications of the coupling matrix.
    """

    tol: float = 1e-10
    max_iterations: int = 500

    def __post_init__(self) -> None:
        if not 0 <= as_number(self.tol) < math.inf:
            raise UsageError(f"tol {self.tol!r} of a solve", allowed="a finite number of at least 0")
        if not is_whole(self.max_iterations) or self.max_iterations < 1:
            found = f"{self.max_iterations!r} iterations of a solve"
            raise UsageError(found, allowed="a whole number of at least 1")

    def gradients(self, free: FreePoint, current: ErrorCurrent) -> tuple[Gradients, Outcome]:
        """Gradients of the loss, and how the solve went."""
        phase, couplings = free.phase, free.circuit.couplings
        adjoint, outcome = solve_adjoint(phase, current.delta, self.tol, self.max_iterations)
        state = phase.settled_state()

        def pair(index: int) -> tuple[Tensor, Tensor, Tensor]:
            source, target = free.circuit.source(index), free.circuit.target(index)
            y = couplings[index].spread(state[target], phase.index(index))
            y_adjoint = couplings[index].spread(adjoint.layers[target], phase.index(index))
            if index in adjoint.ties:
                y_adjoint = y_adjoint + couplings[index].fold(adjoint.ties[index])
            below = Moving(lambda: state[source], adjoint.layers[source])
            return *couplings[index].pairs(below, Moving(lambda: y, y_adjoint)), y_adjoint

        return contrast(free, Response(adjoint.layers, lambda layer: state[layer], pair)), outcome


@dataclass(frozen=True)
class Unrolled:
    """Backpropagation through a few sweeps from the free equilibrium (truncated in time).

    Attributes:
        sweeps: Sweeps to go back through; each adds a term of the adjoint's Neumann series.

    Source: Ernoult et al. 2019 (arXiv 1905.13633): equal to EP sweep by sweep as beta -> 0.
    """

    sweeps: int = 20

    def __post_init__(self) -> None:
        if not is_whole(self.sweeps) or self.sweeps < 1:
            raise UsageError(f"{self.sweeps!r} sweeps to unroll", allowed="a whole number of at least 1")

    def gradients(self, free: FreePoint, current: ErrorCurrent) -> tuple[Gradients, Outcome]:
        """Gradients of the loss; the outcome is that of one more sweep."""
        inputs = {name: x.detach().requires_grad_(free.wants_input(name)) for name, x in free.inputs.items()}
        weights = {
            name: w.detach().requires_grad_(free.wants_weight(name)) for name, w in free.weights.items()
        }
        order = free.circuit.colours
        with torch.enable_grad():
            drives = free.circuit.constant_drives(inputs, weights)
            phase = Phase(free.circuit, weights, drives, free.phase.batch, ties=free.phase.ties)
            phase.state, phase.indices = list(free.phase.state), list(free.phase.indices)
            step = 1.0 if free.settle.relaxation == "auto" else free.settle.relaxation
            for _ in range(self.sweeps):
                phase.sweep(order, step)
            leaves = {("input", name): x for name, x in inputs.items() if x.requires_grad}
            leaves |= {("weight", name): w for name, w in weights.items() if w.requires_grad}
            found = torch.autograd.grad(
                [phase.settled_state()[layer] for layer in current.delta],
                list(leaves.values()),
                list(current.delta.values()),
                allow_unused=True,
            )
        gradients = Gradients({}, {})
        for (kind, name), grad in zip(leaves, found, strict=True):
            if grad is not None:
                (gradients.inputs if kind == "input" else gradients.weights)[name] = grad
        probe = Phase(free.circuit, free.weights, free.drives, free.phase.batch, ties=free.phase.ties)
        probe.state, probe.indices = list(free.phase.state), list(free.phase.indices)
        return gradients, relax(probe, Rule(1, free.settle, order))


class Gradient(Protocol):
    """An estimator: `EP`, `Implicit`, `Unrolled`, or one of your own.

    Best a frozen dataclass: its fields stand in the records of runs, which a resumed run compares; of others
    their `repr`.
    """

    def gradients(self, free: FreePoint, current: ErrorCurrent) -> tuple[Gradients, Outcome]:
        """Gradients of the loss by what `free` wants, and how it went.

        Args:
            free: The block where it settled freely.
            current: The gradient of the loss by the block's outputs there.
        """
        ...


def known_gradient(found: object) -> Gradient:
    """An estimator as it was given.

    Raises:
        UsageError: If it is none.
    """
    if isinstance(found, type) or not callable(getattr(found, "gradients", None)):
        raise UsageError(
            f"the gradient estimator is {found!r}",
            allowed="EP(), Implicit(), Unrolled(), or an object of your own with gradients(free, current)",
        )
    return cast("Gradient", found)


def _require_steady(circuit: Circuit, points: int, by_cost: bool) -> None:
    """A circuit that settles by itself is nudged by real currents that stay all through a phase."""
    if by_cost or points > 2:
        nudge = "the cost itself" if by_cost else f"{points} nudging points"
        raise UsageError(
            f"{circuit.block.name} settles by itself and cannot be nudged by {nudge}",
            allowed="a constant current: EP(points=2) or EP(points=1)",
            hint="leave cost=True out: --no-cost, or cost = false in the settings" if by_cost else "",
        )


def _require_holomorphic(circuit: Circuit) -> None:
    for layer in circuit.layers:
        if not circuit.physics.is_holomorphic(layer):
            raise UsageError(
                f"{circuit.block.name}: {layer.activation.op} has kinks",
                allowed="more than two nudging points need smooth activations",
                hint="use EP(points=2)",
            )
    if any(coupling.is_max for coupling in circuit.couplings):
        raise UsageError(
            f"{circuit.block.name}: a maximum of complex values",
            allowed="more than two nudging points need blocks without max-pooling",
            hint="use EP(points=2)",
        )
