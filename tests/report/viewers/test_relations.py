import ffebm
from ffebm.report.viewers.relations import captured, tiles_of_weights
from tests.models import Builder


def test_a_weight_lies_on_the_tiles_of_its_pieces() -> None:
    b = Builder()
    y = b.node("MatMul", b.node("MatMul", b.input("x", "N", 300), b.weight(300, 4)), b.weight(4, 3))
    plan = ffebm.compile(b.model(y), hardware="reference")
    found = tiles_of_weights(plan)
    assert {w: len([1 for _, p in plan.pieces() if p.weight == w]) for w in found} == {"c0": 2, "c1": 1}
    for weight, tiles in found.items():
        assert tiles == tuple(sorted({tile.id for tile, piece in plan.pieces() if piece.weight == weight}))


def test_an_instruction_without_subgraphs_captures_nothing() -> None:
    b = Builder()
    plan = ffebm.compile(b.model(b.node("Softmax", b.input("x", "N", 3))))
    (instruction,) = plan.segments[0].program.instructions
    assert list(captured(instruction)) == []
