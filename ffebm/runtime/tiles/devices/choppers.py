"""Choppers: signs of the lines of an array that takes steps, which flip now and then."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from ffebm.hardware.description import Chopper


class Choppers:
    """The signs of an array's lines, + 1 at first.

    What a step asks for goes to the array with the product of the signs of both of its lines, and what is
    read there counts with it. So what was asked for keeps its sign, and what the array adds by itself, as the
    drift to its symmetric point, comes with either one and cancels in the mean.

    Args:
        law: When they flip.
        generator: Source of what flips.

    Source: Rasch et al. 2024 (10.1038/s41467-024-51221-z); IBM/aihwkit 1.2.0,
    src/rpucuda/rpu_chopped_transfer_device.cpp, `readAndUpdate`.
    """

    def __init__(self, law: Chopper, generator: torch.Generator) -> None:
        self._law = law
        self._generator = generator
        self._transfers = 0
        self._inputs = self._outputs = torch.empty(0)

    def start(self, weight: Tensor) -> None:
        """All lines of an array for a weight, [..., n_out, n_in], count as they are."""
        self._transfers = 0
        self._inputs = torch.ones_like(weight[..., :1, :])
        self._outputs = torch.ones_like(weight[..., :1])

    @property
    def signs(self) -> Tensor:
        """Of the cells, [..., n_out, n_in]."""
        return self._outputs * self._inputs

    def on_lines(self, x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        """What drives both lines for outer products: [..., pairs, n_in] and [..., pairs, n_out]."""
        return x * self._inputs, d * self._outputs.mT

    def transferred(self) -> None:
        """All lines have been read once: signs flip."""
        self._transfers += 1
        if not self._law.regular:
            self._inputs = self._flipped(self._inputs, self._law.inputs.value)
        elif self._transfers % max(2, math.ceil(1.0 / self._law.inputs.value)) == 0:
            self._inputs = -self._inputs
        if self._law.outputs is not None:
            self._outputs = self._flipped(self._outputs, self._law.outputs.value)

    def _flipped(self, signs: Tensor, chance: float) -> Tensor:
        drawn = torch.rand(signs.shape, generator=self._generator, device=self._generator.device)
        return torch.where(drawn.to(signs.device) < chance, -signs, signs)

    def state(self) -> dict[str, Tensor]:
        """The signs, and the transfers since programming."""
        counted = torch.tensor(self._transfers)
        return {"inputs": self._inputs, "outputs": self._outputs, "transfers": counted}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up a state."""
        self._inputs, self._outputs = state["inputs"], state["outputs"]
        self._transfers = int(state["transfers"])
