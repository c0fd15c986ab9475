"""Random numbers: those of a run, and those that were drawn when a machine was made."""

import hashlib
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


def machine_source(name: str) -> torch.Generator:
    """Randomness of a part of a machine: the same whenever that part is looked at.

    Args:
        name: Of the machine and of the part.
    """
    digest = hashlib.sha256(name.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def machine_normals(shape: Sequence[int], like: Tensor, name: str) -> Tensor:
    """Standard normal numbers that belong to a part of a machine, of the type and on the device of `like`."""
    drawn = torch.randn(*shape, generator=machine_source(name), dtype=torch.float64)
    return drawn.to(like.device, like.dtype)
