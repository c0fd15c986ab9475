import math

import pytest
import torch
from torch import Tensor

from ffebm.conductance import adc_range, to_levels
from ffebm.runtime.tiles.converter import drive, top_code
from ffebm.runtime.tiles.readout import readout
from tests.runtime.tiles.bench import crossbar, random, source

SIGMA = 0.02
READS = 20_000


def noise_at_outputs(held: Tensor, x: Tensor) -> Tensor:
    """What a readout adds to one vector, read many times, [reads, n_out]."""
    kind = crossbar(bits=24, reading=SIGMA)
    scale = torch.ones(1, 1, dtype=held.dtype)
    limit = 100 * adc_range(to_levels(held, scale, 128), kind)
    array = readout(held, scale, limit, kind)
    out, clipped = array.read(x.expand(READS, -1), source())
    assert int(clipped) == 0
    return out - x @ held.T


def noise_in_cells(held: Tensor, x: Tensor) -> Tensor:
    """The direct form: every cell of every pair misses its conductance anew at each read."""
    cells = torch.randn(2, READS, *held.shape, generator=source(1), dtype=held.dtype) * SIGMA
    return torch.einsum("roi,i->ro", cells[0] - cells[1], x)


@pytest.mark.parametrize("draw", [noise_at_outputs, noise_in_cells])
def test_read_noise_has_the_described_mean_and_deviation(draw: object) -> None:
    held, x = random(3, 7).clamp(-1, 1), random(7, seed=2)
    found = noise_at_outputs(held, x) if draw is noise_at_outputs else noise_in_cells(held, x)
    expected = math.sqrt(2) * SIGMA * float(x.norm())
    assert found.mean(0).abs().max() < 4 * expected / READS**0.5
    assert found.std(0).tolist() == pytest.approx([expected] * 3, rel=0.02)


def test_both_forms_have_the_same_distribution() -> None:
    held, x = random(1, 7).clamp(-1, 1), random(7, seed=2)
    cheap, direct = noise_at_outputs(held, x).flatten(), noise_in_cells(held, x).flatten()
    at = torch.linspace(float(direct.min()), float(direct.max()), 200, dtype=held.dtype)
    share = [torch.searchsorted(v.sort().values, at) / READS for v in (cheap, direct)]
    # Kolmogorov-Smirnov: 1.95 sqrt(2 / n) is passed by chance once in a thousand
    assert (share[0] - share[1]).abs().max() < 1.95 * math.sqrt(2 / READS)


def test_outputs_and_reads_are_independent() -> None:
    found = noise_at_outputs(random(3, 7).clamp(-1, 1), random(7, seed=2))
    lines = torch.corrcoef(found.T)
    assert (lines - torch.eye(3)).abs().max() < 4 / READS**0.5
    reads = torch.corrcoef(torch.stack([found[:-1, 0], found[1:, 0]]))
    assert abs(float(reads[0, 1])) < 4 / READS**0.5


def test_a_vector_of_zeros_reads_zero() -> None:
    assert noise_at_outputs(random(3, 7).clamp(-1, 1), torch.zeros(7).double()).abs().max() == 0


@pytest.mark.parametrize("shared", [(), (0,), (1,), (2,), (0, 2), (0, 1, 2)])
def test_arrays_that_share_inputs_read_as_if_each_had_its_own(shared: tuple[int, ...]) -> None:
    kind = crossbar()
    held = random(2, 3, 4, 5, 6).clamp(-1, 1)
    scale = random(2, 3, 4, 1, 1, seed=1).abs()
    array = readout(held, scale, adc_range(to_levels(held, torch.ones(1, 1), 128), kind), kind)
    x = random(*(1 if d in shared else n for d, n in enumerate((2, 3, 4))), 7, 6, seed=2)
    found, _ = array.read(x, source())
    alone, _ = array.read(x.expand(2, 3, 4, 7, 6).contiguous(), source())
    assert torch.equal(found, alone)
    codes, largest = drive(x.mT, 8)
    driven = (codes * largest / top_code(8)).mT
    step = array.gain * largest.mT
    assert ((found - driven @ (held * scale).mT).abs() <= step * 0.500001).all()
