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


def test_the_mapping_is_asked_for_as_it_was() -> None:
    b = Builder()
    plan = ffebm.compile(
        b.model(b.node("MatMul", b.input("x", 1, 4), b.weight(4, 3))),
        objective="energy", tiles=7, max_latency=1.0, max_energy=0.5, max_area=3.5, slowdown=2.5, replicas=2,
        effort=9,
    )  # fmt: skip
    assert " ".join(compile_words(plan)[2:]) == (
        "--hardware reference --objective energy --tiles 7 --max-latency 1.0 --max-energy 0.5 "
        "--max-area 3.5 --slowdown 2.5 --replicas 2 --effort 9"
    )
