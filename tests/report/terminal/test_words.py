from msgspec.structs import replace

import ffebm
from ffebm.report.terminal.words import compile_words
from tests.models import Builder


def test_options_that_can_be_given_often_are_given_one_by_one() -> None:
    b = Builder()
    plan = ffebm.compile(b.model(b.node("MatMul", b.input("x", "N", 4), b.weight(4, 3))), block_size=2)
    plan.options = replace(
        plan.options,
        physics="leak",
        passes=("leaky", "other"),
        activations=("Atan",),
        trainable=("a", "b*"),
        digital=("c",),
    )
    assert " ".join(compile_words(plan, ["d"])[2:]) == (
        "--hardware reference --block-size 2 --physics leak --digital c --digital d --trainable a "
        "--trainable b* --pass leaky --pass other --activation Atan"
    )
