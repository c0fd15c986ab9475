"""The loop of the published ff-EBM code, written anew as it works: the baseline of `hybrid_step.py`.

Every layer update computes what it needs from scratch: the digital part in front of a block each time its
first layer is updated, the product of a coupling once for the layer above and once more for the positions of
its maximum, the two nudged phases one after the other. Gradients are one backward pass through the difference
of the energies.

Source: Nest & Ernoult 2024 (arXiv 2409.03306), Algorithms 1 to 3.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 -- torch's own name for it
from torch import Tensor


@dataclass(frozen=True)
class Join:
    """A conv (or dense map) with its pooling: in front of a block, or between two layers.

    Attributes:
        weight: Name of the weight.
        bias: Name of the bias, if any.
        stride: Of the conv.
        pad: Of the conv.
        has_pool: A maximum over 2x2 windows follows.
        norm: Names of weight and bias of a batch normalisation that follows, if any.
    """

    weight: str
    bias: str | None
    stride: int = 1
    pad: int = 1
    has_pool: bool = False
    norm: tuple[str, str] | None = None


@dataclass(frozen=True)
class LoopBlock:
    """A digital map, and the joins between the layers behind it; the last layer is linear unless clamped."""

    front: Join
    joins: tuple[Join, ...]
    shapes: tuple[tuple[int, ...], ...]
    clamp_last: bool


@dataclass(frozen=True)
class Loop:
    """The network and its settings.

    Attributes:
        watch: Told, whenever a layer sends its state down through a maximum, what the maximum chooses from
            and that state; None tells nobody.
    """

    blocks: tuple[LoopBlock, ...]
    readout: tuple[str, str]
    slope: float
    free_sweeps: int
    nudged_sweeps: int
    beta: float
    watch: Callable[[Tensor, Tensor], None] | None = None

    def step(self, x: Tensor, target: Tensor, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Gradients of the mean cross-entropy, by name."""
        return self.loss_and_step(x, target, weights)[1]

    def loss_and_step(
        self, x: Tensor, target: Tensor, weights: dict[str, Tensor]
    ) -> tuple[float, dict[str, Tensor]]:
        """The mean cross-entropy at the free state, and its gradients by name."""
        value, fronts, states = x, [], []
        with torch.no_grad():
            for block in self.blocks:
                fronts.append(value)
                state = [x.new_zeros(len(x), *shape) for shape in block.shapes]
                n = len(state)
                order = [range(0, n, 2), range(1, n, 2)]
                states.append(self._settle(block, value, state, weights, (order, self.free_sweeps), None))
                value = states[-1][-1]
        grads: dict[str, Tensor] = {}
        error: Tensor | None = None
        for k in reversed(range(len(self.blocks))):
            error = self._block_gradient(
                self.blocks[k], fronts[k], states[k], weights, (error, target, grads)
            )
        w, b = (weights[name] for name in self.readout)
        return float(F.cross_entropy(F.linear(value.flatten(1), w, b), target)), grads

    def _block_gradient(
        self,
        block: LoopBlock,
        front: Tensor,
        state: list[Tensor],
        weights: dict[str, Tensor],
        rest: tuple[Tensor | None, Tensor, dict[str, Tensor]],
    ) -> Tensor:
        error, target, grads = rest
        order = [range(1, len(state), 2), range(0, len(state), 2)]
        ends = []
        for beta in (self.beta, -self.beta):
            nudge = (beta, error, target)
            with torch.no_grad():
                ends.append(
                    self._settle(block, front, list(state), weights, (order, self.nudged_sweeps), nudge)
                )
        leaves = {name: w.detach().requires_grad_() for name, w in weights.items()}
        inlet = front.detach().requires_grad_()
        energies = [
            self._phi(block, inlet, end, leaves, (beta, error, target))
            for beta, end in zip((self.beta, -self.beta), ends, strict=True)
        ]
        (energies[1] - energies[0]).mean().div(2 * self.beta).backward()
        grads.update({name: w.grad for name, w in leaves.items() if w.grad is not None})
        assert inlet.grad is not None
        return -len(front) * inlet.grad

    def _settle(
        self,
        block: LoopBlock,
        front: Tensor,
        state: list[Tensor],
        weights: dict[str, Tensor],
        how: tuple[Sequence[range], int],
        nudge: tuple[float, Tensor | None, Tensor] | None = None,
    ) -> list[Tensor]:
        order, sweeps = how
        for _ in range(sweeps):
            for parity in order:
                new = [self._update(block, front, state, weights, (layer, nudge)) for layer in parity]
                for layer, s in zip(parity, new, strict=True):
                    state[layer] = s
        return state

    def _update(
        self,
        block: LoopBlock,
        front: Tensor,
        state: list[Tensor],
        weights: dict[str, Tensor],
        what: tuple[int, tuple[float, Tensor | None, Tensor] | None],
    ) -> Tensor:
        layer, nudge = what
        below = front if layer == 0 else state[layer - 1]
        join = block.front if layer == 0 else block.joins[layer - 1]
        drive = self._forward(join, below, weights)[0]
        last = layer + 1 == len(state)
        if not last:
            drive = drive + self._backward(block.joins[layer], state[layer], state[layer + 1], weights)
        elif nudge is not None:
            drive = drive - nudge[0] * self._cost_slope(state[layer], weights, nudge)
        if last and not block.clamp_last:
            return drive
        return (self.slope * drive).clamp(0, 1)

    def _cost_slope(
        self, s: Tensor, weights: dict[str, Tensor], nudge: tuple[float, Tensor | None, Tensor]
    ) -> Tensor:
        """Gradient of a sample's cost at the last layer; that of an inner block comes negated."""
        _, error, target = nudge
        if error is not None:
            return -error
        w, b = (weights[name] for name in self.readout)
        p = F.linear(s.flatten(1), w, b).softmax(1)
        p[torch.arange(len(p)), target] -= 1
        return (p @ w).view_as(s)

    def _forward(self, join: Join, z: Tensor, weights: dict[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        w, bias = weights[join.weight], weights[join.bias] if join.bias else None
        if w.dim() == 2:
            return F.linear(z.flatten(1), w, bias), None
        y, index = F.conv2d(z, w, bias, join.stride, join.pad), None
        if join.has_pool:
            y, index = F.max_pool2d(y, 2, return_indices=True)
        if join.norm is not None:
            y = F.batch_norm(y, None, None, weights[join.norm[0]], weights[join.norm[1]], training=True)
        return y, index

    def _backward(self, join: Join, z: Tensor, s: Tensor, weights: dict[str, Tensor]) -> Tensor:
        w = weights[join.weight]
        if w.dim() == 2:
            return (s @ w).view_as(z)
        if join.has_pool:
            y = F.conv2d(z, w, weights[join.bias] if join.bias else None, join.stride, join.pad)
            index = F.max_pool2d(y, 2, return_indices=True)[1]
            if self.watch is not None:
                self.watch(y, s)
            s = F.max_unpool2d(s, index, 2, output_size=y.shape[2:])
        extra = z.shape[-1] - ((s.shape[-1] - 1) * join.stride + w.shape[-1] - 2 * join.pad)
        return F.conv_transpose2d(s, w, None, join.stride, join.pad, extra)

    def _phi(
        self,
        block: LoopBlock,
        front: Tensor,
        state: list[Tensor],
        weights: dict[str, Tensor],
        nudge: tuple[float, Tensor | None, Tensor],
    ) -> Tensor:
        """Minus the energy that depends on parameters, a number a sample."""
        beta, error, target = nudge
        total = (self._forward(block.front, front, weights)[0] * state[0]).flatten(1).sum(1)
        for join, z, s in zip(block.joins, state[:-1], state[1:], strict=True):
            total = total + (self._forward(join, z, weights)[0] * s).flatten(1).sum(1)
        if error is None:
            w, b = (weights[name] for name in self.readout)
            logits = F.linear(state[-1].flatten(1), w, b)
            total = total - beta * F.cross_entropy(logits, target, reduction="none")
        return total
