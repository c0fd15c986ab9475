"""Outer products by pulses: coincidences of stochastic pulse trains on both lines of an array."""

from collections.abc import Iterator
from math import prod

import torch
from torch import Tensor

CHUNK = 2**22
"""Slots of trains that are drawn at once, 16 MiB of float32; more draws than one are the same law."""


def coincidences(x: Tensor, d: Tensor, most: int, generator: torch.Generator) -> Iterator[Tensor]:
    """What the pulses of one outer product after the other are at each crossing, with their sign.

    Every line has one train for all its cells, in whose slots pulses come with a chance that is in proportion
    to the value on it. A crossing is pulsed in the slots in which both of its lines are. With x' and d' the
    largest magnitudes of a pair and k = x' d' the pulses that its largest product asks for, trains have

        L = min(most, ceil(k)) slots,
        chances min(1, sqrt(k / L) |x| / x') and min(1, sqrt(k / L) |d| / d'),

    so that the mean of the coincidences is |d x| wherever k is at most `most`, and less above it.

    Args:
        x: Vectors on word lines, [..., pairs, n_in].
        d: Those on bit lines, of the same arrays, [..., pairs, n_out]; d x counts pulses.
        most: The longest train.
        generator: Source of the trains.

    Yields:
        Coincidences with the sign of d x, [..., n_out, n_in], of one pair after the other.

    Source: Gokmen & Vlasov 2016 (arXiv 1603.07341), eq. 2, with the update management of IBM/aihwkit,
    src/rpucuda/rpu_pulsed_meta_parameter.cpp.
    """
    pairs, arrays = x.shape[-2], prod(x.shape[:-2])
    slots = max(1, most) * (x.shape[-1] + d.shape[-1]) * max(1, arrays)
    at_once = max(1, CHUNK // slots)
    for start in range(0, pairs, at_once):
        part = slice(start, start + at_once)
        across, along = _trains(x[..., part, :], d[..., part, :], most, generator)
        for pair in range(across.shape[-3]):
            yield along[..., pair, :, :].mT @ across[..., pair, :, :]


def _trains(x: Tensor, d: Tensor, most: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Trains on both lines, with the signs of their values: [..., pairs, slots, n_in] and [..., n_out]."""
    ends = [values.abs().amax(-1, keepdim=True) for values in (x, d)]
    wanted = ends[0] * ends[1]
    length = wanted.ceil().clamp_(max=most)
    chance = (wanted / length.clamp(min=1.0)).sqrt_()
    slots = torch.arange(int(length.max()) if length.numel() else 0, device=x.device)
    runs = slots[:, None] < length[..., None]  # [..., pairs, slots, 1]

    def train(values: Tensor, end: Tensor) -> Tensor:
        chances = values.abs() * (chance / end.clamp(min=torch.finfo(values.dtype).tiny))
        shape = (*values.shape[:-1], len(slots), values.shape[-1])
        drawn = torch.rand(shape, generator=generator, dtype=values.dtype, device=generator.device)
        comes = (drawn.to(values.device) < chances[..., None, :]) & runs
        return comes * values.sign()[..., None, :]

    return train(x, ends[0]), train(d, ends[1])
