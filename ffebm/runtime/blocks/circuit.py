"""A block made ready to settle: its couplings, who neighbours whom, and the order of a sweep."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import torch
from torch import Tensor

from ffebm.graph.energy_block import EnergyBlock, Layer
from ffebm.runtime.blocks.circuit_time import CircuitTime
from ffebm.runtime.blocks.coupling import Coupling
from ffebm.runtime.blocks.edge import Edge
from ffebm.runtime.blocks.outer_products import OuterProducts
from ffebm.runtime.blocks.physics.catalogue import physics_of
from ffebm.runtime.blocks.physics.physics import Physics, Weights
from ffebm.runtime.blocks.physics.pooling import arranged
from ffebm.runtime.blocks.projection import Projection

_LEAST_ANSWER = 1e-6
"""Of a value to its own share; a weight of zeros has no answer at all."""


class Circuit:
    """The couplings of a block by the layers that they join.

    Attributes:
        block: The block.
        layers: Its free layers; the scale of their activations is over their stiffness, which is in all that
            drives them.
        stiffness: Of each layer.
        position: Index of each free layer by its value name.
        couplings: Interactions between two free layers.
        feeds: Interactions from a clamped input.
        into: For each layer, indices of the couplings that drive it bottom-up.
        out_of: For each layer, indices of the couplings that it drives.
        is_exact: Its products are computed exactly, on no tile.
        physics: What its energy is.
        beta: Nudging strength that suits its noise, once it was measured.
        colours: Layer indices by colour; layers of one colour do not interact.
        noise_source: Of the noise of its reads, where every read draws anew; else None.
        noise: Residual that this noise makes of a settled state, once measured; by whether it is nudged.
        edge: Converters at the edge of a block that settles by itself; None where every read converts.
        time: How it moves as a circuit; None where it is none.
        coupling_at: Position of each coupling in `block.interactions()`.
        feed_at: The same of each feed.
        products: Where a backward pass leaves outer products, for weights whose cells take them; None where
            all have gradients.
    """

    def __init__(
        self,
        block: EnergyBlock,
        projections: Mapping[int, Projection],
        edge: Edge | None = None,
        physics: Physics | None = None,
        time: CircuitTime | None = None,
    ) -> None:
        """Prepare a block; `projections` holds a projection by position in `block.interactions()`."""
        self.time = time
        self.physics = physics_of(block.physics) if physics is None else physics
        terms = self.physics.terms(block)
        self.block = block
        self.edge = edge
        self.is_exact = not projections
        self.stiffness = block.stiffness()
        self.layers = tuple(map(_effective, block.layers, self.stiffness))
        self.position = {layer.value: index for index, layer in enumerate(block.layers)}
        self.couplings: list[Coupling] = []
        self.feeds: list[Coupling] = []
        self.coupling_at: list[int] = []
        self.feed_at: list[int] = []
        self.into: list[list[int]] = [[] for _ in block.layers]
        self.out_of: list[list[int]] = [[] for _ in block.layers]
        for index, (layer, interaction) in enumerate(block.interactions()):
            stiffness = self.stiffness[self.position[layer.value]]
            coupling = Coupling(layer, interaction, terms[index], projections.get(index), stiffness)
            if interaction.source in self.position:
                self.into[self.position[layer.value]].append(len(self.couplings))
                self.out_of[self.position[interaction.source]].append(len(self.couplings))
                self.couplings.append(coupling)
                self.coupling_at.append(index)
            else:
                self.feeds.append(coupling)
                self.feed_at.append(index)
        self.beta: float | None = None
        self.products: OuterProducts | None = None
        self.noise_source: torch.Generator | None = None
        self.noise: dict[bool, float] = {}
        self._has_image_maximum = any(coupling.is_image_maximum for coupling in self.couplings)
        colours = block.colours()
        self.colours = [
            [layer for layer, colour in enumerate(colours) if colour == wanted]
            for wanted in range(1 + max(colours, default=-1))
        ]

    def source(self, coupling: int) -> int:
        """Index of the layer that a coupling starts from."""
        return self.position[self.couplings[coupling].source]

    def target(self, coupling: int) -> int:
        """Index of the layer that a coupling drives."""
        return self.position[self.couplings[coupling].target]

    def arrange(self, values: Tensor) -> Tensor:
        """Values in the memory order in which this block settles fastest.

        Blocks with a maximum over images keep their channels last.
        """
        return arranged(values) if self._has_image_maximum else values

    def is_coupled(self, layer: int) -> bool:
        """Whether a layer has a free neighbour; one that has none settles in one update."""
        return bool(self.into[layer] or self.out_of[layer])

    def sweeps_to_all(self, order: Sequence[Sequence[int]], driven: Iterable[int]) -> int:
        """Sweeps in which what drives some layers can reach all that are joined to them, at least one.

        Args:
            order: Layers in the order of a sweep, by colour.
            driven: The layers that are driven.
        """
        driven, reached, sweeps = frozenset(driven), frozenset[int](), 0
        while True:
            before = len(reached)
            for colour in order:
                reached |= {layer for layer in colour if layer in driven or self._neighbours(layer) & reached}
            if len(reached) == before:
                return max(sweeps, 1)
            sweeps += 1

    def stiff(self, layer: int, bias: Tensor) -> Tensor:
        """A bias of a layer, or its gradient, as it counts in the energy: times the layer's stiffness."""
        return bias if self.stiffness[layer] == 1.0 else bias * self.stiffness[layer]

    def _neighbours(self, layer: int) -> set[int]:
        below = {self.source(coupling) for coupling in self.into[layer]}
        return below | {self.target(coupling) for coupling in self.out_of[layer]}

    def ties(self, weights: Weights) -> dict[int, float]:
        """Couplings with a maximum under a layer that can be negative, and the step of their shares.

        A value answers to its own share by at most the slope of its source times the largest eigenvalue of
        W^T W; the step is the inverse of that.
        """
        found = {}
        for index, coupling in enumerate(self.couplings):
            if coupling.is_max and self.physics.bounds(self.layers[self.target(index)])[0] < 0:
                answer = _steepest(self.physics, self.layers[self.source(index)]) * coupling.gain(weights)
                found[index] = 1 / max(answer, _LEAST_ANSWER)
        return found

    def begin_phase(self) -> None:
        """A free or a nudged phase starts."""
        if self.edge is not None:
            self.edge.begin_phase()

    def driven(self, name: str, values: Tensor) -> Tensor:
        """Values as they enter the block, all through a phase."""
        return values if self.edge is None else self.edge.drive(name, values)

    def sensed(self, states: Sequence[Tensor]) -> list[Tensor]:
        """The states of all layers as they are read outside, at the end of a phase."""
        if self.edge is None:
            return list(states)
        return [self.edge.sense(layer.value, s) for layer, s in zip(self.layers, states, strict=True)]

    def rounding(self, states: Sequence[Tensor]) -> list[Tensor]:
        """Norm of the rounding error of each layer's state as `sensed`, scalars."""
        if self.edge is None:
            return [torch.finfo(s.dtype).eps * s.norm() for s in states]
        return [self.edge.rounding(s) for s in states]

    def read_back(
        self, feed: Coupling, current: Tensor, spread: Tensor, weights: Weights, index: Tensor | None
    ) -> Tensor:
        """An error current at a layer carried back to a clamped input: one transposed read.

        Args:
            feed: What the input drives.
            current: At the layer, [batch, *layer]; only converters at the block's edge see it.
            spread: The same at the output of the feed's linear map, [batch, *linear].
            weights: Weights and biases by source name.
            index: Where the maximum of the feed was found.
        """
        if self.edge is None:
            return feed.pull_linear(spread, weights)
        self.edge.begin_phase()
        back = feed.pull(self.edge.drive(feed.target, current), weights, index)
        return self.edge.sense(feed.source, back)

    def fed(self, inputs: Mapping[str, Tensor], weights: Weights) -> list[tuple[int, Tensor]]:
        """What each feed drives, with the layer: times that layer's scale, [batch, *layer]."""
        found = []
        for feed in self.feeds:
            layer = self.position[feed.target]
            drive = feed.push(self.driven(feed.source, inputs[feed.source]), weights)[0]
            found.append((layer, drive * self.layers[layer].activation.scale))
        return found

    def constant_drives(self, inputs: Mapping[str, Tensor], weights: Weights) -> "Drives":
        """What drives each layer all through a phase, times the activation's scale."""
        drives: list[Tensor | None] = [None] * len(self.layers)
        indices: list[Tensor | None] = []

        def add(layer: int, drive: Tensor | None) -> None:
            known = drives[layer]
            drives[layer] = drive if known is None else known if drive is None else known + drive

        for feed in self.feeds:
            drive, index = feed.push(self.driven(feed.source, inputs[feed.source]), weights)
            indices.append(index)
            add(self.position[feed.target], drive)
        for coupling in (*self.feeds, *self.couplings):
            add(self.position[coupling.target], coupling.bias_drive(weights))
        for position, layer in enumerate(self.layers):
            for name in layer.biases:
                bias = self.stiff(position, weights[name])
                axes = 1 + len(layer.shape) - bias.dim()
                add(position, bias[(None,) * axes] if axes > 0 else bias)
            known = drives[position]
            if known is not None and layer.activation.scale != 1.0:
                known = known * layer.activation.scale
            drives[position] = None if known is None else self.arrange(known)
        return Drives(drives, indices, self._loads(weights))

    def _loads(self, weights: Weights) -> list[Tensor | None]:
        """What multiplies the state of each layer in its own equation, [1, *layer]; None for nothing."""
        loads: list[Tensor | None] = [None] * len(self.layers)
        for coupling in (*self.feeds, *self.couplings):
            found = coupling.loads(weights)
            for name, load in zip((coupling.target, coupling.source), found or (), strict=False):
                if name in self.position:  # what is clamped has no equation
                    known = loads[self.position[name]]
                    loads[self.position[name]] = load if known is None else known + load
        return loads

    def energy(self, inputs: Mapping[str, Tensor], weights: Weights, states: Sequence[Tensor]) -> Tensor:
        """The energy at any state, [batch]; differentiable in the states, the inputs and the weights.

        Args:
            inputs: Clamped inputs by value name, [batch, *shape].
            weights: Weights and biases by source name.
            states: State of each layer, [batch, *layer].
        """
        energy = states[0].new_zeros(len(states[0]))
        for position, (layer, s) in enumerate(zip(self.layers, states, strict=True)):
            energy = energy + self.physics.potential(layer, s).flatten(1).sum(1)
            for name in layer.biases:
                energy = energy - (s * self.stiff(position, weights[name])).flatten(1).sum(1)
        for coupling in (*self.feeds, *self.couplings):
            free = self.position.get(coupling.source)
            z = inputs[coupling.source] if free is None else states[free]
            index = coupling.push(z.detach(), weights)[1] if coupling.is_max else None
            energy = energy + coupling.energy(z, states[self.position[coupling.target]], weights, index)
        return energy


def _effective(layer: Layer, stiffness: float) -> Layer:
    """A layer whose potential is multiplied by its stiffness: sigma at as much less of its drive."""
    if stiffness == 1.0:
        return layer
    scale = layer.activation.scale / stiffness
    return msgspec.structs.replace(layer, activation=msgspec.structs.replace(layer.activation, scale=scale))


def _steepest(physics: Physics, layer: Layer) -> float:
    """Largest derivative of a state by its drive, as sampled on [-4, 4]."""
    return float(physics.slope(layer, torch.linspace(-4, 4, 161, dtype=torch.float64), None).max())


@dataclass(frozen=True)
class Drives:
    """What stays all through a phase.

    Attributes:
        layers: For each layer its constant drive, [batch or 1, *layer]; None without one.
        indices: For each feed, where its maximum was found.
        loads: For each layer what multiplies its state in its equation, [1, *layer]; None for nothing.
    """

    layers: list[Tensor | None]
    indices: list[Tensor | None]
    loads: list[Tensor | None]
