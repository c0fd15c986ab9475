"""A physics: neurons that leak, so that a state costs energy beside what its neurons ask for.

    E = (Hopfield's) + (g / 2) sum of s^2,

with which a layer settles at clip(drive / (1 + g)); diodes clip, so that only such activations can be wired.

ffebm imports this module when a plan is compiled for it, and torch with it. Who compiles without torch puts
what runs into a module of its own, which `OwnPhysics` names.
"""

from torch import Tensor

from ffebm.graph.admission import HopfieldAdmission, OwnPhysics
from ffebm.graph.energy_block import Activation, Layer, Linear, Pool
from ffebm.runtime.blocks.physics.hopfield import Hopfield

LEAK = 0.25
"""Conductance of the leak, in units of a neuron's own."""


class LeakyAdmission(HopfieldAdmission):
    """What leaks can be wired for: any weight and pooling, but not any activation."""

    def admits(self, linear: Linear | None, activation: Activation, pool: Pool | None = None) -> str | None:
        """Why a layer cannot be driven in a way; None if it can."""
        if activation.op not in {"Identity", "Relu", "Clip"}:
            return f"diodes clip, and make no {activation.op}"
        return None


class LeakyHopfield(Hopfield):
    """Terms of the energy that join layers are Hopfield's; what belongs to one layer is not."""

    def potential(self, layer: Layer, state: Tensor) -> Tensor:
        """G of each unit."""
        return super().potential(layer, state) + LEAK / 2 * state.square()

    def update(self, layer: Layer, drive: Tensor, load: Tensor | None) -> Tensor:
        """The state that minimises the energy given its neighbours; `drive` carries the layer's scale."""
        return super().update(layer, drive / (1 + LEAK * layer.activation.scale), load)

    def slope(self, layer: Layer, drive: Tensor, load: Tensor | None) -> Tensor:
        """Derivative of `update` by the drive before its scale."""
        factor = 1 + LEAK * layer.activation.scale
        return super().slope(layer, drive / factor, load) / factor


LEAKY = OwnPhysics(LeakyAdmission(), physics="ffebm_leak:LeakyHopfield")
