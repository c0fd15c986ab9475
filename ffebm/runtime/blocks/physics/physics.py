"""What an energy block's circuit is made of.

The energy of a block with states s, inputs x and weights W is a sum of what belongs to one layer, its
potential, and of what joins two, a term for each interaction:

    E(s; x, W) = sum over layers of G(s) - <b, s>  +  sum over interactions of T(z, y; W),

with z the state of the source and y that of the layer, spread to the output of the linear map by the
transpose of what lies behind it. A term is at most of second order in the states, so that what a neighbour
adds to a layer's equation is a drive, f W z or f W^T y with a factor f, and a load, which multiplies the
layer's own state. Whoever brings another physics writes these two classes and an admission; nothing else in
the engine knows which one it runs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from ffebm.graph.energy_block import EnergyBlock, Layer

Weights = Mapping[str, Tensor]
"""Weights and biases by source name."""


class Map(Protocol):
    """The linear map of an interaction, as its term sees it; without a factor."""

    @property
    def weight(self) -> str | None:
        """Source name of W; None for an identity."""
        ...

    def forward(self, z: Tensor, weights: Weights) -> Tensor:
        """W z, [batch, *source] -> [batch, *linear]."""
        ...

    def backward(self, y: Tensor, weights: Weights) -> Tensor:
        """W^T y, [batch, *linear] -> [batch, *source]."""
        ...

    def ones(self, weights: Weights) -> tuple[Tensor, Tensor]:
        """Ones in place of z, [1, *source], and of y, [1, *linear]."""
        ...


@dataclass(frozen=True)
class Moving:
    """A value that a nudge moves.

    Attributes:
        middle: What it is at the equilibrium, or in the middle between two nudged states, [batch, ...].
        answer: Its derivative by minus the strength of the nudge, [batch, ...]; None for what is clamped.
    """

    middle: Callable[[], Tensor]
    answer: Tensor | None


class Term(Protocol):
    """What one interaction has in the energy."""

    @property
    def factor(self) -> float:
        """What W z and W^T y are multiplied by to be drives; the same both ways, as energies have it."""
        ...

    def energy(self, linear: Map, z: Tensor, y: Tensor, weights: Weights) -> Tensor:
        """The term, [batch].

        Args:
            linear: The map.
            z: State of the source, [batch, *source].
            y: State of the layer, spread to the output of the map, [batch, *linear].
            weights: Weights by source name.
        """
        ...

    def loads(self, linear: Map, weights: Weights) -> tuple[Tensor, Tensor] | None:
        """What multiplies the states of both ends in their own equations; None for nothing.

        Args:
            linear: The map.
            weights: Weights by source name.

        Returns:
            At the output of the map, [1, *linear], and at the source, [1, *source].
        """
        ...

    def pairs(self, z: Moving, y: Moving) -> tuple[Tensor, Tensor]:
        """What the gradient of W is made of: dT/dW contrasted, as that of <y, W z> for the pairs returned.

        The energy is at most of second order, so middle times answer is the difference of two nudged states'
        products without a loss to rounding: y_a z_a - y_b z_b = mean(y) (z_a - z_b) + (y_a - y_b) mean(z).

        Args:
            z: State of the source.
            y: State of the layer at the output of the map.

        Returns:
            Values (z, y) stacked along the batch.
        """
        ...


class Physics(Protocol):
    """An energy, by its layers and its terms."""

    def terms(self, block: EnergyBlock) -> Sequence[Term]:
        """The term of each interaction, in the order of `block.interactions()`.

        Raises:
            UsageError: If a block of this physics cannot be so.
        """
        ...

    def potential(self, layer: Layer, state: Tensor) -> Tensor:
        """G of each unit, in its shape; infinite outside of the layer's range."""
        ...

    def update(self, layer: Layer, drive: Tensor, load: Tensor | None) -> Tensor:
        """The state that minimises the energy given the neighbours, [batch, *layer].

        Args:
            layer: The layer.
            drive: Sum of all drives times the activation's scale, [batch, *layer].
            load: Sum of all loads, [1, *layer]; None without any.
        """
        ...

    def slope(self, layer: Layer, drive: Tensor, load: Tensor | None) -> Tensor:
        """Derivative of `update` by the sum of all drives before the scale; at a kink, one of its sides."""
        ...

    def bounds(self, layer: Layer) -> tuple[float, float]:
        """Smallest and largest state, into which over-relaxation and acceleration are projected."""
        ...

    def is_holomorphic(self, layer: Layer) -> bool:
        """Whether `update` extends to complex drives and all terms are bilinear.

        More than two nudging points need that.
        """
        ...

    def constrain(self, block: EnergyBlock, weights: Weights) -> None:
        """Put weights, in place, where the nearest circuit that can be built has them."""
        ...
