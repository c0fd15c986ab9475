from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffebm.graph.energy_block import Linear
from ffebm.mapping.layout import Layout, bundles_of, even_cuts, full_cuts, layouts_of, matrix_size
from ffebm.plan.conductance import to_matrix


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


@given(size=st.integers(1, 5000), limit=st.integers(1, 600))
def test_full_cuts_leave_one_remainder(size: int, limit: int) -> None:
    lengths = [stop - start for start, stop in full_cuts(size, limit)]
    assert lengths == [limit] * (size // limit) + [size % limit] * (size % limit > 0)


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
    assert matrix_size(linear, shape) == expected
    groups, n_in, n_out = expected
    assert to_matrix(linear, np.zeros(shape, np.float32)).shape == (groups, n_out, n_in)


def depthwise(groups: int, size: tuple[int, int] | None = (256, 256)) -> tuple[Layout, ...]:
    """Kernels of 3 x 3."""
    return layouts_of(Linear("Conv", "w", groups=groups), (groups, 1, 3, 3), size)


def test_kernels_on_lines_of_their_own_are_read_at_once() -> None:
    """28 kernels of 9 lines take 252 of 256."""
    own = depthwise(96)[0]
    assert (own.kind, own.turns, own.together) == ("own lines", 1, 24)
    assert list(own.boxes()) == [(216, 24)] * 4
    first = bundles_of(own.parts())[0]
    assert first.spots == tuple((9 * k, k) for k in range(24))


def test_shorter_diagonals_take_fewer_arrays_for_as_many_reads() -> None:
    """An array has room for 4 kernels of 34 x 34 on one diagonal once, and for two of them nine times."""
    own, shorter = layouts_of(Linear("Conv", "w", groups=4), (136, 34, 1, 1), (256, 256))[:2]
    assert (own.turns, shorter.turns) == (1, 1)
    assert list(own.boxes()) == [(136, 136)]
    assert list(shorter.boxes()) == [(68, 68), (68, 68)]
    assert own.arrays((256, 256)) == 1
    assert shorter.arrays((256, 256)) == pytest.approx(2 / 9)


def test_kernels_on_the_same_lines_are_read_one_by_one() -> None:
    same = depthwise(96)[-1]
    assert (same.kind, same.turns, same.together) == ("same lines", 96, 1)
    assert list(same.boxes()) == [(9, 96)]
    assert bundles_of(same.parts())[0].spots == tuple((0, k) for k in range(96))


def test_in_between_some_kernels_are_read_at_once() -> None:
    """252 kernels fill an array that is read nine times."""
    found = {layout.turns: layout for layout in depthwise(252)}
    assert found[9].kind == "28 a read"
    assert list(found[9].boxes()) == [(252, 252)]
    bundle = bundles_of(found[9].parts())[0]
    assert bundle.spots[:3] == ((0, 0), (9, 1), (18, 2))
    assert bundle.spots[28:30] == ((0, 28), (9, 29))
    assert [part.turn for part in bundle.parts] == [k // 28 for k in range(252)]


def test_an_array_that_holds_anything_takes_all_kernels_side_by_side() -> None:
    (only,) = depthwise(1000, None)
    assert list(only.boxes()) == [(9, 1000)]


def test_a_matrix_is_cut_in_two_ways() -> None:
    full, even = layouts_of(Linear("MatMul", "w"), (600, 300), (256, 256))
    assert (full.kind, even.kind) == ("full cuts", "even cuts")
    assert list(full.boxes()) == [(h, w) for w in (256, 44) for h in (256, 256, 88)]
    assert list(even.boxes()) == [(200, 150)] * 6
    assert len(layouts_of(Linear("MatMul", "w"), (200, 200), (256, 256))) == 1


@given(
    groups=st.integers(1, 40),
    n_in=st.integers(1, 20),
    n_out=st.integers(1, 20),
    rows=st.integers(1, 40),
    cols=st.integers(1, 40),
    replicas=st.integers(1, 3),
)
def test_every_layout_holds_every_element_once_a_replica(
    groups: int, n_in: int, n_out: int, rows: int, cols: int, replicas: int
) -> None:
    linear = Linear("Conv", "w", groups=groups)
    layouts = layouts_of(linear, (groups * n_out, n_in, 1), (rows, cols))
    assert [layout.turns for layout in layouts] == sorted(layout.turns for layout in layouts)
    assert len(layouts) <= 24
    for layout in layouts:
        copied = layout.copies(replicas)
        bundles = bundles_of(copied.parts())
        assert [(b.height, b.width) for b in bundles] == list(copied.boxes())
        assert all(b.height <= rows and b.width <= cols for b in bundles)
        assert max(b.turns for b in bundles) == layout.turns
        cells: Counter[tuple[int, int]] = Counter()
        for part in copied.parts():
            cells[part.replica, part.group] += part.n_in * part.n_out
        assert cells == {(r, g): n_in * n_out for r in range(replicas) for g in range(groups)}
        for bundle in bundles:
            for turn in range(bundle.turns):
                at = [(spot, p) for spot, p in zip(bundle.spots, bundle.parts, strict=True) if p.turn == turn]
                for ((row, col), left), ((below, beside), _) in pairwise(at):
                    assert (below, beside) == (row + left.n_in, col + left.n_out)
