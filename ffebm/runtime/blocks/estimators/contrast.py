"""From the answer of an equilibrium to a nudge, the gradients of the loss.

The energy is of second order in the states that a weight joins, so the difference of its gradients at two
nudged states a and b is taken in the form

    y_a z_a - y_b z_b = mean(y) (z_a - z_b) + (y_a - y_b) mean(z),

which subtracts states before they are multiplied: at small beta little is lost to rounding. Which products
there are is said by the terms of the energy (`Term.pairs`).

Weights whose cells take outer products get no gradient: the products are left in `Circuit.products`, those
above or, by states, y_a z_a and -y_b z_b.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from ffebm.errors import InternalError
from ffebm.hardware.devices.update import PulsedBy
from ffebm.plan.schema import Settle
from ffebm.runtime.blocks.circuit import Circuit, Drives
from ffebm.runtime.blocks.coupling import Coupling
from ffebm.runtime.blocks.physics.physics import Moving, Weights
from ffebm.runtime.blocks.settling.phase import Phase
from ffebm.runtime.blocks.settling.transient import Motion


@dataclass(frozen=True)
class FreePoint:
    """Where a block settled, as its gradient needs it.

    Attributes:
        circuit: The block.
        inputs: Clamped inputs by value name.
        weights: Weights and biases by source name.
        drives: Constant drives of the phase.
        phase: The settled phase.
        settle: How it settled.
        wanted: Names of the inputs and weights whose gradient is wanted.
        motion: Where its circuit was then; None where it settled by sweeps.
    """

    circuit: Circuit
    inputs: Mapping[str, Tensor]
    weights: Weights
    drives: Drives
    phase: Phase
    settle: Settle
    wanted: frozenset[tuple[str, str]]
    motion: Motion | None = None

    def wants_input(self, name: str) -> bool:
        """Whether the gradient of a clamped input is wanted."""
        return ("input", name) in self.wanted

    def wants_weight(self, name: str | None) -> bool:
        """Whether the gradient of a weight or bias is wanted."""
        return ("weight", str(name)) in self.wanted


@dataclass(frozen=True)
class Secant:
    """Two states whose contrast is taken.

    Attributes:
        factor: What y_a z_a - y_b z_b is multiplied by to be a gradient, [batch].
        layer: The two states of a layer, [batch, *layer].
        driven: Those of the layer that a coupling drives, at its linear map, [batch, *linear].
    """

    factor: Tensor
    layer: Callable[[int], tuple[Tensor, Tensor]]
    driven: Callable[[int], tuple[Tensor, Tensor]]

    def counted(self, y: tuple[Tensor, Tensor], stiffness: float) -> tuple[Tensor, Tensor]:
        """Values at both states, times what each counts; `stiffness` is that of their layer."""
        factor = stiffness * self.factor.view(-1, *[1] * (y[0].dim() - 1))
        return factor * y[0], -factor * y[1]


@dataclass(frozen=True)
class Response:
    """How an equilibrium answers to a nudge.

    Attributes:
        adjoint: For each layer lambda = -ds/dbeta, [batch, *layer].
        middle: For a layer its state at the equilibrium, or in the middle between two nudged states.
        pair: For a coupling, values (z, y) stacked along the batch: the gradient of its weight is that of <y,
            W z>. Also y of lambda alone, whose sum is the gradient of the bias.
        secant: The two states that it is from; None if it is from others.
    """

    adjoint: list[Tensor]
    middle: Callable[[int], Tensor]
    pair: Callable[[int], tuple[Tensor, Tensor, Tensor]]
    secant: Secant | None = None


@dataclass
class Gradients:
    """Gradients of the loss.

    Attributes:
        inputs: With respect to the clamped inputs, by value name.
        weights: With respect to weights and biases, by source name.
    """

    inputs: dict[str, Tensor]
    weights: dict[str, Tensor]

    def add_input(self, name: str, grad: Tensor) -> None:
        """Add a contribution to the gradient of a clamped input."""
        self.inputs[name] = self.inputs[name] + grad if name in self.inputs else grad

    def add_weight(self, name: str, grad: Tensor) -> None:
        """Add a contribution to the gradient of a weight or bias; one weight may have several places."""
        self.weights[name] = self.weights[name] + grad if name in self.weights else grad


def contrast(free: FreePoint, response: Response) -> Gradients:
    """Gradients of the loss with respect to what is wanted, dL/dw = d/dbeta dE/dw and likewise for inputs."""
    gradients = Gradients({}, {})
    _feeds(free, response, gradients)
    _couplings(free, response, gradients)
    for position, (layer, adjoint) in enumerate(zip(free.circuit.layers, response.adjoint, strict=True)):
        for name in layer.biases:
            if free.wants_weight(name):
                grad = adjoint.sum_to_size(free.weights[name].shape)
                gradients.add_weight(name, free.circuit.stiff(position, grad))
    return gradients


def _feeds(free: FreePoint, response: Response, gradients: Gradients) -> None:
    """Only the layer's end of a feed moves, so one product serves each of its gradients."""
    for position, (feed, index) in enumerate(zip(free.circuit.feeds, free.drives.indices, strict=True)):
        wants_input = free.wants_input(feed.source)
        if not (wants_input or free.wants_weight(feed.weight) or free.wants_weight(feed.bias)):
            continue
        adjoint = response.adjoint[free.circuit.position[feed.target]]
        y = feed.spread(adjoint, index)
        if wants_input:
            back = free.circuit.read_back(feed, adjoint, y, free.weights, index)
            gradients.add_input(feed.source, back)
        if feed.weight is not None and free.wants_weight(feed.weight):
            if _form(free, feed.weight) == "states":
                x = free.inputs[feed.source]
                first, second = _secant(response).layer(free.circuit.position[feed.target])
                ends = feed.spread(first, index), feed.spread(second, index)
                _leave_states(free, feed, response, (x, x), ends)
            else:
                clamped = Moving(partial(free.inputs.__getitem__, feed.source), None)
                middle = partial(_middle_of_feed, free, response, position)
                _add_pairs(free, feed, feed.pairs(clamped, Moving(middle, y)), gradients)
        if feed.bias is not None and free.wants_weight(feed.bias):
            gradients.add_weight(feed.bias, feed.bias_grad(y, free.weights[feed.bias]))


def _middle_of_feed(free: FreePoint, response: Response, position: int) -> Tensor:
    """State of the layer that a feed drives, at the output of its linear map."""
    feed = free.circuit.feeds[position]
    middle = response.middle(free.circuit.position[feed.target])
    return feed.spread(middle, free.drives.indices[position])


def _couplings(free: FreePoint, response: Response, gradients: Gradients) -> None:
    """Both ends of a coupling move."""
    for position, coupling in enumerate(free.circuit.couplings):
        if not (free.wants_weight(coupling.weight) or free.wants_weight(coupling.bias)):
            continue
        z, y, y_adjoint = response.pair(position)
        if coupling.weight is not None and free.wants_weight(coupling.weight):
            if _form(free, coupling.weight) == "states":
                both = _secant(response)
                below, above = both.layer(free.circuit.source(position)), both.driven(position)
                _leave_states(free, coupling, response, below, above)
            else:
                _add_pairs(free, coupling, (z, y), gradients)
        if coupling.bias is not None and free.wants_weight(coupling.bias):
            bias = free.weights[coupling.bias]
            gradients.add_weight(coupling.bias, coupling.bias_grad(y_adjoint, bias))


def _form(free: FreePoint, weight: str) -> PulsedBy | None:
    """What the outer products of a weight are made of; None for one that has a gradient."""
    return None if free.circuit.products is None else free.circuit.products.form(weight)


def _secant(response: Response) -> Secant:
    if response.secant is None:
        raise InternalError("outer products of states, from an answer that is of no two states")
    return response.secant


def _add_pairs(
    free: FreePoint, coupling: Coupling, pair: tuple[Tensor, Tensor], gradients: Gradients
) -> None:
    """The gradient of a weight from pairs as `Term.pairs` stacks them, or their outer products."""
    assert coupling.weight is not None
    if _form(free, coupling.weight) is None:
        grad = coupling.weight_grad(*pair, free.weights[coupling.weight])
        gradients.add_weight(coupling.weight, grad)
        return
    assert free.circuit.products is not None
    assert coupling.linear is not None
    z, y = coupling.arranged(pair[0]), pair[1]
    free.circuit.products.add_stacked(coupling.weight, coupling.linear, z, y, free.phase.batch)


def _leave_states(
    free: FreePoint,
    coupling: Coupling,
    response: Response,
    z: tuple[Tensor, Tensor],
    y: tuple[Tensor, Tensor],
) -> None:
    """The outer products of two states."""
    products = free.circuit.products
    assert products is not None
    assert coupling.weight is not None
    assert coupling.linear is not None
    below = coupling.arranged(z[0]), coupling.arranged(z[1])
    products.add_states(
        coupling.weight, coupling.linear, below, _secant(response).counted(y, coupling.factor)
    )
