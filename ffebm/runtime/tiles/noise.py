"""Random numbers."""

from collections.abc import Sequence

import torch
from torch import Tensor


def normals(shape: Sequence[int], like: Tensor, generator: torch.Generator) -> Tensor:
    """Independent standard normal numbers, drawn where the generator lives.

    Args:
        shape: How many.
        like: Gives their type and device.
        generator: Their source; one on the CPU gives the same numbers to every device.
    """
    drawn = torch.randn(*shape, generator=generator, dtype=like.dtype, device=generator.device)
    return drawn.to(like.device)
