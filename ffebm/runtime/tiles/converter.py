"""Converters between digital numbers and the voltages and currents of lines.

Both kinds are signed and symmetric: `bits` give the codes -top ... top with top = 2^(bits - 1) - 1.
"""

import torch
from torch import Tensor


def top_code(bits: int) -> int:
    """The largest code of a signed converter."""
    return int(2 ** (bits - 1) - 1)


def drive(values: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """DACs: each vector, scaled to its own largest magnitude, as codes.

    Args:
        values: Vectors over lines, [..., lines, batch].
        bits: Resolution of the DACs.

    Returns:
        Codes, [..., lines, batch], and what the largest code stands for, [..., 1, batch]. A vector that is
        zero, or so small that its scale would overflow, has zero codes.
    """
    largest = values.abs().amax(dim=-2, keepdim=True)  # many times faster than torch's norms and aminmax
    scale = top_code(bits) / largest
    return (values * scale.masked_fill_(scale.isinf(), 0.0)).round_(), largest


def sense_(values: Tensor, bits: int) -> Tensor:
    """ADCs: clip and quantise in place.

    Args:
        values: In units of one code.
        bits: Resolution of the ADCs.

    Returns:
        How many were clipped, being half a code or more beyond the range; a scalar.
    """
    top = top_code(bits)
    values.round_()
    if _all_within(values, top):
        return torch.zeros((), dtype=torch.int64)
    clipped = values.abs().gt_(top).sum(-1).sum(dtype=torch.int64)
    values.clamp_(-top, top)
    return clipped


def _all_within(values: Tensor, top: int) -> bool:
    """A quick check that spares the counting of clipped values; not on devices, which it would wait for."""
    if values.device.type != "cpu" or not values.numel():
        return False
    low, high = values.aminmax()
    return bool(-top <= low and high <= top)
