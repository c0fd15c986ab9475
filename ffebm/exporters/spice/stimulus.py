"""What drives the circuit of a block: clamped inputs, and the error currents that nudge it."""

import math
from dataclasses import dataclass, field

import numpy as np

from ffebm.exporters.spice.circuit import BlockCircuit
from ffebm.graph.tensor import Floats

FREE, PLUS, MINUS = "free", "plus", "minus"
PHASES = (FREE, PLUS, MINUS)
"""The phases of a training step, in the order in which the circuit runs them."""

BETA = 0.1
"""Strength of both nudges, of the largest error current of each sample."""

SEED = 0


@dataclass(frozen=True)
class Stimulus:
    """A few samples for one block.

    Attributes:
        inputs: Clamped inputs by value name, [samples, *shape].
        currents: Error currents at the block's outputs by value name, [samples, *layer]; a sample's largest
            magnitude is 1.
        beta: What they are multiplied by in a nudged phase.
        expected: State of each layer at the end of each phase by phase and value name, [samples, *layer];
            empty if none is known.
    """

    inputs: dict[str, Floats]
    currents: dict[str, Floats]
    beta: float = BETA
    expected: dict[str, dict[str, Floats]] = field(default_factory=dict)

    @property
    def samples(self) -> int:
        """How many samples there are."""
        return len(next(iter(self.inputs.values())))


def seeded_currents(circuit: BlockCircuit, samples: int) -> dict[str, Floats]:
    """Normal error currents at the block's outputs, each sample's largest magnitude 1."""
    rng = np.random.default_rng([SEED, circuit.block.id])
    outputs = [layer for layer in circuit.block.layers if layer.value in circuit.block.outputs]
    drawn = {layer.value: rng.standard_normal((samples, *layer.shape)) for layer in outputs}
    sizes = [np.abs(values).reshape(samples, math.prod(values.shape[1:])).max(1) for values in drawn.values()]
    largest = np.max(sizes, axis=0)
    return {n: values / largest.reshape(-1, *[1] * (values.ndim - 1)) for n, values in drawn.items()}
