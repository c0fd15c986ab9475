import math
from collections.abc import Callable
from typing import Any

import numba
import pytest
import torch
from msgspec.structs import replace
from torch import Tensor

from ffebm.hardware.description import Crossbar
from ffebm.plan.conductance import adc_range, to_levels
from ffebm.runtime.tiles.lines import fused
from ffebm.runtime.tiles.lines.converter import ReadLines
from ffebm.runtime.tiles.lines.readout import Readout, readout
from tests.machines import ratio
from tests.runtime.tiles.bench import crossbar, source

SIGMA = 0.02


def array(kind: Crossbar, *shape: int, transposed: bool = False, beyond: float = 1.0) -> Readout:
    """Cells of some arrays, [..., n_out, n_in]; ranges of ADCs so many times those of uniform inputs."""
    held = torch.randn(shape, generator=source(3)).clamp(-1, 1)
    scale = torch.ones(*shape[:-2], 1, 1)
    limit = beyond * adc_range(to_levels(held, scale, kind), kind)
    return readout(held, scale, limit, kind, transposed=transposed, name="w")


def both(
    one: Readout, x: Tensor, monkeypatch: pytest.MonkeyPatch, limit: Tensor | None = None
) -> list[tuple[Tensor, Tensor]]:
    """What one pass each and torch read."""
    found = [one.read(x, source(), limit=limit)]
    with monkeypatch.context() as patch:
        patch.setattr(Readout, "_is_fused", lambda *_: False)
        found.append(one.read(x, source(), limit=limit))
    return found


def vectors(*shape: int) -> Tensor:
    return torch.randn(shape, generator=source(5))


def with_errors(kind: Crossbar) -> Crossbar:
    gain, offset = (ratio(value) for value in (0.02, 0.01))
    dac, adc = (replace(c, gain=gain, offset=offset) for c in (kind.dac, kind.adc))
    return replace(kind, dac=dac, adc=adc)


LAYOUTS: dict[str, Callable[[], Tensor]] = {
    "arrays share their vectors": lambda: vectors(2, 1, 700, 9),
    "each array has its own": lambda: vectors(2, 3, 5, 9),
    "vectors lie apart": lambda: vectors(2, 1, 9, 1400).mT[..., ::2, :],
    "lines lie apart": lambda: vectors(2, 1, 700, 18)[..., ::2],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("change", [lambda kind: kind, with_errors])
def test_without_noise_one_pass_gives_the_codes_of_torch(
    layout: str, change: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = array(change(crossbar(bits=6)), 2, 3, 4, 9, beyond=0.4)
    (found, clipped), (expected, lost) = both(one, LAYOUTS[layout](), monkeypatch)
    assert torch.equal(found, expected)
    assert int(clipped) == int(lost) > 0


def test_a_range_of_the_dacs_clips_as_in_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    one = array(crossbar(bits=6), 4, 9)
    (found, _), (expected, _) = both(one, vectors(30, 9), monkeypatch, torch.full((1, 1), 0.5))
    assert torch.equal(found, expected)


@pytest.mark.parametrize("value", [0.0, 1e-42, math.inf, math.nan])
def test_strange_vectors_read_as_in_torch(value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    x = vectors(6, 9)
    x[2] = value
    x[4, 3] = value
    (found, _), (expected, _) = both(array(crossbar(bits=6), 4, 9), x, monkeypatch)
    assert torch.equal(found[[0, 1, 3, 5]], expected[[0, 1, 3, 5]])
    assert torch.equal(found.isfinite(), expected.isfinite())
    assert torch.equal(found.nan_to_num(), expected.nan_to_num())


@pytest.mark.parametrize("mapping", ["differential", "offset"])
@pytest.mark.parametrize("transposed", [False, True])
def test_noise_has_the_moments_that_torch_draws(
    mapping: Any, transposed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = replace(crossbar(bits=16, reading=SIGMA), mapping=mapping)
    one = array(kind, 2, 3, 8, transposed=transposed, beyond=20.0)
    x = vectors(1, 1, 8).expand(2, 20_000, 8)
    (found, _), (expected, _) = both(one, x, monkeypatch)
    found, expected = found - found.mean(1, keepdim=True), expected - expected.mean(1, keepdim=True)
    assert found.std(1).flatten().tolist() == pytest.approx(expected.std(1).flatten().tolist(), rel=0.03)
    for a in range(2):
        apart = torch.corrcoef(found[a].T) - torch.corrcoef(expected[a].T)
        assert apart.abs().max() < 6 / 20_000**0.5  # an offset column's noise is common to its lines
    assert abs(float((found[0] * found[1]).mean() / (found[0].std() * found[1].std()))) < 4 / 60_000**0.5


@pytest.mark.parametrize("cells", [0.0, SIGMA])
def test_noise_of_adcs_has_the_moments_that_torch_draws(
    cells: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = crossbar(bits=16, reading=cells)
    kind = replace(kind, adc=replace(kind.adc, noise=ratio(0.001)))
    one = array(kind, 2, 3, 8, beyond=20.0)
    x = vectors(1, 1, 8).expand(2, 20_000, 8)
    (found, _), (expected, _) = both(one, x, monkeypatch)
    found, expected = found - found.mean(1, keepdim=True), expected - expected.mean(1, keepdim=True)
    assert found.std(1).flatten().tolist() == pytest.approx(expected.std(1).flatten().tolist(), rel=0.03)
    lines = found.transpose(1, 2).flatten(0, 1)
    assert (torch.corrcoef(lines) - torch.eye(6)).abs().max() < 5 / 20_000**0.5
    if not cells:
        own = float(one.noise * one.gain.flatten()[0]) * float(x[0, 0].abs().max())
        assert float(found[0].std()) == pytest.approx(own, rel=0.03)


def numbers(seed: int, rows: int = 4, batch: int = 50_000) -> Tensor:
    """Standard normal numbers, [rows, batch]."""
    out, ones = torch.zeros(1, rows, batch), torch.ones(1, batch)
    one = torch.full((1, rows), 2.0**-16)
    fused.sensed_(out, (ones, ones), ReadLines(one, one.reciprocal(), None, 0), 2**22, seed)
    return out[0]


def test_numbers_are_normal_and_independent_along_across_and_between_streams() -> None:
    found, n = numbers(7), 50_000
    assert found.mean(1).abs().max() < 4 / n**0.5
    assert (found.var(1) - 1).abs().max() < 4 * (2 / n) ** 0.5
    assert abs(float(found.pow(4).mean()) - 2.9992) < 4 * (96 / found.numel()) ** 0.5
    share = torch.special.ndtr(found.flatten().double().sort().values)
    steps = torch.linspace(0, 1, len(share), dtype=torch.float64)
    assert (share - steps).abs().max() < 1.95 / len(share) ** 0.5 + 2**-16  # Kolmogorov: once in a thousand
    for lag in (1, 2, 3, 4, 5, 8, 512):
        assert abs(float((found[:, lag:] * found[:, :-lag]).mean())) < 4.5 / found.numel() ** 0.5
    for other in (8, 7 + 2**32, 7 + 0x9E3779B97F4A7C15):  # the last is the same stream, one word further
        other_stream = numbers(other)
        assert abs(float((found * other_stream).mean())) < 4.5 / found.numel() ** 0.5


def test_no_word_is_drawn_twice() -> None:
    fours = numbers(7, rows=3, batch=4096).reshape(-1, 4)
    assert len(fours.unique(dim=0)) == len(fours)  # type: ignore[no-untyped-call]


def test_threads_do_not_change_the_numbers() -> None:
    threads = torch.get_num_threads()
    found = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(numbers(1, rows=3, batch=30_001))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_double_precision_and_slices_are_read_by_torch() -> None:
    one = array(crossbar(bits=6), 4, 9)
    assert one._is_fused(vectors(5, 9), None)
    assert one._is_fused(vectors(5, 9), torch.ones(1, 1))
    assert not one._is_fused(vectors(2, 5, 9), torch.ones(2, 1, 1))
    assert not one._is_fused(vectors(5, 9).double(), None)
    assert not one._is_fused(vectors(0, 9), None)


def test_a_read_is_one_of_two_passes_where_they_do(monkeypatch: pytest.MonkeyPatch) -> None:
    one = array(crossbar(bits=6), 4, 9)
    given = (torch.zeros(5, 4), torch.zeros(()))
    monkeypatch.setattr(Readout, "_read_fused", lambda *_: given)
    assert one.read(vectors(5, 9), source()) is given


def test_passes_are_compiled_where_no_folder_keeps_them(monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = numba.njit

    def without_a_folder(
        *, cache: bool = False, **settings: Any
    ) -> Any:  # as numba where none can be written
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return compiler(**settings)

    monkeypatch.setattr(fused, "njit", without_a_folder)
    assert fused._compiled(lambda x: x + 1)(2) == 3
