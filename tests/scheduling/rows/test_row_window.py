"""Windows of rows against the taps that they are made of."""

import pytest

from ffebm.scheduling.rows.row_window import RowWindow, same_rows, scattering, sliding


@pytest.mark.parametrize(
    ("rows", "needed"),
    [
        ((0, 1), (0, 2)),  # the row above is padding
        ((1, 2), (0, 3)),
        ((3, 5), (2, 6)),
        ((7, 8), (6, 8)),  # the row below is padding
        ((0, 8), (0, 8)),
    ],
)
def test_a_kernel_of_three_needs_a_row_on_either_side(rows: tuple[int, int], needed: tuple[int, int]) -> None:
    assert sliding(2, 8, kernel=3, stride=1, dilation=1, begin=1).needed(rows) == needed


def test_the_same_rows() -> None:
    assert same_rows(1, 8).needed((2, 5)) == (2, 5)


@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("begin", [0, 1, 2])
def test_first_and_last_of_all_taps(kernel: int, stride: int, dilation: int, begin: int) -> None:
    """Of each pair of a first and a last output row; no more than that where no tap is in padding."""
    size = 9
    taps = range(0, kernel * dilation, dilation)
    slid = sliding(2, size, kernel, stride, dilation, begin)
    thrown = scattering(2, size, kernel, stride, dilation, begin)
    for first in range(4):
        for behind in range(first + 1, 5):
            out = range(first, behind)
            window = [row * stride - begin + tap for row in out for tap in taps]
            needed = {row for row in window if 0 <= row < size}
            assert needed <= set(range(*slid.needed((first, behind))))
            if needed == set(window):
                assert slid.needed((first, behind)) == (min(needed), max(needed) + 1)
            reached = {row for row in range(size) for tap in taps if row * stride - begin + tap in out}
            assert reached <= set(range(*thrown.needed((first, behind))))


def test_what_lies_beyond_an_input_is_nothing_or_its_edge() -> None:
    assert RowWindow(2, 4, low=9, high=9).needed((0, 1)) == (4, 4)
    assert RowWindow(2, 4, low=9, high=9, clamped=True).needed((0, 1)) == (3, 4)
    assert RowWindow(2, 4, low=-9, high=-9, clamped=True).needed((0, 1)) == (0, 1)
