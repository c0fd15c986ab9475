"""Constants by formula: a description that is varied is billed as the formula says."""

from importlib import resources
from pathlib import Path

import pytest
from msgspec.structs import replace

from ffebm import Plan, load_hardware, load_plan
from ffebm import compile as compile_plan
from ffebm.errors import FfebmError, HardwareError
from ffebm.hardware.description import Hardware
from tests.machines import with_tiles
from tests.models import Builder

TEXT = (resources.files("ffebm") / "hardware" / "reference.toml").read_text(encoding="utf-8")
ENERGY = '{ unit = "J", formula = { name = "zigzag_adc_energy", supply = 0.9 } }'


def made(hardware: Hardware | Path) -> Plan:
    b = Builder()
    return compile_plan(b.model(b.node("MatMul", b.input("x", 4, 20), b.weight(20, 10))), hardware=hardware)


def test_with_fewer_bits_the_bill_falls_as_the_formula_says(tmp_path: Path) -> None:
    path = tmp_path / "coarse.toml"
    head, tail = TEXT.split("[analog.tile.adc]")
    path.write_text(head + "[analog.tile.adc]" + tail.replace("bits = 8", "bits = 4", 1))
    before, after = made(load_hardware("reference")).inference, made(path).inference
    assert before.cost.adc_count == after.cost.adc_count == 40
    expected = (100 * 4 + 0.001 * 4**4) / (100 * 8 + 0.001 * 4**8)
    assert after.cost.adc / before.cost.adc == pytest.approx(expected)
    assert after.makespan_s - before.makespan_s == pytest.approx(4 * (4 - 8) * (0.00653 * 256 + 0.64) * 1e-9)


def test_a_machine_varied_in_python_is_computed_again() -> None:
    machine = load_hardware("reference")
    tile = machine.analog[0].tile.crossbar()
    smaller = with_tiles(machine, tile=replace(tile, rows=128, cols=128))
    found = load_hardware(smaller).analog[0]
    assert found.tile.crossbar().read_time.value == pytest.approx(128e-9)
    assert found.tile.crossbar().cell.read_energy.value == pytest.approx(0.3e-3 / 128**2 * 128e-9)
    assert found.area.value < machine.analog[0].area.value
    assert made(smaller).hardware == load_hardware(smaller)


def test_a_constant_carries_its_formula(tmp_path: Path) -> None:
    plan = made(load_hardware("reference"))
    energy = dict(plan.hardware.quantities())["analog.tiles.tile.adc.energy"]
    assert energy.source == (
        "(100 fF x bits + 0.001 fF x 4^bits) x supply^2, bits = 8, supply = 0.9: KULeuven-MICAS/zigzag, "
        "hardware/architecture/imc_array.py, 28 nm"
    )
    plan.save(tmp_path / "plan")
    assert load_plan(tmp_path / "plan").hardware == plan.hardware


WRONG = {
    "no such formula": (
        ENERGY.replace("zigzag_adc_energy", "adc"),
        "formula 'adc'; { name, … } with one of zigzag_adc_energy, zigzag_adc_time, survey_adc_energy, "
        "conversion_period, zigzag_dac_energy, zigzag_adder_energy, zigzag_cell_read_energy, puma_read_time, "
        "puma_cell_read_energy, tile_area",
    ),
    "of another unit": (
        ENERGY.replace("zigzag_adc_energy", "zigzag_adc_time"),
        "unit 'J' of zigzag_adc_time; 's'",
    ),
    "nothing given": (
        ENERGY.replace(", supply = 0.9", ""),
        "nothing given with zigzag_adc_energy; exactly: supply",
    ),
    "something else given": (
        ENERGY.replace("supply", "rate"),
        "rate given with zigzag_adc_energy; exactly: supply",
    ),
    "nothing sensible given": (ENERGY.replace("0.9", "-1"), "supply = -1; a number above 0"),
    "a list for a name": (
        ENERGY.replace('"zigzag_adc_energy"', "[1]"),
        "formula [1]; { name, … } with one of",
    ),
    "only a name": (
        '{ unit = "J", formula = "zigzag_adc_energy" }',
        "formula 'zigzag_adc_energy'; { name, … }",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_formulas(tmp_path: Path, name: str) -> None:
    wrong, found = WRONG[name]
    path = tmp_path / "m.toml"
    path.write_text(TEXT.replace(ENERGY, wrong, 1))
    assert path.read_text() != TEXT
    with pytest.raises(HardwareError) as caught:
        load_hardware(path)
    assert str(caught.value).startswith(f"{path}:analog.tiles.tile.adc.energy: {found}")
    assert "docs/hardware.md lists the formulas" in str(caught.value)


def test_a_formula_where_nothing_says_what_it_needs(tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    lines = TEXT.splitlines()
    place = next(n for n, line in enumerate(lines) if line.startswith("op_energy"))
    lines[place] = f"op_energy = {ENERGY}"
    path.write_text("\n".join(lines))
    with pytest.raises(HardwareError) as caught:
        load_hardware(path)
    assert "zigzag_adc_energy needs 'bits', which this constant's table does not say" in str(caught.value)


@pytest.mark.parametrize("bits", [10**400, 5000])
def test_numbers_beyond_all_formulas(tmp_path: Path, bits: int) -> None:
    path = tmp_path / "m.toml"
    head, tail = TEXT.split("[analog.tile.adc]")
    path.write_text(head + "[analog.tile.adc]" + tail.replace("bits = 8", f"bits = {bits}", 1))
    with pytest.raises(HardwareError):
        load_hardware(path)


def test_a_value_of_ones_own_beside_a_formula_is_refused() -> None:
    machine = load_hardware("reference")
    area = replace(machine.analog[0].area, value=3.0)
    with pytest.raises(HardwareError) as caught:
        load_hardware(with_tiles(machine, area=area))
    assert str(caught.value) == (
        "reference:analog.tiles.area: a value of 3, where its formula gives 0.533922; "
        "what the formula gives\n"
        "  hint: a value of your own stands without a formula: replace(quantity, value=…, formula=None)"
    )
    own = with_tiles(machine, area=replace(area, formula=None, source="measured"))
    assert load_hardware(own) is own


def test_a_plan_whose_machine_says_another_value_is_refused(tmp_path: Path) -> None:
    machine = load_hardware("reference")
    group = machine.analog[0]
    plan = made(machine)
    plan.hardware = with_tiles(machine, area=replace(group.area, value=2 * group.area.value))
    plan.save(tmp_path / "plan")
    with pytest.raises(FfebmError) as caught:
        load_plan(tmp_path / "plan")
    assert "a value of 1.06784, where its formula gives 0.533922; what the formula gives" in str(caught.value)
