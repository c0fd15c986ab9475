"""What a physics lets the layers of an energy block be; the numbers behind it are the runtime's.

The pass that forms energy blocks asks this, so it needs no torch.
"""

from typing import Protocol

from ffebm.graph.energy_block import Activation, Linear, Pool


class Admission(Protocol):
    """What the circuit of one physics can be wired for."""

    def admits(self, linear: Linear | None, activation: Activation, pool: Pool | None = None) -> str | None:
        """Why a layer cannot be driven in a way; None if it can.

        A linear map and a pooling are asked for before the layer's activation is known, with the identity.

        Args:
            linear: The map that drives the layer; None for the state of another layer as it is.
            activation: The layer's activation, with its scale.
            pool: The pooling behind the map.
        """
        ...


class HopfieldAdmission:
    """All that an energy block can be made of: any linear map, any pooling, any monotone activation."""

    def admits(self, linear: Linear | None, activation: Activation, pool: Pool | None = None) -> str | None:
        """Why a layer cannot be driven in a way; None if it can."""
        return None


HOPFIELD = HopfieldAdmission()
