"""A call of a torch op, as the twins see it."""

from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import torch

from ffebm.compiler.torch.modes import TRAIN
from ffebm.graph.graph import Attr, Graph, Node
from ffebm.graph.tensor import Array, Dim, TensorType

Form = tuple[str, list[str], dict[str, Attr]]
"""An ONNX op, its inputs and its attributes."""


@dataclass
class TorchCall:
    """A call of a torch op.

    Attributes:
        graph: Where it stands.
        node: The call.
        before: Nodes before it; a twin of several nodes adds to them.
    """

    graph: Graph
    node: Node
    before: list[Node]

    def get(self, name: str) -> Any:
        """A plain argument, or torch's default."""
        value = self.node.attrs.get(name)
        if value is None:
            return defaults(self.node.op).get(name)
        return None if value == "%none" else value

    def tensor(self, name: str) -> str:
        """Name of a tensor argument; empty if it is left out."""
        value = self.node.attrs.get(name)
        return self.node.inputs[int(value[1:])] if isinstance(value, str) and value[1:].isdigit() else ""

    def tensors(self, name: str) -> list[str]:
        """Names of a list of tensors."""
        return [self.node.inputs[int(str(item)[1:])] for item in self.get(name)]

    def ints(self, name: str, axes: int = 0) -> tuple[int, ...]:
        """Whole numbers; one stands for all axes."""
        value = self.get(name)
        items = tuple(value) if isinstance(value, tuple | list) else (value,)
        return items * axes if len(items) == 1 and axes else items

    def shape(self, value: str) -> tuple[Dim, ...]:
        """Shape of a value."""
        return self.graph.shape(value) or ()

    @property
    def out(self) -> TensorType:
        """Type of the first output."""
        return self.graph.types[self.node.outputs[0]]

    def same_type(self, *values: str) -> bool:
        """Whether values are of the output's element type, so that nothing is promoted."""
        return all(self.graph.types[value].dtype == self.out.dtype for value in values)

    def constant(self, name: str, array: Array) -> str:
        """A constant of this node's own."""
        key = f"{self.node.name}.{name}"
        while key in self.graph.types:
            key += "_"
        self.graph.constants[key] = array
        self.graph.types[key] = TensorType(str(array.dtype), tuple(array.shape))
        return key

    def operand(self, name: str) -> str:
        """A tensor argument, or a number as a constant of the output's element type."""
        return self.tensor(name) or self.constant(name, np.asarray(self.get(name), self.out.dtype))

    def step(self, name: str, form: Form, kind: TensorType) -> str:
        """Add a node before this one; its value, of type `kind`."""
        value = f"{self.node.name}.{name}"
        while value in self.graph.types:
            value += "_"
        op, inputs, attrs = form
        self.graph.types[value] = kind
        self.before.append(Node(op, value, inputs, [value], attrs, self.node.location))
        return value

    def follows_mode(self, flag: str) -> bool:
        """Whether a flag is off in evaluation and on in training."""
        return not self.get(flag) and bool(self.node.attrs.get(TRAIN + flag))


def defaults(op: str) -> dict[str, Any]:
    """Arguments of a torch op that have a default."""
    target: Any = reduce(getattr, op.split("."), torch.ops)
    return {a.name: a.default_value for a in target._schema.arguments if a.has_default_value()}
