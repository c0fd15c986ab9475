"""How many windows of a pooling or a convolution an axis has."""

import math
from collections.abc import Iterable

from ffebm.graph.admission import admission_of
from ffebm.graph.energy_block import EnergyBlock, Interaction, Linear


def n_windows(  # noqa: PLR0913 -- the facts of one axis
    size: int, kernel: int, stride: int, dilation: int, begin: int, end: int, *, ceil: bool
) -> int:
    """Windows along an axis; one that would start beyond the input and its leading pad is left out."""
    room = size + begin + end - dilation * (kernel - 1) - 1
    n = (math.ceil(room / stride) if ceil else room // stride) + 1
    return n - 1 if ceil and (n - 1) * stride >= size + begin else n


def positions(interaction: Interaction, linear: Linear) -> int:
    """Input vectors of one sample: output pixels of a convolution, rows of a matrix product."""
    if linear.op == "Conv":
        return math.prod(interaction.linear_shape[1:])
    if linear.op == "MatMul":
        return math.prod(interaction.linear_shape[:-1])
    shape = interaction.source_shape
    for layout in interaction.before:
        if layout.op == "Reshape":
            shape = layout.sizes
        else:
            shape = tuple(shape[axis - 1] for axis in layout.sizes[1:])
    return math.prod(shape[1:])


def windows_of(blocks: Iterable[EnergyBlock]) -> dict[str, int]:
    """Arrays that each weight takes where blocks settle by themselves: one for each vector of a sample.

    A block's vectors are there at once; blocks that share a weight settle one after the other.
    """
    found: dict[str, int] = {}
    for block in blocks:
        own: dict[str, int] = {}
        for _, interaction in block.interactions():
            linear = interaction.linear
            if linear is not None:
                own[linear.weight] = own.get(linear.weight, 0) + positions(interaction, linear)
        for weight, count in own.items():
            found[weight] = max(found.get(weight, 0), count)
    return found


def two_way_weights(blocks: Iterable[EnergyBlock]) -> frozenset[str]:
    """Weights that take arrays with the transpose beside them where blocks settle by themselves.

    A line that is driven is no virtual ground, so a coupling between two free layers takes an array each way.
    Passive arrays, of one cell a weight, conduct both ways.
    """
    found: set[str] = set()
    for block in blocks:
        if admission_of(block.physics).cells_a_weight == 1:
            continue
        inside = {layer.value for layer in block.layers}
        found |= {
            i.linear.weight for _, i in block.interactions() if i.linear is not None and i.source in inside
        }
    return frozenset(found)
