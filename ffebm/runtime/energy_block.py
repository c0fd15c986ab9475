"""An energy block as one differentiable function: forward settles freely, backward estimates the gradient.

A chain of blocks and digital parts is then ordinary autograd, and `loss.backward()` is the hybrid gradient.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ffebm.ir import EnergyBlock
from ffebm.plan import Settle
from ffebm.runtime.circuit import Circuit, Drives
from ffebm.runtime.contrast import FreePoint, Gradients
from ffebm.runtime.gradient import ErrorCurrent, Gradient
from ffebm.runtime.interaction import Weights
from ffebm.runtime.phase import Phase
from ffebm.runtime.projection import Projection
from ffebm.runtime.settling import Equilibrium, Rule, relax, require_settled


class BlockRuntime:
    """Runs one energy block."""

    def __init__(self, block: EnergyBlock, projections: Mapping[int, Projection] | None = None) -> None:
        """Prepare a block.

        Args:
            block: The block.
            projections: What computes the products of an interaction, by its position in
                `block.interactions()`; those left out are exact.
        """
        self.block = block
        self._circuit = Circuit(block, projections or {})

    def run(
        self, inputs: Mapping[str, Tensor], weights: Weights, settle: Settle, gradient: Gradient
    ) -> tuple[dict[str, Tensor], Equilibrium]:
        """Settle, and make the outputs differentiable.

        Args:
            inputs: Clamped inputs by value name, [batch, *shape].
            weights: Weights and biases by source name.
            settle: How to settle.
            gradient: How the backward pass estimates the gradient.

        Returns:
            The output layers by value name, [batch, *layer], and the equilibrium.

        Raises:
            NotSettledError: Only if `settle` is strict.
        """
        job = _Job(self._circuit, settle, gradient)
        tensors = [inputs[name] for name in self.block.inputs] + [
            weights[name] for name in self.block.weights()
        ]
        outputs: tuple[Tensor, ...] = _Block.apply(job, *tensors)  # type: ignore[no-untyped-call]
        return dict(zip(self.block.outputs, outputs, strict=True)), job.equilibrium


@dataclass
class _Job:
    """What one run is asked for, and what it leaves beside its outputs."""

    circuit: Circuit
    settings: Settle
    gradient: Gradient
    result: list[Equilibrium] = field(default_factory=list)

    @property
    def equilibrium(self) -> Equilibrium:
        return self.result[0]

    def settle(self, tensors: tuple[Tensor, ...]) -> tuple[Drives, Phase]:
        """The free phase."""
        inputs, weights = self.named(tensors)
        drives = self.circuit.constant_drives(inputs, weights)
        phase = Phase(self.circuit, weights, drives.layers, len(next(iter(inputs.values()))))
        if self.settings.start == "feedforward":
            phase.sweep([[layer] for layer in range(len(self.circuit.layers))])
        rule = Rule(self.settings.free_sweeps, self.settings, self.circuit.colours)
        outcome = relax(phase, rule)
        states = dict(zip(self.circuit.position, (s.detach() for s in phase.settled_state()), strict=True))
        self.result.append(Equilibrium(**vars(outcome), state=states))
        if self.settings.strict:
            require_settled(self.circuit.block.name, outcome, rule)
        return drives, phase

    def named(self, tensors: tuple[Tensor, ...]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Inputs and weights by name."""
        names = self.circuit.block.inputs
        weights = zip(self.circuit.block.weights(), tensors[len(names) :], strict=True)
        return dict(zip(names, tensors[: len(names)], strict=True)), dict(weights)

    def estimate(self, free: FreePoint, current: ErrorCurrent) -> Gradients:
        """The gradients; the equilibrium notes how that went."""
        gradients, outcome = self.gradient.gradients(free, current)
        self.equilibrium.backward = outcome
        return gradients


class _Block(torch.autograd.Function):
    """Forward: the free phase. Backward: the estimator."""

    @staticmethod
    def forward(ctx: Any, job: _Job, *tensors: Tensor) -> tuple[Tensor, ...]:
        drives, phase = job.settle(tensors)
        ctx.job = job
        ctx.set_materialize_grads(False)
        _save(ctx, tensors, drives, phase)
        state = phase.settled_state()
        return tuple(state[job.circuit.position[name]] for name in job.circuit.block.outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        job: _Job = ctx.job
        outputs = [job.circuit.position[name] for name in job.circuit.block.outputs]
        delta = {layer: grad for layer, grad in zip(outputs, grads, strict=True) if grad is not None}
        free = _restore(ctx)
        if not delta:
            return (None,) * len(ctx.needs_input_grad)
        gradients = job.estimate(free, ErrorCurrent(delta))
        return None, *in_order(free, gradients)


def in_order(free: FreePoint, gradients: Gradients) -> tuple[Tensor | None, ...]:
    """Gradients of the inputs, then of the weights; zero where a wanted one has no contribution."""
    found: list[Tensor | None] = []
    for name, x in free.inputs.items():
        grad = gradients.inputs.get(name)
        found.append(torch.zeros_like(x) if grad is None and free.wants_input(name) else grad)
    for name, w in free.weights.items():
        grad = gradients.weights.get(name)
        found.append(torch.zeros_like(w) if grad is None and free.wants_weight(name) else grad)
    return tuple(found)


def _save(ctx: Any, tensors: tuple[Tensor, ...], drives: Drives, phase: Phase) -> None:
    """Keep what the backward pass starts from, as saved tensors: torch frees them with the graph."""
    kept = [*drives.layers, *drives.indices, *phase.state, *phase.indices]
    ctx.save_for_backward(*tensors, *kept)


def _restore(ctx: Any) -> FreePoint:
    job: _Job = ctx.job
    circuit = job.circuit
    n_tensors = len(circuit.block.inputs) + len(circuit.block.weights())
    saved = list(ctx.saved_tensors)
    inputs, weights = job.named(tuple(saved[:n_tensors]))
    kept = iter(saved[n_tensors:])

    def take(n: int) -> list[Tensor | None]:
        return [next(kept) for _ in range(n)]

    drives = Drives(take(len(circuit.layers)), take(len(circuit.feeds)))
    phase = Phase(circuit, weights, drives.layers, len(next(iter(inputs.values()))))
    phase.state, phase.indices = take(len(circuit.layers)), take(len(circuit.couplings))
    kinds = [("input", name) for name in inputs] + [("weight", name) for name in weights]
    wanted = frozenset(
        kind for kind, wants in zip(kinds, ctx.needs_input_grad[1 : 1 + n_tensors], strict=True) if wants
    )
    return FreePoint(circuit, inputs, weights, drives, phase, job.settings, wanted)
