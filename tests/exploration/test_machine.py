"""Machines with other constants, and machines as text."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ffebm
from ffebm.errors import HardwareError, UsageError
from ffebm.exploration.knobs import Value
from ffebm.exploration.machine import located, machine_toml, named, with_constants
from ffebm.hardware.description import load_hardware, shipped_hardware

REFERENCE = ffebm.load_hardware("reference")


@pytest.mark.parametrize("name", shipped_hardware())
def test_the_text_of_a_machine_is_the_machine(name: str, tmp_path: Path) -> None:
    (tmp_path / "machine.toml").write_text(machine_toml(load_hardware(name)), encoding="utf-8")
    assert load_hardware(tmp_path / "machine.toml") == load_hardware(name)


@given(name=st.text(min_size=1).filter(lambda text: max(text) < "\ud800" or min(text) > "\udfff"))
def test_any_name_can_be_written(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text(machine_toml(named(REFERENCE, name, {"a": 1})), encoding="utf-8")
    assert load_hardware(path).name == name


@pytest.mark.parametrize("bits", [4, 6, 10])
def test_energy_time_and_area_follow_the_bits(bits: int) -> None:
    """By the formulas of KULeuven-MICAS/zigzag for 28 nm, at 0.9 V and 256 rows, written out once more."""
    group = with_constants(REFERENCE, {"analog.tiles.tile.adc.bits": bits}).analog_group("tiles")
    adc = group.tile.crossbar().adc
    assert adc.bits == bits
    assert adc.energy.value == pytest.approx((100 * bits + 0.001 * 4**bits) * 1e-15 * 0.9**2, rel=1e-12)
    assert adc.time.value == pytest.approx(bits * (0.00653 * 256 + 0.64) * 1e-9, rel=1e-12)
    adcs = 256 * 10 ** (1.206 - 0.0369 * bits) * 2**bits
    drivers_and_cells = 256 * 0.167 + 2 * 256 * 256 * 25 / 128**2
    assert group.area.value == pytest.approx((adcs + drivers_and_cells) * 1e-6, rel=1e-3)


def test_a_constant_of_ones_own_is_an_assumption() -> None:
    found = with_constants(REFERENCE, {"analog.tiles.tile.adc.energy": 1e-12}).analog_group("tiles")
    energy = found.tile.crossbar().adc.energy
    assert (energy.value, energy.source, energy.assumption) == (1e-12, "varied by an exploration", True)
    assert energy.formula is None


def test_what_may_be_absent_can_be_set_and_left_out() -> None:
    sliced = with_constants(
        REFERENCE, {"analog.tiles.tile.dac.slice_bits": 1, "analog.tiles.tile.mismatch": 0.1}
    )
    tile = sliced.analog_group("tiles").tile.crossbar()
    assert tile.dac.slice_bits == 1
    assert tile.mismatch is not None
    assert tile.mismatch.value == 0.1
    names: dict[str, Value] = dict.fromkeys(
        ("analog.tiles.tile.dac.slice_bits", "analog.tiles.tile.mismatch")
    )
    whole = with_constants(sliced, names).analog_group("tiles").tile.crossbar()
    assert (whole.dac.slice_bits, whole.mismatch) == (None, None)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "bits",
            4,
            "--vary bits: 'bits' is nothing of reference; allowed are analog, digital, memory, network, or "
            "an option of ffebm compile with one value",
        ),
        (
            "blok_size",
            4,
            "--vary blok_size: 'blok_size' is nothing of reference; allowed are analog, digital, memory, "
            "network, or an option of ffebm compile with one value\n  hint: did you mean block_size?",
        ),
        (
            "nudged-sweeps",
            4,
            "--vary nudged-sweeps: 'nudged-sweeps' is nothing of reference; allowed are analog, digital, "
            "memory, network, or an option of ffebm compile with one value\n"
            "  hint: did you mean nudged_sweeps?",
        ),
        (
            "analog.tiles.tile.adc.bit",
            4,
            "--vary analog.tiles.tile.adc.bit: 'bit' is nothing of analog.tiles.tile.adc; allowed are bits, "
            "energy, time, offset, gain, range, calibration, curve, noise\n"
            "  hint: did you mean analog.tiles.tile.adc.bits?",
        ),
        (
            "analog.pcm.count",
            4,
            "--vary analog.pcm: 'pcm' is nothing of analog; allowed are tiles",
        ),
        (
            "analog.tiles.tile.adc",
            4,
            "--vary analog.tiles.tile.adc: analog.tiles.tile.adc is a table; allowed are bits, energy, time, "
            "offset, gain, range, calibration, curve, noise",
        ),
        (
            "analog.tiles.tile.cell.drift.exponent",
            0.1,
            "--vary analog.tiles.tile.cell.drift.exponent: reference has no analog.tiles.tile.cell.drift; a "
            "machine whose description has it",
        ),
        (
            "analog.tiles.tile.adc.energy.value",
            1e-12,
            "--vary analog.tiles.tile.adc.energy.value: 'value' is nothing of analog.tiles.tile.adc.energy; "
            "allowed are formula",
        ),
        (
            "analog.tiles.tile.adc.bits",
            "four",
            "--vary analog.tiles.tile.adc.bits=four: Expected `int`, got `str`\n"
            "  hint: docs/hardware.md lists the keys",
        ),
        (
            "network.topology",
            "star",
            "--vary network.topology=star: Invalid enum value 'star'; 'bus', 'mesh'\n"
            "  hint: docs/hardware.md lists the keys",
        ),
        (
            "analog.tiles.tile.adc.energy.formula.supply",
            -1,
            "--vary analog.tiles.tile.adc.energy.formula.supply=-1: supply = -1; a number above 0\n"
            "  hint: docs/hardware.md lists the keys",
        ),
        (
            "analog.tiles.count",
            None,
            "--vary analog.tiles.count=none: Object missing required field `count`\n"
            "  hint: docs/hardware.md lists the keys",
        ),
    ],
)
def test_what_a_machine_has_not_is_refused(key: str, value: Value, message: str) -> None:
    with pytest.raises(UsageError) as refused:
        with_constants(REFERENCE, {key: value})
    assert str(refused.value) == message


def test_a_contradiction_has_a_place() -> None:
    machine = with_constants(REFERENCE, {"analog.tiles.tile.cell.g_min": 1.0})
    with pytest.raises(HardwareError) as refused:
        load_hardware(machine)
    assert located(refused.value, "reference").startswith("reference:analog.tiles.tile.cell")
