"""Ways over a bus and over a mesh, and the transfers of a schedule on them."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from ffebm import Plan, load_plan
from ffebm import compile as compile_plan
from ffebm.hardware.description import Core, Hardware
from ffebm.hardware.routes import Route, Routes, network_units
from tests.machines import round_numbers, seconds, with_tiles
from tests.models import Builder


def mesh(count: int = 8) -> Hardware:
    machine = round_numbers(count=count)
    return replace(machine, network=replace(machine.network, topology="mesh"))


def test_a_bus_is_one_channel() -> None:
    routes = Routes(round_numbers())
    assert routes.way(None, 7) == routes.way(3, 4) == Route(("network",), 2.0, 2.0)
    assert routes.latency(2.0) == 2.0
    assert network_units(round_numbers(), ["network", "network0", "tile1"]) == {"network"}


def test_a_mesh_joins_what_is_near() -> None:
    """Eight tiles and a digital unit on a grid of 3 x 3, the unit in the last corner."""
    routes = Routes(mesh())
    assert routes.way(0, 1) == Route(("network0", "network1"), 1.0, 1.0)
    assert routes.way(0, 5) == Route(("network0", "network5"), 3.0, 3.0)
    assert routes.way(None, 0) == routes.way(0, None) == Route(("network0", "network8"), 4.0, 4.0)
    assert routes.way(None, 7) == Route(("network7", "network8"), 1.0, 1.0)
    assert routes.latency(4.0) == 8.0


def test_the_routers_of_a_mesh_are_units() -> None:
    names = ["network", "network0", "network8", "network9", "network08", "tile1"]
    assert network_units(mesh(), names) == {"network0", "network8"}


def test_a_core_has_one_router() -> None:
    machine = with_tiles(mesh(), core=Core(tiles=4, issue=seconds(1.0)))
    assert Routes(machine).way(3, 4) == Route(("network0", "network1"), 1.0, 1.0)
    assert Routes(machine).way(1, 3) == Route(("network0",), 1.0, 1.0)


def branches(hardware: Hardware) -> Plan:
    """Two layers that read one input."""
    b = Builder()
    x = b.input("x", 2, 4)
    one, two = (b.node("Relu", b.node("MatMul", x, b.weight(4, 4))) for _ in range(2))
    three = b.node("Relu", b.node("MatMul", one, b.weight(4, 4)))
    return compile_plan(b.model(b.node("Add", two, three)), hardware=hardware)


def test_transfers_take_the_distance_of_their_ends() -> None:
    plan = branches(mesh())
    assert [tile.id for tile in plan.tiles] == [0, 1, 2]
    moved = [s for s in plan.inference.steps if s.kind == "transfer"]
    found = sorted((s.units, round(s.end_s - s.start_s, 9), s.cost.network) for s in moved)
    bits = 2 * 4 * 8
    hops: dict[tuple[str, ...], int] = {("network0", "network1"): 1, ("network0", "network2"): 2}
    routes = Routes(mesh())
    for units, length, joules in found:
        tile = [int(u.removeprefix("network")) for u in units]
        apart = hops.get(units) or routes.way(tile[0], None).hops
        assert length == pytest.approx(2.0 * apart + bits / 16)
        assert joules == pytest.approx(bits * 0.25 * apart)
    assert any("network8" in s.units for s in moved)
    assert any(s.units in hops for s in moved)  # from block to block, not by the digital unit


def test_transfers_between_different_pairs_overlap() -> None:
    wide, narrow = branches(mesh()), branches(round_numbers())
    assert {s.units for s in narrow.inference.steps if s.kind == "transfer"} == {("network",)}
    for schedule in (wide.inference, wide.training):
        busy: dict[str, float] = {}
        for step in schedule.steps:
            for unit in step.units:
                assert busy.get(unit, 0.0) <= step.start_s + 1e-12
                busy[unit] = step.end_s


def test_a_plan_on_a_mesh_loads(tmp_path: Path) -> None:
    plan = branches(mesh())
    plan.save(tmp_path / "plan")
    assert load_plan(tmp_path / "plan") == plan
    assert "of 8 in use" in plan.summary()
