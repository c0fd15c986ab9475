"""What drives the circuit of a block: clamped inputs, and the error currents that nudge it."""

from dataclasses import dataclass, field

from ffebm.graph.tensor import Floats
from ffebm.mapping.circuit.equations import BETA

FREE, PLUS, MINUS = "free", "plus", "minus"
PHASES = (FREE, PLUS, MINUS)
"""The phases of a training step, in the order in which the circuit runs them."""


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
