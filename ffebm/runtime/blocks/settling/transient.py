"""Lets a block move as its circuit does, all layers together in continuous time, until its bill says stop.

    tau du/dt = b + sum of y - u,   lag dy/dt = what a line asks for - y,   s = sigma(scale u)

with u the drive of a unit and y what a virtual ground makes of its line: the equations, and the steps, by
which phases are billed (`mapping/circuit`). What lines ask for are the products of the block's tiles, with
the errors of their devices.

A phase ends at its time, settled or not. The residual of a sample is how far its state then is from what its
neighbours ask for, of its own size, over all layers; in a nudged phase, how far the answer to the nudge is.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ffebm.errors import NotSettledError
from ffebm.graph.energy_block import PhaseKind
from ffebm.runtime.blocks.circuit import Circuit
from ffebm.runtime.blocks.circuit_time import CircuitLine, CircuitTime
from ffebm.runtime.blocks.settling.phase import Phase
from ffebm.runtime.blocks.settling.settling import SETTLED, Outcome, listed_samples

ALLOWED = 2.0
"""Up to so many times the accuracy that is billed, a residual counts as settled: the state is off by it, and
so is what drives it."""

Fed = Sequence[tuple[int, Tensor]]
"""What each clamped input drives, with the layer: times that layer's scale, [batch, *layer]."""


@dataclass(frozen=True)
class Motion:
    """Where a circuit is, beside the states of its layers.

    Attributes:
        drives: Of each layer, times its scale, [batch, *layer].
        reads: What the virtual grounds of each line have come to, [batch, *units].
    """

    drives: tuple[Tensor, ...]
    reads: dict[CircuitLine, Tensor]


def time_of(circuit: Circuit) -> CircuitTime:
    """How a block moves that was seen to be a circuit."""
    assert circuit.time is not None  # `require_circuits` has looked
    return circuit.time


@torch.no_grad()
def move(phase: Phase, kind: PhaseKind, motion: Motion | None = None, fed: Fed = ()) -> Motion:
    """Let a phase move for as long as it is billed.

    Args:
        phase: It holds the state at the end then.
        kind: What it is billed as.
        motion: Where it starts, with the phase's state; None starts at rest, with nothing driven.
        fed: What clamped inputs add to the phase's constant drives, which is not there at once from rest.

    Returns:
        Where it has come to.
    """
    circuit, time = phase.circuit, time_of(phase.circuit)
    count, seconds = time.steps(kind)
    follow = time.follow(phase.weights, seconds)
    lags = [follow.get((at, False)) for at in circuit.feed_at]
    missing = [(*drive, part) for drive, part in zip(fed, lags, strict=False) if part is not None]
    share = -math.expm1(-seconds / time.tau)
    if motion is None:
        motion = _rest(phase)
    drives, reads = list(motion.drives), dict(motion.reads)
    for _ in range(count):
        missing = [(layer, drive * (1 - part), part) for layer, drive, part in missing]
        for line, asked in _asked(phase).items():
            reads[line] = _followed(reads.get(line), asked, follow.get(line))
        pushed = _pushed(phase, reads)
        for layer, drive, _ in missing:
            pushed[layer] = pushed[layer] - drive
        drives = [torch.lerp(drive, push, share) for drive, push in zip(drives, pushed, strict=True)]
        _show(phase, drives)
    return Motion(tuple(drives), reads)


def outcome_of(phase: Phase, updates: Sequence[Tensor], kind: PhaseKind) -> Outcome:
    """How the samples of a phase stand at its end.

    Args:
        phase: At its end.
        updates: What the equation of each layer asks for there.
        kind: What it was billed as.
    """
    states, answer = phase.settled_state(), phase.answer
    moves = [update - state for update, state in zip(updates, states, strict=True)]
    sizes: Sequence[Tensor] = updates
    if answer is not None:
        moves = [answer.combined(move) for move in moves]
        sizes = [answer.of(layer, update) for layer, update in enumerate(updates)]
    moved, size = _norms(moves), _norms(sizes)
    residual = torch.where(moved > 0, moved / size, 0.0)
    residual = torch.where(residual.isfinite(), residual, torch.inf)
    time = time_of(phase.circuit)
    billed = time.response if kind == "nudged" else time.accuracy
    limit = SETTLED if billed is None else ALLOWED * billed
    steps = torch.full_like(residual, time.steps(kind)[0], dtype=torch.int64)
    unknown = torch.full_like(residual, torch.nan)
    return Outcome(residual, steps, residual <= limit, unknown, torch.zeros_like(steps), timed=True)


def require_at_rest(name: str, outcome: Outcome) -> None:
    """Raise if a sample still moves at the end of its time.

    Raises:
        NotSettledError: With the samples and their residual.
    """
    lost = (~outcome.converged).nonzero()[:, 0].tolist()
    if lost:
        raise NotSettledError(
            f"{name}: {len(lost)} of {len(outcome.converged)} samples still move at the end of their "
            f"time, residual up to {float(outcome.residual.max()):.2e}: {listed_samples(lost)}",
            allowed=f"residuals of at most {ALLOWED:g} times the accuracy that is billed",
            hint="compile anew: the time is that of the weights which were compiled; or state a finer "
            "relaxation.accuracy of the machine",
        )


def _followed(before: Tensor | None, asked: Tensor, part: Tensor | None) -> Tensor:
    """What a virtual ground comes to in a step; None before is zero, an identity follows at once."""
    if part is None:
        return asked
    return asked * part if before is None else torch.lerp(before, asked, part)


def _rest(phase: Phase) -> Motion:
    """Nothing is driven yet; layers are where that puts them."""
    layers = phase.circuit.layers
    drives = tuple(phase.like.new_zeros(phase.batch, *layer.shape) for layer in layers)
    _show(phase, drives)
    return Motion(drives, {})


def _show(phase: Phase, drives: Sequence[Tensor]) -> None:
    """The states of layers that are driven so."""
    circuit = phase.circuit
    for number, (layer, drive) in enumerate(zip(circuit.layers, drives, strict=True)):
        phase.assign(number, circuit.physics.update(layer, drive.clone(), phase.drives.loads[number]))


def _asked(phase: Phase) -> dict[CircuitLine, Tensor]:
    """What every line between free layers asks for at the present state."""
    circuit, states = phase.circuit, phase.settled_state()
    found: dict[CircuitLine, Tensor] = {}
    for number, (coupling, at) in enumerate(zip(circuit.couplings, circuit.coupling_at, strict=True)):
        source, target = circuit.source(number), circuit.target(number)
        found[at, False] = coupling.push(states[source], phase.weights)[0]
        found[at, True] = coupling.pull(states[target], phase.weights, None)
    return found


def _pushed(phase: Phase, reads: dict[CircuitLine, Tensor]) -> list[Tensor]:
    """What drives each layer, times its scale, [batch, *layer]."""
    circuit = phase.circuit
    pushed: list[Tensor] = []
    for layer, constant in zip(circuit.layers, phase.drives.layers, strict=True):
        none = phase.like.new_zeros(phase.batch, *layer.shape)
        pushed.append(none if constant is None else none + constant)
    for number, at in enumerate(circuit.coupling_at):
        for end, back in ((circuit.target(number), False), (circuit.source(number), True)):
            pushed[end].add_(reads[at, back], alpha=circuit.layers[end].activation.scale)
    return pushed


def _norms(values: Sequence[Tensor]) -> Tensor:
    """Of the values of each row, all layers together, [rows]."""
    found: Tensor = torch.linalg.vector_norm(torch.cat([v.flatten(1) for v in values], 1), dim=1)
    return found
