"""An energy block as one differentiable function: forward settles freely, backward estimates the gradient.

Whatever the model's type, a block is computed in float32 (in float64 if the model is): what is analog has no
type, and sums of squares do not fit in 16 bits.

A chain of blocks and digital parts is then ordinary autograd, and `loss.backward()` is the hybrid gradient.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from ffebm.errors import UsageError
from ffebm.graph.energy_block import EnergyBlock, PhaseKind
from ffebm.plan.schema import Settle
from ffebm.runtime.blocks.circuit import Circuit, Drives
from ffebm.runtime.blocks.circuit_time import CircuitTime
from ffebm.runtime.blocks.edge import Edge
from ffebm.runtime.blocks.estimators.contrast import FreePoint, Gradients
from ffebm.runtime.blocks.estimators.gradient import EP, Gradient
from ffebm.runtime.blocks.estimators.nudge import ErrorCurrent
from ffebm.runtime.blocks.other_equilibria import OtherEquilibria, other_equilibria
from ffebm.runtime.blocks.outer_products import OuterProducts
from ffebm.runtime.blocks.physics.physics import Physics, Weights
from ffebm.runtime.blocks.projection import Projection
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
from ffebm.runtime.blocks.tied_windows import TiedWindows, tied_windows
from ffebm.runtime.tiles.master import analog
from ffebm.visible import visible

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


class BlockRuntime:
    """Runs one energy block.

    Attributes:
        block: The block.
        watch: Told how each of its phases went; None tells nobody.
    """

    def __init__(
        self,
        block: EnergyBlock,
        projections: Mapping[int, Projection] | None = None,
        edge: Edge | None = None,
        physics: Physics | None = None,
        time: CircuitTime | None = None,
    ) -> None:
        """Prepare a block.

        Args:
            block: The block.
            projections: What computes the products of an interaction, by its position in
                `block.interactions()`; those left out are exact.
            edge: The converters at its edge, if it settles by itself.
            physics: What its energy is; None is what the block says.
            time: How it moves as a circuit; None where it is none.

        Raises:
            UsageError: If a block of that physics cannot be so.
        """
        self.block = block
        self.watch: Observer | None = None
        self._circuit = Circuit(block, projections or {}, edge, physics, time)

    def measures_noise(self, source: torch.Generator | None) -> None:
        """Tell noise of reads from a state that does not settle.

        Args:
            source: What every read draws its noise from; None where none does, or reads are not to be added.
        """
        self._circuit.noise_source = source

    def leave_products(self, products: OuterProducts | None) -> None:
        """Where backward passes leave outer products from now on; None: weights have gradients.

        Raises:
            UsageError: If the energy of a weight that takes them is not made of one outer product a phase.
        """
        for coupling in (*self._circuit.feeds, *self._circuit.couplings):
            taken = products is not None and products.form(coupling.weight) is not None
            if taken and not coupling.is_bilinear:
                raise UsageError(
                    f"{self.block.name}: cells of {visible(str(coupling.weight))!r} take outer products, and "
                    "its energy has squares of states",
                    allowed="blocks of Hopfield networks",
                    hint="tile.update.pulsed_by = 'matrix' in the hardware description",
                )
        self._circuit.products = products

    def check_gradient(self, gradient: Gradient, settle: Settle, *, by_cost: bool) -> None:
        """Refuse an estimator that the block cannot have, before anything runs.

        Args:
            gradient: How the backward pass estimates the gradient.
            settle: How the block settles.
            by_cost: The loss itself nudges the block, if the estimator wants that.

        Raises:
            UsageError: If it cannot.
        """
        if isinstance(gradient, EP):
            moves = settle.settling == "circuit"
            gradient.check(self._circuit, moves=moves, by_cost=by_cost and gradient.cost)

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
        given = self._given(inputs, weights)
        records = torch.is_grad_enabled()
        job = _Run(self._circuit, settle, gradient, _common_type(given), None, self.watch, records)
        with _own_precision(given):
            found: tuple[Tensor, ...] = _Block.apply(job, *map(analog, given))  # type: ignore[no-untyped-call]
        outputs = [job.outside(output) for output in found]
        return dict(zip(self.block.outputs, outputs, strict=True)), job.equilibrium

    def run_with_cost(
        self, inputs: Mapping[str, Tensor], weights: Weights, tail: Tail, settle: Settle, gradient: Gradient
    ) -> tuple[Tensor, Equilibrium]:
        """Settle the last block and compute the loss behind it, so that the loss itself can nudge the block.

        With `EP(cost=True)` the nudge is the gradient of the cost at the nudged state, evaluated anew in each
        sweep, and the gradients of the tail are means over the nudged states. Other estimators use the error
        current at the free state, as `run` does. What else the cost depends on (weights that it penalises, a
        loss with parameters of its own) gets its gradient at the free state, where it is exact.

        Args:
            inputs: Clamped inputs by value name, [batch, *shape].
            weights: Weights and biases by source name.
            tail: What follows the block.
            settle: How to settle.
            gradient: How the backward pass estimates the gradient.

        Returns:
            The loss at the free equilibrium, a scalar, and the equilibrium.

        Raises:
            NotSettledError: Only if `settle` is strict.
        """
        given, records = self._given(inputs, weights), torch.is_grad_enabled()
        job = _Run(self._circuit, settle, gradient, _common_type(given), tail, self.watch, records)
        behind = [*tail.inputs.values(), *tail.weights.values()]
        loss: Tensor = _BlockWithCost.apply(job, *map(analog, given), *behind)  # type: ignore[no-untyped-call]
        if job.closure is not None:
            loss, job.closure = _Joined.apply(loss, job.closure), None  # type: ignore[no-untyped-call]
        return loss, job.equilibrium

    def energy(self, inputs: Mapping[str, Tensor], weights: Weights, state: Mapping[str, Tensor]) -> Tensor:
        """The energy at any state, settled or not.

        Nothing nudges, and products are as the block's tiles compute them. It is differentiable in all that
        it is given, while the settled state is where it is stationary: its gradient by the weights at two
        nudged states is what equilibrium propagation contrasts.

        Args:
            inputs: Clamped inputs by value name, [batch, *shape].
            weights: Weights and biases by source name.
            state: State of each layer by value name, [batch, *layer], as `Equilibrium.state` has it.

        Returns:
            [batch]; infinite where a state is outside of its layer's range.

        Raises:
            UsageError: If the state of a layer is missing or of another shape.
        """
        _require_states(self.block, state)
        given = {name: analog(inputs[name]) for name in self.block.inputs}
        held = {name: analog(weights[name]) for name in self.block.weights()}
        return self._circuit.energy(given, held, [analog(state[v]) for v in self._circuit.position])

    def tied_windows(self, settled: Equilibrium, weights: Weights) -> TiedWindows:
        """Windows of its maxima whose winner only rounding decides; computed exactly, on no tile.

        Args:
            settled: Where it has settled.
            weights: Weights and biases by source name.
        """
        exact = Circuit(self.block, {}, physics=self._circuit.physics)
        held = {name: exact.arrange(analog(weights[name].detach())) for name in self.block.weights()}
        inputs = {name: analog(x) for name, x in settled.inputs.items()}
        return tied_windows(exact, inputs, held, settled.state)

    def other_equilibria(
        self, settled: Equilibrium, weights: Weights, settle: Settle, most: int
    ) -> OtherEquilibria:
        """How many samples settle elsewhere on another way; computed exactly, on no tile, in 64 bits.

        Args:
            settled: Where it has settled, with its inputs.
            weights: Weights and biases by source name.
            settle: How it settles.
            most: Look at so many samples at most, the first ones.
        """
        exact = Circuit(self.block, {}, physics=self._circuit.physics)
        held = {name: exact.arrange(analog(weights[name].detach()).double()) for name in self.block.weights()}
        inputs = {name: analog(x)[:most].double() for name, x in settled.inputs.items()}
        return other_equilibria(exact, inputs, held, settle)

    def constrain(self, weights: Weights) -> None:
        """Put weights, in place, where the block's physics can have them.

        Args:
            weights: Weights and biases by source name.
        """
        with torch.no_grad():
            self._circuit.physics.constrain(self.block, weights)

    def _given(self, inputs: Mapping[str, Tensor], weights: Weights) -> list[Tensor]:
        """Inputs and weights in the block's order."""
        return [inputs[name] for name in self.block.inputs] + [weights[name] for name in self.block.weights()]


def _require_states(block: EnergyBlock, state: Mapping[str, Tensor]) -> None:
    """There is a state for each layer, in its shape."""
    for layer in block.layers:
        found = state.get(layer.value)
        if found is None or tuple(found.shape[1:]) != layer.shape:
            shape = "no state" if found is None else f"a state [{', '.join(map(str, found.shape))}]"
            raise UsageError(
                f"{block.name}: the energy at {shape} of {visible(layer.value)!r}",
                allowed=f"a state for each of its layers, here [batch, {', '.join(map(str, layer.shape))}]",
                hint="`Equilibrium.state` holds them by name",
            )


def _common_type(given: Sequence[Tensor]) -> torch.dtype:
    """The type of what leaves a block: that of what enters, where its floats are promoted as in torch."""
    return reduce(torch.promote_types, (t.dtype for t in given if t.is_floating_point()))


def _own_precision(given: Sequence[Tensor]) -> AbstractContextManager[None]:
    """Inside, torch's automatic mixed precision is off: a block has a type of its own."""
    return torch.autocast(given[0].device.type, enabled=False)


@dataclass
class _Run:
    """What one run is asked for, and what it leaves beside its outputs.

    Attributes:
        circuit: The block.
        settings: How to settle.
        gradient: How gradients are estimated.
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


class _Block(torch.autograd.Function):
    """Forward: the free phase. Backward: the estimator."""

    @staticmethod
    def forward(ctx: Any, job: _Run, *tensors: Tensor) -> tuple[Tensor, ...]:
        drives, phase = job.relax(tensors, nudged=job.records and any(ctx.needs_input_grad))
        ctx.set_materialize_grads(False)
        _save(ctx, job, tensors, drives, phase)
        state = job.circuit.sensed(phase.settled_state())
        return tuple(state[layer] for layer in job.outputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        job: _Run = ctx.job
        delta = {layer: grad for layer, grad in zip(job.outputs, grads, strict=True) if grad is not None}
        saved = ctx.saved_tensors  # to be asked for once, or checkpoints cannot recompute them
        with torch.no_grad():
            free = _restore(ctx, saved)
            if not delta:
                return (None,) * len(ctx.needs_input_grad)
            if not any(grad.numel() for grad in delta.values()):  # an empty batch
                return None, *_in_order(free, Gradients({}, {}))
            gradients, outcome = job.gradient.gradients(free, ErrorCurrent(delta))
            found = _in_order(free, gradients)
        job.end_backward(outcome)
        return None, *_only_once(job, found, [*delta.values(), *saved[: ctx.n_given]])


class _BlockWithCost(torch.autograd.Function):
    """Forward: the free phase and the loss. Backward: the estimator, nudged by the loss if it wants that."""

    @staticmethod
    def forward(ctx: Any, job: _Run, *tensors: Tensor) -> Tensor:
        drives, phase = job.relax(tensors[: job.n_tensors], nudged=job.records and any(ctx.needs_input_grad))
        _save(ctx, job, tensors, drives, phase)
        state = job.circuit.sensed(phase.settled_state())
        with torch.set_grad_enabled(job.records):
            # the tail's tensors are detached, so what still asks for a gradient is the loss function's own
            loss = _TailAt(job, tensors[job.n_tensors :]).cost(state)
        job.closure = loss if loss.requires_grad else None
        return loss.detach()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        job: _Run = ctx.job
        wants = ctx.needs_input_grad[1 + job.n_tensors :]
        saved = ctx.saved_tensors
        with torch.no_grad():
            free = _restore(ctx, saved)
            tail = _TailAt(job, saved[job.n_tensors : ctx.n_given])
            with _counted(job.circuit, grad):
                gradients, at = _behind_loss(job, free, tail)
            found = [*_in_order(free, gradients), *tail.gradients(at, wants)]
            scaled = tuple(None if g is None else g * grad for g in found)
        return None, *_only_once(job, scaled, [grad, *saved[: ctx.n_given]])


def _counted(circuit: Circuit, grad: Tensor) -> AbstractContextManager[None]:
    """Inside, outer products count by the gradient of the loss, as gradients do behind it."""
    return nullcontext() if circuit.products is None else circuit.products.scaled(grad)


def _behind_loss(job: _Run, free: FreePoint, tail: "_TailAt") -> tuple[Gradients, list[list[Tensor]]]:
    """Gradients of a block by the loss behind it, and the states at which the tail has its own."""
    state = job.circuit.sensed(free.phase.settled_state())
    if not free.wanted:
        return Gradients({}, {}), [state]

    gradient, delta = job.gradient, tail.delta(state)
    tail.arrived()
    if not any(current.numel() for current in delta.values()):  # an empty batch
        return Gradients({}, {}), [state]
    if not (isinstance(gradient, EP) and gradient.cost):
        gradients, outcome = gradient.gradients(free, ErrorCurrent(delta))
        job.end_backward(outcome)
        return gradients, [state]

    nudged = gradient.nudge(free, ErrorCurrent(delta, tail.delta))
    job.end_backward(nudged.outcome)
    # with one point the free state is as good, and exact
    return nudged.gradients(free), nudged.states() if gradient.points > 1 else [state]


class _Joined(torch.autograd.Function):
    """A loss; its gradient goes to the block and its tail, and to what only the loss function reads."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, closure: Tensor) -> Tensor:
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        return grad, grad


class _OnlyOnce(torch.autograd.Function):
    """Gradients as they are, made from tensors that are given too; another derivative is refused."""

    @staticmethod
    def forward(ctx: Any, name: str, count: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.name = name
        return tuple(tensor.clone() for tensor in tensors[:count])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> None:
        raise UsageError(
            f"the gradient of {ctx.name} is differentiated again",
            allowed="first derivatives: an estimate of a gradient has none of its own",
            hint="leave gradient penalties to digital layers, or take differences of outputs",
        )


def _only_once(
    job: _Run, found: tuple[Tensor | None, ...], origins: Sequence[Tensor]
) -> tuple[Tensor | None, ...]:
    """Gradients that, where autograd records the backward pass, refuse to be differentiated again."""
    origins = [origin for origin in origins if origin.requires_grad]
    given = [g for g in found if g is not None]
    if not torch.is_grad_enabled() or not given or not origins:
        return found
    kept = iter(_OnlyOnce.apply(job.circuit.block.name, len(given), *given, *origins))  # type: ignore[no-untyped-call]
    return tuple(None if g is None else next(kept) for g in found)


class _TailAt:
    """The tail with its own inputs and weights given."""

    def __init__(self, job: _Run, tensors: Sequence[Tensor]) -> None:
        assert job.tail is not None
        self._job = job
        self._tail = job.tail
        self._tensors = [tensor.detach() for tensor in tensors]

    def cost(self, state: Sequence[Tensor], tensors: Sequence[Tensor] | None = None) -> Tensor:
        """The loss at a state."""
        given = self._tensors if tensors is None else tensors
        n = len(self._tail.inputs)
        outputs = {
            name: self._job.outside(state[layer])
            for name, layer in zip(self._job.circuit.block.outputs, self._job.outputs, strict=True)
        }
        inputs = dict(zip(self._tail.inputs, given[:n], strict=True))
        return self._tail.cost(outputs, inputs, dict(zip(self._tail.weights, given[n:], strict=True)))

    def arrived(self) -> None:
        """The error current has come to the block."""
        if self._tail.arrived is not None:
            self._tail.arrived()

    def delta(self, state: Sequence[Tensor]) -> dict[int, Tensor]:
        """Gradient of the loss at the output layers."""
        with torch.enable_grad():
            leaves = [s.detach().requires_grad_(layer in self._job.outputs) for layer, s in enumerate(state)]
            wanted = [leaves[layer] for layer in self._job.outputs]
            found = torch.autograd.grad(self.cost(leaves), wanted, materialize_grads=True)
        return dict(zip(self._job.outputs, found, strict=True))

    def gradients(self, states: Sequence[Sequence[Tensor]], wants: Sequence[bool]) -> list[Tensor | None]:
        """Gradient of the loss by the tail's own inputs and weights, mean over some states."""
        found: list[Tensor | None] = [None] * len(self._tensors)
        wanted = [i for i, wants_it in enumerate(wants) if wants_it]
        if not wanted:
            return found
        with torch.enable_grad():
            leaves = [t.detach().requires_grad_(i in wanted) for i, t in enumerate(self._tensors)]
            losses = [self.cost([s.detach() for s in state], leaves) for state in states]
            mean = torch.stack(losses).mean()
            grads = torch.autograd.grad(mean, [leaves[i] for i in wanted], materialize_grads=True)
        for i, grad in zip(wanted, grads, strict=True):
            found[i] = grad
        return found


def _in_order(free: FreePoint, gradients: Gradients) -> tuple[Tensor | None, ...]:
    """Gradients of the inputs, then of the weights; zero where a wanted one has no contribution.

    A weight whose cells take outer products has none.
    """
    products = free.circuit.products
    found: list[Tensor | None] = []
    for name, x in free.inputs.items():
        grad = gradients.inputs.get(name)
        found.append(torch.zeros_like(x) if grad is None and free.wants_input(name) else grad)
    for name, w in free.weights.items():
        grad = gradients.weights.get(name)
        # the caller's weights may be in another memory order than the block's
        grad = grad if grad is None else grad.contiguous()
        has_none = products is not None and products.form(name) is not None
        found.append(
            torch.zeros_like(w) if grad is None and free.wants_weight(name) and not has_none else grad
        )
    return tuple(found)


def _save(ctx: Any, job: _Run, tensors: Sequence[Tensor], drives: Drives, phase: Phase) -> None:
    """Keep what the backward pass starts from, as saved tensors: torch frees them with the graph."""
    ctx.job = job
    ctx.n_given = len(tensors)
    ctx.save_for_backward(
        *tensors, *drives.layers, *drives.indices, *drives.loads, *phase.state, *phase.indices
    )


def _restore(ctx: Any, saved: Sequence[Tensor]) -> FreePoint:
    """The settled block."""
    job: _Run = ctx.job
    circuit = job.circuit
    given = list(saved[: ctx.n_given])
    kept = iter(saved[ctx.n_given :])

    def take(n: int) -> list[Tensor | None]:
        return [next(kept) for _ in range(n)]

    inputs, weights = job.named(given[: job.n_tensors])
    drives = Drives(take(len(circuit.layers)), take(len(circuit.feeds)), take(len(circuit.layers)))
    batch = len(next(iter(inputs.values())))
    phase = Phase(circuit, weights, drives, batch, ties=job.ties)
    phase.state, phase.indices = take(len(circuit.layers)), take(len(circuit.couplings))
    kinds = [("input", name) for name in inputs] + [("weight", name) for name in weights]
    wants = ctx.needs_input_grad[1 : 1 + job.n_tensors]
    wanted = frozenset(kind for kind, wants_it in zip(kinds, wants, strict=True) if wants_it)
    return FreePoint(circuit, inputs, weights, drives, phase, job.settings, wanted, job.motion)
