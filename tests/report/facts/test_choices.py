"""What each block could have been, as the page and the terminal tell it."""

import pytest
from msgspec.structs import replace

from ffebm import compile as compile_plan
from ffebm.plan.mapping import PricedOption
from ffebm.plan.plan import Plan
from ffebm.report.facts.choices import NodeChoice, choices, least, option_text, remarkable
from tests.models import Builder


@pytest.fixture(scope="module")
def plan() -> Plan:
    """Two layers; the softmax has no choice."""
    b = Builder()
    y = b.node("Relu", b.node("MatMul", b.input("x", 4, 40), b.weight(40, 50), name="first"), name="relu")
    y = b.node("Softmax", b.node("MatMul", y, b.weight(50, 6), name="second"), name="soft")
    return compile_plan(b.model(y), hardware="reference")


def test_they_are_those_of_the_plan(plan: Plan) -> None:
    found = choices(plan)
    assert found is not None
    assert plan.mapping is not None
    assert (found.objective, found.gap) == ("analog", plan.mapping.gap)
    assert [choice.name for choice in found.blocks] == ["block0", "block1"]
    for choice, some in zip(found.blocks, plan.mapping.blocks, strict=True):
        assert {plan.nodes[node].name for node in choice.nodes} == set(some.nodes)
        assert (choice.options, choice.taken) == (some.options, some.taken)
    named = {plan.nodes[node].name for choice in found.blocks for node in choice.nodes}
    assert named == {"first", "relu", "second"}


def test_what_stays_digital_goes_by_its_nodes(plan: Plan) -> None:
    nodes = tuple(replace(node, block=None, unit="digital") for node in plan.nodes)
    found = choices(replace(plan, nodes=nodes))
    assert found is not None
    assert [choice.name for choice in found.blocks] == ["first, relu", "second"]


def test_without_a_mapping_there_is_none(plan: Plan) -> None:
    assert choices(replace(plan, mapping=None)) is None


def option(group: str, tiles: float, seconds: float, joules: float, replicas: int = 1) -> PricedOption:
    return PricedOption(
        group=group,
        layout="full cuts" if group else "digital",
        replicas=replicas if group else 0,
        bundles=1,
        tiles=tiles,
        seconds=seconds,
        joules=joules,
    )


OPTIONS = (
    option("", 0, 3.0, 9.0),
    option("pcm", 1, 8.0, 1.0),
    option("pcm", 2, 4.0, 1.0, replicas=2),
    option("pcm", 4, 2.0, 1.0, replicas=4),
    option("sram", 6, 2.0, 5.0),
)


def test_what_says_most_of_a_choice() -> None:
    """Digital, the quickest and the thriftiest, each on the fewest tiles, and what was taken."""
    assert (least(OPTIONS, "seconds"), least(OPTIONS, "joules")) == (3, 1)
    choice = NodeChoice(name="block0", nodes=(0,), options=OPTIONS, taken=2, quickest=3, thriftiest=1)
    assert remarkable(choice) == [0, 1, 2, 3]


def test_an_option_in_words() -> None:
    words = [option_text(some) for some in OPTIONS[:3]]
    assert words == ["digital", "pcm: full cuts", "pcm: full cuts, 2 replicas"]
