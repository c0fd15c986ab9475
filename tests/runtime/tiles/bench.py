"""What the tests of tiles measure with: crossbars, pieces, random tensors."""

from typing import Any

import torch
from msgspec.structs import replace
from torch import Tensor

from ffebm.hardware.description import Crossbar, Drift, load_hardware
from ffebm.plan.schema import Piece
from tests.machines import ratio, seconds


def crossbar(*, levels: int = 128, bits: int = 8, programming: float = 0.0, reading: float = 0.0) -> Crossbar:
    """A crossbar of 8 x 6 whose ADCs reach every output."""
    tile = load_hardware("reference").analog[0].tile
    assert isinstance(tile, Crossbar)
    cell = replace(
        tile.cell,
        levels=levels,
        programming_noise=ratio(programming),
        read_noise=ratio(reading),
    )
    sized = replace(tile, rows=8, cols=6, cell=cell, adc_sigmas=ratio(100.0))
    return replace(sized, dac=replace(tile.dac, bits=bits), adc=replace(tile.adc, bits=bits))


def fine() -> Crossbar:
    """A crossbar that is exact to the precision of a float."""
    return crossbar(levels=2**24, bits=24)


def with_cell(tile: Crossbar, **effects: Any) -> Crossbar:
    """The same crossbar with other cells."""
    return replace(tile, cell=replace(tile.cell, **effects))


def with_dac(tile: Crossbar, **settings: Any) -> Crossbar:
    """The same crossbar with other DACs."""
    return replace(tile, dac=replace(tile.dac, **settings))


def with_adc(tile: Crossbar, **settings: Any) -> Crossbar:
    """The same crossbar with other ADCs."""
    return replace(tile, adc=replace(tile.adc, **settings))


def drift(exponent: float, spread: float = 0.0, elapsed: float = 1e4, *, compensated: bool = False) -> Drift:
    """Drift from one second on."""
    return Drift(
        exponent=ratio(exponent),
        spread=ratio(spread),
        start=seconds(1.0),
        elapsed=seconds(elapsed),
        compensation="global" if compensated else "none",
    )


def sized(tile: Crossbar, n_out: int, n_in: int) -> Crossbar:
    """The same crossbar in another size."""
    return replace(tile, rows=n_in, cols=n_out)


def clipping(tile: Crossbar, sigmas: float) -> Crossbar:
    """The same crossbar with ADCs of this range."""
    return replace(tile, adc_sigmas=ratio(sigmas))


def source(seed: int = 0) -> torch.Generator:
    """Random numbers."""
    return torch.Generator().manual_seed(seed)


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(*shape, generator=source(seed), dtype=dtype)


def convert(values: Tensor, full_scale: Tensor | float, bits: int) -> Tensor:
    """What any converter does: clip to the full scale, take the nearest of its values."""
    top = 2 ** (bits - 1) - 1
    steps = values / full_scale * top
    nearest: Tensor = steps.round().clamp(-top, top) / top * full_scale
    return nearest


def piece(group: int, inputs: tuple[int, int], outputs: tuple[int, int]) -> Piece:
    """One piece of a weight."""
    return Piece(id=0, weight="w", group=group, inputs=inputs, outputs=outputs, row=0, col=0)


def pieces(groups: int, n_out: int, n_in: int, tile: Crossbar, *, even: bool = True) -> list[Piece]:
    """The pieces of a weight: split evenly, or full ones first."""
    return [
        piece(group, inputs, outputs)
        for group in range(groups)
        for inputs in _cuts(n_in, tile.rows, even=even)
        for outputs in _cuts(n_out, tile.cols, even=even)
    ]


def _cuts(size: int, most: int, *, even: bool) -> list[tuple[int, int]]:
    count = -(-size // most)
    at = [size * k // count for k in range(count)] if even else list(range(0, size, most))
    return list(zip(at, [*at[1:], size], strict=True))
