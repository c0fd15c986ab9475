import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ffebm.graph.energy_block import Pool
from ffebm.runtime.blocks.physics.pooling import Pooling


@st.composite
def pools(draw: st.DrawFn) -> tuple[Pool, tuple[int, ...]]:
    rank = draw(st.integers(1, 3))
    kernel = tuple(draw(st.integers(1, 3)) for _ in range(rank))
    strides = tuple(draw(st.integers(1, 3)) for _ in range(rank))
    pads = tuple(draw(st.integers(0, kernel[i % rank] - 1)) for i in range(2 * rank))
    sizes = tuple(draw(st.integers(5, 7)) for _ in range(rank))  # a window reaches over 5 at most
    op = draw(st.sampled_from(["MaxPool", "AveragePool"]))
    dilations = tuple(draw(st.integers(1, 2)) for _ in range(rank)) if op == "MaxPool" else ()
    pool = Pool(op, kernel, strides, pads, dilations, draw(st.booleans()), draw(st.booleans()))  # type: ignore[arg-type]
    return pool, (2, *sizes)


@settings(max_examples=120, derandomize=True)
@given(pools())
def test_forward_transpose_and_frozen_positions_are_one_linear_map(
    drawn: tuple[Pool, tuple[int, ...]],
) -> None:
    pool, shape = drawn
    torch.manual_seed(0)
    y = torch.randn(3, *shape, dtype=torch.float64)
    pooling = Pooling(pool, shape)
    p, index = pooling.pool(y)
    assert p.shape[1:] == pooling.shape
    assert bool(p.isfinite().all())
    torch.testing.assert_close(pooling.gather(y, index), p)
    s, other = torch.randn_like(p), torch.randn_like(y)
    torch.testing.assert_close(
        (pooling.transpose(s, index) * other).sum(), (s * pooling.gather(other, index)).sum()
    )


def by_definition(pool: Pool, y: Tensor) -> Tensor:
    """Pooling window by window, as ONNX defines it."""
    rank = len(pool.kernel)
    sizes, begin, end = y.shape[-rank:], pool.pads[:rank], pool.pads[rank:]
    dilations = pool.dilations or (1,) * rank
    axes = []
    for n, k, s, d, b, e in zip(sizes, pool.kernel, pool.strides, dilations, begin, end, strict=True):
        steps = (n + b + e - d * (k - 1) - 1) / s
        count = 1 + (math.ceil(steps) if pool.ceil_mode else math.floor(steps))
        starts = [i * s - b for i in range(count) if not (pool.ceil_mode and i * s - b >= n)]
        axes.append([[start + j * d for j in range(k)] for start in starts])
    values = []
    for windows in itertools.product(*axes):
        inside = [[i for i in window if 0 <= i < n] for window, n in zip(windows, sizes, strict=True)]
        padded = [
            [i for i in window if -b <= i < n + e]
            for window, n, b, e in zip(windows, sizes, begin, end, strict=True)
        ]
        part = y
        for axis, places in enumerate(inside):
            part = part.index_select(axis - rank, torch.tensor(places))
        part = part.flatten(-rank)
        counted = padded if pool.count_include_pad else inside
        values.append(part.amax(-1) if pool.op == "MaxPool" else part.sum(-1) / math.prod(map(len, counted)))
    return torch.stack(values, -1).reshape(*y.shape[:-rank], *map(len, axes))


@settings(max_examples=120, derandomize=True)
@given(pools())
def test_pooling_is_what_its_definition_says(drawn: tuple[Pool, tuple[int, ...]]) -> None:
    pool, shape = drawn
    torch.manual_seed(0)
    y = torch.randn(2, *shape, dtype=torch.float64)
    torch.testing.assert_close(Pooling(pool, shape).pool(y)[0], by_definition(pool, y))


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_windows_over_the_end_are_kept_but_none_that_starts_there(op: str) -> None:
    pool = Pool(op, (2, 2), (2, 2), (0, 0, 0, 0), (), ceil_mode=True)  # type: ignore[arg-type]
    y = torch.arange(25.0).view(1, 1, 5, 5)
    p, _ = Pooling(pool, (1, 5, 5)).pool(y)
    functional = torch.nn.functional
    expected = (
        functional.max_pool2d(y, 2, ceil_mode=True)
        if op == "MaxPool"
        else functional.avg_pool2d(y, 2, ceil_mode=True)
    )
    torch.testing.assert_close(p, expected)
    late = Pool(op, (2, 2), (2, 2), (0, 0, 1, 1), (), ceil_mode=True)  # type: ignore[arg-type]
    assert Pooling(late, (1, 4, 4)).shape == (1, 2, 2)
