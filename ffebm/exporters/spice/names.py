"""NodeNames of nodes and elements: made here, so that nothing from a model is read as SPICE."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from ffebm.graph.energy_block import EnergyBlock

LONGEST = 24
"""Characters of a model's name that a node keeps; its number tells it from others."""

_PLAIN = re.compile(r"[^a-z0-9]+")
_SHOWN = re.compile(r"[^A-Za-z0-9_.,/:\[\] -]")


def plain(name: str) -> str:
    """Lower-case letters, digits and single underscores of a name; SPICE knows no case."""
    return _PLAIN.sub("_", name.lower()).strip("_")[:LONGEST].strip("_") or "value"


def shown(name: str) -> str:
    """A name as it may stand behind "* " in a comment: on one line, of plain characters."""
    return _SHOWN.sub("?", name)[:120]


class Wired(Protocol):
    """A block as a circuit of some kind."""

    @property
    def block(self) -> EnergyBlock:
        """The block."""
        ...

    @property
    def inputs(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of each clamped input by value name."""
        ...


class NodeNames:
    """The nodes of a block's circuit.

    A unit's node is its layer's tag and its place in the layer: `l1_hidden_3`, `l0_conv_2_0_1`; that of its
    neuron's input is the same behind `u_`. Clamped inputs have tags `x0_…`.
    """

    def __init__(self, circuit: Wired) -> None:
        self.tags: dict[str, str] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        for number, (name, shape) in enumerate(circuit.inputs.items()):
            self.tags[name], self.shapes[name] = f"x{number}_{plain(name)}", shape
        for number, layer in enumerate(circuit.block.layers):
            self.tags[layer.value], self.shapes[layer.value] = f"l{number}_{plain(layer.value)}", layer.shape

    def size(self, value: str) -> int:
        """Units of a value."""
        return math.prod(self.shapes[value])

    def unit(self, value: str, index: int) -> str:
        """The node that carries a unit's state; ground for `NOWHERE`."""
        if index < 0:
            return "0"
        place = np.unravel_index(index, self.shapes[value]) if self.shapes[value] else ()
        return "_".join([self.tags[value], *(str(int(at)) for at in place)])

    def units(self, value: str) -> list[str]:
        """The nodes of all units of a value, in order."""
        return [self.unit(value, index) for index in range(self.size(value))]


def wrapped(head: str, words: Sequence[str], width: int = 96) -> str:
    """A line of SPICE, continued on others where it is long."""
    lines, line = [], head
    for word in words:
        if len(line) + 1 + len(word) > width:
            lines.append(line)
            line = "+"
        line += f" {word}"
    return "\n".join([*lines, line])
