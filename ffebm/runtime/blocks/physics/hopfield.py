"""Hopfield energies: a potential for each layer, and -<y, W z> for each interaction.

    E = sum of G(s) - <b, s> - sum of <y, W z>,   G = (1 / scale) * integral of sigma^-1,

so a layer that minimises it given its neighbours is sigma(scale * drive). Where a block has a weaker
feedback, all terms of a layer, with its potential and its biases, are multiplied by its stiffness.

Source: Scellier & Bengio 2017 (arXiv 1602.05179), section 2; Nest & Ernoult 2024 (arXiv 2409.03306), eq. 5.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ffebm.graph.energy_block import EnergyBlock, Layer
from ffebm.runtime.blocks.physics import activation
from ffebm.runtime.blocks.physics.physics import Map, Moving, Term, Weights


@dataclass(frozen=True)
class Bilinear:
    """-k <y, W z>: no load, and the drives are k W z and k W^T y.

    Attributes:
        factor: k, the stiffness of the layer.
    """

    factor: float = 1.0

    def energy(self, linear: Map, z: Tensor, y: Tensor, weights: Weights) -> Tensor:
        """The term, [batch]."""
        return -self.factor * (y * linear.forward(z, weights)).flatten(1).sum(1)

    def loads(self, linear: Map, weights: Weights) -> None:
        """No state is multiplied in its own equation."""

    def pairs(self, z: Moving, y: Moving) -> tuple[Tensor, Tensor]:
        """Either end moves in its turn."""
        assert y.answer is not None  # a layer is free
        if z.answer is None:
            return z.middle(), self._stiff(y.answer)
        return torch.cat([z.middle(), z.answer]), self._stiff(torch.cat([y.answer, y.middle()]))

    def _stiff(self, y: Tensor) -> Tensor:
        return y if self.factor == 1.0 else y * self.factor


class Hopfield:
    """The physics of virtual grounds and neurons: layers do not load each other."""

    def terms(self, block: EnergyBlock) -> Sequence[Term]:
        """The term of each interaction, with the stiffness of the layer that it drives."""
        layers = zip(block.layers, block.stiffness(), strict=True)
        return [Bilinear(stiffness) for layer, stiffness in layers for _ in layer.interactions]

    def potential(self, layer: Layer, state: Tensor) -> Tensor:
        """G of each unit."""
        return activation.potential(layer.activation, state)

    def update(self, layer: Layer, drive: Tensor, load: Tensor | None) -> Tensor:
        """sigma(scale * drive)."""
        return activation.activate(layer.activation, drive)

    def slope(self, layer: Layer, drive: Tensor, load: Tensor | None) -> Tensor:
        """Derivative of the state by the unscaled drive."""
        return activation.slope(layer.activation, drive)

    def bounds(self, layer: Layer) -> tuple[float, float]:
        """Closed range of sigma."""
        return activation.bounds(layer.activation)

    def is_holomorphic(self, layer: Layer) -> bool:
        """Whether sigma has no kinks."""
        return activation.is_holomorphic(layer.activation)

    def constrain(self, block: EnergyBlock, weights: Weights) -> None:
        """Any weights will do."""
