"""A block in autograd's graph: forward settles freely, backward estimates the gradient."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from ffebm.errors import UsageError
from ffebm.runtime.blocks.block_run import BlockRun
from ffebm.runtime.blocks.circuit import Circuit, Drives
from ffebm.runtime.blocks.estimators.contrast import FreePoint, Gradients
from ffebm.runtime.blocks.estimators.gradient import EP
from ffebm.runtime.blocks.estimators.nudge import ErrorCurrent
from ffebm.runtime.blocks.settling.phase import Phase


def settled(job: BlockRun, given: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The states that are read outside, [batch, *layer], differentiable.

    Args:
        job: The run; it keeps the equilibrium.
        given: Inputs and weights, in the block's order.
    """
    found: tuple[Tensor, ...] = _Block.apply(job, *given)  # type: ignore[no-untyped-call]
    return found


def loss_behind(job: BlockRun, given: Sequence[Tensor]) -> Tensor:
    """The loss at the free state, differentiable; its tail's tensors and its function's own get gradients.

    Args:
        job: The run, with its tail.
        given: Inputs and weights in the block's order.
    """
    assert job.tail is not None
    behind = [*job.tail.inputs.values(), *job.tail.weights.values()]
    loss: Tensor = _BlockWithCost.apply(job, *given, *behind)  # type: ignore[no-untyped-call]
    if job.closure is not None:
        loss, job.closure = _Joined.apply(loss, job.closure), None  # type: ignore[no-untyped-call]
    return loss


class _Block(torch.autograd.Function):
    """Forward: the free phase. Backward: the estimator."""

    @staticmethod
    def forward(ctx: Any, job: BlockRun, *tensors: Tensor) -> tuple[Tensor, ...]:
        drives, phase = job.relax(tensors, nudged=job.records and any(ctx.needs_input_grad))
        ctx.set_materialize_grads(False)
        _save(ctx, job, tensors, drives, phase)
        state = job.circuit.sensed(phase.settled_state())
        return tuple(state[layer] for layer in job.outputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        job: BlockRun = ctx.job
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
    def forward(ctx: Any, job: BlockRun, *tensors: Tensor) -> Tensor:
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
        job: BlockRun = ctx.job
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


def _behind_loss(job: BlockRun, free: FreePoint, tail: "_TailAt") -> tuple[Gradients, list[list[Tensor]]]:
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
    job: BlockRun, found: tuple[Tensor | None, ...], origins: Sequence[Tensor]
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

    def __init__(self, job: BlockRun, tensors: Sequence[Tensor]) -> None:
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


def _save(ctx: Any, job: BlockRun, tensors: Sequence[Tensor], drives: Drives, phase: Phase) -> None:
    """Keep what the backward pass starts from, as saved tensors: torch frees them with the graph."""
    ctx.job = job
    ctx.n_given = len(tensors)
    ctx.save_for_backward(
        *tensors, *drives.layers, *drives.indices, *drives.loads, *phase.state, *phase.indices
    )


def _restore(ctx: Any, saved: Sequence[Tensor]) -> FreePoint:
    """The settled block."""
    job: BlockRun = ctx.job
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
