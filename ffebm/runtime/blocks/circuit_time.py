"""How the circuit of a block moves, and for how long: as its phases are billed, by the weights it has now."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from ffebm.graph.energy_block import EnergyBlock, PhaseKind
from ffebm.hardware.description import AnalogGroup
from ffebm.mapping.circuit.needs import STEPS, ground_lags
from ffebm.runtime.blocks.physics.physics import Weights

CircuitLine = tuple[int, bool]
"""An interaction by its position in `block.interactions()`, and whether it drives its source."""


class CircuitTime:
    """A block's circuit in time.

    Args:
        block: A block that settles by itself.
        group: The tiles that it lies on.

    Attributes:
        tau: Time constant of a neuron, s.
        accuracy: How close to where it goes a free phase is billed to come; None if that is not said.
        response: The same of what a nudge changes; None if that is not said.
    """

    def __init__(self, block: EnergyBlock, group: AnalogGroup) -> None:
        assert group.relaxation is not None  # it settles by itself
        self._block = block
        self._tile = group.tile.crossbar()
        self._relaxation = group.relaxation
        self.tau = float(group.relaxation.time_constant.value)
        accuracy, response = group.relaxation.accuracy, group.relaxation.response
        self.accuracy = None if accuracy is None else float(accuracy.value)
        self.response = self.accuracy if response is None else float(response.value)

    def seconds(self, kind: PhaseKind) -> float:
        """How long a phase is billed, s."""
        return float(self._relaxation.lasting(self._block.time_constants(kind)))

    def steps(self, kind: PhaseKind) -> tuple[int, float]:
        """Steps of a phase, as fine as those that it was billed by, and the length of one, s."""
        count = max(1, math.ceil(self.seconds(kind) / self.tau * STEPS - 1e-9))
        return count, self.seconds(kind) / count

    def follow(self, weights: Weights, seconds: float) -> Mapping[CircuitLine, Tensor]:
        """How far the virtual grounds of lines go in a step towards what is asked for.

        Args:
            weights: Weights and biases by source name.
            seconds: Of a step.

        Returns:
            Of each line, [1, *units]; identities have none, they follow at once.
        """
        names = self._block.weights()
        arrays = {name: weights[name].detach().double().cpu().numpy() for name in names}
        lags = ground_lags(self._block, arrays, self._tile, self._relaxation.amplifier)
        like = weights[names[0]]
        found: dict[CircuitLine, Tensor] = {}
        for number, (layer, interaction) in enumerate(self._block.interactions()):
            for back, shape in ((False, layer.shape), (True, interaction.source_shape)):
                lag = lags.get((number, back))
                if lag is not None:
                    share = -torch.expm1(-seconds / torch.from_numpy(lag))  # of no lag at all it is 1
                    found[number, back] = share.to(like.device, like.dtype).view(1, *shape)
        return found
