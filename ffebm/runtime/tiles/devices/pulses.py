"""Learning in place: what pulses do to a cell pair."""

import torch
from torch import Tensor

from ffebm.hardware.description import ExponentialStep, LinearStep, Update
from ffebm.runtime.tiles.noise import normals

Slopes = tuple[Tensor, Tensor]
"""By which share a pulse up, and one down, of each cell is smaller at its bound than at 0."""


def pulsed(
    weight: Tensor,
    change: Tensor,
    law: Update,
    generator: torch.Generator,
    factor: Tensor | None = None,
    slopes: Slopes | None = None,
) -> Tensor:
    """Weights after the pulses that a change asks for.

    A change asks for n = |change| / pulse pulses; n is rounded up or down at random so that its mean is kept,
    and is at most `pulses`. With a the asymmetry, a pulse up moves a weight w by pulse (1 + a) u(w), one down
    by - pulse (1 - a) d(w):

        soft bounds:       u = 1 - w,                           d = 1 + w
        hard bounds:       u = 1,                               d = 1
        linear step:       u = 1 - up w,                        d = 1 + down w
        exponential step:  u = max(0, 1 - A_up exp(g_up z)),    d = max(0, 1 - A_down exp(-g_down z))

    with z = slope w + offset; weights end at the bounds. Each pulse varies by `noise` of its size, all n by
    noise / sqrt(n) of their sum. Pulses up and down are equal at the symmetric point, w = a between soft
    bounds.

    Args:
        weight: From -1 to 1.
        change: Wanted, in the same unit and shape.
        law: The device.
        generator: Source of rounding and noise.
        factor: By which the pulses of each pair differ, for good; None is 1.
        slopes: Of a linear step, of each pair; None are those of the law.

    Source: Gokmen & Vlasov 2016 (arXiv 1603.07341): pulses and their noise; IBM/aihwkit, SoftBoundsDevice,
    LinearStepDevice, ExpStepDevice.
    """
    chance = torch.rand(*change.shape, generator=generator, dtype=change.dtype, device=generator.device)
    n = (change.abs() / law.pulse.value + chance.to(change.device)).floor_().clamp_(max=law.pulses)
    return _after(weight, change > 0, n, law, generator, factor, slopes)


def struck_(
    weight: Tensor,
    counts: Tensor,
    law: Update,
    generator: torch.Generator,
    factor: Tensor | None = None,
    slopes: Slopes | None = None,
) -> None:
    """Move weights, in place, by whole pulses; see `pulsed`. Cells without a pulse are not looked at.

    Args:
        weight: From -1 to 1; contiguous.
        counts: Pulses of each, up if positive.
        law: The device.
        generator: Source of noise.
        factor: As for `pulsed`.
        slopes: As for `pulsed`.
    """
    where = counts.flatten().nonzero().squeeze(1)

    def there(values: Tensor) -> Tensor:
        return values.flatten()[where]

    n = there(counts)
    found = _after(
        there(weight),
        n > 0,
        n.abs(),
        law,
        generator,
        None if factor is None else there(factor),
        None if slopes is None else (there(slopes[0]), there(slopes[1])),
    )
    weight.view(-1)[where] = found


def _after(  # noqa: PLR0913 -- as for `pulsed`
    weight: Tensor,
    up: Tensor,
    n: Tensor,
    law: Update,
    generator: torch.Generator,
    factor: Tensor | None,
    slopes: Slopes | None,
) -> Tensor:
    """Weights after n pulses each, up or down."""
    moved = _moved(weight, up, n, law, slopes)
    if factor is not None:
        moved = moved * factor
    if law.noise.value:
        drawn = normals(moved.shape, moved, generator)
        moved = moved * drawn.mul_(law.noise.value / n.clamp(min=1.0).sqrt()).add_(1.0)
    return (weight + moved).clamp_(-1.0, 1.0)


def _moved(weight: Tensor, up: Tensor, n: Tensor, law: Update, slopes: Slopes | None) -> Tensor:
    """What n pulses of a pair without noise add to its weight."""
    a, size, kind = law.asymmetry.value, law.pulse.value, law.step
    step = _either(up, size * (1 + a), size * (1 - a), weight)
    if isinstance(kind, ExponentialStep):
        return _one_by_one(weight, up, n, step, kind) - weight
    if law.bounds == "soft":
        slope: Tensor | None = torch.ones_like(weight)
    elif isinstance(kind, LinearStep):
        ups, downs = slopes if slopes is not None else (kind.up.value, kind.down.value)
        slope = _either(up, ups, downs, weight)
    else:
        slope = None
    sign = _either(up, 1.0, -1.0, weight)
    if slope is None:
        return sign * n * step
    # each pulse leaves the share 1 - step slope of the way to where pulses vanish, sign / slope
    flat = slope * step < 1e-6
    shrunk = 1.0 - (1.0 - step * slope).pow(n)
    some = slope.masked_fill(flat, 1.0)
    return torch.where(flat, sign * n * step * (1.0 - sign * slope * weight), (sign / some - weight) * shrunk)


def _one_by_one(weight: Tensor, up: Tensor, n: Tensor, step: Tensor, law: ExponentialStep) -> Tensor:
    """Weights after n pulses of an exponential step, which have no closed sum."""
    sign = _either(up, 1.0, -1.0, weight)
    height = _either(up, law.up, law.down, weight)
    exponent = _either(up, law.exponent_up, -law.exponent_down, weight)
    for pulse in range(int(n.max()) if n.numel() else 0):
        z = weight * law.slope + law.offset
        size = (1.0 - height * (exponent * z).exp()).clamp_(min=0.0) * step
        weight = torch.where(n > pulse, weight + sign * size, weight).clamp(-1.0, 1.0)
    return weight


def _either(up: Tensor, ups: Tensor | float, downs: Tensor | float, like: Tensor) -> Tensor:
    """One of two for each pair, in the precision of the weights."""
    first, second = (torch.as_tensor(value, dtype=like.dtype, device=like.device) for value in (ups, downs))
    return torch.where(up, first, second)
