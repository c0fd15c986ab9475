"""Vectors of linear maps that drive a layer, row by row and in reads of all copies."""

from hypothesis import given
from hypothesis import strategies as st

from ffebm.scheduling.rows.drive import Drive, Reach
from ffebm.scheduling.rows.row_window import same_rows, sliding
from ffebm.scheduling.streams import Stream


@given(rows=st.integers(2, 12), row=st.integers(1, 7), copies=st.integers(2, 40), data=st.data())
def test_copies_read_vectors_of_several_rows_at_once(
    rows: int, row: int, copies: int, data: st.DataObject
) -> None:
    """A kernel of three over rows of vectors; each vector once, forth and back, and nothing too early."""
    reach = Reach((same_rows(2, rows),))
    drive = Drive(reach, row).shared_out(copies, rows)
    stream = Stream(2, rows, {"x": (Reach((sliding(2, rows, 3, 1, 1, 1),)),)}, (drive,))
    ends = sorted({*data.draw(st.sets(st.integers(1, rows))), rows})
    bands = list(zip([0, *ends[:-1]], ends, strict=True))
    for spans in ([drive.vectors(b, rows) for b in bands], [drive.returned(b, rows) for b in bands]):
        taken = [vector for first, behind in spans for vector in range(first, behind)]
        assert taken == list(range(rows * row))
    if drive.at_once > 1:
        starts = [first for first, _ in (drive.vectors(band, rows) for band in bands)]
        assert all(start % copies == 0 or start == rows * row for start in starts)
    for first, behind in bands:
        read, gone = drive.vectors((first, behind), rows)[1], drive.returned((first, behind), rows)[1]
        last_row = -(-read // row)  # of a vector that is read
        assert behind * row <= read
        assert stream.needed("x", (first, behind))[1] >= min(last_row + 1, rows)
        assert stream.begun(behind) == (min(last_row, rows) if behind < rows else rows)
        assert gone <= behind * row
        left = gone // row  # the first row with a vector that has not gone back
        assert stream.complete("x", behind) <= (rows if gone == rows * row else max(0, left - 1))


def test_rows_that_leave_few_copies_idle_have_reads_of_their_own() -> None:
    reach = Reach((same_rows(2, 14),))
    assert Drive(reach, 14).shared_out(16, 14).at_once == 1  # 14 reads, of all copies 13
    assert Drive(reach, 14).shared_out(24, 14).at_once == 24  # 14 reads, of all copies 9
    assert Drive(reach, 14).shared_out(1, 14).at_once == 1


@given(
    rows=st.integers(2, 12),
    row=st.integers(1, 7),
    copies=st.integers(1, 40),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    pad=st.integers(0, 1),
)
def test_rows_that_reads_for_others_have_begun(
    rows: int, row: int, copies: int, kernel: int, stride: int, pad: int
) -> None:
    """Window by window under a pooling: rows with a vector that is read, though not all of theirs are."""
    pad = min(pad, kernel - 1)
    made = (rows + 2 * pad - kernel) // stride + 1
    windows = [
        {n for n in range(r * stride - pad, r * stride - pad + kernel) if 0 <= n < rows} for r in range(made)
    ]
    drive = Drive(Reach((sliding(2, rows, kernel, stride, 1, pad), same_rows(2, rows))), row)
    stream = Stream(2, made, {}, (drive.shared_out(copies, made),))
    for behind in range(1, made + 1):
        (shared,) = stream.drives
        assert shared is not None
        read = {vector // row for vector in range(shared.read(behind, made))}
        begun = [r for r in range(made) if r < behind or windows[r] & read]
        assert stream.begun(behind) == len(begun) == begun[-1] + 1
