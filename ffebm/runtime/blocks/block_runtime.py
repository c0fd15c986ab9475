"""An energy block as one differentiable function: forward settles freely, backward estimates the gradient.

Whatever the model's type, a block is computed in float32 (in float64 if the model is): what is analog has no
type, and sums of squares do not fit in 16 bits.

A chain of blocks and digital parts is then ordinary autograd, and `loss.backward()` is the hybrid gradient.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import reduce

import torch
from torch import Tensor

from ffebm.errors import UsageError
from ffebm.graph.energy_block import EnergyBlock
from ffebm.plan.schema import Settle
from ffebm.runtime.blocks.block_function import loss_behind, settled
from ffebm.runtime.blocks.block_run import BlockRun, Observer, Tail
from ffebm.runtime.blocks.circuit import Circuit
from ffebm.runtime.blocks.circuit_time import CircuitTime
from ffebm.runtime.blocks.edge import Edge
from ffebm.runtime.blocks.estimators.gradient import EP, Gradient
from ffebm.runtime.blocks.other_equilibria import OtherEquilibria, other_equilibria
from ffebm.runtime.blocks.outer_products import OuterProducts
from ffebm.runtime.blocks.physics.physics import Physics, Weights
from ffebm.runtime.blocks.projection import Projection
from ffebm.runtime.blocks.settling.settling import Equilibrium
from ffebm.runtime.blocks.tied_windows import TiedWindows, tied_windows
from ffebm.runtime.tiles.master import analog
from ffebm.visible import visible


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
        job = BlockRun(self._circuit, settle, gradient, _common_type(given), None, self.watch, records)
        with _own_precision(given):
            found = settled(job, [analog(tensor) for tensor in given])
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
        job = BlockRun(self._circuit, settle, gradient, _common_type(given), tail, self.watch, records)
        loss = loss_behind(job, [analog(tensor) for tensor in given])
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
