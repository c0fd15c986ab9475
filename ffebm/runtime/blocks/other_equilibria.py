"""Whether a block has several equilibria: where it settles on another way, given the same inputs.

A sweep updates the layers colour by colour from some start. A circuit has no colours, all its layers move
together, a little at a time; and unless it is reset it starts where the sample before has left it. Where the
equilibrium is unique all ways lead there; where it is not, the way chooses. Finding no other equilibrium on
these ways does not prove that there is none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import torch
from torch import Tensor

from ffebm.plan.schema import Settle
from ffebm.runtime.blocks.circuit import Circuit
from ffebm.runtime.blocks.physics.physics import Weights
from ffebm.runtime.blocks.settling.phase import Phase
from ffebm.runtime.blocks.settling.settling import Outcome, Rule, relax

MOST, ENOUGH = 500, 1e-7
"""Most sweeps on each way, and the residual at which a sample has settled, in 64 bits."""

STEP = 0.25
"""How far all layers move towards their updates at once: an Euler step, in time constants of a unit. It is
stable while the couplings, as a matrix of slopes, have no eigenvalue below -7."""

SAME = 1e-3
"""Relative distance within which two equilibria count as the same."""


@dataclass(frozen=True)
class OtherEquilibria:
    """How many samples of a block settle elsewhere on another way.

    Attributes:
        samples: How many were looked at.
        started: How many settle elsewhere from where the sample before them has settled; of one sample none.
        together: How many settle elsewhere from zero when all layers move together.
        unknown: How many did not settle on one of these ways, or on the usual one.
    """

    samples: int = 0
    started: int = 0
    together: int = 0
    unknown: int = 0

    def __add__(self, other: "OtherEquilibria") -> "OtherEquilibria":
        return OtherEquilibria(
            self.samples + other.samples,
            self.started + other.started,
            self.together + other.together,
            self.unknown + other.unknown,
        )

    def share(self, count: int) -> float:
        """Of all samples, 0 where there are none."""
        return count / max(self.samples, 1)


@torch.no_grad()
def other_equilibria(
    circuit: Circuit, inputs: Mapping[str, Tensor], weights: Weights, settle: Settle
) -> OtherEquilibria:
    """Settle a block on several ways, by products without tiles, and count the samples that differ.

    Args:
        circuit: The block, computed exactly: where reads are noisy, noise decides.
        inputs: Clamped inputs by value name, [batch, *shape], in 64 bits.
        weights: Weights and biases by source name, in 64 bits.
        settle: How it settles usually; it is given sweeps enough here.
    """
    samples = len(next(iter(inputs.values())))
    if not any(circuit.is_coupled(layer) for layer in range(len(circuit.layers))):
        return OtherEquilibria(samples)
    usual = msgspec.structs.replace(settle, free_sweeps=MOST, tol=ENOUGH, strict=False)
    moving = msgspec.structs.replace(usual, start="zero", relaxation=STEP, anderson=0)
    by_colour = Rule(MOST, usual, circuit.colours)
    at_once = Rule(round(MOST / STEP), moving, [list(range(len(circuit.layers)))])

    here, settled = _way(circuit, inputs, weights, by_colour)
    before = [state.roll(1, 0) for state in here]
    there, started = _way(circuit, inputs, weights, by_colour, before)
    moved, together = _way(circuit, inputs, weights, at_once)
    return OtherEquilibria(
        samples,
        int((apart(here, there) & settled.converged & started.converged).sum()),
        int((apart(here, moved) & settled.converged & together.converged).sum()),
        int((~(settled.converged & started.converged & together.converged)).sum()),
    )


def _way(
    circuit: Circuit,
    inputs: Mapping[str, Tensor],
    weights: Weights,
    rule: Rule,
    start: Sequence[Tensor] | None = None,
) -> tuple[list[Tensor], Outcome]:
    """Where a way leads from some states, or from the rule's own start."""
    drives = circuit.constant_drives(inputs, weights)
    ties = circuit.ties(weights) if rule.settle.winners == "shared" else {}
    phase = Phase(circuit, weights, drives, len(next(iter(inputs.values()))), ties=ties)
    if start is not None:
        for layer, state in enumerate(start):
            phase.assign(layer, state)
    elif rule.settle.start == "feedforward":
        phase.sweep([[layer] for layer in range(len(circuit.layers))])
    outcome = relax(phase, rule)
    return phase.settled_state(), outcome


def apart(here: Sequence[Tensor], there: Sequence[Tensor]) -> Tensor:
    """Samples whose states, of all layers together, are not the same, [batch], booleans."""
    moved = torch.cat([(s - t).flatten(1) for s, t in zip(here, there, strict=True)], 1).norm(dim=1)
    found: Tensor = moved > SAME * torch.cat([s.flatten(1) for s in here], 1).norm(dim=1)
    return found
