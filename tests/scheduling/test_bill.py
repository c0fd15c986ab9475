"""Plans of small models on shipped machines against a second bill that shares no code with ours."""

import re

import pytest
from msgspec.structs import replace
from onnx import ModelProto

from ffebm import Plan
from ffebm import compile as compile_plan
from ffebm.plan.mapping import Objective
from tests.bill_checker import check_bill
from tests.models import Builder
from tests.plan_checker import check

MACHINES = ("reference", "hermes", "isaac")


def dense() -> ModelProto:
    """Three layers for five samples, the first cut on every machine; with biases."""
    b = Builder()
    y = b.node("Relu", b.node("Gemm", b.input("x", 5, 300), b.weight(300, 40), b.weight(40)))
    y = b.node("Tanh", b.node("MatMul", y, b.weight(40, 140)))
    return b.model(b.node("Softmax", b.node("Gemm", y, b.weight(140, 7), b.weight(7))))


def convolutions() -> ModelProto:
    """Dense, depthwise and pointwise kernels, a view, and a dense layer that is cut."""
    b = Builder()
    y = b.node("Relu", b.conv(b.input("x", 1, 3, 8, 8), 3, 24))
    y = b.node("Relu", b.conv(y, 24, 24, group=24))
    y = b.node("Relu", b.conv(y, 24, 16, kernel=1))
    return b.model(b.node("MatMul", b.node("Flatten", y), b.weight(16 * 64, 10)))


def skips() -> ModelProto:
    """A value that two layers read, their sum, and what lies between them digital."""
    b = Builder()
    x = b.node("Relu", b.conv(b.input("x", 2, 4, 6, 6), 4, 8))
    left, right = (b.node("Relu", b.conv(x, 8, 8)) for _ in range(2))
    y = b.node("MaxPool", b.node("Softmax", b.node("Add", left, right)), kernel_shape=[2, 2], strides=[2, 2])
    return b.model(b.node("MatMul", b.node("Flatten", y), b.weight(72, 10)))


def pooled() -> ModelProto:
    """Poolings inside blocks: windows that overlap, with a bias inside, and a mean before an activation."""
    b = Builder()
    y = b.node("Conv", b.input("x", 2, 3, 16, 16), b.weight(8, 3, 3, 3), b.weight(8), pads=[1] * 4)
    y = b.node("MaxPool", b.node("Relu", y), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    y = b.node("AveragePool", b.conv(y, 8, 16), kernel_shape=[2, 2], strides=[2, 2])
    return b.model(b.node("MatMul", b.node("Flatten", b.node("Tanh", y)), b.weight(256, 10)))


MODELS = {"dense": dense, "convolutions": convolutions, "skips": skips, "pooled": pooled}


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", MODELS)
def test_the_bill_is_what_a_second_one_says(name: str, machine: str) -> None:
    plan = compile_plan(MODELS[name](), hardware=machine)
    assert plan.blocks
    check(plan)
    check_bill(plan)


def test_poolings_of_blocks_are_billed_in_bands_too() -> None:
    plan = compile_plan(pooled(), hardware="reference")
    assert [any(i.pool for i in block.layers[0].interactions) for block in plan.blocks] == [True, True, False]
    assert any(step.rows and step.kind == "free" and step.block == 0 for step in plan.inference.steps)


@pytest.mark.parametrize("objective", ["latency", "energy"])
def test_so_it_is_where_copies_and_digital_layers_are_chosen(objective: Objective) -> None:
    plan = compile_plan(convolutions(), hardware="reference", objective=objective, digital=["*"])
    assert not plan.blocks
    check_bill(plan)
    copied = compile_plan(convolutions(), hardware="isaac", replicas=3)
    assert any(piece.replica for _, piece in copied.pieces())
    check_bill(copied)


def test_it_finds_what_is_billed_wrong() -> None:
    """One more hop, a dearer cell: the plan's steps no longer follow from its constants."""
    plan = compile_plan(dense(), hardware="reference")
    network = plan.hardware.network
    hops = replace(network.hops, value=network.hops.value + 1)
    machine = replace(plan.hardware, network=replace(network, hops=hops))
    with pytest.raises(AssertionError, match="network of step 0"):
        check_bill(_on(plan, machine))


@pytest.fixture(scope="module")
def banded_plan() -> Plan:
    """Layers in bands, of an inference and of a training step."""
    return compile_plan(skips(), hardware="reference", effort=7000)


@pytest.mark.parametrize("kind", ["transfer", "free", "digital", "nudged", "contrast", "digital_backward"])
def test_it_finds_a_band_that_is_billed_wrong(kind: str, banded_plan: Plan) -> None:
    """A band that makes one row more, and the next one less, no longer costs what its rows do."""
    plan = banded_plan
    check_bill(plan)
    way = "inference" if kind in {"transfer", "free", "digital"} else "training"
    schedule = getattr(plan, way)
    steps = list(schedule.steps)
    banded = [step for step in steps if step.kind == kind and step.rows is not None]
    first = banded[0]
    assert first.rows is not None
    (second,) = [s for s in banded if s.name == first.name and s.rows and s.rows[0] == first.rows[1]]
    assert second.rows is not None
    middle, behind = first.rows[1] + 1, second.rows[1]
    steps[first.id] = replace(first, rows=(first.rows[0], middle))
    steps[second.id] = replace(second, rows=(middle, behind))
    with pytest.raises(AssertionError, match=re.escape(f"of step {first.id}, {kind} {first.name}")):
        check_bill(replace(plan, **{way: replace(schedule, steps=tuple(steps))}))
    steps[second.id] = second
    with pytest.raises(AssertionError, match=re.escape(f"rows of {kind} {first.name}")):
        check_bill(replace(plan, **{way: replace(schedule, steps=tuple(steps))}))


def _on(plan: Plan, machine: object) -> Plan:
    return replace(plan, hardware=machine)
