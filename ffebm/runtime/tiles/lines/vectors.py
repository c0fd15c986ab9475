"""What a linear map puts on the lines of its tile."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ffebm.graph.energy_block import Linear
from ffebm.runtime.tiles.unfolding import Unfolding


@dataclass(frozen=True)
class Pairs:
    """Values at both ends of a linear map; the gradient of its weight is that of <y, W z>.

    Attributes:
        linear: The map.
        z: At its input, [pairs, *in], all of a sample beside each other.
        y: At its output, [pairs, *out].
    """

    linear: Linear
    z: Tensor
    y: Tensor


def line_vectors(linear: Linear, z: Tensor, y: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Vectors on word and bit lines whose outer products make up the gradient of <y, W z>.

    A convolution has a pair for each window, all those of a sample beside each other.

    Args:
        linear: The map.
        z: Values at its input, [batch, *in].
        y: Values at its output, [batch, *out].
        weight: W, for its shape.

    Returns:
        x, [groups, pairs, n_in], and d, [groups, pairs, n_out]: the gradient is the sum of d x^T.
    """
    if linear.op == "MatMul":
        return z.flatten(0, -2)[None], y.flatten(0, -2)[None]
    window = Unfolding.of(linear, weight)
    wide, narrow = (z, y) if linear.op == "Conv" else (y, z)
    counts = narrow.shape[2:]
    columns = window.unfold(window.padded(wide), tuple(slice(0, n) for n in counts))
    windows = _by_group(columns.flatten(0, len(counts)), linear.groups)
    pixels = _by_group(narrow.transpose(0, 1), linear.groups)
    return (windows, pixels) if linear.op == "Conv" else (pixels, windows)


def _by_group(lines: Tensor, groups: int) -> Tensor:
    """[lines, batch, *counts] -> [groups, batch * counts, lines of a group]."""
    return torch.stack(lines.flatten(1).chunk(groups)).mT
