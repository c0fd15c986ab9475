"""The digital twin: equal to a plan with nothing on tiles; its crossing with a plan over the batch."""

from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace
from onnx import ModelProto

from ffebm import Plan, compile, load_hardware, load_plan  # noqa: A004 - as users write it
from ffebm.plan.schedule import Cost
from ffebm.plan.twin import Batches
from ffebm.scheduling import twin as twin_module
from ffebm.scheduling.list_schedule import Task, early_results, ordered
from ffebm.scheduling.twin import Growth, below
from tests.machines import round_numbers
from tests.models import Builder
from tests.scheduling.lagging import four_copies_in_a_core


def dense(batch: int, *sizes: int) -> ModelProto:
    """Dense layers with Relu, then a Softmax."""
    b = Builder()
    y = b.input("x", batch, sizes[0])
    for n_in, n_out in pairwise(sizes):
        y = b.node("Relu", b.node("Gemm", y, b.weight(n_in, n_out), b.weight(n_out)))
    return b.model(b.node("Softmax", y))


def convolutions(batch: int) -> ModelProto:
    b = Builder()
    x = b.input("x", batch, 3, 12, 12)
    y = b.node("Relu", b.norm(b.conv(x, 3, 8), 8))
    z = b.node("Add", b.node("Relu", b.conv(y, 8, 8)), y)
    y = b.node("GlobalAveragePool", b.node("MaxPool", z, kernel_shape=[2, 2], strides=[2, 2]))
    return b.model(b.node("Gemm", b.node("Flatten", y), b.weight(8, 5), b.weight(5)))


MODELS = {"dense": dense(4, 20, 30, 10), "convolutions": convolutions(2)}


def figures(plan: Plan) -> list[float]:
    both = (plan.inference, plan.training)
    return [f for schedule in both for f in (schedule.makespan_s, schedule.cost.energy)]


@pytest.mark.parametrize("hardware", ["reference", "hermes", "isaac", "ideal"])
@pytest.mark.parametrize("model", MODELS)
def test_the_twin_is_what_a_plan_without_tiles_takes(model: str, hardware: str) -> None:
    for block_size in (1, 2):
        plan = compile(MODELS[model], hardware=hardware, block_size=block_size)
        digital = compile(MODELS[model], hardware=hardware, block_size=block_size, digital=["*"])
        twin = plan.twin["fp32"]
        assert plan.blocks
        assert digital.blocks == ()
        assert digital.tiles == ()
        assert [twin.inference_s, twin.inference_j, twin.training_s, twin.training_j] == figures(digital)
        assert plan.twin.keys() == digital.twin.keys()
        for dtype, same in digital.twin.items():
            assert replace(same, better={}) == replace(plan.twin[dtype], better={}, losing=(), blocks={})
        itself = digital.twin["fp32"]
        assert [itself.inference_s, itself.inference_j] == figures(digital)[:2]
        assert itself.better == {}  # nothing is less than itself


def test_a_twin_by_hand(tmp_path: Path) -> None:
    """Five samples times 3 x 2 weights: 30 products, 2 a second; 8 operations a value, 4 a second."""
    b = Builder()
    y = b.node("Relu", b.node("MatMul", b.input("x", 5, 3), b.weight(3, 2)), out="s")
    plan = compile(b.model(b.node("Softmax", y, name="soft")), hardware=round_numbers())
    twin = plan.twin["fp32"]
    assert twin.inference_s == 30 / 2 + 10 / 4 + 10 / 4 + 60 / 4
    plan.save(tmp_path / "plan")
    assert load_plan(tmp_path / "plan").twin == plan.twin


def test_the_twin_of_another_data_type_is_a_machine_with_its_prices() -> None:
    """Digital units whose single precision costs what their int8 costs, and bf16 that they have not."""
    machine = load_hardware("reference")
    (engine,) = machine.digital
    assert engine.int8 is not None
    cheap = replace(machine, digital=(replace(engine, fp32=engine.int8, bf16=None),))
    plan, other = (compile(MODELS["dense"], hardware=hardware) for hardware in (machine, cheap))
    ours, theirs = plan.twin["int8"], other.twin["fp32"]
    for total in ("inference_s", "inference_j", "training_s", "training_j"):
        assert getattr(ours, total) == getattr(theirs, total)
    assert list(other.twin) == ["fp32", "int8"]


def test_leakage_is_that_of_what_is_powered_as_long_as_the_plan_takes() -> None:
    machine = load_hardware("reference")
    plan = compile(MODELS["dense"], hardware=machine)
    (tiles,), (engine,), (sram, dram) = machine.analog, machine.digital, machine.memory
    shared = engine.leakage.value + sram.leakage.value + machine.network.leakage.value
    assert dram.leakage.value == 0
    watts = len(plan.tiles) * tiles.leakage.value + shared
    for schedule in (plan.inference, plan.training):
        assert schedule.leakage == pytest.approx(watts * schedule.makespan_s)
        steps = sum(step.cost.energy for step in schedule.steps)
        assert schedule.cost.energy == pytest.approx(steps + schedule.leakage)
    alone = compile(MODELS["dense"], hardware=machine, digital=["*"])
    leaks = (engine.leakage.value + sram.leakage.value) * alone.inference.makespan_s
    assert alone.inference.leakage == pytest.approx(leaks)


@pytest.mark.parametrize(
    ("ours", "theirs", "found"),
    [
        (Growth(1, 2), Growth(1, 2), None),
        (Growth(1, 2), Growth(2, 2), Batches(first=1)),
        (Growth(10, 1), Growth(0, 2), Batches(first=11)),  # 20 is not less than 20
        (Growth(10.5, 1), Growth(0, 2), Batches(first=11)),
        (Growth(0, 1), Growth(0, 2), Batches(first=1)),
        (Growth(0, 2), Growth(10, 1), Batches(first=1, last=9)),
        (Growth(0, 2), Growth(10.5, 1), Batches(first=1, last=10)),
        (Growth(0, 2), Growth(0.5, 1), None),  # less than one sample
        (Growth(0, 2), Growth(1, 1), None),
    ],
)
def test_lines_cross_once(ours: Growth, theirs: Growth, found: Batches | None) -> None:
    assert below(ours, theirs) == found
    for batch in range(1, 30):
        less = ours.fixed + batch * ours.sample < theirs.fixed + batch * theirs.sample
        named = found is not None and found.first <= batch <= (found.last or batch)
        assert less == named


def test_the_break_even_is_where_plans_of_that_batch_cross() -> None:
    """Energy grows as a straight line: a plan of another batch says the same."""
    for hardware in ("reference", "hermes", "isaac"):
        plan = compile(dense(8, 64, 64, 10), hardware=hardware)
        better = plan.twin["fp32"].better
        for figure in ("inference_j", "training_j"):
            batches = better.get(figure)
            for batch in {1, 2, 30, *((batches.first, max(1, batches.first - 1)) if batches else ())}:
                other = compile(dense(batch, 64, 64, 10), hardware=hardware)
                schedule = other.inference if figure == "inference_j" else other.training
                less = schedule.cost.energy < getattr(other.twin["fp32"], figure)
                assert less == (batches is not None and batches.first <= batch <= (batches.last or batch)), (
                    hardware,
                    figure,
                    batch,
                    batches,
                )
                assert other.twin["fp32"].better.get(figure) == batches


def test_blocks_that_lose_on_both_are_named() -> None:
    plan = compile(dense(64, 784, 512, 10), hardware="isaac")
    free = {step.name: step for step in plan.inference.steps if step.kind == "free"}
    digital = compile(dense(64, 784, 512, 10), hardware="isaac", digital=["*"])
    runs = {step.name: step for step in digital.inference.steps}
    losing = []
    for block in plan.blocks:
        own = [runs[node.name] for node in plan.nodes if node.block == block.id]
        seconds, joules = sum(s.end_s - s.start_s for s in own), sum(s.cost.energy for s in own)
        ours = free[block.name]
        assert plan.twin["fp32"].blocks[block.name] == pytest.approx((seconds, joules))
        if ours.end_s - ours.start_s > seconds and ours.cost.energy > joules:
            losing.append(block.name)
    assert losing
    assert plan.twin["fp32"].losing == tuple(losing)
    assert plan.notes == (
        f"{len(losing)} block loses to its own fp32 digital work in both time and energy: "
        + ", ".join(losing),
    )
    assert compile(dense(64, 784, 512, 10), hardware="hermes").twin["fp32"].losing == ()


def test_last_products_of_bands_are_read_beside_the_next_band() -> None:
    """Sixteen rounds of 0.8 us and what ends 0.6 us later: 13.4 us, though eight bands last 2.2 us each."""
    (fast,) = four_copies_in_a_core().twin["fp32"].blocks.values()
    for digital, loses in ((13.3e-6, ("block0",)), (13.5e-6, ())):
        plan = four_copies_in_a_core(digital / fast[0])
        bands = [step for step in plan.inference.steps if step.kind == "free"]
        assert [step.seconds for step in bands] == pytest.approx([2.2e-6] * 8)
        assert plan.twin["fp32"].blocks["block0"][0] == pytest.approx(digital)
        assert plan.twin["fp32"].losing == loses


def test_no_twin_where_no_digital_unit_runs_some_op() -> None:
    machine = round_numbers()
    machine = replace(machine, digital=(replace(machine.digital[0], ops=("Softmax",)),))
    b = Builder()
    y = b.node("Relu", b.node("MatMul", b.input("x", 5, 3), b.weight(3, 2)))
    plan = compile(b.model(b.node("Softmax", y)), hardware=machine)
    assert plan.twin == {}
    assert "twin        none: no digital unit runs all ops\n" in plan.summary()


@pytest.mark.parametrize(
    ("objective", "runs", "far", "taken"),
    [
        ("analog", 2, True, "ordered"),
        ("latency", 2, True, "ordered"),
        ("throughput", 2, True, "ordered"),
        ("energy", 2, True, "early_results"),
        ("edp", 2, True, "early_results"),
        ("energy", 2, False, "ordered"),
        ("energy", 1, True, "ordered"),
    ],
)
def test_a_batch_in_far_memories_has_early_results_where_the_objective_says_so(
    objective: Any, runs: int, far: bool, taken: str
) -> None:
    """One order takes 2 s and 5 J, the other 3 s and 1 J; nothing is looked at twice where all fits."""
    looked: list[str] = []

    def fit(flow: Any, hardware: Any, tasks: list[Task], scheduler: Any, dtype: str) -> Any:
        looked.append("early_results" if scheduler is early_results else "ordered")
        assert scheduler in (early_results, ordered)
        assert len(tasks) == runs
        seconds, joules = (3.0, 1.0) if scheduler is early_results else (2.0, 5.0)
        schedule = ordered([Task("digital", "a", ("digital0",), seconds, (), Cost(digital=joules))])[0]
        return SimpleNamespace(
            schedule=schedule, places=SimpleNamespace(down={"a": 1} if far else {}), by=looked[-1]
        )

    lists: Any = SimpleNamespace(
        inference=lambda dtype: [Task("digital", "a", ("digital0",), 1.0, (), Cost())]
    )
    graph: Any = None
    job: Any = twin_module._Job(graph, load_hardware("ideal"), lists, objective, runs, fit)
    assert job.inference(None).by == taken
    assert looked == (["ordered", "early_results"] if far and runs > 1 else ["ordered"])
