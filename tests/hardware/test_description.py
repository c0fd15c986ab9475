import math
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from ffebm import FfebmError, load_hardware
from ffebm import compile as compile_plan
from ffebm.errors import HardwareError, UsageError
from ffebm.hardware.description import Crossbar, Hardware, check_hardware, shipped_hardware
from tests.models import Builder

TEXT = (resources.files("ffebm") / "hardware" / "reference.toml").read_text(encoding="utf-8")
SOURCE = 'source = "chosen for a test"'
VERIFY = f"""[analog.tile.cell.verify]
writes = 3
tolerance = {{ value = 0, unit = "1", {SOURCE} }}
"""
STUCK = f"""[analog.tile.cell.stuck]
at_min = {{ value = 0.7, unit = "1", {SOURCE} }}
at_max = {{ value = 0.5, unit = "1", {SOURCE} }}
"""
DRIFT = f"""[analog.tile.cell.drift]
exponent = {{ value = 0.05, unit = "1", {SOURCE} }}
spread = {{ value = 0.01, unit = "1", {SOURCE} }}
start = {{ value = 20, unit = "s", {SOURCE} }}
elapsed = {{ value = 5, unit = "s", {SOURCE} }}
"""
NONLINEAR = f'nonlinearity = {{{{ value = %g, unit = "1", {SOURCE} }}}}\n'.replace("{{", "{").replace(
    "}}", "}"
)
WIRES = f"""[analog.tile.wires]
row = {{ value = 1.0, unit = "Ohm", {SOURCE} }}
column = {{ value = 1.0, unit = "Ohm", {SOURCE} }}

"""
RELAXATION = f"""[analog.relaxation]
time_constant = {{ value = 10e-9, unit = "s", {SOURCE} }}
time_constants = {{ value = 10, unit = "1", {SOURCE} }}
voltage = {{ value = 0.1, unit = "V", {SOURCE} }}
conductance = {{ value = 10e-6, unit = "S", {SOURCE} }}
"""


UPDATE = f"""[analog.tile.update]
bounds = "soft"
pulse = {{ value = 0.01, unit = "1", {SOURCE} }}
pulses = 31
asymmetry = {{ value = 0.25, unit = "1", {SOURCE} }}
noise = {{ value = 0.3, unit = "1", {SOURCE} }}
range = {{ value = 2, unit = "1", {SOURCE} }}
time = {{ value = 256e-9, unit = "s", {SOURCE} }}
energy = {{ value = 18e-15, unit = "J", {SOURCE} }}
[analog.tile.update.remedy]
type = "transfer"
every = 5
rate = {{ value = 0.5, unit = "1", {SOURCE} }}
"""


def learning(text: str) -> str:
    """A description whose cells learn in place."""
    return text.replace("[analog.tile.cell]", UPDATE + "[analog.tile.cell]").replace(
        "programming_noise = { value = 0.01", "programming_noise = { value = 0.02"
    )


def by_itself(text: str) -> str:
    """A description with continuous settling."""
    return text.replace('"clocked"', '"continuous"').replace("[analog.tile]", RELAXATION + "[analog.tile]")


HINT = "\n  hint: docs/hardware.md lists the keys; every constant is {value, unit, source}"


def test_these_are_shipped() -> None:
    assert shipped_hardware() == [
        "hermes",
        "hermes-fast",
        "heterogeneous",
        "ideal",
        "isaac",
        "isaac-edram",
        "pimcomp",
        "reference",
        "resistive",
        "resistive-single",
        "scratchpads",
    ]


@pytest.mark.parametrize("name", shipped_hardware())
def test_shipped_descriptions_are_complete(name: str) -> None:
    machine = load_hardware(name)
    assert machine.name == name
    assert machine.description.endswith(".")
    quantities = dict(machine.quantities())
    assert len(quantities) >= 10
    for key, quantity in quantities.items():
        assert quantity.source, key
        if quantity.source.startswith("nominal"):
            assert quantity.assumption, key


def test_the_names_of_quantities() -> None:
    quantities = dict(load_hardware("reference").quantities())
    assert quantities["analog.tiles.tile.cell.g_max"].value == 25e-6
    assert quantities["network.hops"].value == 5.25
    assert "digital.count" not in quantities


def test_a_description_is_returned_as_it_is() -> None:
    machine = load_hardware("reference")
    assert load_hardware(machine) is machine
    assert isinstance(machine.analog[0].tile, Crossbar)


def python_made(path: str, value: object) -> Hardware:
    """The reference machine with one place replaced, as a user writes it."""

    def changed(part: Any, names: list[str]) -> Any:
        if isinstance(part, tuple):  # the groups of a kind: by name
            return tuple(changed(g, names[1:]) if g.name == names[0] else g for g in part)
        inner = value if len(names) == 1 else changed(getattr(part, names[0]), names[1:])
        return msgspec.structs.replace(part, **{names[0]: inner})

    machine = changed(load_hardware("reference"), path.split("."))
    assert isinstance(machine, Hardware)
    return machine


@pytest.mark.parametrize(
    ("path", "value", "found"),
    [
        (
            "network.bit_rate.value",
            5e-324,
            "network.bit_rate: a value of 4.94066e-324 1/s; 0, or 1e-30 to 1e+30",
        ),
        ("network.bit_rate.value", 0.0, "network.bit_rate: a rate of 0/s; more than 0"),
        ("network.latency.value", math.nan, "network.latency.value: Expected `float` >= 0.0"),
        (
            "digital.engine.fp32.mac_energy.value",
            math.inf,
            "digital.engine.fp32.mac_energy: a value of inf; a finite number",
        ),
        ("analog.tiles.tile.cell.levels", 1, "analog.tiles.tile.cell.levels: Expected `int` >= 2"),
        ("analog.tiles.count", 0, "analog.tiles.count: Expected `int` >= 1"),
        (
            "analog.tiles.settling",
            "sometimes",
            "analog.tiles.settling: Invalid enum value 'sometimes'; 'clocked', 'continuous'",
        ),
        ("analog.tiles.tile.mapping", None, "analog.tiles.tile.mapping: Expected `str`, got `null`"),
        (
            "analog.tiles.tile.adc.curve",
            "bow",
            "analog.tiles.tile.adc.curve: no installed package offers 'bow'; installed are: none",
        ),
    ],
)
def test_a_machine_made_in_python_is_held_to_what_a_file_may_say(
    path: str, value: object, found: str
) -> None:
    b = Builder()
    model = b.model(b.node("MatMul", b.input("x", "N", 4), b.weight(4, 3)))
    with pytest.raises(HardwareError) as caught:
        compile_plan(model, hardware=python_made(path, value))
    assert str(caught.value).partition("\n")[0] == f"reference:{found}"


def test_a_file_of_the_users_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(TEXT)
    assert load_hardware(path) == load_hardware(str(path)) == load_hardware("reference")


CASES: dict[str, tuple[Callable[[str], str], str]] = {
    "unknown key": (
        lambda text: text.replace("rows = 256", "rows = 256\nlines = 3"),
        "analog.tiles.tile: Object contains unknown field `lines`" + HINT,
    ),
    "an array of a million columns": (
        lambda text: text.replace("cols = 256", "cols = 1000000"),
        "analog.tiles.tile: an array of 1,000,000 lines; at most 65,536 word lines or bit lines of one array"
        "\n  hint: if that is meant, set the environment variable FFEBM_MAX_ARRAY_LINES to a larger number",
    ),
    "missing key": (
        lambda text: text.replace("rows = 256\n", ""),
        "analog.tiles.tile: Object missing required field `rows`" + HINT,
    ),
    "wrong unit": (
        lambda text: text.replace('value = 86e-9, unit = "s"', 'value = 86, unit = "ns"'),
        "analog.tiles.tile.write_time.unit: Invalid enum value 'ns'; 's'" + HINT,
    ),
    "wrong type": (
        lambda text: text.replace("rows = 256", 'rows = "many"'),
        "analog.tiles.tile.rows: Expected `int`, got `str`" + HINT,
    ),
    "no source": (
        lambda text: text.replace('source = "256-bit flits at 1 GHz"', 'source = ""'),
        "network.bit_rate.source: Expected `str` of length >= 1" + HINT,
    ),
    "negative": (
        lambda text: text.replace("value = 5e-9", "value = -5e-9"),
        "network.latency.value: Expected `float` >= 0.0" + HINT,
    ),
    "infinite": (
        lambda text: text.replace("value = 5e-9", "value = inf"),
        "network.latency: a value of inf; a finite number",
    ),
    "not a number": (
        lambda text: text.replace("value = 5e-9", "value = nan"),
        "network.latency.value: Expected `float` >= 0.0" + HINT,
    ),
    "no rate": (
        lambda text: text.replace("value = 256e9", "value = 0.0"),
        "network.bit_rate: a rate of 0/s; more than 0",
    ),
    "a rate whose times overflow": (
        lambda text: text.replace("value = 256e9", "value = 5e-324"),
        "network.bit_rate: a value of 4.94066e-324 1/s; 0, or 1e-30 to 1e+30",
    ),
    "no tiles": (
        lambda text: text.replace("count = 64", "count = 0"),
        "analog.tiles.count: Expected `int` >= 1" + HINT,
    ),
    "conductances": (
        lambda text: text.replace("value = 0.25e-6", "value = 25e-6"),
        "analog.tiles.tile.cell: g_min 2.5e-05 S is not below g_max 2.5e-05 S",
    ),
    "other version": (
        lambda text: text.replace("schema = 2", "schema = 3"),
        "schema: Invalid enum value 3; 2" + HINT,
    ),
    "version 1": (
        lambda text: text.replace("schema = 2", "schema = 1"),
        "schema: a description of schema 1; schema 2\n"
        '  hint: [tiles] becomes [[analog]] with name = "tiles", [digital] becomes [[digital]] '
        "with a name and its rates and energies in [digital.fp32], digital.memory_energy becomes "
        'bit_energy of a [[memory]] with owner = that name, [network] takes topology = "bus", and each '
        "takes area and leakage: docs/hardware.md shows both side by side",
    ),
    "one name for two": (
        lambda text: text.replace('name = "engine"', 'name = "tiles"').replace('"engine"', '"tiles"'),
        "digital.tiles.name: 'tiles' twice; a name of its own for each group and memory",
    ),
    "a name that stands for the whole chip": (
        lambda text: text.replace('name = "tiles"', 'name = "chip"'),
        "analog.chip.name: a group called 'chip'; a name of its own for each group and memory",
    ),
    "nobody's memory": (
        lambda text: text.replace('owner = "engine"', 'owner = "enigne"'),
        "memory.sram.owner: owner 'enigne'; 'chip' or the name of a group: 'tiles', 'engine'",
    ),
    "units without a memory": (
        lambda text: text.replace('owner = "engine"', 'owner = "tiles"').replace('"chip"', '"tiles"'),
        "digital.engine: units without a memory; a [[memory]] for them\n"
        "  hint: owner = 'engine' or owner = 'chip'",
    ),
    "no such calibration": (
        lambda text: text.replace("[analog.tile.adc]", '[analog.tile.adc]\ncalibration = "on"'),
        "analog.tiles.tile.adc.calibration: Invalid enum value 'on'; 'data', 'uniform'" + HINT,
    ),
    "no such tile": (
        lambda text: text.replace('type = "crossbar"', 'type = "cross"'),
        "analog.tiles.tile.type: Invalid value 'cross'; 'crossbar', 'exact'" + HINT,
    ),
    "no such range": (
        lambda text: text.replace("[analog.tile.adc]", '[analog.tile.adc]\nrange = "full"'),
        "analog.tiles.tile.adc.range: Invalid enum value 'full'; 'calibrated', 'column', 'level', 'maximal'"
        + HINT,
    ),
    "sigmas of another range": (
        lambda text: text.replace("[analog.tile.adc]", '[analog.tile.adc]\nrange = "maximal"').replace(
            "[analog.tile]", '[analog.tile]\nadc_sigmas = { value = 4.0, unit = "1", source = "measured" }'
        ),
        "analog.tiles.tile.adc_sigmas: range 'maximal' with adc_sigmas; "
        "'calibrated' and 'column' take adc_sigmas, others do not",
    ),
    "calibration of another range": (
        lambda text: text.replace(
            "[analog.tile.adc]", '[analog.tile.adc]\nrange = "maximal"\ncalibration = "uniform"'
        ),
        "analog.tiles.tile.adc.calibration: calibration 'uniform' with range 'maximal'; "
        "only 'calibrated' and 'column' are calibrated",
    ),
    "continuous calibration": (
        lambda text: by_itself(text).replace(
            "[analog.tile.adc]", '[analog.tile.adc]\ncalibration = "uniform"'
        ),
        "analog.tiles.tile.adc.calibration: calibration 'uniform' with continuous settling; "
        "none: each sample sets its own range",
    ),
    "noise of ADCs": (
        lambda text: text.replace(
            "[analog.tile.adc]",
            '[analog.tile.adc]\nnoise = { value = 1.5, unit = "1", source = "test" }',
        ),
        "analog.tiles.tile.adc.noise: noise of 1.5 times the range; less than 1",
    ),
    "devices that learn": (
        lambda text: learning(text).replace("levels = 128", "levels = 128\ndevices = 5"),
        "analog.tiles.tile.cell.devices: 5 devices a cell that learn in place, whose pulses are those of "
        "one; 1",
    ),
    "devices of a circuit": (
        lambda text: by_itself(text).replace("levels = 128", "levels = 128\ndevices = 5"),
        "analog.tiles.tile.cell.devices: 5 devices a cell of a circuit that settles by itself; 1, with the "
        "conductances of all together",
    ),
    "devices and wires": (
        lambda text: text.replace("levels = 128", "levels = 128\ndevices = 5").replace(
            "[analog.tile.dac]", WIRES + "[analog.tile.dac]"
        ),
        "analog.tiles.tile.cell.devices: 5 devices a cell with wires, which run from cell to cell; 1, or no "
        "wires",
    ),
    "less than a resistor": (
        lambda text: text.replace("[analog.tile.cell]", "[analog.tile.cell]\n" + NONLINEAR % 1.5),
        "analog.tiles.tile.cell.nonlinearity: a ratio of 1.5; at least 2, that of a resistor, and at most "
        "1e+06",
    ),
    "no resistors and a column": (
        lambda text: text.replace("[analog.tile.cell]", "[analog.tile.cell]\n" + NONLINEAR % 3).replace(
            "rows = 256", 'rows = 256\nmapping = "offset"'
        ),
        "analog.tiles.tile.cell.nonlinearity: cells that are no resistors, and an offset column, which the "
        "sum of all inputs drives back; differential arrays",
    ),
    "no resistors and wires": (
        lambda text: text.replace("[analog.tile.cell]", "[analog.tile.cell]\n" + NONLINEAR % 3).replace(
            "[analog.tile.dac]", WIRES + "[analog.tile.dac]"
        ),
        "analog.tiles.tile.cell.nonlinearity: cells that are no resistors, with wires, which are solved as a "
        "network of such; one of them",
    ),
    "a circuit of no resistors": (
        lambda text: by_itself(text).replace("[analog.tile.cell]", "[analog.tile.cell]\n" + NONLINEAR % 3),
        "analog.tiles.tile.cell.nonlinearity: cells that are no resistors, in a circuit that settles by "
        "itself; resistors",
    ),
    "unused cells of a column": (
        lambda text: text.replace("rows = 256", 'rows = 256\nmapping = "offset"\nunused = "off"'),
        "analog.tiles.tile.unused: unused cells off with mapping 'offset', which uses all; differential",
    ),
    "unused cells that learn": (
        lambda text: learning(text).replace("rows = 256", 'rows = 256\nunused = "off"'),
        "analog.tiles.tile.unused: unused cells off that learn in place, which takes both of a pair; 'g_min'",
    ),
    "unused cells of a circuit": (
        lambda text: by_itself(text).replace("rows = 256", 'rows = 256\nunused = "off"'),
        "analog.tiles.tile.unused: unused cells off in a circuit that settles by itself; 'g_min'",
    ),
    "tolerance": (
        lambda text: text.replace("[analog.tile.dac]", VERIFY + "[analog.tile.dac]"),
        "analog.tiles.tile.cell.verify.tolerance: a tolerance of 0; more than 0",
    ),
    "stuck": (
        lambda text: text.replace("[analog.tile.dac]", STUCK + "[analog.tile.dac]"),
        "analog.tiles.tile.cell.stuck: a share of 1.2 of all cells is stuck; at most 1",
    ),
    "drift before its start": (
        lambda text: text.replace("[analog.tile.dac]", DRIFT + "[analog.tile.dac]"),
        "analog.tiles.tile.cell.drift.elapsed: 5 s after programming; at least the start of drift, 20 s",
    ),
    "two levels and a column": (
        lambda text: text.replace("levels = 128", "levels = 2").replace(
            "rows = 256", 'rows = 256\nmapping = "offset"'
        ),
        "analog.tiles.tile.cell.levels: 2 levels with an offset column; at least 3, or more slices",
    ),
    "too many slices": (
        lambda text: text.replace("rows = 256", "rows = 256\nslices = 8"),
        "analog.tiles.tile.slices: 8 slices of 128 levels; fewer than 4503599627370496 steps of a weight",
    ),
    "input slices": (
        lambda text: text.replace(
            "[analog.tile.dac]\nbits = 8", "[analog.tile.dac]\nslice_bits = 8\nbits = 8"
        ),
        "analog.tiles.tile.dac.slice_bits: slices of 8 bits; at most the 7 of a magnitude",
    ),
    "a fixed range of DACs without a limit": (
        lambda text: text.replace("[analog.tile.dac]", '[analog.tile.dac]\nrange = "fixed"'),
        "analog.tiles.tile.dac.limit: range 'fixed' with no limit; a fixed range has a limit, others none",
    ),
    "a limit of DACs whose range is another": (
        lambda text: text.replace("[analog.tile.dac]", "[analog.tile.dac]\nlimit = 2.0"),
        "analog.tiles.tile.dac.limit: range 'vector' with limit 2; a fixed range has a limit, others none",
    ),
    "sigmas of a fixed range of DACs": (
        lambda text: text.replace(
            "[analog.tile.dac]", '[analog.tile.dac]\nrange = "fixed"\nlimit = 2.0\nsigmas = 3.0'
        ),
        "analog.tiles.tile.dac.sigmas: range 'fixed' with sigmas; only a range by 'data' takes sigmas",
    ),
    "a range of DACs by data with input slices": (
        lambda text: text.replace("[analog.tile.dac]", '[analog.tile.dac]\nrange = "data"\nslice_bits = 1'),
        "analog.tiles.tile.dac.range: range 'data' with input slices; 'vector' or 'fixed'",
    ),
    "a continuous range of DACs": (
        lambda text: by_itself(text).replace("[analog.tile.dac]", '[analog.tile.dac]\nrange = "data"'),
        "analog.tiles.tile.dac.range: 'data' with continuous settling; "
        "'vector': each sample sets its own range",
    ),
    "omega beside a range": (
        lambda text: learning(text).replace("rows = 256", "rows = 256\nomega = 0.5"),
        "analog.tiles.tile.omega: omega 0.5 beside an update with a range; "
        "omega is for tiles that are programmed; tile.update.range says the same",
    ),
    "continuous without a relaxation": (
        lambda text: text.replace('"clocked"', '"continuous"'),
        "analog.tiles.settling: 'continuous' with no relaxation; continuous settling has one, clocked none",
    ),
    "a response without an accuracy": (
        lambda text: by_itself(text).replace(
            "[analog.relaxation]\n",
            f'[analog.relaxation]\nresponse = {{ value = 0.01, unit = "1", {SOURCE} }}\n',
        ),
        "analog.tiles.relaxation.response: a response of 0.01 without an accuracy; "
        "both, or an accuracy alone",
    ),
    "a relaxation of clocked tiles": (
        lambda text: text.replace("[analog.tile]", RELAXATION + "[analog.tile]"),
        "analog.tiles.settling: 'clocked' with a relaxation; continuous settling has one, clocked none",
    ),
    "single cells that are clocked": (
        lambda text: text.replace("[analog.tile.cell]", 'mapping = "single"\n[analog.tile.cell]'),
        "analog.tiles.tile.mapping: single cells with clocked settling; "
        "passive arrays, which settle by themselves",
    ),
    "single cells with scales of columns": (
        lambda text: by_itself(
            text.replace("[analog.tile.cell]", 'mapping = "single"\nscale = "column"\n[analog.tile.cell]')
        ),
        "analog.tiles.tile.scale: digital scales of columns in a passive array; 'piece': one range a block",
    ),
    "single cells with two directions": (
        lambda text: by_itself(
            text.replace(
                "[analog.tile.cell]",
                'mapping = "single"\nmismatch = { value = 0.1, unit = "1", source = "t" }\n'
                "[analog.tile.cell]",
            )
        ),
        "analog.tiles.tile.mismatch: two directions that differ in a passive array; "
        "none: a conductance has no direction",
    ),
    "single cells with wires": (
        lambda text: by_itself(
            text.replace("[analog.tile.cell]", 'mapping = "single"\n[analog.tile.cell]').replace(
                "[analog.tile.dac]",
                "[analog.tile.wires]\n"
                'row = { value = 1.0, unit = "Ohm", source = "t" }\n'
                'column = { value = 1.0, unit = "Ohm", source = "t" }\n'
                "[analog.tile.dac]",
            )
        ),
        "analog.tiles.tile.wires: wires between lines that are driven and sensed; "
        "none: lines of passive arrays are nodes",
    ),
    "continuous slices": (
        lambda text: by_itself(text).replace("rows = 256", "rows = 256\nslices = 2"),
        "analog.tiles.settling: continuous settling of slices, which are added digitally; one slice",
    ),
    "continuous ranges by column": (
        lambda text: by_itself(text).replace("[analog.tile.adc]", '[analog.tile.adc]\nrange = "column"'),
        "analog.tiles.tile.adc.range: 'column' with continuous settling; 'calibrated' or 'maximal'",
    ),
    "learning in place on slices": (
        lambda text: learning(text).replace("rows = 256", "rows = 256\nslices = 2"),
        "analog.tiles.tile.update: learning in place on 2 slices, which carry digits; one slice",
    ),
    "no pulse": (
        lambda text: learning(text).replace("value = 0.01, unit", "value = 0, unit"),
        "analog.tiles.tile.update.pulse: a pulse of 0 of the range; more than 0, less than 1",
    ),
    "no room": (
        lambda text: learning(text).replace("value = 2, unit", "value = 0.5, unit"),
        "analog.tiles.tile.update.range: a range of 0.5; at least 1",
    ),
    "asymmetry": (
        lambda text: learning(text).replace("value = 0.25, unit", "value = 1.0, unit"),
        "analog.tiles.tile.update.asymmetry: an asymmetry of 1; less than 1",
    ),
    "transfer": (
        lambda text: learning(text).replace('"soft"', '"hard"'),
        "analog.tiles.tile.update.remedy: a transfer between hard bounds, which have no symmetric point; "
        "soft bounds, or a step whose pulses up and down are somewhere equal",
    ),
    "a chopper that never flips": (
        lambda text: learning(text).replace(
            "every = 5", f'every = 5\nchopper = {{ inputs = {{ value = 0, unit = "1", {SOURCE} }} }}'
        ),
        "analog.tiles.tile.update.remedy.chopper.inputs: signs that flip with a chance of 0; more than 0, at "
        "most 1",
    ),
    "a step without end": (
        lambda text: learning(text).replace(
            'bounds = "soft"',
            'bounds = "hard"\nstep = { type = "exponential", up = inf, down = 1.0, exponent_up = 1.0, '
            "exponent_down = 1.0, slope = 1.0, offset = 0.0 }",
        ),
        "analog.tiles.tile.update.step.up: Expected `float` <= 1000.0" + HINT,
    ),
    "inputs without end": (
        lambda text: text.replace("[analog.tile.dac]", '[analog.tile.dac]\nrange = "fixed"\nlimit = inf'),
        "analog.tiles.tile.dac.limit: Expected `float` <= 1e+30" + HINT,
    ),
    "deviations without end": (
        lambda text: text.replace("[analog.tile.dac]", '[analog.tile.dac]\nrange = "data"\nsigmas = inf'),
        "analog.tiles.tile.dac.sigmas: Expected `float` <= 1000.0" + HINT,
    ),
    "not TOML": (lambda text: "= nothing", "not TOML: Invalid statement (at line 1, column 1)"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_wrong_description(tmp_path: Path, case: str) -> None:
    change, expected = CASES[case]
    path = tmp_path / "mine.toml"
    path.write_text(change(TEXT))
    assert path.read_text() != TEXT
    with pytest.raises(HardwareError) as caught:
        load_hardware(path)
    where = f"{path}:" if not expected.startswith("not TOML") else f"{path}: "
    assert str(caught.value) == where + expected


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b"schema = \xff")
    with pytest.raises(HardwareError, match="the file is not UTF-8 text"):
        load_hardware(path)


@pytest.mark.parametrize("name", ["nonsense", "nonsense.toml", Path("nonsense")])
def test_no_such_description(name: str | Path) -> None:
    with pytest.raises(FfebmError) as caught:
        load_hardware(name)
    shipped = ", ".join(shipped_hardware())
    assert str(caught.value) == (
        f"there is no hardware description {str(name)!r}; shipped are {shipped}\n"
        "  hint: name a shipped one or give the path of a .toml file"
    )


def test_a_folder_is_no_description(tmp_path: Path) -> None:
    with pytest.raises(FfebmError) as caught:
        load_hardware(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: a folder; a hardware description is a .toml file\n"
        "  hint: name the file in it, or a shipped description"
    )


def test_more_digital_units_than_a_schedule_can_list() -> None:
    machine = load_hardware("ideal")
    wide = replace(machine, digital=(replace(machine.digital[0], count=10**12),))
    with pytest.raises(HardwareError) as caught:
        check_hardware(wide, "wide.toml")
    assert str(caught.value) == (
        "wide.toml:digital.engine.count: 1,000,000,000,000 digital units; at most 1,000,000 digital units"
        "\n  hint: if that is meant, set the environment variable FFEBM_MAX_DIGITAL_UNITS to a larger number"
    )


def test_groups_of_one_name_are_named_as_such_though_formulas_differ(tmp_path: Path) -> None:
    text = (resources.files("ffebm") / "hardware/heterogeneous.toml").read_text(encoding="utf-8")
    path = tmp_path / "twins.toml"
    path.write_text(text.replace('name = "pcm"', 'name = "sram"'), encoding="utf-8")
    with pytest.raises(HardwareError, match=r"analog\.sram\.name: 'sram' twice"):
        load_hardware(path)


@pytest.mark.parametrize("name", [3, None])
def test_a_description_of_another_type(name: Any) -> None:
    with pytest.raises(UsageError) as caught:
        load_hardware(name)
    assert str(caught.value) == f"hardware is a {type(name).__name__}; a name, a path, or a description"
