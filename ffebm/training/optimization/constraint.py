"""What weights are held to: after each step of the optimiser they are put back where they may be."""

import math
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Protocol

import torch
from torch import Tensor

from ffebm.errors import UsageError
from ffebm.graph.energy_block import Linear
from ffebm.plan.conductance import to_matrix
from ffebm.plan.plan import Plan
from ffebm.runtime.executor import Executor
from ffebm.runtime.tiles.master import analog
from ffebm.training.settings import Training

FIRST, EACH = 30, 8
"""Power iterations when a run begins, and after each step."""


class Constraint(Protocol):
    """Something that weights are held to."""

    def apply(self) -> None:
        """Put the weights, in place, where they may be; the optimiser has made a step."""
        ...

    def state(self) -> dict[str, Tensor]:
        """All to go on from, by names that no other constraint uses; empty if weights alone decide."""
        ...

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up what was saved, of all constraints together."""
        ...

    def __str__(self) -> str:
        """What is held to what; empty if there is nothing to tell."""
        ...


def constraints(training: Training, net: Executor) -> tuple[Constraint, ...]:
    """What the weights of a run are held to: what the settings ask for, and what their circuits can be.

    Args:
        training: The settings.
        net: The network, on its device; weights that are not trained ask for no gradient.

    Raises:
        UsageError: If a norm is no bound, or no weight or one that cannot be held is meant.
    """
    found: list[Constraint] = []
    if training.hold_norm is not None:
        limit, linears = _held(training.hold_norm, net)
        found.append(LargestNorm(limit, linears, net))
    if training.remap is not None:
        found.append(Remapped(training.remap, net))
    return (*found, Buildable(net))


class Buildable:
    """Weights are those of circuits that can be built.

    Args:
        net: The network, whose physics knows them.
    """

    def __init__(self, net: Executor) -> None:
        self._net = net

    def apply(self) -> None:
        """Put the weights of each block where its physics can have them."""
        self._net.constrain()

    def state(self) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Nothing to take up."""

    def __str__(self) -> str:
        return ""


class Remapped:
    """Cells that learn in place are written anew every so many steps, in ranges that follow their weights.

    Args:
        every: Steps of the optimiser from one time to the next.
        net: The network.

    Raises:
        UsageError: If it is no number of steps, or no cells learn in place.
    """

    def __init__(self, every: int, net: Executor) -> None:
        if every < 1:
            raise UsageError(f"remap is {every}", allowed="at least 1", hint="leave it out")
        if not net.machine.learns_in_place:
            raise UsageError(
                "--remap on a machine whose cells do not learn in place",
                hint="leave it out: their ranges follow the weights at every step",
            )
        self._every, self._net, self._steps = every, net, 0

    def apply(self) -> None:
        """Count a step."""
        self._steps += 1
        if self._steps % self._every == 0:
            self._net.remap()

    def state(self) -> dict[str, Tensor]:
        """The steps so far."""
        return {"remap/steps": torch.tensor(self._steps)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up the steps."""
        self._steps = int(state["remap/steps"])

    def __str__(self) -> str:
        return f"cells are written anew after every {self._every} steps, in ranges that follow the weights"


class LargestNorm:
    """Matrices [n_out, n_in] of weights have a spectral norm of at most a limit; larger ones are scaled down.

    The norm is found by power iteration, which goes on from the vector of the step before. A weight with
    several groups has the largest norm of them. The norm of a coupling is that which its layers feel, see
    `felt`.

    Args:
        limit: The largest norm.
        linears: The linear maps whose weights are held.
        net: The network, on its device.
    """

    def __init__(self, limit: float, linears: Sequence[Linear], net: Executor) -> None:
        self._limit, self._linears = limit, {linear.weight: linear for linear in linears}
        self._factors = felt(net.plan)
        self._weights = {name: weight for name, weight in net.weights().items() if name in self._linears}
        source = torch.Generator().manual_seed(0)
        self._vectors: dict[str, Tensor] = {}
        for name in self._linears:
            matrix = self._matrix(name)
            vector = torch.randn(*matrix.shape[:2], 1, generator=source, dtype=matrix.dtype)
            self._vectors[name] = vector.to(matrix.device)
            self._norm(name, FIRST)

    @torch.no_grad()
    def apply(self) -> None:
        """Scale down what has too large a norm."""
        for name, weight in self._weights.items():
            norm = self._norm(name, EACH)
            if self._limit < norm < math.inf:  # what is beyond all bounds is for the trainer to report
                weight.mul_(self._limit / norm)

    def norms(self) -> dict[str, float]:
        """The norm of each weight as it is known; no iteration is made."""
        return {name: self._norm(name, 0) for name in self._weights}

    def state(self) -> dict[str, Tensor]:
        """The vectors, [groups, n_out, 1]."""
        return {f"norm/{name}": vector for name, vector in self._vectors.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up the vectors."""
        for name, vector in self._vectors.items():
            self._vectors[name] = state[f"norm/{name}"].to(vector.device).clone()

    def __str__(self) -> str:
        return f"largest norm {self._limit:g}: {', '.join(self._linears)}"

    def _matrix(self, name: str) -> Tensor:
        matrix: Tensor = to_matrix(self._linears[name], analog(self._weights[name].detach()))
        return matrix * self._factors.get(name, 1.0)

    def _norm(self, name: str, iterations: int) -> float:
        """The largest norm of the groups, behind some more iterations; that of what is not finite is not."""
        matrix, vector = self._matrix(name), self._vectors[name]
        largest = matrix.abs().max()  # its square may be beyond the type's numbers
        if not float(largest) > 0 or not bool(torch.isfinite(largest)):
            return float(largest)
        matrix = matrix / largest
        for _ in range(iterations):
            turned = matrix @ (matrix.mT @ vector)
            size = torch.linalg.vector_norm(turned, dim=1, keepdim=True)
            vector = torch.where(size > 0, turned / size, vector)  # a group of zeros turns nothing
        self._vectors[name] = vector
        size = torch.linalg.vector_norm(vector, dim=1)
        found = torch.linalg.vector_norm(matrix.mT @ vector, dim=1) / size
        return float(found.max() * largest)


def couplings(plan: Plan) -> Iterator[Linear]:
    """The linear maps between free layers of one block, by which they feel each other."""
    for block in plan.blocks:
        free = {layer.value for layer in block.layers}
        for _, interaction in block.interactions():
            if interaction.linear is not None and interaction.source in free:
                yield interaction.linear


def felt(plan: Plan) -> dict[str, float]:
    """What each coupling is multiplied by to be as strong as its two layers feel it, by weight.

    It is the root of the product of both layers' `scale` and of the feedback, the share of their stiffness.
    A block of layers that grow no faster than their scale times the drive contracts where the symmetric
    matrix of all couplings, so multiplied, has a norm below 1. A weight that joins several pairs of layers
    has the largest one of them.
    """
    found: dict[str, float] = {}
    for block in plan.blocks:
        scales = {layer.value: layer.activation.scale for layer in block.layers}
        stiff = dict(zip(scales, block.stiffness(), strict=True))
        for layer, interaction in block.interactions():
            if interaction.linear is not None and interaction.source in scales:
                feedback = stiff[layer.value] / stiff[interaction.source]
                factor = math.sqrt(scales[layer.value] * scales[interaction.source] * feedback)
                name = interaction.linear.weight
                found[name] = max(found.get(name, 0.0), factor)
    return found


def _held(asked: float | tuple[float, str], net: Executor) -> tuple[float, list[Linear]]:
    """The limit, and the linear maps whose weights are held to it."""
    limit, pattern = asked if isinstance(asked, tuple) else (asked, None)
    if not 0 < limit < math.inf:
        raise UsageError(f"hold_norm is {limit}", allowed="a finite number above 0", hint="leave it out")
    trained = {name for name, weight in net.weights().items() if weight.requires_grad}
    maps = (i.linear for block in net.plan.blocks for _, i in block.interactions())
    known = {linear.weight: linear for linear in maps if linear is not None and linear.weight in trained}
    inside = {linear.weight for linear in couplings(net.plan)}
    found = [
        linear
        for name, linear in known.items()
        if (name in inside if pattern is None else fnmatchcase(name, pattern))
    ]
    if not found:
        raise UsageError(
            f"no weight that trains in an energy block is called {pattern!r}, so none is held"
            if pattern is not None
            else "no weight that trains joins two free layers of a block, so none is held",
            allowed=", ".join(known) or "the plan has no such weights",
            hint="the norm may be followed by a name: --hold-norm 0.8,NAME, where * stands for anything",
        )
    for linear in found:
        if net.machine.learns(linear.weight):
            raise UsageError(
                f"{linear.weight!r} cannot be held to a norm: it lies on cells that learn in place",
                allowed="weights with a digital master copy",
                hint="such cells have bounds of their own: leave hold_norm out",
            )
    return limit, found
