"""A block settled under its nudges, and how its equilibrium answers to them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ffebm.runtime.blocks.estimators.contrast import FreePoint, Gradients, Response, Secant, contrast
from ffebm.runtime.blocks.estimators.nudge import by_point, times
from ffebm.runtime.blocks.physics.physics import Moving
from ffebm.runtime.blocks.settling.phase import Answer, Phase
from ffebm.runtime.blocks.settling.settling import Outcome


@dataclass(frozen=True)
class Nudged:
    """A block settled under its nudges.

    Attributes:
        phase: Rows by nudging point, then by sample.
        betas: The points.
        scale: What each sample's error current was divided by, [batch].
        points: Of the estimator; complex conjugate ones are not settled.
        outcome: How it went.
    """

    phase: Phase
    betas: list[complex]
    scale: Tensor
    points: int
    outcome: Outcome

    def gradients(self, free: FreePoint) -> Gradients:
        """Gradients from the contrast of the nudged states, or of one with the free state."""
        response = _circle_response if self.points > 2 else _secant_response
        return contrast(free, response(free, self))

    def states(self) -> list[list[Tensor]]:
        """The state of every layer at each point, [batch, *layer]."""
        return by_point(self.phase.settled_state(), len(self.betas))


def settling_answer(betas: list[complex], points: int, rest: list[Tensor]) -> Answer:
    """What must settle: half a difference, a difference to the free state, or the mean around a circle."""
    if points == 1:
        return Answer((1.0,), tuple(rest)) if len(betas) == 1 else Answer((1.0, -1.0))
    if points == 2:
        return Answer((0.5, -0.5))
    pairs = [1 if k == 0 or 2 * k == points else 2 for k in range(len(betas))]
    factors = (p * beta.conjugate() / (points * abs(beta)) for p, beta in zip(pairs, betas, strict=True))
    return Answer(tuple(factors))


def _secant_response(free: FreePoint, nudged: Nudged) -> Response:
    """From the difference between two states: both nudged, or one nudged and the free one.

    The free one may have settled on beside the nudged one.
    """
    phase, couplings = nudged.phase, free.circuit.couplings
    has_both = len(nudged.betas) == 2
    at_rest = [] if has_both else free.circuit.sensed(free.phase.settled_state())
    step = (nudged.betas[0] - nudged.betas[1]) if has_both else nudged.betas[0]
    factor = -nudged.scale / step.real

    def answer(a: Tensor, b: Tensor) -> Tensor:
        """The answer to the nudge of a value at two states."""
        difference = a - b
        return difference.mul_(factor.view(-1, *[1] * (difference.dim() - 1)))

    def mean(a: Tensor, b: Tensor) -> Tensor:
        return (a + b).mul_(0.5)

    def ends(index: int) -> tuple[Tensor, Tensor]:
        """A layer at the two states."""
        s = phase.settled_state()[index]
        return _halves(s) if has_both else (s, at_rest[index])

    def spread(index: int) -> tuple[Tensor, Tensor]:
        """The layer that a coupling drives, at its linear map."""
        coupling, target = couplings[index], free.circuit.target(index)
        y = coupling.spread(phase.settled_state()[target], phase.index(index))
        return _halves(y) if has_both else (y, coupling.spread(at_rest[target], free.phase.index(index)))

    answers = [answer(*ends(index)) for index in range(len(free.circuit.layers))]

    def pair(index: int) -> tuple[Tensor, Tensor, Tensor]:
        y, source = spread(index), free.circuit.source(index)
        y_answer = answer(*y)
        below = Moving(lambda: mean(*ends(source)), answers[source])
        return *couplings[index].pairs(below, Moving(lambda: mean(*y), y_answer)), y_answer

    return Response(answers, lambda layer: mean(*ends(layer)), pair, Secant(factor, ends, spread))


def _halves(values: Tensor) -> tuple[Tensor, Tensor]:
    """Those of two nudging points."""
    first, second = values.chunk(2)
    return first, second


def _circle_response(free: FreePoint, nudged: Nudged) -> Response:
    """From states around a circle, (1/(N beta)) sum_n s_n omega^-n; real, as conjugate points pair up."""
    phase, n = nudged.phase, nudged.points
    factors = []
    for k, beta in enumerate(nudged.betas):
        pairs = 1 if k == 0 or 2 * k == n else 2
        factors.append(-pairs / (n * beta))
    weights = torch.tensor(factors, dtype=torch.complex128, device=nudged.scale.device)
    by_row = (weights[:, None] * nudged.scale).flatten()

    def weighted(values: Tensor) -> Tensor:
        return times(values, by_row.to(values.dtype))

    def total(values: Tensor) -> Tensor:
        return torch.stack(weighted(values).real.chunk(len(factors))).sum(0)

    state = [s if s.is_complex() else s + 0j for s in phase.settled_state()]

    def pair(index: int) -> tuple[Tensor, Tensor, Tensor]:
        source, target = free.circuit.source(index), free.circuit.target(index)
        coupling = free.circuit.couplings[index]
        y = coupling.spread(state[target], None)
        z = state[source]
        answer = weighted(y)
        drives = torch.cat([answer.real, -answer.imag]).mul_(coupling.factor)
        return torch.cat([z.real, z.imag]), drives, total(y)

    rest = free.phase.settled_state()
    return Response([total(s) for s in state], lambda layer: rest[layer], pair)
