"""One run of a block: what it is asked for, its free phase, and what it leaves beside its outputs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ffebm.graph.energy_block import PhaseKind
from ffebm.plan.schema import Settle
from ffebm.runtime.blocks.circuit import Circuit, Drives
from ffebm.runtime.blocks.estimators.gradient import Gradient
from ffebm.runtime.blocks.settling.phase import Phase, Ties
from ffebm.runtime.blocks.settling.settling import (
    Equilibrium,
    Outcome,
    Rule,
    allow_for_noise,
    relax,
    require_settled,
)
from ffebm.runtime.blocks.settling.transient import Motion, move, outcome_of, require_at_rest

TailLoss = Callable[[Mapping[str, Tensor], Mapping[str, Tensor], Mapping[str, Tensor]], Tensor]
"""cost(block outputs, tail inputs, tail weights) -> a scalar, the mean over the batch."""

Observer = Callable[[Outcome], None]
"""Told how each phase went; the outcome of a nudged one has its strength."""


@dataclass(frozen=True)
class Tail:
    """The digital part behind the last block, down to the loss.

    Attributes:
        cost: The loss as a function of the block's outputs; it is called several times a step, so it should
            leave nothing behind.
        inputs: What else it reads (targets, values from before the block), by name.
        weights: Its weights by source name.
        arrived: Called in a backward pass when the error current has come to the block.
    """

    cost: TailLoss
    inputs: Mapping[str, Tensor]
    weights: Mapping[str, Tensor]
    arrived: Callable[[], None] | None = None


@dataclass
class BlockRun:
    """What one run is asked for, and what it leaves beside its outputs.

    Attributes:
        circuit: The block.
        settings: How to settle.
        gradient: How gradients are estimated.
        dtype: The model's own type.
        tail: What follows a block that its loss nudges.
        watch: Told how each phase went.
        records: Whether autograd records what runs.
        ties: Couplings whose winners share.
        result: Where the block settled.
        motion: Where its circuit was then; None where it settled by sweeps.
        closure: The loss at the free state as a function of what only its own code reads; None if nothing is.
    """

    circuit: Circuit
    settings: Settle
    gradient: Gradient
    dtype: torch.dtype
    tail: Tail | None = None
    watch: Observer | None = None
    records: bool = False
    ties: Ties = field(default_factory=dict)
    result: list[Equilibrium] = field(default_factory=list)
    motion: Motion | None = None
    closure: Tensor | None = None

    @property
    def equilibrium(self) -> Equilibrium:
        """Where the block settled."""
        return self.result[0]

    def outside(self, state: Tensor) -> Tensor:
        """A state in the model's own type."""
        return state.to(self.dtype)

    @property
    def n_tensors(self) -> int:
        """Inputs and weights of the block."""
        return len(self.circuit.block.inputs) + len(self.circuit.block.weights())

    @property
    def outputs(self) -> list[int]:
        """Indices of the layers that are read outside."""
        return [self.circuit.position[name] for name in self.circuit.block.outputs]

    def named(self, tensors: Sequence[Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Inputs and weights by name; weights as new tensors, which tiles hold against what they hold."""
        names = self.circuit.block.inputs
        fresh = (self.circuit.arrange(tensor.detach()) for tensor in tensors[len(names) :])
        weights = zip(self.circuit.block.weights(), fresh, strict=True)
        return dict(zip(names, tensors[: len(names)], strict=True)), dict(weights)

    def relax(self, tensors: Sequence[Tensor], *, nudged: bool) -> tuple[Drives, Phase]:
        """The free phase.

        Args:
            tensors: Inputs and weights.
            nudged: A nudge may follow, for which a circuit settles longer.
        """
        inputs, weights = self.named(tensors)
        self.circuit.begin_phase()
        drives = self.circuit.constant_drives(inputs, weights)
        if self.settings.winners == "shared":
            self.ties = self.circuit.ties(weights)
        phase = Phase(self.circuit, weights, drives, len(next(iter(inputs.values()))), ties=self.ties)
        if self.settings.settling == "circuit":
            outcome = self._move(phase, "before nudge" if nudged else "free", inputs)
        else:
            outcome = self._sweep(phase)
        states = dict(zip(self.circuit.position, (s.detach() for s in phase.settled_state()), strict=True))
        clamped = {name: x.detach() for name, x in inputs.items()}
        self.result.append(Equilibrium(**vars(outcome), state=states, inputs=clamped))
        if self.settings.strict:
            self._require(outcome)
        self._tell(outcome)
        return drives, phase

    def _sweep(self, phase: Phase) -> Outcome:
        """Let a free phase settle by sweeps."""
        if self.settings.start == "feedforward":
            phase.sweep([[layer] for layer in range(len(self.circuit.layers))])
        outcome = relax(phase, self._rule)
        allow_for_noise(phase, outcome, self._rule)
        return outcome

    @property
    def _rule(self) -> Rule:
        return Rule(self.settings.free_sweeps, self.settings, self.circuit.colours)

    def _move(self, phase: Phase, kind: PhaseKind, inputs: Mapping[str, Tensor]) -> Outcome:
        """Let a free phase move as a circuit, for as long as it is billed."""
        self.motion = move(phase, kind, fed=self.circuit.fed(inputs, phase.weights))
        return outcome_of(phase, phase.updates(), kind)

    def _require(self, outcome: Outcome) -> None:
        """Raise if a sample did not settle."""
        name = self.circuit.block.name
        if self.settings.settling == "circuit":
            require_at_rest(name, outcome)
        else:
            require_settled(name, outcome, self._rule)

    def end_backward(self, outcome: Outcome) -> None:
        """Note how the backward pass went."""
        self.equilibrium.backward = outcome
        self._tell(outcome)

    def _tell(self, outcome: Outcome) -> None:
        if self.watch is not None:
            self.watch(outcome)
