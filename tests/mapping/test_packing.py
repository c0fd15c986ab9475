from hypothesis import given
from hypothesis import strategies as st

from ffebm.graph.graph import Part
from ffebm.mapping.packing import Packer

ROWS, COLS = 12, 8


def part(number: int, n_in: int, n_out: int) -> Part:
    return Part("w", number, (0, n_in), (0, n_out))


PARTS = st.lists(st.tuples(st.integers(1, ROWS), st.integers(1, COLS)), min_size=1, max_size=25).map(
    lambda sizes: [part(i, n_in, n_out) for i, (n_in, n_out) in enumerate(sizes)]
)


def cells(packer: Packer, parts: list[Part]) -> list[tuple[int, int, int]] | None:
    places = packer.place(parts)
    if places is None:
        return None
    assert set(places) == set(parts)
    return [
        (place.tile, place.row + i, place.col + o)
        for p, place in places.items()
        for i in range(p.n_in)
        for o in range(p.n_out)
    ]


@given(first=PARTS, second=PARTS, count=st.integers(1, 12))
def test_parts_lie_on_the_tiles_without_overlap(first: list[Part], second: list[Part], count: int) -> None:
    packer = Packer(count, ROWS, COLS)
    taken: list[tuple[int, int, int]] = []
    for parts in (first, [Part("v", p.group, p.inputs, p.outputs) for p in second]):
        free = packer.free
        found = cells(packer, parts)
        if found is None:
            assert packer.free == free
        taken.extend(found or [])
    assert len(taken) == len(set(taken))
    assert all(0 <= t < count and 0 <= r < ROWS and 0 <= c < COLS for t, r, c in taken)
    assert packer.free == count - len(packer.tiles) >= 0


@given(parts=PARTS)
def test_what_parts_need_is_what_they_take_on_empty_tiles(parts: list[Part]) -> None:
    packer = Packer(len(parts), ROWS, COLS)
    needed = packer.needs(parts)
    assert packer.free == len(parts)
    assert packer.place(parts) is not None
    assert len(packer.tiles) == needed
    assert needed >= -(-sum(p.n_in * p.n_out for p in parts) // (ROWS * COLS))


def test_equal_parts_waste_nothing() -> None:
    packer = Packer(2, ROWS, COLS)
    assert packer.needs([part(i, 3, 2) for i in range(2 * 16)]) == 2


def test_when_tiles_run_out_the_gaps_of_used_ones_serve() -> None:
    packer = Packer(1, ROWS, COLS)
    assert packer.place([part(0, 6, 8)]) is not None
    assert packer.place([part(1, 6, 8)]) is not None
    assert packer.place([part(2, 1, 1)]) is None
