"""Outer products that a backward pass leaves for cells which take them, in place of a gradient."""

from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor

from ffebm.errors import UsageError
from ffebm.graph.energy_block import Linear
from ffebm.hardware.devices.update import PulsedBy
from ffebm.runtime.tiles.lines.vectors import Pairs
from ffebm.visible import visible


class OuterProducts:
    """What backward passes have left: collected, then taken once.

    Args:
        forms: The weights whose cells take outer products, by source name, and of what.

    Attributes:
        taken: Pairs by the weight that they are of, in their order.
    """

    def __init__(self, forms: Mapping[str, PulsedBy]) -> None:
        self._forms = forms
        self._scale: Tensor | None = None
        self._stage: Literal["collected", "complete", "taken"] = "collected"
        self.taken: dict[str, list[Pairs]] = {}

    def form(self, name: str | None) -> PulsedBy | None:
        """What the outer products of a weight are made of; None for one that has a gradient."""
        return None if name is None else self._forms.get(name)

    def add_states(
        self, name: str, linear: Linear, z: tuple[Tensor, Tensor], y: tuple[Tensor, Tensor]
    ) -> None:
        """Add those of two phases of each sample, one after the other.

        Args:
            name: The weight.
            linear: Its map.
            z: What is at its input in either phase, [batch, *in].
            y: What is at its output, times what the phase counts, [batch, *out].
        """
        self._add(name, linear, torch.stack(z, 1).flatten(0, 1), torch.stack(y, 1).flatten(0, 1))

    def add_stacked(self, name: str, linear: Linear, z: Tensor, y: Tensor, samples: int) -> None:
        """Add pairs as `Term.pairs` stacks them, sample after sample.

        Args:
            name: The weight.
            linear: Its map.
            z: At its input, [times * samples, *in].
            y: At its output, [times * samples, *out].
            samples: Of the batch.
        """
        self._add(name, linear, _by_sample(z, samples), _by_sample(y, samples))

    def complete(self) -> None:
        """No backward pass leaves more."""
        self._stage = "complete"

    def spend(self, known: Container[str]) -> None:
        """Cells take them now.

        Args:
            known: Weights whose cells take outer products.

        Raises:
            UsageError: If they were taken before, are still collected or are of other weights.
        """
        where = "what `Executor.outer_products` gave"
        if self._stage == "taken":
            raise UsageError(
                "these outer products were taken before",
                allowed=f"{where}, once",
                hint="collect those of the next backward pass anew",
            )
        if self._stage == "collected":
            raise UsageError(
                "these outer products are still collected",
                allowed=f"{where}, behind its `with`",
            )
        strange = [name for name in self.taken if name not in known]
        if strange:
            raise UsageError(
                f"outer products of {visible(strange[0])!r}, which no cells here take",
                allowed=f"{where} of the same network",
            )
        self._stage = "taken"

    @contextmanager
    def scaled(self, scale: Tensor) -> Iterator[None]:
        """Inside, what is added counts so many times: the gradient of the loss by what is made of it."""
        before, self._scale = self._scale, scale
        try:
            yield
        finally:
            self._scale = before

    def _add(self, name: str, linear: Linear, z: Tensor, y: Tensor) -> None:
        y = y if self._scale is None else y * self._scale
        self.taken.setdefault(name, []).append(Pairs(linear, z, y))


def _by_sample(values: Tensor, samples: int) -> Tensor:
    return values.reshape(-1, samples, *values.shape[1:]).transpose(0, 1).flatten(0, 1)
