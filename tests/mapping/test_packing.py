import itertools
import time

from hypothesis import given
from hypothesis import strategies as st

from ffebm.graph.graph import Place
from ffebm.mapping.packing import APART, CLOSE, DIAGONAL, Box, arrays_needed, pack

ROWS, COLS = 12, 8

BOXES = st.lists(
    st.builds(Box, st.integers(1, ROWS), st.integers(1, COLS), st.integers(0, 5).map(lambda n: (n,))),
    min_size=1,
    max_size=40,
)


def cells(boxes: list[Box], places: tuple[Place, ...]) -> list[tuple[int, int, int]]:
    return [
        (place.tile, place.row + row, place.col + col)
        for box, place in zip(boxes, places, strict=True)
        for row in range(box.height)
        for col in range(box.width)
    ]


@given(boxes=BOXES, count=st.integers(1, 30))
def test_boxes_lie_on_the_arrays_without_overlap(boxes: list[Box], count: int) -> None:
    places = pack(boxes, count, (ROWS, COLS))
    if places is None:
        assert arrays_needed(boxes, (ROWS, COLS)) > count
        return
    taken = cells(boxes, places)
    assert len(taken) == len(set(taken))
    assert all(0 <= t < count and 0 <= r < ROWS and 0 <= c < COLS for t, r, c in taken)


@given(boxes=BOXES, count=st.integers(1, 40))
def test_boxes_of_a_block_lie_apart_where_that_is_asked(boxes: list[Box], count: int) -> None:
    places = pack(boxes, count, (ROWS, COLS), APART)
    if places is None:
        assert count < len(boxes)
        return
    found = [(place.tile, box.owners) for box, place in zip(boxes, places, strict=True)]
    assert len(found) == len(set(found))


def least_gap(boxes: list[Box], places: tuple[Place, ...]) -> int:
    """How far apart, in the order of the boxes, the nearest two are that share an array."""
    return min(
        abs(one - other)
        for one, other in itertools.combinations(range(len(boxes)), 2)
        if places[one].tile == places[other].tile
    )


@given(boxes=BOXES, count=st.integers(1, 30), apart=st.booleans())
def test_scattered_boxes_fit_wherever_others_do(boxes: list[Box], count: int, *, apart: bool) -> None:
    ways = APART if apart else None
    usual, places = (
        pack(boxes, count, (ROWS, COLS), ways, scattered=scattered) for scattered in (False, True)
    )
    if usual is not None:
        assert places is not None
    if places is not None:
        taken = cells(boxes, places)
        assert len(taken) == len(set(taken))
        assert all(0 <= t < count and 0 <= r < ROWS and 0 <= c < COLS for t, r, c in taken)
        found = [(place.tile, box.owners) for box, place in zip(boxes, places, strict=True)]
        assert not apart or len(boxes) <= count or len(found) == len(set(found))


@given(blocks=st.integers(2, 40), rows=st.integers(1, 3), cols=st.integers(1, 3))
def test_scattered_boxes_of_one_size_are_as_far_apart_as_can_be(blocks: int, rows: int, cols: int) -> None:
    """Of n boxes, k to an array, those that share one lie n / k apart."""
    boxes = [Box(ROWS // rows, COLS // cols, (number,)) for number in range(blocks)]
    together = (ROWS // boxes[0].height) * (COLS // boxes[0].width)
    count = -(-blocks // together)
    if together == 1 or count == 1:
        return
    for ways in (APART[1:], CLOSE):  # the first one takes empty arrays as long as there are some
        usual, far = (pack(boxes, count, (ROWS, COLS), ways, scattered=apart) for apart in (False, True))
        assert usual is not None
        assert far is not None
        assert least_gap(boxes, usual) == 1
        assert least_gap(boxes, far) >= blocks // together


def test_circuits_and_arrays_that_hold_anything_are_not_scattered() -> None:
    boxes = [Box(4, 4, (number,)) for number in range(12)]
    for size, ways in (((ROWS, COLS), DIAGONAL), (None, None)):
        assert pack(boxes, 6, size, ways) is not None
        assert pack(boxes, 6, size, ways, scattered=True) == pack(boxes, 6, size, ways)


@given(boxes=BOXES)
def test_with_enough_arrays_each_box_has_one_of_its_own(boxes: list[Box]) -> None:
    places = pack(boxes, len(boxes), (ROWS, COLS))
    assert places == tuple(Place(number, 0, 0) for number in range(len(boxes)))


@given(boxes=BOXES)
def test_what_boxes_need_is_enough_and_no_less_than_their_cells(boxes: list[Box]) -> None:
    needed = arrays_needed(boxes, (ROWS, COLS))
    assert pack(boxes, needed, (ROWS, COLS)) is not None
    assert needed >= -(-sum(box.height * box.width for box in boxes) // (ROWS * COLS))


def test_equal_boxes_waste_nothing() -> None:
    boxes = [Box(3, 2, (number,)) for number in range(2 * 16)]
    assert arrays_needed(boxes, (ROWS, COLS)) == 2
    assert pack(boxes, 2, (ROWS, COLS), APART) is not None
    assert pack(boxes, 1, (ROWS, COLS)) is None


def test_an_array_that_holds_anything_takes_all() -> None:
    boxes = [Box(1000, 7, (0,)) for _ in range(50)]
    assert pack(boxes, 1, None) is not None


def test_thousands_of_boxes_pack_in_less_than_a_second() -> None:
    """The pieces of a square matrix that is a little smaller than 65 x 65 arrays."""
    boxes = [Box(256 - (row == 64), 256 - (col == 64), (0,)) for row in range(65) for col in range(65)]
    start = time.process_time()
    assert pack(boxes, 4225, (256, 256)) is not None
    assert pack(boxes, 4224, (256, 256)) is None
    assert time.process_time() - start < 1.0


@given(boxes=BOXES, count=st.integers(1, 30))
def test_in_diagonals_boxes_share_no_line(boxes: list[Box], count: int) -> None:
    places = pack(boxes, count, (ROWS, COLS), DIAGONAL)
    needed = arrays_needed(boxes, (ROWS, COLS), DIAGONAL)
    heights, widths = sum(box.height for box in boxes), sum(box.width for box in boxes)
    assert max(-(-heights // ROWS), -(-widths // COLS)) <= needed <= len(boxes)
    if places is None:
        assert needed > count
        return
    pairs = list(zip(boxes, places, strict=True))
    rows = [(place.tile, place.row + line) for box, place in pairs for line in range(box.height)]
    cols = [(place.tile, place.col + line) for box, place in pairs for line in range(box.width)]
    assert len(rows) == len(set(rows))
    assert len(cols) == len(set(cols))
    assert all(0 <= t < count and r < ROWS for t, r in rows)
    assert all(c < COLS for _, c in cols)


def test_thousands_of_windows_pack_in_less_than_a_second() -> None:
    boxes = [Box(27, 64, (0,))] * 12_544 + [Box(200, 64, (1,))] * 3_136
    start = time.process_time()
    # nine of the small ones or one of the large ones a tile by word lines; four by bit lines
    assert arrays_needed(boxes, (256, 256), DIAGONAL) == 3_136 + (12_544 - 2 * 3_136) // 4
    assert time.process_time() - start < 1.0
