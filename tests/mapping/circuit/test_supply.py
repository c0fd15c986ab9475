"""What neurons and amplifiers take from their supply, counted by hand."""

import pytest
from msgspec.structs import replace

from ffebm.compiler.driver import compile_model
from ffebm.hardware.description import Hardware, load_hardware
from ffebm.plan.plan import Plan
from tests.exporters.spice.models import dense_plan
from tests.exporters.spice.test_passive import network
from tests.machines import with_tiles
from tests.models import Builder


def cells_and_supply(plan: Plan) -> tuple[float, float]:
    """Power of the cells and all power in the free phase of a plan of one block, W."""
    group, (block,) = plan.hardware.analog[0], plan.blocks
    relaxation = group.relaxation
    assert relaxation is not None
    (free,) = (step for step in plan.inference.steps if step.kind == "free")
    seconds = relaxation.lasting(block.time_constants("free"))
    if block.relaxed is not None:
        cells = block.relaxed.siemens * relaxation.voltage.value**2
    else:
        held = sum(plan.conductances(piece)[0].size for _, piece in plan.pieces())
        cells = held * relaxation.conductance.value * relaxation.voltage.value**2
    return cells, free.cost.array / seconds


def powers(machine: Hardware) -> tuple[float, float]:
    """Of a neuron, and of an amplifier at a virtual ground."""
    relaxation = machine.analog[0].relaxation
    assert relaxation is not None
    assert relaxation.neuron is not None
    amplifier = relaxation.amplifier
    return relaxation.neuron.value, amplifier.power.value if amplifier and amplifier.power else 0.0


def test_each_unit_has_a_neuron_and_two_amplifiers_an_array_and_direction() -> None:
    """8-12-10-6: 28 lines up and 22 back."""
    plan = dense_plan([8, 12, 10, 6], ["Clip", "Clip", "Clip"])
    neuron, amplifier = powers(plan.hardware)
    cells, whole = cells_and_supply(plan)
    assert whole == pytest.approx(cells + 28 * neuron + 2 * (28 + 22) * amplifier)
    assert 1000 * cells < whole


def test_each_part_of_a_cut_sum_has_amplifiers_of_its_own() -> None:
    """On arrays of 8 x 8: 16 inputs in two parts, up alone; 12 units in two parts, up, and 8 back at once."""
    machine = load_hardware("resistive")
    machine = with_tiles(machine, tile=replace(machine.analog[0].tile.crossbar(), rows=8, cols=8))
    b = Builder(0)
    h = b.clip(b.node("MatMul", b.input("x", "N", 16), b.weight(16, 12)))
    plan = compile_model(b.model(b.node("MatMul", h, b.weight(12, 8))), hardware=machine, block_size=2)
    neuron, amplifier = powers(machine)
    cells, whole = cells_and_supply(plan)
    assert whole == pytest.approx(cells + 20 * neuron + 2 * (2 * 12 + 2 * 8 + 12) * amplifier)


def test_windows_meet_in_the_grounds_of_their_units() -> None:
    b = Builder(0)
    x = b.input("x", "N", 1, 6, 6)
    plan = compile_model(
        b.model(b.node("Conv", x, b.weight(2, 1, 3, 3), strides=[3, 3])), hardware="resistive"
    )
    neuron, amplifier = powers(plan.hardware)
    cells, whole = cells_and_supply(plan)
    assert whole == pytest.approx(cells + 8 * neuron + 2 * 8 * amplifier)


def test_passive_arrays_have_no_virtual_grounds() -> None:
    plan = network((6, 5, 3), 2.0, hardware="resistive-single")
    neuron, _ = powers(plan.hardware)
    cells, whole = cells_and_supply(plan)
    assert whole == pytest.approx(cells + (5 + 5 + 3) * neuron)


def test_what_a_description_leaves_out_is_not_billed() -> None:
    machine = load_hardware("resistive")
    relaxation = machine.analog[0].relaxation
    assert relaxation is not None
    assert relaxation.amplifier is not None
    bare = replace(relaxation, neuron=None, amplifier=replace(relaxation.amplifier, power=None))
    b = Builder(0)
    model = b.model(b.clip(b.node("MatMul", b.input("x", "N", 4), b.weight(4, 3))))
    cells, whole = cells_and_supply(compile_model(model, hardware=with_tiles(machine, relaxation=bare)))
    assert whole == pytest.approx(cells)
