import math

import pytest
import torch
from msgspec.structs import replace
from torch import Tensor

from ffebm.hardware.description import Crossbar
from ffebm.plan.conductance import adc_range, to_levels
from ffebm.runtime.tiles.crossbar import CrossbarTile
from ffebm.runtime.tiles.lines.converter import drive, line_errors, top_code
from ffebm.runtime.tiles.lines.readout import readout
from ffebm.runtime.tiles.tile import Readings
from tests.machines import ratio
from tests.runtime.tiles.bench import (
    clipping,
    convert,
    crossbar,
    random,
    sized,
    source,
    with_adc,
    with_cell,
    with_dac,
)

SIGMA = 0.02
READS = 20_000


def noise_at_outputs(
    held: Tensor, x: Tensor, kind: Crossbar | None = None, *, transposed: bool = False
) -> Tensor:
    """What a readout adds to one vector, read many times, [reads, n_out]."""
    kind = crossbar(bits=24, reading=SIGMA) if kind is None else kind
    scale = torch.ones(1, 1, dtype=held.dtype)
    limit = 100 * adc_range(to_levels(held, scale, kind), kind)
    array = readout(held, scale, limit, kind, transposed=transposed)
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
    array = readout(held, scale, adc_range(to_levels(held, torch.ones(1, 1), kind), kind), kind)
    x = random(*(1 if d in shared else n for d, n in enumerate((2, 3, 4))), 7, 6, seed=2)
    found, _ = array.read(x, source())
    alone, _ = array.read(x.expand(2, 3, 4, 7, 6).contiguous(), source())
    assert torch.equal(found, alone)
    codes, largest = drive(x.mT, 8)
    driven = (codes * largest / top_code(8)).mT
    step = array.gain * largest.mT
    assert ((found - driven @ (held * scale).mT).abs() <= step * 0.500001).all()


OFFSET = replace(crossbar(bits=24, reading=SIGMA), mapping="offset")


def test_noise_of_an_offset_column_is_common_to_the_lines() -> None:
    held, x = random(3, 7).clamp(-0.5, 0.5), random(7, seed=2)
    found = noise_at_outputs(held, x, OFFSET)
    expected = math.sqrt(2) * SIGMA * float(x.norm())
    assert found.std(0).tolist() == pytest.approx([expected] * 3, rel=0.02)
    lines = torch.corrcoef(found.T)
    assert (lines - 0.5 * (1 + torch.eye(3))).abs().max() < 5 / READS**0.5
    # the direct form: a cell of each line, and one of the column for all
    cells = torch.randn(READS, 4, 7, generator=source(1), dtype=held.dtype) * SIGMA
    direct = torch.einsum("roi,i->ro", cells[:, :3] - cells[:, 3:], x)
    assert (torch.cov(found.T) - torch.cov(direct.T)).abs().max() < 0.05 * expected**2


def test_backwards_the_column_is_driven_with_the_sum() -> None:
    held, y = random(7, 3).clamp(-0.5, 0.5), random(3, seed=2)
    found = noise_at_outputs(held, y, OFFSET, transposed=True)
    expected = SIGMA * math.sqrt(float(y.square().sum() + y.sum() ** 2))
    assert found.std(0).tolist() == pytest.approx([expected] * 7, rel=0.02)
    lines = torch.corrcoef(found.T)
    assert (lines - torch.eye(7)).abs().max() < 5 / READS**0.5
    cells = torch.randn(READS, 4, 7, generator=source(1), dtype=held.dtype) * SIGMA
    direct = torch.einsum("roi,o->ri", cells[:, :3] - cells[:, 3:], y)
    assert (torch.cov(found.T) - torch.cov(direct.T)).abs().max() < 0.05 * expected**2


def test_input_slices_are_read_one_by_one() -> None:
    kind = with_dac(crossbar(bits=7), slice_bits=2)  # 6 bits of magnitude, in 3 slices
    held, scale = random(4, 6).clamp(-1, 1), torch.full((1, 1), 2.5, dtype=torch.float64)
    limit = adc_range(to_levels(held, torch.ones(1, 1), kind), kind)
    x = random(5, 6, seed=2)
    found, _ = readout(held, scale, limit, kind).read(x, source())
    codes, largest = drive(x.mT, 7)
    expected = torch.zeros(4, 5, dtype=torch.float64)
    for k in range(3):
        digits = codes.sign() * (codes.abs() // 4**k % 4)
        expected += 4**k * 3 * convert(held @ (digits / 3), limit, 7)
    assert torch.allclose(found, (expected * scale * largest / 63).mT)
    assert not torch.allclose(found, readout(held, scale, limit, crossbar(bits=7)).read(x, source())[0])


@pytest.mark.parametrize("slice_bits", [None, 1, 2])
def test_a_range_by_level_reads_whole_sums_exactly(slice_bits: int | None) -> None:
    kind = with_dac(with_adc(crossbar(levels=4, bits=4), range="level", bits=12), slice_bits=slice_bits)
    held, x = random(5, 6).mul(3).round().clamp(-3, 3) / 3, random(4, 6, seed=2)
    array = readout(held, torch.ones(1, 1).double(), adc_range(held * 3, kind), kind)
    codes, largest = drive(x.mT, 4)
    found, clipped = array.read(x, source())
    assert int(clipped) == 0
    torch.testing.assert_close(found, (held @ codes * largest / 7).mT)


@pytest.mark.parametrize("slice_bits", [None, 3])
def test_converters_add_their_offsets_and_have_their_gains(slice_bits: int | None) -> None:
    """In the limit of fine converters: adc(gain, offset) of W dac(gain, offset) of x."""
    errors = {"gain": ratio(0.05), "offset": ratio(0.02)}
    kind = with_dac(with_adc(crossbar(bits=22), **errors), **errors, slice_bits=slice_bits)
    held, scale = random(2, 4, 6).clamp(-1, 1), torch.full((2, 1, 1), 2.5, dtype=torch.float64)
    limit = 3 * adc_range(to_levels(held, torch.ones(1, 1), kind), kind)
    x = random(2, 5, 6, seed=2)
    found, _ = readout(held, scale, limit, kind, name="a").read(x, source())
    dac, adc = line_errors(kind.dac, (2, 6), held, "a/dac"), line_errors(kind.adc, (2, 4), held, "a/adc")
    assert dac.gain is not None
    assert dac.offset is not None
    assert adc.gain is not None
    assert adc.offset is not None
    largest = x.abs().amax(-1, keepdim=True)
    # each slice of an input meets the offsets anew, with its own factor
    top = top_code(22)
    reads = 1.0 if slice_bits is None else sum(8**k for k in range(7)) * 7 / top
    driven = dac.gain.mT * (x / largest) + reads * dac.offset.mT
    sensed = adc.gain.mT * (driven @ held.mT) + reads * limit * adc.offset.mT
    torch.testing.assert_close(found, sensed * scale * largest, rtol=1e-3, atol=1e-3)
    assert bool((readout(held, scale, limit, kind, name="a").read(0 * x, source())[0] == 0).all())


def test_read_noise_goes_through_the_gains_of_the_adcs() -> None:
    kind = with_adc(crossbar(bits=24, reading=SIGMA), gain=ratio(0.2))
    held, x = random(4, 7).clamp(-1, 1), random(7, seed=2)
    limit = 100 * adc_range(to_levels(held, torch.ones(1, 1), kind), kind)
    out, _ = readout(held, torch.ones(1, 1).double(), limit, kind, name="a").read(
        x.expand(READS, -1), source()
    )
    gain = line_errors(kind.adc, (4,), held, "a/adc").gain
    assert gain is not None
    assert float((gain - 1).abs().max()) > 0.2
    expected = gain[:, 0].abs() * math.sqrt(2) * SIGMA * float(x.norm())
    assert out.std(0).tolist() == pytest.approx(expected.tolist(), rel=0.02)


def test_each_input_slice_is_a_reading_that_may_be_clipped() -> None:
    kind = with_dac(clipping(crossbar(bits=7), 0.3), slice_bits=2)
    tile, weight, x = CrossbarTile(sized(kind, 4, 6), source()), random(4, 6), random(50, 6, seed=2)
    tile.program(weight)
    assert tile.readings() == Readings()
    tile.mvm(x)
    held = tile.read() / weight.abs().max()
    limit = adc_range(to_levels(weight, weight.abs().max().view(1, 1), kind), kind)
    codes, _ = drive(x.mT, 7)
    beyond = []
    for k in range(3):
        digits = codes.sign() * (codes.abs() // 4**k % 4)
        beyond.append(int(((held @ (digits / 3)).abs() * 63 / limit >= 63.5).sum()))
    assert all(0 < count < 200 for count in beyond)
    assert tile.readings() == Readings(3 * 200, sum(beyond))


def reading(kind: Crossbar, share: float) -> Crossbar:
    return with_adc(kind, noise=ratio(share))


@pytest.mark.parametrize("transposed", [False, True])
def test_each_reading_of_an_adc_adds_a_share_of_its_range(*, transposed: bool) -> None:
    held, x = random(3, 7).clamp(-1, 1), random(7, seed=2)
    kind, scale = reading(crossbar(bits=24), 0.004), torch.ones(1, 1, dtype=held.dtype)
    limit = 100 * adc_range(to_levels(held, scale, kind), kind)
    out, _ = readout(held, scale, limit, kind, transposed=transposed).read(x.expand(READS, -1), source())
    found, expected = out - x @ held.T, 0.004 * float(limit) * float(x.abs().max())
    assert found.mean(0).abs().max() < 4 * expected / READS**0.5
    assert found.std(0).tolist() == pytest.approx([expected] * 3, rel=0.02)
    assert (torch.corrcoef(found.T) - torch.eye(3)).abs().max() < 4 / READS**0.5


def test_noise_of_cells_and_of_adcs_add_in_quadrature_and_slices_read_anew() -> None:
    held, x = random(3, 7).clamp(-1, 1), random(7, seed=2)
    kind = reading(crossbar(bits=24, reading=SIGMA), 0.0005)
    scale = torch.ones(1, 1, dtype=held.dtype)
    limit = 100 * adc_range(to_levels(held, scale, kind), kind)
    own = 0.0005 * float(limit) * float(x.abs().max())
    cells = math.sqrt(2) * SIGMA * float(x.norm())
    assert noise_at_outputs(held, x, kind).std(0).tolist() == pytest.approx(
        [math.hypot(own, cells)] * 3, rel=0.02
    )
    sliced = reading(with_dac(crossbar(bits=7), slice_bits=3), 0.01)
    fine_ = with_adc(sliced, bits=24)
    factors = math.hypot(1.0, 8.0)  # of the readings of two slices of 3 bits
    limit = 100 * adc_range(to_levels(held, scale, fine_), fine_)
    array = readout(held, scale, limit, fine_)
    out, _ = array.read(x.expand(READS, -1), source())
    assert array.noise == pytest.approx(0.01 * top_code(24))
    expected = float(array.gain * array.noise) * factors * float(x.abs().max())
    assert out.std(0).tolist() == pytest.approx([expected] * 3, rel=0.02)


def bent(kind: Crossbar, nonlinearity: float) -> Crossbar:
    return with_cell(kind, nonlinearity=ratio(nonlinearity))


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("nonlinearity", [2.5, 10.0])
def test_cells_that_are_no_resistors_carry_the_sinh_of_their_voltage(
    nonlinearity: float, *, transposed: bool
) -> None:
    """Closed form: half the voltage gives the current over the ratio; brute force: a sum over cells."""
    kind = bent(crossbar(levels=2**24, bits=24), nonlinearity)
    tile = CrossbarTile(kind, source())
    weight = random(5, 7)
    tile.program(weight)
    held, k = tile.read(), kind.cell.steepness
    assert math.sinh(k) / math.sinh(k / 2) == pytest.approx(nonlinearity)
    x = random(4, 5 if transposed else 7)
    largest = x.abs().amax(1, keepdim=True)
    driven = largest * (k * x / largest).sinh() / math.sinh(k)
    found, expected = (tile.mvm_t(x), driven @ held) if transposed else (tile.mvm(x), driven @ held.T)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    ends = torch.tensor([[1.0, 0, 0, 0, 0, 0, 0], [1.0, 0.5, 0, 0, 0, 0, 0]], dtype=torch.float64)
    one, half = tile.mvm(ends)
    torch.testing.assert_close(half - one, held[:, 1] / nonlinearity, rtol=1e-3, atol=1e-4)


def test_a_ratio_of_two_is_a_resistor() -> None:
    kinds = crossbar(), bent(crossbar(), 2.0)
    x, weight = random(4, 7), random(5, 7)
    out = []
    for kind in kinds:
        tile = CrossbarTile(kind, source(), "w")
        tile.program(weight)
        out.append(tile.mvm(x))
    assert torch.equal(*out)


def test_one_bit_slices_of_inputs_do_not_meet_the_law() -> None:
    x, weight, out = random(4, 7), random(5, 7), []
    for kind in (crossbar(bits=8), bent(crossbar(bits=8), 8.0)):
        tile = CrossbarTile(with_adc(with_dac(kind, slice_bits=1), range="maximal", bits=24), source(), "w")
        tile.program(weight)
        out.append(tile.mvm(x))
    torch.testing.assert_close(*out, rtol=1e-5, atol=1e-5)


def test_errors_of_dacs_are_in_the_voltages() -> None:
    kind = bent(crossbar(levels=2**24, bits=24), 6.0)
    kind = with_dac(kind, gain=ratio(0.05), offset=ratio(0.02))
    held = random(5, 7).clamp(-1, 1)
    scale = torch.ones(1, 1, dtype=held.dtype)
    limit = 100 * adc_range(to_levels(held, scale, kind), kind)
    array = readout(held, scale, limit, kind, name="w")
    x, k = random(4, 7), kind.cell.steepness
    largest = x.abs().amax(1, keepdim=True)
    errors = line_errors(kind.dac, (7,), held, "w/dac")
    assert errors.gain is not None
    assert errors.offset is not None
    voltages = x / largest * errors.gain[:, 0] + errors.offset[:, 0]
    expected = largest * ((k * voltages).sinh() / math.sinh(k)) @ held.T
    torch.testing.assert_close(array.read(x, source())[0], expected, rtol=1e-3, atol=1e-3)


def test_read_noise_follows_the_current_and_ranges_the_law() -> None:
    held, x = random(3, 7).clamp(-1, 1), random(7, seed=2)
    kind = bent(crossbar(bits=24, reading=SIGMA), 10.0)
    k, largest = kind.cell.steepness, x.abs().max()
    driven = largest * (k * x / largest).sinh() / math.sinh(k)
    noise = noise_at_outputs(held, x, kind) + x @ held.T - driven @ held.T
    expected = math.sqrt(2) * SIGMA * float(driven.norm())
    assert noise.std(0).tolist() == pytest.approx([expected] * 3, rel=0.02)
    u = torch.linspace(-1, 1, 100_001, dtype=torch.float64)
    power = float(((k * u).sinh() / math.sinh(k)).square().mean())
    assert kind.cell.driven_power == pytest.approx(power, rel=1e-3)
    assert (
        bent(kind, 2.0).cell.driven_power == bent(kind, 2.0 + 1e-9).cell.driven_power == pytest.approx(1 / 3)
    )
