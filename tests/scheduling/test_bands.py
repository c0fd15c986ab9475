"""How many rows each step makes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffebm.scheduling.bands import LONGER, MOST_BANDS, MOST_STEPS, Bands, Cutting, Streaming, of_height
from ffebm.scheduling.rows.drive import IDLE, Drive, Reach
from ffebm.scheduling.rows.row_window import same_rows
from ffebm.scheduling.streams import Stream


def stream(rows: int, vectors: int = 0, copies: int = 1) -> Stream:
    """Row by row; driven by so many vectors a row, which copies of a weight share out."""
    reach = Reach((same_rows(2, rows),))
    drives = (Drive(reach, vectors).shared_out(copies, rows),) if vectors else ()
    return Stream(2, rows, {"x": (reach,)}, drives)


def heights(bands: Bands) -> list[int]:
    return [behind - first for first, behind in bands.rows()]


def test_bands_hold_each_row_once() -> None:
    bands = of_height(10, 4)
    assert bands.ends == (4, 8, 10)
    assert bands.rows() == [(0, 4), (4, 8), (8, 10)]
    assert [bands.of(row) for row in range(10)] == [0] * 4 + [1] * 4 + [2] * 2


@pytest.mark.parametrize(("rows", "expected"), [(2, 1), (32, 1), (33, 2), (224, 7)])
def test_bands_are_of_equal_height_and_no_more_than_may_be(rows: int, expected: int) -> None:
    (bands,) = Cutting([stream(rows)], [1], [1.0]).bands()
    assert bands is not None
    assert bands.ends[-1] == rows
    assert len(bands.ends) <= MOST_BANDS
    assert set(heights(bands)[:-1]) == {expected}


def test_a_barrier_and_what_has_one_band_are_done_at_once() -> None:
    cutting = Cutting([None, stream(8)], [1, 1], [1.0, 1.0])
    assert cutting.bands(most=1) == [None, None]
    assert cutting.bands()[0] is None


def test_a_plan_stays_small() -> None:
    """Of many layers those are cut less finely that lose least time for a step."""
    count = 400
    streams = [stream(32)] * count + [stream(64)] * count
    cutting = Cutting(streams, [1] * len(streams), [1.0] * count + [9.0] * count)
    bands = cutting.bands()
    steps = sum(2 * len(some.ends) if some is not None else 1 for some in bands)
    assert MOST_STEPS / 2 < steps <= MOST_STEPS < cutting.steps(MOST_BANDS)
    quick, slow = bands[0], bands[-1]
    assert quick is None or (slow is not None and len(quick.ends) < len(slow.ends))
    assert len(set(bands[:count])) == len(set(bands[count:])) == 1


@pytest.mark.parametrize("copies", [2, 3, 5, 16, 33])
@pytest.mark.parametrize("row", [1, 4, 7])
def test_replicas_are_idle_for_no_more_than_a_share_of_the_time(copies: int, row: int) -> None:
    rows = 24
    made = stream(rows, row, copies)
    (bands,) = Cutting([made], [1], [1.0]).bands()
    (drive,) = made.drives
    assert drive is not None
    spans = [drive.vectors(band, rows) for band in ([(0, rows)] if bands is None else bands.rows())]
    reads = [-(-(behind - first) // copies) for first, behind in spans]
    assert sum(reads) <= (1 + IDLE) * -(-rows * row // copies)
    assert min(reads) > 0
    assert drive.at_once == 1 or sum(reads) == -(-rows * row // copies)


def test_bands_end_with_the_rows_that_reads_of_all_replicas_make() -> None:
    """Four copies of rows of two vectors: two rows a read. Six of rows of four: the second read makes two."""
    (bands,) = Cutting([stream(24, 2, 4)], [1], [1.0]).bands()
    assert bands == of_height(24, 2)
    (bands,) = Cutting([stream(12, 4, 6)], [1], [1.0]).bands()
    assert bands == Bands((1, 3, 4, 6, 7, 9, 10, 12))


@pytest.mark.parametrize("most", [1, 3, 8, 64])
def test_steps_are_told_before_anything_is_cut(most: int) -> None:
    """One of the barrier; of the others for each band one of its own and those beside it."""
    further = [5, 2, 0]
    cutting = Cutting([None, stream(30), stream(12)], further, [1.0] * 3)
    bands = cutting.bands(most, most_steps=10**6)
    counts = [1 if some is None else len(some.ends) for some in bands]
    assert cutting.steps(most) == 1 + sum(n * (1 + f) for n, f in zip(counts[1:], further[1:], strict=True))


# --- what bands add ----------------------------------------------------------------------------------


@given(st.integers(2, 40), st.integers(1, 32), st.floats(0, 1))
def test_bands_that_make_a_layer_longer_are_as_many_as_are_worth_it(
    rows: int, most: int, each: float
) -> None:
    """Each band takes a time of its own: the best of all numbers of bands, or all that add a tenth."""

    def lasting(some: tuple[int, int]) -> float:
        return each + (1 - each) * (some[1] - some[0]) / rows

    def lost(bands: Bands) -> float:
        seconds = [lasting(some) for some in bands.rows()]
        return max(seconds) + sum(seconds)

    one = Streaming(stream(rows), 0, 1.0)
    given_bands = one.bands(-(-rows // most))
    found = one.worthwhile(given_bands, lasting)
    if sum(map(lasting, given_bands.rows())) <= 1 + LONGER:
        assert found == given_bands
        return
    fewer = [one.bands(height) for height in range(1, rows + 1)]
    fewer = [bands for bands in fewer if len(bands.ends) <= len(given_bands.ends)]
    assert found in fewer
    assert lost(found) == pytest.approx(min(map(lost, fewer)), rel=1e-12)


def test_what_no_band_is_worth_is_done_at_once() -> None:
    cutting = Cutting([None, stream(12)], [1, 1], [1.0, 1.0])
    (_, bands) = cutting.bands()
    assert bands == of_height(12, 1)
    assert cutting.worthwhile(1, bands, lambda rows: 1.0) is None
    assert cutting.worthwhile(1, bands, lambda rows: (rows[1] - rows[0]) / 12) == bands
