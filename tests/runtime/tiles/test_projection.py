from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from torch import Tensor

from ffebm.graph.energy_block import Linear
from ffebm.hardware.description import Crossbar
from ffebm.plan.conductance import to_matrix
from ffebm.runtime.tiles import projection as module
from ffebm.runtime.tiles.noise import FrozenNoise
from ffebm.runtime.tiles.projection import TileProjection, crossbar_projection
from ffebm.runtime.tiles.split import SplitTile
from ffebm.runtime.tiles.unfolding import bands
from tests.runtime.tiles.bench import crossbar, fine, pieces, random, source


@dataclass(frozen=True)
class Case:
    """A linear map with the shapes of its weight and of z without the batch."""

    name: str
    linear: Linear
    weight: tuple[int, ...]
    z: tuple[int, ...]


def linear(op: Any, **settings: Any) -> Linear:
    return Linear(op, "w", **settings)


CASES = [
    Case("matmul", linear("MatMul"), (17, 8), (17,)),
    Case("matmul, stored transposed", linear("MatMul", transposed=True), (8, 17), (17,)),
    Case("matmul of a sequence", linear("MatMul"), (10, 7), (3, 2, 10)),
    Case("conv of defaults", linear("Conv"), (5, 3, 3, 2), (3, 6, 5)),
    Case("conv 1x1", linear("Conv"), (7, 9, 1, 1), (9, 4, 5)),
    Case("conv 1d, strided", linear("Conv", strides=(3,), pads=(2, 1)), (4, 2, 4), (2, 11)),
    Case(
        "conv 2d, all at once",
        linear("Conv", strides=(2, 1), pads=(1, 2, 0, 3), dilations=(1, 2), groups=2),
        (6, 3, 3, 2),
        (6, 7, 8),
    ),
    Case(
        "conv 3d",
        linear("Conv", strides=(1, 2, 1), pads=(1, 0, 1, 0, 1, 1), dilations=(1, 1, 2)),
        (4, 2, 2, 3, 2),
        (2, 4, 5, 5),
    ),
    Case("conv, depthwise", linear("Conv", pads=(1, 1, 1, 1), groups=5), (10, 1, 3, 3), (5, 6, 6)),
    Case("conv, pads wider than the kernel", linear("Conv", strides=(2,), pads=(4, 5)), (2, 1, 2), (1, 3)),
    Case("conv, pixels that no window meets", linear("Conv", strides=(5, 4)), (3, 2, 2, 2), (2, 13, 11)),
    Case("transposed conv of defaults", linear("ConvTranspose"), (3, 5, 3, 2), (3, 6, 5)),
    Case(
        "transposed conv 1d",
        linear("ConvTranspose", strides=(3,), pads=(1, 2), output_padding=(2,)),
        (4, 3, 4),
        (4, 5),
    ),
    Case(
        "transposed conv 2d, all at once",
        linear(
            "ConvTranspose",
            strides=(2, 3),
            pads=(1, 2, 0, 1),
            dilations=(1, 2),
            groups=2,
            output_padding=(1, 2),
        ),
        (6, 3, 3, 2),
        (6, 4, 5),
    ),
    Case(
        "transposed conv, output padding beyond the stride",
        linear("ConvTranspose", strides=(1,), dilations=(3,), output_padding=(2,)),
        (2, 3, 2),
        (2, 5),
    ),
    Case(
        "transposed conv 3d",
        linear("ConvTranspose", strides=(1, 2, 1), pads=(1, 0, 1, 0, 1, 1)),
        (2, 3, 2, 3, 2),
        (2, 4, 3, 4),
    ),
]
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def by_torch(case: Case, z: Tensor, weight: Tensor) -> Tensor:
    """The same map by torch's own functions."""
    lin, rank = case.linear, len(case.weight) - 2
    if lin.op == "MatMul":
        return z @ (weight.T if lin.transposed else weight)
    ones = (1,) * rank
    strides, dilations = lin.strides or ones, lin.dilations or ones
    pads = lin.pads or (0,) * (2 * rank)
    ends = [p for a in reversed(range(rank)) for p in (pads[a], pads[rank + a])]
    if lin.op == "Conv":
        conv = getattr(F, f"conv{rank}d")
        out: Tensor = conv(F.pad(z, ends), weight, None, strides, 0, dilations, lin.groups)
        return out
    conv = getattr(F, f"conv_transpose{rank}d")
    extra = lin.output_padding or (0,) * rank
    whole = conv(z, weight, None, strides, 0, 0, lin.groups, dilations)
    # torch's own output padding comes with even pads only
    grown = F.pad(whole, [x for e in reversed(extra) for x in (0, e)])
    return F.pad(grown, [-p for p in ends])


def built(case: Case, described: Crossbar, seed: int = 0) -> TileProjection:
    groups, n_out, n_in = to_matrix(case.linear, torch.empty(case.weight)).shape
    return crossbar_projection(case.linear, pieces(groups, n_out, n_in, described), described, source(seed))


@every_case
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_on_fine_crossbars_it_is_the_linear_map(case: Case, dtype: torch.dtype) -> None:
    weight, z = random(*case.weight, dtype=dtype), random(3, *case.z, seed=1, dtype=dtype).requires_grad_()
    expected = by_torch(case, z, weight)
    y = random(*expected.shape, seed=2, dtype=dtype)
    (expected_t,) = torch.autograd.grad(expected, z, y)
    projection = built(case, fine())
    found = projection.product(z, weight)
    assert found.dtype == dtype
    assert found.is_contiguous()
    assert (found - expected).norm() <= 1e-6 * expected.norm()
    assert (projection.product_t(y, weight, case.z) - expected_t).norm() <= 1e-6 * expected_t.norm()


@every_case
def test_the_transposed_product_is_the_adjoint(case: Case) -> None:
    projection, weight, z = built(case, fine()), random(*case.weight), random(3, *case.z, seed=1)
    out = projection.product(z, weight)
    y = random(*out.shape, seed=2)
    back = projection.product_t(y, weight, case.z)
    assert back.shape == z.shape
    assert float((y * out).sum()) == pytest.approx(float((back * z).sum()), rel=1e-5, abs=1e-3)


@settings(max_examples=40)
@given(
    rank=st.integers(1, 3),
    groups=st.integers(1, 3),
    channels=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    axes=st.lists(
        st.tuples(*(st.integers(a, b) for a, b in ((1, 3), (1, 3), (0, 3), (0, 3), (1, 2), (1, 6)))),
        min_size=3,
        max_size=3,
    ),
)
def test_any_convolution(
    rank: int, groups: int, channels: tuple[int, int], axes: list[tuple[int, ...]]
) -> None:
    kernel, strides, begin, end, dilations, extra = zip(*axes[:rank], strict=True)
    size = tuple((k - 1) * d + x for k, d, x in zip(kernel, dilations, extra, strict=True))
    lin = linear("Conv", strides=strides, pads=(*begin, *end), dilations=dilations, groups=groups)
    n_out, n_in = groups * channels[0], groups * channels[1]
    case = Case("any", lin, (n_out, channels[1], *kernel), (n_in, *size))
    test_the_transposed_product_is_the_adjoint(case)
    test_on_fine_crossbars_it_is_the_linear_map(case, torch.float64)


@every_case
@pytest.mark.parametrize("chunk", [1, 100, 1000, 10**9])
def test_chunks_do_not_change_the_result(case: Case, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # sums of whole numbers are exact, so that not even their order tells
    described = crossbar(bits=16)
    described = replace(described, adc=replace(described.adc, bits=24, range="level"))
    weight, z = random(*case.weight), random(5, *case.z, seed=1)
    monkeypatch.setattr(module, "CHUNK", 10**9)
    whole = built(case, described)
    out = whole.product(z, weight)
    back = whole.product_t(out, weight, case.z)
    monkeypatch.setattr(module, "CHUNK", chunk)
    parts = built(case, described)
    assert torch.equal(parts.product(z, weight), out)
    assert torch.equal(parts.product_t(out, weight, case.z), back)


@every_case
@pytest.mark.parametrize("chunk", [1, 100, 10**9])
def test_what_is_pooled_in_chunks_is_what_is_pooled_at_once(
    case: Case, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def largest(y: Tensor) -> tuple[Tensor, Tensor]:
        values, index = y.flatten(1).max(1)
        return values, index

    monkeypatch.setattr(module, "CHUNK", chunk)
    weight, z = random(*case.weight), random(5, *case.z, seed=1)
    expected, places = largest(built(case, crossbar(reading=0.01)).product(z, weight))
    found, index = built(case, crossbar(reading=0.01)).pooled(z, weight, largest)
    assert index is not None
    assert torch.equal(found, expected)
    assert torch.equal(index, places)


def test_what_is_pooled_keeps_its_memory_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 1)
    case = Case("conv", linear("Conv", pads=(1, 1, 1, 1)), (4, 3, 3, 3), (3, 5, 6))

    def last(y: Tensor) -> tuple[Tensor, None]:
        return y.contiguous(memory_format=torch.channels_last), None

    found, index = built(case, crossbar()).pooled(random(5, *case.z), random(*case.weight), last)
    assert index is None
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert not found.is_contiguous()


@every_case
def test_noise_in_chunks_is_reproducible(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 100)
    weight, z = random(*case.weight), random(5, *case.z, seed=1)
    one, other = (built(case, crossbar(reading=0.01)).product(z, weight) for _ in range(2))
    assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("counts", "most", "expected"),
    [
        ((4, 5), 20, [(0, 4, 0, 5)]),
        ((4, 5), 19, [(0, 2, 0, 5), (2, 4, 0, 5)]),
        ((5, 2), 4, [(0, 1, 0, 2), (1, 3, 0, 2), (3, 5, 0, 2)]),
        ((2, 5), 4, [(0, 1, 0, 2), (0, 1, 2, 5), (1, 2, 0, 2), (1, 2, 2, 5)]),
        ((3,), 1, [(0, 1), (1, 2), (2, 3)]),
    ],
)
def test_bands_of_windows(counts: tuple[int, ...], most: int, expected: list[tuple[int, ...]]) -> None:
    found = [tuple(edge for n in band for edge in (n.start, n.stop)) for band in bands(counts, most)]
    assert found == expected


def test_lines_of_a_large_image_stay_within_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    mvm, mvm_t = SplitTile.mvm, SplitTile.mvm_t

    def watched(run: Callable[[SplitTile, Tensor], Tensor]) -> Callable[[SplitTile, Tensor], Tensor]:
        def product(self: SplitTile, vectors: Tensor) -> Tensor:
            out = run(self, vectors)
            seen.append(max(vectors.numel(), out.numel()))
            return out

        return product

    monkeypatch.setattr(SplitTile, "mvm", watched(mvm))
    monkeypatch.setattr(SplitTile, "mvm_t", watched(mvm_t))
    case = Case("image", linear("Conv", pads=(3, 3, 3, 3)), (16, 3, 7, 7), (3, 128, 128))
    described = replace(crossbar(), rows=256, cols=256)
    weight, z = random(*case.weight), random(1, *case.z)
    projection = built(case, described)
    projection.product_t(projection.product(z, weight), weight, case.z)
    assert len(seen) == 2 * -(-3 * 49 * 128 * 128 // module.CHUNK)
    assert max(seen) <= module.CHUNK


@every_case
def test_noise_stays_near_the_linear_map(case: Case) -> None:
    weight, z = random(*case.weight), random(4, *case.z, seed=1)
    projection = built(case, crossbar(programming=0.01, reading=0.005))
    exact, found = by_torch(case, z, weight), projection.product(z, weight)
    assert 0.001 < float((found - exact).norm() / exact.norm()) < 0.1


@every_case
def test_one_sample_does_not_touch_another(case: Case) -> None:
    def product(first: float) -> tuple[Tensor, Tensor]:
        projection = built(case, crossbar(programming=0.01, reading=0.005))
        z = random(3, *case.z, seed=1)
        z[0] *= first
        out = projection.product(z, random(*case.weight))
        y = random(*out.shape, seed=2)
        y[0] *= first
        return out, projection.product_t(y, random(*case.weight), case.z)

    for one, other in zip(product(1.0), product(-7.0), strict=True):
        assert torch.equal(one[1:], other[1:])
        assert not torch.equal(one[0], other[0])


def test_an_empty_batch_gives_an_empty_batch() -> None:
    for case in (CASES[0], CASES[3]):
        out = built(case, crossbar()).product(torch.zeros(0, *case.z), torch.ones(case.weight))
        assert len(out) == 0


def test_frozen_noise_differs_between_projections_and_directions() -> None:
    """Of a symmetric weight: the same product in both directions but for its noise."""
    frozen, weight = FrozenNoise(source()), random(6, 6, dtype=torch.float32)
    weight, kind = weight + weight.mT, crossbar(reading=0.1)
    tile = crossbar_projection(linear("MatMul"), pieces(1, 6, 6, kind), kind, source(), frozen=frozen)
    first, second = (TileProjection(linear("MatMul"), tile.array, frozen, number) for number in (0, 1))
    z = random(500, 6, dtype=torch.float32)
    frozen.begin_phase()
    exact = z @ tile.array.holding(weight).read()[0].mT
    noise = [
        found - exact
        for projection in (first, second)
        for found in (projection.product(z, weight), projection.product_t(z, weight, (6,)))
    ]
    torch.testing.assert_close(first.product(z, weight) - exact, noise[0], rtol=0, atol=0)
    correlations = torch.corrcoef(torch.stack([part.flatten() for part in noise]))
    assert (correlations - torch.eye(4)).abs().max() < 4 / 3000**0.5
