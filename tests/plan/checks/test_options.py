"""Options of a plan that its blocks, pieces and nodes contradict."""

from typing import Any

import msgspec
import pytest

from ffebm import Plan
from ffebm import compile as compile_plan
from ffebm.plan.checks.options import option_problems
from ffebm.plan.schema import PlanData
from tests.models import Builder


def chain() -> Plan:
    """Three layers in blocks of 2 and 1, on tiles from the first product on."""
    b = Builder()
    x = b.input("x", "N", 6)
    for name in ("w1", "w2", "w3"):
        x = b.node("Sigmoid", b.node("MatMul", x, b.weight(6, 6, name=name)), name=f"act_{name}")
    return compile_plan(b.model(x), hardware="reference", block_size=2)


@pytest.fixture(scope="module")
def plan() -> Plan:
    return chain()


def problems(plan: Plan, **options: Any) -> list[str]:
    data: PlanData = msgspec.structs.replace(plan, options=msgspec.structs.replace(plan.options, **options))
    return list(option_problems(data))


FINE: tuple[dict[str, Any], ...] = (
    {},
    {"block_size": 5},
    {"block_size": (2, 1)},
    {"block_size": (1, 2, 1)},  # a block of one layer may not have fitted the tiles
    {"dims": {"N": 4}},
    {"digital": ("nothing", "w4*")},
)


@pytest.mark.parametrize("options", FINE, ids=str)
def test_options_that_fit(plan: Plan, options: dict[str, Any]) -> None:
    assert [len(block.layers) for block in plan.blocks] == [2, 1]
    assert problems(plan, **options) == []


WRONG: tuple[tuple[dict[str, Any], list[str]], ...] = (
    ({"block_size": 0}, ["block size 0"]),
    ({"block_size": ()}, ["block size ()"]),
    ({"block_size": (2, 0)}, ["block size (2, 0)"]),
    ({"block_size": 1}, ["blocks of 2, 1 layers at block size 1"]),
    ({"block_size": (1, 2)}, ["blocks of 2, 1 layers at block size (1, 2)"]),
    ({"block_size": (2,)}, ["blocks of 2, 1 layers at block size (2,)"]),
    ({"dims": {"N": 0}}, ["the named dimensions {'N': 0} of a onnx model"]),
    (
        {"boundary": "digital"},
        [
            "block0 multiplies what enters it, and its boundary is digital",
            "block1 multiplies what enters it, and its boundary is digital",
        ],
    ),
    ({"feedback": 0.5}, ["block0 with feedback 1, where 0.5 was asked for"]),
    ({"digital": ("w2",)}, ["piece 1 holds 'w2', which is to stay digital"]),
    ({"digital": ("act_w1",)}, ["node 'act_w1' runs on tiles, and is to stay digital"]),
    (
        {"digital": ("*w3",)},
        [
            "piece 2 holds 'w3', which is to stay digital",
            "node 'act_w3' runs on tiles, and is to stay digital",
        ],
    ),
)


@pytest.mark.parametrize(("options", "messages"), WRONG, ids=str)
def test_options_that_do_not_fit(plan: Plan, options: dict[str, Any], messages: list[str]) -> None:
    assert problems(plan, **options) == messages


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"physics": "leak"}, "block0 of physics 'leak' with feedback 0.5"),
        ({}, "block0 with feedback 0.5, which is a circuit on 'tiles'"),
    ],
)
def test_blocks_that_cannot_have_a_feedback(plan: Plan, changes: dict[str, Any], message: str) -> None:
    blocks = [msgspec.structs.replace(plan.blocks[0], feedback=0.5, **changes), *plan.blocks[1:]]
    data: PlanData = msgspec.structs.replace(plan, blocks=tuple(blocks))
    if not changes:
        (group,) = plan.hardware.analog
        wired = msgspec.structs.replace(group, settling="continuous")
        machine = msgspec.structs.replace(plan.hardware, analog=(wired,))
        data = msgspec.structs.replace(data, hardware=machine)
    assert problems(data, feedback=0.5) == [message]  # type: ignore[arg-type] # data of a plan


def test_only_onnx_names_dimensions(plan: Plan) -> None:
    torch = msgspec.structs.replace(plan, source=msgspec.structs.replace(plan.source, format="torch"))
    assert problems(torch, dims={"N": 1}) == ["the named dimensions {'N': 1} of a torch model"]
