"""Plans as an independent checker sees them, and prices of blocks before they are placed."""

from collections import defaultdict
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import ModelProto

from ffebm import Plan
from ffebm.compiler.driver import compile_model
from ffebm.graph.graph import Graph, Stage
from ffebm.hardware.description import Hardware
from ffebm.mapping.block_cost import BlockCost
from ffebm.scheduling.rows.drive import IDLE
from tests.machines import crossbars
from tests.models import Builder, random_models
from tests.plan_checker import check


@dataclass(frozen=True)
class Priced:
    """A pass that asks what each block takes before anything is placed."""

    found: dict[str, float]
    name: str = "priced"
    requires: Stage = Stage.PARTITIONED
    ensures: Stage = Stage.PARTITIONED

    def run(self, graph: Graph, hardware: Hardware) -> None:
        for block in graph.blocks:
            cost = BlockCost(graph, hardware, block, 1)
            self.found[block.name] = cost.free(1).seconds


@settings(max_examples=40, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    model=random_models(10),
    count=st.integers(1, 40),
    rows=st.integers(2, 40),
    cols=st.integers(1, 40),
)
def test_random_plans(model: ModelProto, count: int, rows: int, cols: int) -> None:
    plan = compile_model(model, hardware=crossbars(count, rows, cols))
    if any(True for _ in plan.pieces()):
        check(plan)


def mixed() -> ModelProto:
    """Depthwise, grouped, dense and cut layers."""
    b = Builder()
    y = b.node("Relu", b.conv(b.input("x", 1, 3, 8, 8), 3, 24))
    y = b.node("Relu", b.conv(y, 24, 24, group=24))
    y = b.node("Relu", b.conv(y, 24, 24, group=3))
    y = b.node("Relu", b.node("MatMul", b.node("Flatten", y), b.weight(24 * 64, 20)))
    return b.model(b.node("Softmax", b.node("MatMul", y, b.weight(20, 40))))


@pytest.mark.parametrize("count", [9, 12, 16, 20, 40, 200])
def test_a_price_before_placing_is_the_bill_where_blocks_lie_apart(count: int) -> None:
    priced = Priced({})
    plan = compile_model(mixed(), hardware=crossbars(count, 256, 32), passes=(priced,))
    check(plan)
    steps: dict[str, float] = defaultdict(float)
    for step in plan.inference.steps:
        if step.kind == "free":
            steps[step.name] += step.end_s - step.start_s
    apart = [block.name for block in plan.blocks if lies_apart(plan, block.id)]
    assert len(apart) >= min(2, len(plan.blocks))
    for name in apart:
        # rows with reads of their own leave some replicas idle
        assert 1 - 1e-9 <= steps[name] / priced.found[name] <= 1 + IDLE


def lies_apart(plan: Plan, block: int) -> bool:
    weights = plan.blocks[block].weights()
    lying = [(t.id, p.weight, p.replica, p.bundle) for t, p in plan.pieces() if p.weight in weights]
    return len({entry[0] for entry in lying}) == len(set(lying))


def test_replicas_divide_the_time_and_multiply_the_writes() -> None:
    b = Builder()
    model = b.model(b.node("Relu", b.conv(b.input("x", 1, 3, 8, 8), 3, 6)))
    one, four = (compile_model(model, hardware=crossbars(8, 32, 8), replicas=n) for n in (1, 4))

    def reads(plan: Plan) -> float:
        return sum(s.end_s - s.start_s for s in plan.inference.steps if s.kind == "free")

    def writes(plan: Plan) -> list[tuple[float, float]]:
        steps = [s for s in plan.training.steps if s.kind == "update" and s.cost.array]
        return [(s.end_s - s.start_s, s.cost.array) for s in steps]

    assert reads(four) == pytest.approx(reads(one) / 4)
    for kind in ("array", "dac", "adc", "adders", "digital", "memory", "network"):
        assert getattr(four.inference.cost, kind) == pytest.approx(getattr(one.inference.cost, kind))
    ((seconds, joules),) = writes(one)
    ((longer, more),) = writes(four)
    assert longer == pytest.approx(seconds)
    assert more == pytest.approx(4 * joules)
