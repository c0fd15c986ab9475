"""Two plans side by side."""

from pathlib import Path

import msgspec
import pytest

from ffebm.compiler.driver import compile_model
from ffebm.errors import UsageError
from ffebm.hardware.description import load_hardware
from ffebm.plan.plan import Plan
from ffebm.report.facts.comparison import comparison
from ffebm.report.page import comparison_page
from tests.machines import with_tiles
from tests.models import Builder
from tests.report.digits import digits_model


def test_a_plan_beside_itself_has_not_moved(digits: Plan) -> None:
    found = comparison(digits, digits, ("a", "b"))
    assert (found.moved, found.settings, found.same, found.same_source) == ((), (), 14, True)
    assert all(line.a == line.b for line in found.lines)


def test_the_page_says_that_nothing_moved(digits: Plan) -> None:
    said, table = "Nothing moved: every node runs where it ran.", 'id="moved-rows"'
    page = comparison_page(comparison(digits, digits, ("a", "b")))
    assert said in page
    assert table not in page

    other = compile_model(digits_model(), block_size=3)
    page = comparison_page(comparison(digits, other, ("a", "b")))
    assert said not in page
    assert table in page


def test_what_moved_and_what_it_cost(digits: Plan) -> None:
    machine = load_hardware("reference")
    tile = msgspec.structs.replace(machine.analog[0].tile, rows=64)
    small = with_tiles(machine, count=1, tile=tile)
    other = compile_model(digits_model(), hardware=small, block_size=2, replicas=1)
    found = comparison(digits, other, ("a", "b"))
    units = {node.name: node.unit for node in other.nodes}
    moved = {entry.name: entry for entry in found.moved}
    left = {node.name for node in digits.nodes if node.unit != units[node.name]}
    assert left
    assert {name for name, entry in moved.items() if entry.change == "to digital"} == left
    assert found.same == 14 - len(moved)
    settings = {setting.name: (setting.a, setting.b) for setting in found.settings}
    assert settings.pop("analog.tiles.count") == ("64", "1")
    assert settings.pop("analog.tiles.tile.rows") == ("256", "64")
    ours, theirs = (dict(hardware.quantities()) for hardware in (digits.hardware, other.hardware))
    assert settings.keys() == {name for name in ours if ours[name].value != theirs[name].value}  # by formulas
    lines = {line.name: (line.a, line.b) for line in found.lines}
    assert lines["inference: energy"] == (digits.inference.cost.energy, other.inference.cost.energy)
    assert lines["training step: time"] == (digits.training.makespan_s, other.training.makespan_s)
    assert lines["tiles in use"] == (len(digits.tiles), len(other.tiles))


def test_another_block_is_a_move(digits: Plan) -> None:
    found = comparison(digits, compile_model(digits_model(), block_size=3), ("a", "b"))
    assert {entry.change for entry in found.moved} == {"other block"}
    assert ("options.block_size", "2", "3") in [(s.name, s.a, s.b) for s in found.settings]


def test_a_node_that_one_plan_lacks() -> None:
    b = Builder()
    x = b.input("x", "N", 2, 4, 4)
    model = b.model(b.node("Relu", b.norm(b.conv(x, 2, 3), 3)))
    whole, folded = compile_model(model), compile_model(model, fold_batch_norm=True)
    gone = {node.name for node in whole.nodes if node.op == "BatchNormalization"}
    for plans, change in (((whole, folded), "only in A"), ((folded, whole), "only in B")):
        found = {entry.name: entry.change for entry in comparison(*plans, ("a", "b")).moved}
        assert {name for name, entry in found.items() if entry == change} == gone


def test_figures_rest_on_constants_of_their_own_machine(digits: Plan) -> None:
    other = compile_model(digits_model(), hardware="resistive", block_size=2)
    found = comparison(digits, other, ("a", "b"))
    for plan, known in ((digits, found.constants_a), (other, found.constants_b)):
        values = {constant.name: constant.value for constant in known}
        assert all(values[name] == quantity.value for name, quantity in plan.hardware.quantities())
    names_a, names_b = ({c.name for c in known} for known in (found.constants_a, found.constants_b))
    lines = {line.name: line for line in found.lines}
    assert all(set(line.basis_a) <= names_a and set(line.basis_b) <= names_b for line in found.lines)
    time = lines["inference: time"]
    assert "analog.tiles.tile.read_time" in time.basis_a
    assert "analog.tiles.relaxation.time_constant" in time.basis_b
    assert lines["inference: energy, adc"].basis_a == ("analog.tiles.tile.adc.energy",)
    assert all(line.basis_a for line in found.lines if line.unit in {"s", "J"} and line.a)
    assert lines["tiles in use"].basis_a == ()


def test_two_models_are_refused(digits: Plan, tmp_path: Path) -> None:
    b = Builder()
    other = compile_model(b.model(b.node("Relu", b.input("x", "N", 4))))
    with pytest.raises(UsageError) as caught:
        comparison(digits, other, ("a.plan", "b.plan"))
    assert str(caught.value) == (
        "a.plan and b.plan have no node in common; two plans of one model\n"
        "  hint: compile the same model twice, with other options or hardware"
    )
