"""The bill of a schedule, and the constants that are named behind its figures."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from onnx import ModelProto

from ffebm import Plan, Settle, load_hardware
from ffebm import compile as compile_plan
from ffebm.compiler.variants import Variant, Variants
from ffebm.graph.energy_block import EnergyBlock, Relaxed
from ffebm.graph.tensor import Array
from ffebm.hardware.description import AnalogGroup, Capacity, Hardware
from ffebm.mapping.circuit.needs import relaxed
from ffebm.passes import tiling
from ffebm.plan.schedule import ENERGY_KINDS, Schedule
from ffebm.plan.schema import Options
from ffebm.report.facts.bill import bill, energy_basis, time_basis
from ffebm.scheduling.memory.pricing import pricing_of
from tests.machines import joules, rate, round_numbers, with_signs
from tests.models import Builder

SETTLE = Settle(free_sweeps=3, nudged_sweeps=2)


def model() -> ModelProto:
    """A block of two layers between digital nodes with weights, and a digital product; tiles cut both."""
    b = Builder(seed=1)
    y = b.node("LayerNormalization", b.input("x", 4, 6), b.weight(6), b.weight(6))
    y = b.node("Relu", b.node("Gemm", y, b.weight(6, 260), b.weight(260)))
    y = b.node("Relu", b.node("Gemm", y, b.weight(260, 8), b.weight(8)))
    y = b.node("LayerNormalization", y, b.weight(8), b.weight(8))
    return b.model(b.node("Softmax", b.node("MatMul", y, b.node("Transpose", y))))


SMALL = {"S": 1e-12}
"""In place of 0, by unit; below the largest conductance of every machine."""


def changed(part: Any, path: list[str], factor: float = 1.37) -> Any:
    """A description with one constant changed; 0 becomes a small number."""
    head, *rest = path
    if isinstance(part, tuple):  # the groups of a kind: by name
        return tuple(changed(g, rest, factor) if g.name == head else g for g in part)
    held = getattr(part, head)
    new = (
        changed(held, rest, factor)
        if rest
        else replace(held, value=factor * held.value or SMALL.get(held.unit, 1e-6), formula=None)
    )
    return replace(part, **{head: new})


def compiled(hardware: Hardware) -> Plan:
    return compile_plan(model(), hardware=hardware, block_size=2, settle=SETTLE)


def priced(variants: Variants, hardware: Hardware, options: Options) -> tuple[Schedule, Schedule]:
    """The schedules of a plan, which need neither twins nor programs; `test_variants` holds that they are."""
    price = variants.price(Variant(options, SETTLE, hardware))
    assert price.training is not None
    return price.inference, price.training


def figures(schedules: tuple[Schedule, Schedule]) -> dict[str, dict[str, float]]:
    """Seconds by kind of step and joules by kind of energy, of an inference and a training step together.

    Leakage is counted for a second: how long a schedule takes is a figure of its own.
    """
    seconds: dict[str, float] = {}
    joules = dict.fromkeys(ENERGY_KINDS, 0.0)
    for schedule in schedules:
        for step in schedule.steps:
            seconds[step.kind] = seconds.get(step.kind, 0.0) + step.end_s - step.start_s
        for kind in joules:
            joules[kind] += getattr(schedule.cost, kind)
        joules["leakage"] += schedule.leakage / schedule.makespan_s - schedule.leakage
    return {"seconds": seconds, "joules": joules}


def moved(before: dict[str, float], after: dict[str, float]) -> set[str]:
    return {kind for kind, value in before.items() if abs(after[kind] - value) > 1e-9 * max(value, 1e-30)}


@pytest.fixture
def circuits_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A circuit of the same weights settles once for each group that differs in anything."""
    known: dict[tuple[str, bytes], Relaxed | None] = {}

    def once(block: EnergyBlock, weights: Mapping[str, Array], group: AnalogGroup) -> Relaxed | None:
        key = repr(block), msgspec.json.encode(group)
        if key not in known:
            known[key] = relaxed(block, weights, group)
        return known[key]

    monkeypatch.setattr(tiling, "relaxed", once)


@pytest.mark.usefixtures("circuits_once")
@pytest.mark.parametrize("name", with_signs())
def test_the_constants_behind_a_figure_are_those_that_change_it(name: str) -> None:
    hardware = load_hardware(name)
    for constant, _ in hardware.quantities():
        # a slow port: arrays are over as many cores as help, so that no constant moves them
        hardware = changed(hardware, constant.split("."), 512.0 if constant.endswith(".core.issue") else 1.0)
    plan = compiled(hardware)
    variants, schedules = Variants(model()), (plan.inference, plan.training)
    base = figures(schedules)
    assert base == figures(priced(variants, hardware, plan.options))
    bases = {"seconds": time_basis(plan, *schedules), "joules": energy_basis(plan, *schedules)}
    for constant, _ in hardware.quantities():
        path = constant.split(".")
        # a larger conductance than the devices are measured at is refused
        other = changed(hardware, path, 0.73 if path[-1] == "g_max" else 1.37)
        found = figures(priced(variants, other, plan.options))
        for what, basis in bases.items():
            named = {kind for kind in base[what] if constant in basis[kind]}
            kinds = moved(base[what], found[what])
            assert kinds == named, (what, constant)


def test_far_memories_are_named_where_they_make_the_figures() -> None:
    """Nothing fits near by, and a bit a second passes farther away: that alone makes the time of nodes."""
    machine = round_numbers()
    near = replace(machine.memory[0], name="near", capacity=Capacity(value=0, source="test", unit="bit"))
    far = replace(near, name="far", owner="chip", level=3, bandwidth=rate(1.0), bit_energy=joules(3.0))
    far = replace(far, capacity=Capacity(value=1e9, source="test", unit="bit"))
    plan = compile_plan(model(), hardware=replace(machine, memory=(near, far)), digital=["*"])
    for schedule in (plan.inference, plan.training):
        behind = time_basis(plan, schedule)
        for kind in {step.kind for step in schedule.steps} & {"digital", "digital_backward", "loss"}:
            moved_bytes = ("memory.far.bandwidth",)
            # a transposition is a view, which moves none; its way back moves error currents
            view = ("digital.engine.fp32.op_rate",) if kind == "digital" else ()
            assert behind[kind] == (*view, *moved_bytes)
        assert energy_basis(plan, schedule)["memory"] == ("memory.near.bit_energy", "memory.far.bit_energy")
        pricing = pricing_of(plan, schedule)
        held = plan.memory.inference if schedule is plan.inference else plan.memory.training
        assert sorted(spill.traffic for spill in pricing.spills()) == sorted(
            spill.traffic for spill in held.spills
        )


def totals(plan: Plan, schedule: Schedule) -> dict[str, tuple[int, float, float]]:
    return {row.name: (row.steps, row.seconds, row.energy) for row in bill(plan, schedule).parts}


def test_names_do_not_decide_whose_bill_a_step_is_on() -> None:
    # nodes and values are called as blocks are
    def made(norm: str, value: str, second: str) -> Plan:
        b = Builder(seed=1)
        y = b.node("LayerNormalization", b.input("x", 4, 6), b.weight(6), b.weight(6), name=norm, out=value)
        y = b.node("Relu", b.node("MatMul", y, b.weight(6, 2), name="first"), name=second)
        y = b.node("Softmax", b.node("LayerNormalization", y, b.weight(2), b.weight(2), name="last"))
        return compile_plan(b.model(y), hardware=round_numbers(), settle=SETTLE)

    plain, odd = made("norm", "v", "relu"), made("block0", "block0", "block0 +beta")
    assert any(node.name == "block0" for node in odd.nodes)
    for a, b in ((plain.inference, odd.inference), (plain.training, odd.training)):
        assert totals(plain, a) == totals(odd, b)
        renamed = {"block0": "norm", "block0 +beta": "relu"}
        assert {renamed.get(k, k): v for k, v in bill(odd, b).nodes.items()} == bill(plain, a).nodes
        assert msgspec.json.decode(msgspec.json.encode(b), type=Schedule) == b
