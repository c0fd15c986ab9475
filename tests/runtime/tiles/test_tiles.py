"""The laws that every tile keeps."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from torch import Tensor

from ffebm.errors import InternalError
from ffebm.hardware.description import Crossbar, Resistance, Stuck, Verify, Wires
from ffebm.plan.conductance import (
    HEADROOM,
    adc_range,
    full_scale,
    range_scale,
    to_digits,
    to_levels,
    weight_range,
)
from ffebm.runtime.tiles.crossbar import CrossbarTile
from ffebm.runtime.tiles.ideal import IdealTile
from ffebm.runtime.tiles.lines.converter import top_code
from ffebm.runtime.tiles.projection import make_tile
from ffebm.runtime.tiles.split import SplitTile
from ffebm.runtime.tiles.tile import Readings, Tile
from tests.machines import ratio
from tests.runtime.tiles.bench import (
    clipping,
    convert,
    crossbar,
    drift,
    pieces,
    random,
    sized,
    source,
    with_adc,
    with_cell,
    with_dac,
)

EFFECTS: dict[str, Callable[[Crossbar], Crossbar]] = {
    "split": lambda tile: tile,
    "offset": lambda tile: replace(tile, mapping="offset"),
    "sliced": lambda tile: replace(with_cell(tile, levels=3), slices=4),
    "sliced, offset": lambda tile: replace(with_cell(tile, levels=4), slices=3, mapping="offset"),
    "input slices": lambda tile: with_dac(tile, slice_bits=2),
    "ranges by column": lambda tile: with_adc(tile, range="column"),
    "maximal ranges": lambda tile: with_adc(tile, range="maximal"),
    "scales by column": lambda tile: replace(tile, scale="column"),
    "scales by column, sliced": lambda tile: replace(with_cell(tile, levels=3), slices=4, scale="column"),
}
"""Tiles that hold a weight to a level and read it to a step of the converters, each in several crossbars."""
KINDS = ["ideal", "crossbar", *EFFECTS]


def tile_of(kind: str, n_out: int, n_in: int, described: Crossbar, seed: int = 0) -> Tile:
    """A tile for [2, n_out, n_in]; a split one has several crossbars for it."""
    if kind == "ideal":
        return IdealTile()
    generator = source(seed)
    if kind == "crossbar":
        return CrossbarTile(sized(described, n_out, n_in), generator)
    described = EFFECTS[kind](described)
    cut = pieces(2, n_out, n_in, described, even=False)
    return SplitTile(cut, lambda: make_tile(described, generator, kind))


def stated_error(
    kind: str, weight: Tensor, target: Tensor, x: Tensor, described: Crossbar, *, transposed: bool
) -> Tensor:
    """What converters may add to a product: that of every crossbar beneath, each with ranges of its own.

    Args:
        kind: Of the tile.
        weight: What it holds, [2, n_out, n_in].
        target: What was programmed.
        x: What it is driven with.
        described: The tile, before the effects of its kind.
        transposed: The product is the transposed one.
    """
    described = EFFECTS[kind](described) if kind in EFFECTS else sized(described, *weight.shape[-2:])
    n_out, n_in = weight.shape[-2:]
    error = torch.full((*x.shape[:-1], n_in if transposed else n_out), 1e-9, dtype=weight.dtype)
    for piece in pieces(1, n_out, n_in, described, even=False):
        outputs, inputs = slice(*piece.outputs), slice(*piece.inputs)
        driven, sensed = (outputs, inputs) if transposed else (inputs, outputs)
        held, meant = weight[:, outputs, inputs], target[:, outputs, inputs]
        error[..., sensed] += crossbar_error(held, meant, x[..., driven], described, transposed=transposed)
    return error


def crossbar_error(
    weight: Tensor, target: Tensor, x: Tensor, described: Crossbar, *, transposed: bool
) -> Tensor:
    """Half a step of the DACs into every weight that is held, and half a step of the ADC.

    Ranges and factors are those of the target: of a weight near zero they can be of another size than what is
    held. Input slices and weight slices are read one by one; the steps of all are counted with their factors.
    """
    fan_in = weight.shape[-1]
    if described.scale == "column" and transposed:  # factors of columns multiply what drives them
        scale = weight_range(target, described, fan_in)
        weight, target, x = weight / scale, target / scale, x * scale.mT
    largest = x.abs().amax(-1, keepdim=True)
    top, top_out = top_code(described.dac.bits), top_code(described.adc.bits)
    seen = weight.mT if transposed else weight
    dac = (seen.abs().sum(-1, keepdim=True) @ largest.mT).mT / (2 * top)
    bits = described.dac.slice_bits
    reads = (
        1.0
        if bits is None
        else sum(2 ** (bits * k) for k in range(described.dac.slices)) * (2**bits - 1) / top
    )
    scale = weight_range(target, described, fan_in)
    adc = torch.zeros(2, 1, seen.shape[-2], dtype=weight.dtype)
    for k, digits in enumerate(to_digits(to_levels(target, scale, described), described)):
        limit = adc_range(digits.mT if transposed else digits, replace(described, adc_sigmas=ratio(100.0)))
        factor = range_scale(scale, described, k)
        adc = adc + (factor[..., :1, :] if transposed else factor.mT) * limit.mT / (2 * top_out)
    error: Tensor = dac + reads * adc * largest
    return error


shapes = st.tuples(st.integers(1, 20), st.integers(1, 20), st.integers(1, 4))
seeds = st.integers(0, 10_000)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25)
@given(shape=shapes, seed=seeds, bits=st.sampled_from([4, 8, 12]))
def test_the_transposed_product_is_the_adjoint(
    kind: str, shape: tuple[int, int, int], seed: int, bits: int
) -> None:
    n_out, n_in, batch = shape
    described = crossbar(bits=bits)
    tile = tile_of(kind, n_out, n_in, described)
    weight = random(2, n_out, n_in, seed=seed)
    tile.program(weight)
    held = tile.read()
    x, y = random(2, batch, n_in, seed=seed + 1), random(2, batch, n_out, seed=seed + 2)
    forward, backward = (y * tile.mvm(x)).sum(), (tile.mvm_t(y) * x).sum()
    allowed = (y.abs() * stated_error(kind, held, weight, x, described, transposed=False)).sum() + (
        x.abs() * stated_error(kind, held, weight, y, described, transposed=True)
    ).sum()
    assert (forward - backward).abs() <= (1e-9 if kind == "ideal" else allowed)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25)
@given(shape=shapes, seed=seeds)
def test_products_are_those_of_the_weight_that_is_read(
    kind: str, shape: tuple[int, int, int], seed: int
) -> None:
    n_out, n_in, batch = shape
    described = crossbar(programming=0.003)
    tile = tile_of(kind, n_out, n_in, described, seed)
    weight = random(2, n_out, n_in, seed=seed)
    tile.program(weight)
    held = tile.read()
    x, y = random(2, batch, n_in, seed=seed + 1), random(2, batch, n_out, seed=seed + 2)
    out, back = tile.mvm(x), tile.mvm_t(y)
    assume(tile.readings().clipped == 0)  # a cell that came out heavier can reach beyond the ADC
    forward = stated_error(kind, held, weight, x, described, transposed=False)
    backward = stated_error(kind, held, weight, y, described, transposed=True)
    assert ((out - x @ held.mT).abs() <= forward).all()
    assert ((back - y @ held).abs() <= backward).all()


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25)
@given(shape=shapes, seed=seeds, levels=st.integers(3, 300))
def test_what_is_read_is_what_was_programmed_within_half_a_level(
    kind: str, shape: tuple[int, int, int], seed: int, levels: int
) -> None:
    n_out, n_in, _ = shape
    described = crossbar(levels=levels)
    tile = tile_of(kind, n_out, n_in, described)
    weight = random(2, n_out, n_in, seed=seed)
    tile.program(weight)
    described = EFFECTS.get(kind, EFFECTS["split"])(described)
    step = weight_range(weight, described, n_in) / described.top_level
    assert ((tile.read() - weight).abs() <= step * (0.5 + 1e-9)).all()


@pytest.mark.parametrize("levels", [3, 128])
def test_shares_that_are_held_are_those_of_the_range(levels: int) -> None:
    tile = tile_of("crossbar", 4, 5, crossbar(levels=levels))
    assert isinstance(tile, CrossbarTile)
    tile.program(random(2, 4, 5))
    shares, reach = random(2, 4, 5, seed=1).clamp(-1, 1), torch.full((2, 1, 1), 0.7, dtype=torch.float64)
    tile.hold(shares, reach)
    torch.testing.assert_close(tile.read(), shares * reach)
    torch.testing.assert_close(tile.reach, reach)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_numbers(kind: str) -> None:
    def numbers(seed: int) -> list[Tensor]:
        tile = tile_of(kind, 11, 13, crossbar(programming=0.01, reading=0.01), seed)
        tile.program(random(2, 11, 13))
        x, y = random(2, 5, 13), random(2, 5, 11)
        return [tile.read(), tile.mvm(x), tile.mvm_t(y), tile.mvm(x)]

    first, again, other = numbers(1), numbers(1), numbers(2)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    if kind != "ideal":
        assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))
        assert not torch.equal(first[1], first[3])


@pytest.mark.parametrize("kind", KINDS)
def test_one_sample_does_not_touch_another(kind: str) -> None:
    def products(first: float) -> tuple[Tensor, Tensor]:
        tile = tile_of(kind, 11, 13, crossbar(programming=0.01, reading=0.01))
        tile.program(random(2, 11, 13))
        x, y = random(2, 5, 13, seed=1), random(2, 5, 11, seed=2)
        x[:, 0], y[:, 0] = first, first
        return tile.mvm(x), tile.mvm_t(y)

    for one, other in zip(products(1.0), products(-1000.0), strict=True):
        assert torch.equal(one[:, 1:], other[:, 1:])
        assert not torch.equal(one[:, 0], other[:, 0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [0.0, 1.0, -2.5])
def test_constant_matrices_are_held_exactly(kind: str, value: float) -> None:
    tile = tile_of(kind, 9, 10, crossbar())
    tile.program(torch.full((2, 9, 10), value))
    assert torch.allclose(tile.read(), torch.full((2, 9, 10), value), rtol=1e-6, atol=0)
    found = tile.mvm(torch.ones(2, 3, 10))
    half_a_step = HEADROOM * 10 * abs(value) / 127 / 2
    assert torch.allclose(found, torch.full((2, 3, 9), 10 * value), rtol=0, atol=half_a_step)
    assert torch.equal(tile.mvm_t(torch.zeros(2, 3, 9)), torch.zeros(2, 3, 10))


@pytest.mark.parametrize("kind", KINDS)
def test_one_weight_and_no_samples(kind: str) -> None:
    tile = tile_of(kind, 1, 1, crossbar())
    tile.program(torch.full((2, 1, 1), -3.0))
    assert tile.mvm(torch.full((2, 1, 1), 0.5)).flatten().tolist() == pytest.approx(
        [-1.5, -1.5], abs=HEADROOM * 1.5 / 127 / 2
    )
    assert tile.mvm(torch.zeros(2, 0, 1)).shape == (2, 0, 1)
    assert tile.mvm_t(torch.zeros(2, 0, 1)).shape == (2, 0, 1)


@pytest.mark.parametrize("kind", [k for k in KINDS if not k.startswith(("sliced", "scales"))])
def test_updates_add_up(kind: str) -> None:
    tile = tile_of(kind, 9, 10, crossbar(levels=2**16))
    weight, step = random(2, 9, 10), 0.01 * random(2, 9, 10, seed=1)
    weight[..., 0] = 4.0  # room for the others to move
    step[..., 0] = 0.0
    tile.program(weight)
    for _ in range(3):
        tile.update(step)
    assert torch.allclose(tile.read(), weight + 3 * step, atol=1e-4)
    x = random(2, 4, 10, seed=2)
    assert torch.allclose(tile.mvm(x), x @ (weight + 3 * step).mT, atol=0.5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_weight_that_was_passed_is_left_alone(kind: str) -> None:
    tile = tile_of(kind, 3, 4, crossbar())
    weight = random(2, 3, 4)
    before = weight.clone()
    tile.program(weight)
    tile.update(torch.ones(2, 3, 4))
    tile.read().zero_()
    assert torch.equal(weight, before)
    assert tile.read().abs().max() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_tile_that_holds_nothing_says_so(kind: str) -> None:
    with pytest.raises(InternalError, match="used before it is programmed"):
        tile_of(kind, 3, 4, crossbar()).mvm(torch.ones(2, 1, 4))


@given(shape=shapes, seed=seeds)
def test_the_ideal_tile_is_matmul(shape: tuple[int, int, int], seed: int) -> None:
    n_out, n_in, batch = shape
    tile, weight = IdealTile(), random(n_out, n_in, seed=seed, dtype=torch.float32)
    tile.program(weight)
    x = random(batch, n_in, seed=seed + 1, dtype=torch.float32)
    y = random(batch, n_out, seed=seed + 2, dtype=torch.float32)
    assert torch.equal(tile.mvm(x), torch.matmul(x, weight.T))
    assert torch.equal(tile.mvm_t(y), torch.matmul(y, weight))
    assert torch.equal(tile.read(), weight)
    assert tile.readings() == Readings(0, 0)


def test_saturated_outputs_are_clipped_and_counted() -> None:
    described = clipping(crossbar(), sigmas=1.0)
    tile = CrossbarTile(sized(described, 2, 4), source())
    tile.program(torch.tensor([[1.0, 1.0, 1.0, 1.0], [1.0, 0.0, 0.0, 0.0]]))
    assert tile.clipped == 0.0
    # one deviation of the heaviest column, sqrt(4 / 3), stands against sums of 4 and 1 in the first sample
    out = tile.mvm(torch.tensor([[1.0, 1.0, 1.0, 1.0], [1.0, -1.0, 0.0, 0.0]]))
    limit = (4 / 3) ** 0.5
    assert out[0].tolist() == pytest.approx([limit, 1.0], abs=limit / 254)
    assert out[1].tolist() == pytest.approx([0.0, 1.0], abs=limit / 254)
    assert tile.readings() == Readings(total=4, clipped=1)
    # backwards the heaviest line holds two weights: sqrt(2 / 3) against 2, 1, 1, 1
    back = tile.mvm_t(torch.tensor([[1.0, 1.0]]))
    assert back[0].tolist() == pytest.approx([(2 / 3) ** 0.5] * 4, abs=1e-6)
    assert tile.clipped == 5 / 8
    tile.program(torch.ones(2, 4))
    assert tile.clipped == 0.0


@given(shape=shapes, seed=seeds, bits=st.tuples(st.integers(2, 10), st.integers(2, 10)))
def test_a_crossbar_does_one_thing_after_the_other(
    shape: tuple[int, int, int], seed: int, bits: tuple[int, int]
) -> None:
    n_out, n_in, batch = shape
    described = clipping(sized(crossbar(programming=0.01), n_out, n_in), sigmas=1.5)
    described = replace(
        described, dac=replace(described.dac, bits=bits[0]), adc=replace(described.adc, bits=bits[1])
    )
    tile, weight, x = CrossbarTile(described, source()), random(n_out, n_in, seed=seed), random(batch, n_in)
    tile.program(weight)
    scale, largest = full_scale(weight), x.abs().amax(-1, keepdim=True)
    limit = adc_range(to_levels(weight, scale, described), described)
    driven = convert(x / largest, 1.0, bits[0])
    sensed = convert(driven @ (tile.read() / scale).T, limit, bits[1])
    assert torch.allclose(tile.mvm(x), sensed * scale * largest, rtol=1e-9, atol=1e-9)


def test_a_piece_must_fit_its_crossbar() -> None:
    with pytest.raises(InternalError, match="9 x 6 does not fit; a crossbar has 8 rows and 6 columns"):
        CrossbarTile(crossbar(), source()).program(torch.ones(6, 9))


@pytest.mark.parametrize("mapping", ["differential", "offset"])
def test_all_effects_work_together(mapping: str) -> None:
    """Each of moderate size, so that products stay near those of the weight."""
    ohms = Resistance(value=5.0, unit="Ohm", source="chosen for a test")
    tile = with_cell(
        crossbar(levels=16, bits=10, programming=0.005, reading=0.002),
        verify=Verify(writes=5, tolerance=ratio(0.005)),
        variation=ratio(0.02),
        stuck=Stuck(at_min=ratio(0.002), at_max=ratio(0.0)),
        drift=drift(0.05, 0.005, compensated=True),
    )
    errors = {"gain": ratio(0.01), "offset": ratio(0.001)}
    tile = with_dac(with_adc(tile, range="column", **errors), slice_bits=3, **errors)
    wires = Wires(row=ohms, column=ohms)
    tile = replace(tile, rows=32, cols=24, mapping=mapping, slices=2, mismatch=ratio(0.01), wires=wires)

    def numbers(seed: int, name: str) -> list[Tensor]:
        made = make_tile(tile, source(seed), name)
        made.program(random(24, 32))
        return [made.read(), made.mvm(random(50, 32, seed=1)), made.mvm_t(random(50, 24, seed=2))]

    weight, found = random(24, 32), numbers(0, "a")
    wanted = [weight, random(50, 32, seed=1) @ weight.T, random(50, 24, seed=2) @ weight]
    for near, exact in zip(found, wanted, strict=True):
        assert 0.001 < float((near - exact).norm() / exact.norm()) < 0.2
    assert all(torch.equal(a, b) for a, b in zip(found, numbers(0, "a"), strict=True))
    for other in (numbers(1, "a"), numbers(0, "b")):
        assert not any(torch.equal(a, b) for a, b in zip(found, other, strict=True))


@pytest.mark.parametrize("slices", [1, 2])
@pytest.mark.parametrize("scale", ["piece", "column"])
def test_zeros_are_exactly_zero(slices: int, scale: str) -> None:
    noisy = crossbar(levels=16, programming=0.1, reading=0.1)
    tile = make_tile(replace(noisy, slices=slices, scale=scale), source(), "0")
    tile.program(torch.zeros(2, 6, 8))
    assert not tile.read().any()
    assert not tile.mvm(random(2, 5, 8, dtype=torch.float32)).any()
    assert not tile.mvm_t(random(2, 5, 6, dtype=torch.float32)).any()
    step = random(2, 6, 8, dtype=torch.float32)
    tile.update(step)
    assert (tile.read() - step).norm() < step.norm()  # from then on a weight like any other


def test_a_piece_of_zeros_is_exact_beside_others() -> None:
    tile = make_tile(crossbar(programming=0.1, reading=0.1), source(), "0")
    weight = random(2, 6, 8)
    weight[0] = 0.0
    tile.program(weight)
    found = tile.mvm(random(2, 5, 8))
    assert not found[0].any()
    assert found[1].all()
