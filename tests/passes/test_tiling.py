from ffebm import compile as compile_plan
from tests.machines import crossbars
from tests.models import Builder


def test_a_depthwise_convolution_takes_far_less_than_a_dense_one() -> None:
    """32 groups of 9 x 1 cells: not 288 x 32."""
    b = Builder()
    y = b.conv(b.input("x", "N", 32, 4, 4), 32, 32, group=32)
    plan = compile_plan(b.model(y), hardware=crossbars(1, 288, 32))
    pieces = [piece for _, piece in plan.pieces()]
    assert [(p.n_in, p.n_out) for p in pieces] == [(9, 1)] * 32
    assert sum(tile.used for tile in plan.tiles) == 32 * 9
    assert len(plan.tiles) == 1
