"""What of a machine a plan uses: area, and how busy it is."""

import pytest
from msgspec.structs import replace

from ffebm import Settle, load_hardware
from ffebm import compile as compile_plan
from ffebm.report.facts.utilisation import utilisation
from tests.models import Builder


def test_area_and_busy_shares_of_a_plan() -> None:
    b = Builder()
    y = b.node("Relu", b.node("MatMul", b.input("x", 5, 300), b.weight(300, 2)))
    machine = load_hardware("reference")
    plan = compile_plan(b.model(b.node("Softmax", y)), hardware=machine, settle=Settle())
    tiles, engine, sram, _, network = utilisation(plan)
    assert (tiles.used, tiles.count) == (len(plan.tiles), 64)
    assert tiles.area_used == pytest.approx(len(plan.tiles) * machine.analog[0].area.value)
    assert (engine.used, sram.used, network.used) == (1, 1, 1)
    assert network.area_used == network.area == machine.network.area.value
    steps, span = plan.inference.steps, plan.inference.makespan_s
    (free,) = [s for s in steps if s.kind == "free"]
    assert tiles.inference == pytest.approx((free.end_s - free.start_s) / span)
    moves = sum(s.end_s - s.start_s for s in steps if s.kind == "transfer")
    assert network.inference == pytest.approx(moves / span)
    assert sram.inference is sram.training is None


def test_a_plan_without_tiles_powers_none() -> None:
    b = Builder()
    y = b.node("MatMul", b.input("x", 5, 3), b.weight(3, 2))
    plan = compile_plan(b.model(y), hardware="reference", digital=["*"])
    tiles, engine, _, _, network = utilisation(plan)
    assert (tiles.used, tiles.area_used, tiles.inference) == (0, 0.0, 0.0)
    assert (engine.inference, network.used) == (1.0, 0)


def test_the_ports_of_a_mesh_are_busy_as_long_as_transfers_take() -> None:
    machine = load_hardware("reference")
    mesh = replace(machine, network=replace(machine.network, topology="mesh"))
    b = Builder()
    y = b.node("MatMul", b.input("x", 5, 3), b.weight(3, 2))
    plan = compile_plan(b.model(b.node("Softmax", y)), hardware=mesh)
    *_, network = utilisation(plan)
    moves = sum((s.end_s - s.start_s) * len(s.units) for s in plan.inference.steps if s.kind == "transfer")
    ports = {unit for unit in plan.inference.units | plan.training.units if unit.startswith("network")}
    assert network.used == 1
    assert network.inference == pytest.approx(moves / (len(ports) * plan.inference.makespan_s))
    assert network.inference is not None
    assert 0 < network.inference < 1
