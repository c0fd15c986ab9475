"""Ties of maxima inside a block: windows whose winner only rounding decides.

A max-pooling sends what comes back from above to the largest value of each window alone. Where the two
largest are equal, as on the constant background of an image, the last bits of a sum choose the winner:
another order of additions (another machine, another number of threads) chooses another one, and the block may
settle elsewhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ffebm.runtime.blocks.circuit import Circuit
from ffebm.runtime.blocks.physics.physics import Weights
from ffebm.runtime.blocks.settling.phase import Phase

ROUNDINGS = 64.0
"""Roundings of the largest value by which two sums of the same products may differ: the square root of 4,096
products, those of a convolution of 3x3 over 455 channels."""


@dataclass(frozen=True)
class TiedWindows:
    """Windows of the maxima between the free layers of a block.

    Attributes:
        windows: How many there are, over all samples.
        first: How many are tied in a feedforward pass, before anything has come back from above.
        settled: How many are tied where the block has settled.
    """

    windows: int = 0
    first: int = 0
    settled: int = 0

    def __add__(self, other: "TiedWindows") -> "TiedWindows":
        more = (other.windows, other.first, other.settled)
        return TiedWindows(self.windows + more[0], self.first + more[1], self.settled + more[2])

    @property
    def first_share(self) -> float:
        """Of all windows, 0 where there are none."""
        return self.first / max(self.windows, 1)

    @property
    def settled_share(self) -> float:
        """Of all windows, 0 where there are none."""
        return self.settled / max(self.windows, 1)


@torch.no_grad()
def tied_windows(
    circuit: Circuit, inputs: Mapping[str, Tensor], weights: Weights, state: Mapping[str, Tensor]
) -> TiedWindows:
    """Count tied windows, by the products of a block without tiles.

    Args:
        circuit: The block, computed exactly: where reads are noisy, noise decides.
        inputs: Clamped inputs by value name, [batch, *shape].
        weights: Weights and biases by source name.
        state: Where it has settled: the state of each layer by value name, [batch, *layer].
    """
    phase = Phase(
        circuit, weights, circuit.constant_drives(inputs, weights), len(next(iter(inputs.values())))
    )
    phase.sweep([[layer] for layer in range(len(circuit.layers))])
    windows, first = _tied(circuit, weights, phase.settled_state())
    settled = _tied(circuit, weights, [state[layer.value] for layer in circuit.layers])[1]
    return TiedWindows(windows, first, settled)


def _tied(circuit: Circuit, weights: Weights, states: Sequence[Tensor]) -> tuple[int, int]:
    """Windows at some state, and how many of them are tied."""
    windows = tied = 0
    for position, coupling in enumerate(circuit.couplings):
        if not coupling.is_max:
            continue
        values = coupling.windows(states[circuit.source(position)], weights)
        windows += values[..., 0].numel()
        if values.shape[-1] > 1:
            largest = values.topk(2).values
            size = largest[..., :1].abs().amax((1, 2, 3), keepdim=True)
            reach = ROUNDINGS * torch.finfo(values.dtype).eps * size
            tied += int((largest[..., :1] - largest[..., 1:] <= reach).sum())
    return windows, tied
