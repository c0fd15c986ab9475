"""Learning in place: what pulses do to a cell pair."""

import torch
from torch import Tensor

from ffebm.hardware.description import Update
from ffebm.runtime.tiles.noise import normals


def pulsed(
    weight: Tensor, change: Tensor, law: Update, generator: torch.Generator, factor: Tensor | None = None
) -> Tensor:
    """Weights after the pulses that a change asks for.

    A change asks for n = |change| / pulse pulses; n is rounded up or down at random so that its mean is kept,
    and is at most `pulses`. With a the asymmetry, a pulse up moves a weight w by pulse (1 + a) (1 - w), one
    down by - pulse (1 - a) (1 + w) between soft bounds, so that n of them lead to

        up:   1 - (1 - w) (1 - pulse (1 + a))^n,      down:   -1 + (1 + w) (1 - pulse (1 - a))^n;

    between hard bounds by pulse (1 + a) and - pulse (1 - a). Each pulse varies by `noise` of its size, all n
    by noise / sqrt(n) of their sum. Between soft bounds, pulses up and down are equal at w = a, the symmetric
    point.

    Args:
        weight: From -1 to 1.
        change: Wanted, in the same unit and shape.
        law: The device.
        generator: Source of rounding and noise.
        factor: By which the pulses of each pair differ, for good; None is 1.

    Source: Gokmen & Vlasov 2016 (arXiv 1603.07341): pulses and their noise; IBM/aihwkit, SoftBoundsDevice.
    """
    up = change > 0
    chance = torch.rand(*change.shape, generator=generator, dtype=change.dtype, device=generator.device)
    n = (change.abs() / law.pulse.value + chance.to(change.device)).floor_().clamp_(max=law.pulses)
    a, size = law.asymmetry.value, law.pulse.value
    step = torch.where(up, size * (1 + a), size * (1 - a)).to(weight.dtype)
    if law.bounds == "soft":
        towards = torch.where(up, 1.0, -1.0).to(weight.dtype)
        moved = (towards - weight) * (1.0 - (1.0 - step).pow(n))
    else:
        moved = torch.where(up, n, -n) * step
    if factor is not None:
        moved = moved * factor
    if law.noise.value:
        drawn = normals(moved.shape, moved, generator)
        moved = moved * drawn.mul_(law.noise.value / n.clamp(min=1.0).sqrt()).add_(1.0)
    return (weight + moved).clamp_(-1.0, 1.0)
