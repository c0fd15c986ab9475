from ffebm.runtime.blocks.circuit import Circuit
from tests.runtime.some_blocks import IDENTITY, Builder, Case, published_chain


def colours(case: Case) -> list[list[int]]:
    return Circuit(case.block, {}).colours


def test_a_chain_alternates() -> None:
    assert colours(published_chain()) == [[0, 2], [1, 3]]


def test_layers_that_join_late_still_take_two_colours() -> None:
    b = Builder()
    b.input("x", 3, 4, 4)
    b.conv("a", "x", 3, IDENTITY)
    b.conv("b", "x", 3, IDENTITY)
    b.conv("c", "a", 3, IDENTITY)
    b.conv("d", "b", 3, IDENTITY)
    b.layer("e", IDENTITY, b.drive("c"), b.drive("d"))
    assert colours(b.case()) == [[0, 1, 4], [2, 3]]


def test_a_triangle_takes_three() -> None:
    b = Builder()
    b.input("x", 3, 4, 4)
    b.conv("a", "x", 3, IDENTITY)
    b.conv("b", "a", 3, IDENTITY)
    b.layer("c", IDENTITY, b.drive("a"), b.drive("b"))
    assert colours(b.case()) == [[0], [1], [2]]
