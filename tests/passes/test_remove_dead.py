from collections.abc import Callable

from tests.models import Builder
from tests.passes.common import rewritten


def test_what_no_output_needs_is_dropped(golden: Callable[[str], None]) -> None:
    b = Builder()
    x, _ = b.input("x", "N", 4), b.input("unused", "N", 2)
    y = b.node("MatMul", x, b.weight(4, 4))
    dead = b.node("Abs", b.node("MatMul", y, b.weight(4, 2, name="dead_weight")))
    assert dead
    golden(rewritten("remove-dead", b.model(b.node("Relu", y)))[0])
