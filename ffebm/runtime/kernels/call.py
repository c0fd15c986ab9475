"""How the executor calls a kernel."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

Value = bool | int | float | str | tuple[int, ...] | tuple[float, ...] | tuple[str, ...]
Subgraph = Callable[..., tuple[Tensor, ...]]


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
    """

    op: str
    attrs: Mapping[str, Value] = field(default_factory=dict)
    n_outputs: int = 1
    training: bool = False
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    graphs: Mapping[str, Subgraph] = field(default_factory=dict)
    generator: torch.Generator | None = None


Kernel = Callable[..., Tensor | tuple[Tensor, ...]]
"""kernel(call, *inputs) -> output or outputs; an input that is left out is None."""
