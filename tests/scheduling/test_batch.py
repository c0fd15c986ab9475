"""Plans with several runs in flight: `compile(batch=…)` and `ffebm compile --batch`."""

from pathlib import Path

import pytest
import torch
from msgspec.structs import replace
from typer.testing import CliRunner

import ffebm
from ffebm import Executor, Plan, load_plan
from ffebm import compile as compile_plan
from ffebm.cli import command_line
from ffebm.errors import ModelError, UsageError
from ffebm.plan.checks.contradictions import plan_problems
from tests.scheduling.checker import problems
from tests.scheduling.test_in_flight import MODELS

RUNS = 6


@pytest.fixture(scope="module", params=[("dense", "isaac"), ("normalised", "reference")])
def plans(request: pytest.FixtureRequest) -> tuple[Plan, Plan]:
    """A plan of one run, and of several in flight."""
    name, machine = request.param
    return (
        compile_plan(MODELS[name], hardware=machine, block_size=1, replicas=1),
        compile_plan(MODELS[name], hardware=machine, block_size=1, replicas=1, batch=RUNS),
    )


def test_a_batch_takes_little_more_than_its_first_run_and_the_intervals_of_the_others(
    plans: tuple[Plan, Plan],
) -> None:
    one, several = plans
    for first, all_of_them in ((one.inference, several.inference), (one.training, several.training)):
        assert all_of_them.interval_s == first.interval_s
        assert all_of_them.interval_unit == first.interval_unit
        usual = first.makespan_s + (RUNS - 1) * first.interval_s
        assert RUNS * first.interval_s * (1 - 1e-9) <= all_of_them.makespan_s <= 1.10 * usual
        assert list(problems(several, all_of_them)) == []
        assert {step.sample for step in all_of_them.steps} == set(range(RUNS))


def test_what_is_done_for_each_run_and_what_once(plans: tuple[Plan, Plan]) -> None:
    one, several = plans
    counts = [[step.kind for step in plan.training.steps] for plan in plans]
    for kind in ("free", "nudged", "contrast", "digital", "digital_backward", "loss"):
        assert counts[1].count(kind) == RUNS * counts[0].count(kind)
    assert counts[1].count("update") == counts[0].count("update")
    joules = [plan.inference.cost.energy - plan.inference.leakage for plan in plans]
    assert joules[1] == pytest.approx(RUNS * joules[0])
    updates = [[step.cost for step in plan.training.steps if step.kind == "update"] for plan in plans]
    assert sorted(cost.energy for cost in updates[0]) == pytest.approx(
        sorted(cost.energy for cost in updates[1])
    )
    assert (one.batch, one.samples, several.batch, several.samples) == (1, 1, 1, RUNS)
    assert one.twin["fp32"].losing == several.twin["fp32"].losing
    assert one.twin["fp32"].blocks == several.twin["fp32"].blocks


def test_all_phases_of_a_block_come_before_its_update(plans: tuple[Plan, Plan]) -> None:
    for block in plans[1].blocks:
        steps = [step for step in plans[1].training.steps if step.block == block.id]
        updates = [step.start_s for step in steps if step.kind == "update"]
        reads = [step.end_s for step in steps if step.kind in {"free", "nudged", "contrast"}]
        assert max(reads) <= min(updates)


def test_the_twin_has_as_many_runs_in_flight(plans: tuple[Plan, Plan]) -> None:
    one, several = (plan.twin["fp32"] for plan in plans)
    assert one.inference_s < several.inference_s <= RUNS * one.inference_s * (1 + 1e-9)
    assert several.inference_j == pytest.approx(RUNS * one.inference_j)
    assert one.training_s < several.training_s < RUNS * one.training_s  # it updates once


def test_such_a_plan_is_saved_and_runs_as_any_other(plans: tuple[Plan, Plan], tmp_path: Path) -> None:
    one, several = plans
    several.save(tmp_path / "plan")
    loaded = load_plan(tmp_path / "plan")
    assert (loaded.inference, loaded.training) == (several.inference, several.training)
    (port,) = one.inputs
    shape = [int(size) for size in port.type.shape or ()]
    x = torch.linspace(-1, 1, int(torch.tensor(shape).prod())).reshape(shape)
    assert torch.equal(Executor(one, seed=1)(x), Executor(loaded, seed=1)(x))
    assert f"of {RUNS} sample(s)" in loaded.summary()


def test_a_plan_says_how_many_runs_its_schedules_have(plans: tuple[Plan, Plan]) -> None:
    wrong = replace(plans[1], options=replace(plans[1].options, batch=RUNS + 1))
    assert any(f"at a batch of {RUNS + 1}" in problem for problem in plan_problems(wrong))


def test_wrong_batches_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for batch in (0, -1, 2.5, True, 10_001):
        with pytest.raises(UsageError, match="a whole number from 1 to 10000"):
            compile_plan(MODELS["dense"], batch=batch)  # type: ignore[arg-type]
    monkeypatch.setenv("FFEBM_MAX_SCHEDULE_STEPS", "100")
    with pytest.raises(ModelError, match="for each of 50 runs in flight; at most 100 steps of one schedule"):
        compile_plan(MODELS["dense"], batch=50)


def test_the_command(tmp_path: Path) -> None:
    import onnx

    onnx.save(MODELS["dense"], tmp_path / "model.onnx")
    arguments = ["compile", str(tmp_path / "model.onnx"), "-o", str(tmp_path / "plan"), "--batch", "3"]
    found = CliRunner().invoke(command_line(arguments), arguments)
    assert found.exit_code == 0
    assert "inference   of 3 sample(s)" in found.output
    plan = ffebm.load_plan(tmp_path / "plan")
    assert (plan.options.batch, plan.samples) == (3, 3)
