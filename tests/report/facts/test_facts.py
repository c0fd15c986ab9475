"""Every figure of a report, recomputed from the plan."""

import base64
import re
from itertools import pairwise

import msgspec
import numpy as np
import pytest

from ffebm.compiler.driver import compile_model
from ffebm.hardware.description import (
    Conductance,
    Crossbar,
    Hardware,
    Ratio,
    Relaxation,
    Time,
    Voltage,
    load_hardware,
)
from ffebm.plan.plan import Plan
from ffebm.plan.schedule import Cost, Schedule
from ffebm.report.facts.facts import Facts, facts
from ffebm.report.page import facts_of, page
from tests.machines import with_tiles
from tests.models import Builder


@pytest.fixture(params=["digits", "deep"])
def plan(request: pytest.FixtureRequest) -> Plan:
    found: Plan = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def shown(plan: Plan) -> Facts:
    """What the page itself holds."""
    return facts_of(page(facts(plan)))


def test_the_page_holds_the_facts(plan: Plan, shown: Facts) -> None:
    assert shown == facts(plan)


def test_facts_survive_json(plan: Plan) -> None:
    data = facts(plan)
    assert msgspec.json.decode(msgspec.json.encode(data), type=Facts) == data


def test_nodes_are_those_of_the_plan(plan: Plan, shown: Facts) -> None:
    for node, found in zip(plan.nodes, shown.nodes, strict=True):
        same = set(node.__struct_fields__) & set(found.__struct_fields__)
        assert len(same) == len(node.__struct_fields__)
        assert all(getattr(node, field) == getattr(found, field) for field in same)
        held = {tile.id for tile, piece in plan.pieces() if piece.weight in node.inputs}
        assert found.tiles == tuple(sorted(held))
        assert found.reads == tuple(v for v in node.inputs if v and v not in plan.weights)


def test_figures_are_those_of_the_summary(plan: Plan, shown: Facts) -> None:
    text = re.sub(r" u([sJ])\b", r" µ\1", plan.summary())
    figures = {figure.name: figure.text for figure in shown.figures}
    assert f"blocks      {figures['Energy blocks']};" in text
    assert f"nodes       {figures['Nodes on tiles'].split(' of ')[0]} on tiles" in text
    assert f"work        {figures['Work on tiles']} of" in text
    assert f"weights     {figures['Weights on tiles']} of" in text
    assert f"tiles       {figures['Tiles in use']} in use" in text
    for name in ("Inference", "Training step"):
        assert f"  time      {figures[f'{name} time']};" in text
        assert f"  energy    {figures[f'{name} energy']}\n" in text


def test_reasons_add_up(plan: Plan, shown: Facts) -> None:
    digital = [node for node in plan.nodes if node.unit == "digital"]
    assert sum(reason.nodes for reason in shown.reasons) == len(digital)
    assert sum(reason.macs for reason in shown.reasons) == sum(node.macs for node in digital)
    assert {reason.text for reason in shown.reasons} == {node.reason for node in digital}


@pytest.mark.parametrize("name", ["inference", "training"])
def test_the_timeline_is_the_schedule(plan: Plan, shown: Facts, name: str) -> None:
    schedule: Schedule = getattr(plan, name)
    t = getattr(shown, name)
    shortest = min(step.end_s - step.start_s for step in schedule.steps if step.end_s > step.start_s)
    for step in schedule.steps:
        at = step.id
        assert (t.kinds[t.kind[at]], t.names[t.name[at]]) == (step.kind, step.name)
        assert tuple(t.units[unit] for unit in t.unit_sets[t.unit[at]]) == step.units
        assert abs(t.start_s[at] - step.start_s) < shortest / 1e6
        assert abs(t.end_s[at] - step.end_s) < shortest / 1e6
        assert (t.bands[t.band[at]], t.after[at]) == (step.rows, step.after)
        assert t.costs[t.cost[at]] == step.cost
    assert len(t.kind) == len(schedule.steps)
    assert len(t.unit_sets) == len({step.units for step in schedule.steps})  # each once
    assert (t.makespan_s, t.critical_path_s) == (schedule.makespan_s, schedule.critical_path_s)
    assert (t.lower_bound_s, t.ratio) == (schedule.lower_bound_s, schedule.ratio)
    assert (t.total, t.energy) == (schedule.cost, schedule.cost.energy)
    assert t.busy_s[t.units.index(schedule.busiest_unit)] == pytest.approx(schedule.busiest_s)


@pytest.mark.parametrize("name", ["inference", "training"])
def test_the_critical_path_is_a_chain_of_its_length(plan: Plan, shown: Facts, name: str) -> None:
    schedule: Schedule = getattr(plan, name)
    chain = [schedule.steps[step] for step in getattr(shown, name).critical]
    assert sum(step.end_s - step.start_s for step in chain) == pytest.approx(schedule.critical_path_s)
    assert all(before.id in step.after for before, step in pairwise(chain))


@pytest.mark.parametrize("name", ["inference", "training"])
def test_bills_add_up_to_the_schedule(plan: Plan, shown: Facts, name: str) -> None:
    schedule: Schedule = getattr(plan, name)
    found = getattr(shown, f"{name}_bill")
    for rows in (found.parts, found.kinds):
        total = Cost()
        for row in rows:
            total += row.cost
            assert row.energy == row.cost.energy
        assert total.energy == pytest.approx(schedule.cost.energy, rel=1e-12)
        assert (total.adc_count, total.dac_count) == (schedule.cost.adc_count, schedule.cost.dac_count)
        assert sum(row.steps for row in rows) == len(schedule.steps)
        spent = sum(step.end_s - step.start_s for step in schedule.steps)
        assert sum(row.seconds for row in rows) == pytest.approx(spent)
    by_block = {row.block: row for row in found.parts if row.block is not None}
    for block in plan.blocks:
        own = [s for s in schedule.steps if s.kind in {"free", "nudged"} and s.name.split()[0] == block.name]
        assert by_block[block.id].cost.adc >= sum(step.cost.adc for step in own) * 0.999999 > 0


def test_a_digital_nodes_own_cost(digits: Plan) -> None:
    norm = next(node for node in facts(digits).nodes if node.name == "norm1")
    own = [step for step in digits.training.steps if step.name == "norm1" and step.kind != "transfer"]
    assert {step.kind for step in own} == {"digital", "digital_backward", "update"}
    seconds = sum(step.end_s - step.start_s for step in own)
    assert norm.training is not None
    assert list(norm.training) == pytest.approx([seconds, sum(step.cost.energy for step in own)])


def test_tiles_are_those_of_the_plan(plan: Plan, shown: Facts) -> None:
    for tile, found in zip(plan.tiles, shown.tiles, strict=True):
        assert (found.id, found.kind, found.rows, found.cols) == (tile.id, tile.kind, tile.rows, tile.cols)
        assert (found.used, found.dac_bits, found.adc_bits) == (tile.used, tile.dac_bits, tile.adc_bits)
        for piece, piece_found in zip(tile.pieces, found.pieces, strict=True):
            names = set(piece_found.__struct_fields__) - {"blocks"}
            assert all(getattr(piece, field) == getattr(piece_found, field) for field in names)
            users = [block.id for block in plan.blocks if piece.weight in block.weights()]
            assert piece_found.blocks == tuple(users)


def picture(data: str, rows: int, cols: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    return np.frombuffer(base64.b64decode(data), np.uint8).astype(np.int64).reshape(rows, cols)


def test_the_map_shows_the_strongest_pair_of_each_patch(digits: Plan) -> None:
    for tile, found in zip(digits.tiles, facts(digits).tiles, strict=True):
        assert (found.map_rows, found.map_cols, tile.rows, tile.cols) == (64, 64, 256, 256)
        whole = np.full((256, 256), np.nan)
        crossbar = digits.hardware.analog[0].tile
        assert isinstance(crossbar, Crossbar)
        span = crossbar.cell.g_max.value - crossbar.cell.g_min.value
        for piece in tile.pieces:
            plus, minus = digits.conductances(piece)
            place = np.s_[piece.row : piece.row + piece.n_in, piece.col : piece.col + piece.n_out]
            whole[place] = (plus.astype(float) - minus.astype(float)) / span
        bytes_found = picture(found.map, 64, 64)
        for row, col in np.ndindex(64, 64):
            patch = whole[4 * row : 4 * row + 4, 4 * col : 4 * col + 4].ravel()
            held = patch[~np.isnan(patch)]
            if not held.size:
                assert bytes_found[row, col] == 0
            else:
                assert abs(bytes_found[row, col] - 128) == pytest.approx(127 * np.abs(held).max(), abs=0.501)


@pytest.mark.parametrize(("mapping", "slices", "levels"), [("offset", 1, 128), ("differential", 3, 4)])
def test_the_map_of_other_mappings_shows_weights(mapping: str, slices: int, levels: int) -> None:
    machine = load_hardware("reference")
    tile = machine.analog[0].tile
    assert isinstance(tile, Crossbar)
    cell = msgspec.structs.replace(tile.cell, levels=levels)
    other = msgspec.structs.replace(tile, rows=64, cols=64, mapping=mapping, slices=slices, cell=cell)
    hardware = with_tiles(machine, tile=other)
    b = Builder()
    x = b.input("x", "N", 12)
    weight = b.weight(12, 7, name="w")
    plan = compile_model(b.model(b.node("MatMul", x, weight)), hardware=hardware)
    found = facts(plan).tiles[0]
    shown = picture(found.map, 64, 64)[:12, :7]
    wanted = np.asarray(plan.weights["w"], float)
    step = 1 / other.top_level
    assert np.abs((shown - 128) / 127 - wanted / np.abs(wanted).max()).max() <= step / 2 + 0.5 / 127 + 1e-6


def test_an_exact_machine_has_no_maps_and_no_converters() -> None:
    found = facts(compile_model(_dense(), hardware="ideal"))
    assert [(tile.map_rows, tile.map) for tile in found.tiles] == [(0, "")]
    assert found.energy_basis["adc"] == ()
    assert found.time_basis["free"] == ("analog.tiles.tile.read_time",)


def _dense() -> object:
    b = Builder()
    return b.model(b.node("MatMul", b.input("x", "N", 4), b.weight(4, 3)))


def test_constants_are_those_of_the_machine(plan: Plan, shown: Facts) -> None:
    found = {constant.name: constant for constant in shown.constants}
    for name, quantity in plan.hardware.quantities():
        constant = found.pop(name)
        assert (constant.value, constant.source) == (quantity.value, quantity.source)
        assert (constant.unit, constant.assumption) == (getattr(quantity, "unit", "1"), quantity.assumption)
    assert set(found) == {"schedule.loss_operations", "schedule.update_operations"}


def test_every_kind_has_a_basis_that_exists(plan: Plan, shown: Facts) -> None:
    names = {constant.name for constant in shown.constants}
    for basis in (shown.energy_basis, shown.time_basis):
        assert all(set(known) <= names for known in basis.values())
    spent = {kind for kind in shown.energy_basis if getattr(plan.training.cost, kind)}
    assert all(shown.energy_basis[kind] for kind in spent)
    assert [kind for kind, known in shown.time_basis.items() if not known] == ["leakage"]
    kinds = {step.kind for step in plan.training.steps}
    assert kinds <= shown.time_basis.keys()


def test_continuous_settling_rests_on_the_relaxation() -> None:
    found = facts(compile_model(_dense(), hardware=_continuous()))
    assert "analog.tiles.relaxation.time_constant" in found.time_basis["free"]
    assert "analog.tiles.tile.read_time" not in found.time_basis["free"]
    assert "analog.tiles.relaxation.conductance" in found.energy_basis["array"]


def _continuous() -> Hardware:
    machine = load_hardware("reference")
    relaxation = Relaxation(
        time_constant=Time(value=1e-8, unit="s", source="test"),
        time_constants=Ratio(value=5.0, unit="1", source="test"),
        voltage=Voltage(value=0.1, unit="V", source="test"),
        conductance=Conductance(value=1e-6, unit="S", source="test"),
    )
    tiles = msgspec.structs.replace(machine.analog[0], settling="continuous", relaxation=relaxation)
    return msgspec.structs.replace(machine, analog=(tiles,))
