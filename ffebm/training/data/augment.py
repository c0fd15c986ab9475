"""Random changes of training images."""

import torch
from torch import Tensor


def augmented(x: Tensor, flip: bool, crop: int, generator: torch.Generator) -> Tensor:
    """Images, each mirrored left to right with probability 1/2, and shifted as a random crop shifts it.

    Args:
        x: Images, [batch, channels, height, width].
        flip: Whether to mirror.
        crop: Pixels by which the edge is repeated on each side before the crop; 0 crops nothing.
        generator: Of the random numbers, on the CPU so that they do not depend on the device.
    """
    if not flip and not crop:
        return x
    n, height, width = x.shape[0], x.shape[2], x.shape[3]
    shift = torch.randint(-crop, crop + 1, (2, n, 1), generator=generator)
    rows = (torch.arange(height) + shift[0]).clamp(0, height - 1)  # beyond the edge lies the edge again
    columns = (torch.arange(width) + shift[1]).clamp(0, width - 1)
    if flip:
        mirrored = torch.rand(n, 1, generator=generator) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    rows, columns = rows.to(x.device), columns.to(x.device)
    taken = x.gather(2, rows[:, None, :, None].expand(-1, x.shape[1], -1, width))
    return taken.gather(3, columns[:, None, None, :].expand(-1, x.shape[1], height, -1))
