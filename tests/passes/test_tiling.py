from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffebm import compile as compile_plan
from ffebm.graph.energy_block import Linear
from ffebm.passes.tiling import even_cuts, matrix_size
from ffebm.plan.conductance import to_matrix
from tests.machines import crossbars
from tests.models import Builder


@given(size=st.integers(1, 5000), limit=st.integers(1, 600))
def test_even_cuts_cover_in_as_few_ranges_as_possible(size: int, limit: int) -> None:
    cuts = even_cuts(size, limit)
    assert len(cuts) == -(-size // limit)
    assert cuts[0][0] == 0
    assert cuts[-1][1] == size
    assert all(a[1] == b[0] for a, b in pairwise(cuts))
    lengths = [stop - start for start, stop in cuts]
    assert max(lengths) <= limit
    assert max(lengths) - min(lengths) <= 1
    assert lengths == sorted(lengths, reverse=True)


@pytest.mark.parametrize(
    ("linear", "shape", "expected"),
    [
        (Linear("Conv", "w", groups=2), (6, 4, 3, 3), (2, 36, 3)),
        (Linear("ConvTranspose", "w", groups=2), (6, 4, 3, 3), (2, 3, 36)),
        (Linear("MatMul", "w"), (5, 7), (1, 5, 7)),
        (Linear("MatMul", "w", transposed=True), (5, 7), (1, 7, 5)),
    ],
)
def test_the_size_of_a_matrix(linear: Linear, shape: tuple[int, ...], expected: tuple[int, int, int]) -> None:
    weight = np.zeros(shape, np.float32)
    assert matrix_size(linear, weight) == expected
    groups, n_in, n_out = expected
    assert to_matrix(linear, weight).shape == (groups, n_out, n_in)


def test_a_depthwise_convolution_takes_far_less_than_a_dense_one() -> None:
    """32 groups of 9 x 1 cells: not 288 x 32."""
    b = Builder()
    y = b.conv(b.input("x", "N", 32, 4, 4), 32, 32, group=32)
    plan = compile_plan(b.model(y), hardware=crossbars(64, 288, 32))
    pieces = [piece for _, piece in plan.pieces()]
    assert [(p.n_in, p.n_out) for p in pieces] == [(9, 1)] * 32
    assert sum(tile.used for tile in plan.tiles) == 32 * 9
    assert len(plan.tiles) == 1
