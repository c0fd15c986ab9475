"""How the executor calls a kernel."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor

from ffebm.errors import ModelError
from ffebm.limits import VALUE_ELEMENTS
from ffebm.plan.program import Number

Value = Number | tuple[Number, ...]
Subgraph = Callable[..., tuple[Tensor, ...]]
Item = TypeVar("Item", int, float, str)
Together = Callable[[Tensor], Tensor]
"""Adds up values, [...], over the processes that share a batch; differentiable."""


@dataclass(frozen=True)
class Call:
    """What a kernel may know beside its input tensors.

    Attributes:
        op: The op's name.
        attrs: The node's attributes, without subgraphs and tensors.
        n_outputs: How many outputs the node names.
        training: The network trains: dropout drops, batch normalisation uses the batch.
        tensors: Attributes that are tensors.
        graphs: Subgraphs as functions of their inputs; what they capture is already bound.
        generator: Source of randomness; None is torch's default one.
        together: Adds up over the processes that share the batch; None if this one has all of it.
    """

    op: str
    attrs: Mapping[str, Value] = field(default_factory=dict)
    n_outputs: int = 1
    training: bool = False
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    graphs: Mapping[str, Subgraph] = field(default_factory=dict)
    generator: torch.Generator | None = None
    together: Together | None = None

    def integer(self, name: str, default: int = 0) -> int:
        """The integer attribute `name`."""
        value = self.attrs.get(name, default)
        if not isinstance(value, int):
            raise self.unusable(name, value, "an integer is needed")
        return value

    def number(self, name: str, default: float = 0.0) -> float:
        """The attribute `name` as a float."""
        if name in self.tensors:  # the plan's JSON holds no infinity and no NaN
            return float(self.tensors[name])
        value = self.attrs.get(name, default)
        if not isinstance(value, int | float):
            raise self.unusable(name, value, "a number is needed")
        return float(value)

    def text(self, name: str, default: str = "") -> str:
        """The string attribute `name`."""
        value = self.attrs.get(name, default)
        if not isinstance(value, str):
            raise self.unusable(name, value, "a string is needed")
        return value

    def integers(self, name: str, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        """The attribute `name` as a tuple of integers."""
        if name in self.tensors:
            return tuple(int(number) for number in self.tensors[name].tolist())
        return self._items(name, default, int)

    def numbers(self, name: str, default: tuple[float, ...] = ()) -> tuple[float, ...]:
        """The attribute `name` as a tuple of floats."""
        if name in self.tensors:
            return tuple(self.tensors[name].tolist())
        return self._items(name, default, float)

    def texts(self, name: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
        """The attribute `name` as a tuple of strings."""
        return self._items(name, default, str)

    def check_size(self, sizes: Iterable[int]) -> None:
        """Refuse a result that a few bytes ask for and that would take all memory.

        Args:
            sizes: Of the result.

        Raises:
            ModelError: If it holds more elements than one value may.
        """
        count = math.prod(max(size, 0) for size in sizes)
        VALUE_ELEMENTS.check(count, f"{self.op} makes {count:,} elements")

    def unusable(self, name: str, value: object, allowed: str) -> ModelError:
        """The error for an attribute that the kernel cannot use."""
        return ModelError(f"{self.op}: attribute {name} is {value!r}", allowed=allowed)

    def _items(self, name: str, default: tuple[Item, ...], kind: type[Item]) -> tuple[Item, ...]:
        value = self.attrs.get(name, default)
        if not isinstance(value, tuple):
            raise self.unusable(name, value, f"a list of {kind.__name__} is needed")
        return tuple(kind(item) for item in value)


Kernel = Callable[..., Tensor | tuple[Tensor, ...]]
"""kernel(call, *inputs) -> output or outputs; an input that is left out is None."""


def with_optional(inputs: Sequence[Tensor | None], count: int) -> tuple[Tensor | None, ...]:
    """The last inputs of a node, with None for those that it does not name."""
    return (*inputs, *[None] * (count - len(inputs)))
