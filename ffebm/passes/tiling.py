"""Tiling: cut the weight matrices of the energy blocks into parts that fit a crossbar.

A matrix is cut evenly: n = ceil(size / limit) parts whose sizes differ by at most one, larger ones first.
Each group of a grouped convolution is a matrix of its own, so a depthwise layer is many small parts and never
one dense matrix full of zeros.
"""

from dataclasses import dataclass

from msgspec.structs import replace

from ffebm.graph.energy_block import Linear
from ffebm.graph.graph import Graph, Part, Stage
from ffebm.graph.tensor import Array
from ffebm.hardware.description import Hardware


@dataclass(frozen=True)
class Tiling:
    """Cuts matrices into parts."""

    name: str = "tiling"
    requires: Stage = Stage.BLOCKED
    ensures: Stage = Stage.TILED

    def run(self, graph: Graph, hardware: Hardware) -> None:
        """Give every weight of a block its parts; a weight that several blocks share is cut once.

        A block that lies on no group of tiles yet gets the first.
        """
        first = hardware.analog[0].name
        graph.blocks = [block if block.group else replace(block, group=first) for block in graph.blocks]
        for block in graph.blocks:
            limits = hardware.analog_group(block.group).tile.size
            for _, interaction in block.interactions():
                linear = interaction.linear
                if linear is not None and linear.weight not in graph.parts:
                    graph.parts[linear.weight] = _cut(linear, graph.constants[linear.weight], limits)


def matrix_size(linear: Linear, weight: Array) -> tuple[int, int, int]:
    """Size of a weight's matrices: groups, inputs and outputs of one group."""
    if linear.op == "MatMul":
        n_in, n_out = weight.shape[::-1] if linear.transposed else weight.shape
        return 1, n_in, n_out
    first, rest = weight.shape[0] // linear.groups, weight[0].size
    return (linear.groups, rest, first) if linear.op == "Conv" else (linear.groups, first, rest)


def _cut(linear: Linear, weight: Array, limits: tuple[int, int] | None) -> tuple[Part, ...]:
    groups, n_in, n_out = matrix_size(linear, weight)
    rows, cols = limits or (n_in, n_out)
    return tuple(
        Part(linear.weight, group, inputs, outputs)
        for group in range(groups)
        for outputs in even_cuts(n_out, cols)
        for inputs in even_cuts(n_in, rows)
    )


def even_cuts(size: int, limit: int) -> list[tuple[int, int]]:
    """Ranges of at most `limit` that cover `size` evenly, larger ones first."""
    count = -(-size // limit)
    small, larger = divmod(size, count)
    ranges, start = [], 0
    for index in range(count):
        stop = start + small + (index < larger)
        ranges.append((start, stop))
        start = stop
    return ranges
