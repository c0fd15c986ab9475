"""The ZigZag export: its own validators accept it, and its cost model beside our schedule."""

import importlib.util
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from ffebm.compiler.driver import compile_model
from ffebm.errors import UsageError
from ffebm.exporters.zigzag import export_zigzag
from ffebm.hardware.description import Crossbar
from ffebm.plan.plan import Plan
from ffebm.plan.schedule import Cost
from tests.backends.exported import changed, dense_plan, image_plan, written
from tests.machines import crossbars, joules, with_tiles
from tests.models import Builder

needs_zigzag = pytest.mark.skipif(
    importlib.util.find_spec("zigzag") is None, reason="ZigZag is not installed: pip install zigzag-dse six"
)


@pytest.fixture(autouse=True)
def few_words() -> Iterator[None]:
    """ZigZag logs every step, and logs nothing that is wrong below `critical`."""
    logging.disable(logging.ERROR)
    yield
    logging.disable(logging.NOTSET)


def windows_plan() -> Plan:
    """Convolutions over one, two and three axes, a transposed one and a product with several rows."""
    b = Builder()
    image = b.input("image", "N", 2, 6, 6)
    signal = b.input("signal", "N", 3, 10)
    volume = b.input("volume", "N", 1, 4, 4, 4)
    rows = b.input("rows", "N", 7, 5)
    b.weight(4, 3, 3, name="signal.weight")
    b.weight(2, 1, 3, 3, 3, name="volume.weight")
    b.weight(2, 4, 2, 2, name="up.weight")
    b.weight(5, 6, name="rows.weight")
    found = [
        b.node("Conv", signal, "signal.weight", strides=[2], pads=[1, 1]),
        b.node("Conv", volume, "volume.weight"),
        b.node("ConvTranspose", image, "up.weight", strides=[2, 2]),
        b.node("MatMul", rows, "rows.weight"),
    ]
    return compile_model(b.model(*(b.node("Relu", value) for value in found)), hardware=crossbars(32, 32, 32))


def read(path: Path) -> Any:
    from zigzag.utils import open_yaml

    return open_yaml(str(path))


@needs_zigzag
@pytest.mark.parametrize("make", [dense_plan, image_plan, windows_plan])
def test_its_own_validators_accept_all_files(make: Any, tmp_path: Path) -> None:
    from zigzag.parser.accelerator_factory import AcceleratorFactory
    from zigzag.parser.accelerator_validator import AcceleratorValidator
    from zigzag.parser.mapping_validator import MappingValidator
    from zigzag.parser.workload_factory import WorkloadFactory
    from zigzag.parser.workload_validator import WorkloadValidator

    folder = written(export_zigzag, make(), tmp_path / "z")
    accelerator = AcceleratorValidator(read(folder / "accelerator.yaml"))
    mapping = MappingValidator(read(folder / "mapping.yaml"))
    workload = WorkloadValidator(read(folder / "workload.yaml"))
    assert accelerator.validate()
    assert mapping.validate()
    assert workload.validate()
    machine = AcceleratorFactory(accelerator.normalized_data).create()
    assert machine.operational_array.total_unit_count in (12 * 8, 32 * 8, 32 * 32)
    layers = WorkloadFactory(workload.normalized_data, mapping.normalized_data).create()
    assert len(layers.node_list) == len(workload.normalized_data) >= 2


@needs_zigzag
def test_its_cost_model_counts_the_reads_and_conversions_of_our_schedule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zigzag.api import get_hardware_performance_zigzag

    monkeypatch.chdir(tmp_path)
    b = Builder()
    x = b.input("x", "N", 4, 8, 8)
    b.weight(16, 4, 3, 3, name="conv.weight")
    model = b.model(b.node("Relu", b.node("Conv", x, "conv.weight", pads=[1, 1, 1, 1])))
    plan = compile_model(model, hardware=crossbars(4, 64, 32), replicas=1)
    folder = written(export_zigzag, plan, tmp_path / "z")
    energy, cycles, _, _, results = get_hardware_performance_zigzag(
        read(folder / "workload.yaml"),
        str(folder / "accelerator.yaml"),
        str(folder / "mapping.yaml"),
        in_memory_compute=True,
        lpf_limit=4,
        nb_spatial_mappings_generated=1,
        dump_folder="out",
        loma_show_progress_bar=False,
    )
    bands = [step for step in plan.inference.steps if step.kind == "free"]
    cost = sum((step.cost for step in bands), Cost())
    tile = plan.hardware.analog[0].tile
    assert isinstance(tile, Crossbar)
    reads = 8 * 8
    assert sum(step.end_s - step.start_s for step in bands) == pytest.approx(
        reads * (tile.read_time.value + tile.dac.time.value + tile.adc.time.value)
    )
    assert reads <= cycles <= reads + 8
    array = results[0][1][0][0].mac_energy_breakdown
    # Theirs has an ADC for each of the 8 bits of a weight.
    assert array["adcs"] == pytest.approx(8 * cost.adc * 1e12, rel=0.01)
    assert array["dacs"] == pytest.approx(cost.dac * 1e12, rel=0.02)
    assert energy > sum(array.values())


@needs_zigzag
def test_the_documented_block_runs_a_layer_of_a_single_cycle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import zigzag.api

    # What the block sets is undone behind the test.
    monkeypatch.setattr(zigzag.api, "VisualizationStage", zigzag.api.VisualizationStage)
    text = Path("docs/export.md").read_text(encoding="utf-8").partition("## ZigZag")[2]
    block = text.partition("```python\n")[2].partition("```")[0]
    monkeypatch.chdir(written(export_zigzag, dense_plan(crossbars(4, 64, 64)), tmp_path / "z"))

    values: dict[str, Any] = {}
    exec(compile(block, "docs/export.md", "exec"), values)
    assert values["energy"] > 0
    assert values["cycles"] >= 1


def test_layers_in_the_order_of_an_inference() -> None:
    exported = export_zigzag(windows_plan())
    text = exported.files["workload.yaml"].decode()
    assert "convolutions over three axes are left out: volume" in exported.notes
    for lines in (
        'loop_dims: ["B","K","G","OY","OX","C","FY","FX"]\n  loop_sizes: [1,4,1,1,5,3,1,3]',
        'dimension_relations: ["iy=1*oy+1*fy","ix=2*ox+1*fx"]',
        "pr_loop_sizes: [1,10]\n  padding: [[0,0],[1,1]]",
        'loop_dims: ["C","D","K"]\n  loop_sizes: [2,36,16]',
        "loop_sizes: [5,7,6]",
    ):
        assert lines in text, text


def test_layers_are_chained_through_digital_nodes() -> None:
    text = export_zigzag(dense_plan()).files["workload.yaml"].decode()
    assert "operand_source:\n    W: 0\n    I: 0\n" in text
    assert "operand_source:\n    W: 1\n    I: 0\n" in text


def test_the_accelerator(golden: Any) -> None:
    exported = export_zigzag(dense_plan())
    text = exported.files["accelerator.yaml"].decode()
    golden(text[text.index("name:") :])
    assert all(word in text.replace("\n#  ", "") for note in exported.notes for word in [f"# - {note}"])


def test_bits_that_are_no_power_of_two_are_rounded_up() -> None:
    machine = crossbars(16, 12, 8)
    tile = machine.analog[0].tile
    assert isinstance(tile, Crossbar)
    tile = replace(tile, dac=replace(tile.dac, bits=6), cell=replace(tile.cell, levels=20))
    exported = export_zigzag(dense_plan(with_tiles(machine, tile=tile)))
    assert "6 DAC bits are counted as 8: ZigZag takes powers of two" in exported.notes
    assert "6 weight bits are counted as 8: ZigZag takes powers of two" in exported.notes
    assert b"input_precision: [8,8]" in exported.files["accelerator.yaml"]


def test_slices_of_weights_and_inputs() -> None:
    tile = crossbars(16, 12, 8).analog[0].tile
    assert isinstance(tile, Crossbar)
    cell, dac = replace(tile.cell, levels=4), replace(tile.dac, slice_bits=3)
    exported = export_zigzag(dense_plan(changed(crossbars(16, 12, 8), slices=3, cell=cell, dac=dac)))
    text = exported.files["accelerator.yaml"].decode()
    assert "input_precision: [8,8]\n  bit_serial_precision: 4\n" in text
    assert "left out of what the hardware description asks for: weights in slices" in exported.notes
    assert f"w_cost: {6 * cell.write_energy.value * 1e12}" in text  # two cells in each of three arrays


def test_exact_tiles_are_refused() -> None:
    with pytest.raises(UsageError) as caught:
        export_zigzag(dense_plan("ideal"))
    assert str(caught.value) == (
        "the tiles of ideal are exact, with no array, cells or converters; crossbars\n"
        "  hint: compile for a machine with crossbars, such as --hardware reference"
    )


@needs_zigzag
def test_a_filled_array_costs_what_their_array_costs() -> None:
    """128 x 128 weights of 8 one-bit cells, inputs 2 bits at a time: terms within 5 %, adders 15 %.

    A weight here is the difference to an offset column, a 128th more cells; theirs adds codes by ripple-carry
    adders as wide as each stage, ours by adders of one width.
    """
    from zigzag.datatypes import OADimension
    from zigzag.hardware.architecture.imc_array import ImcArray

    sizes = {OADimension("D1"): 128, OADimension("D2"): 128}
    theirs = ImcArray(
        is_analog_imc=True,
        bit_serial_precision=2,
        input_precision=[8, 8],
        adc_resolution=8,
        cells_size=8,
        cells_area=0.614,
        dimension_sizes=sizes,
    )
    peak = theirs.get_peak_energy_single_cycle()
    cells = (peak["mults"] + peak["analog_bl_addition"]) / (8 * 128 * 128)
    machine = crossbars(1, 128, 128)
    tile = machine.analog[0].tile
    assert isinstance(tile, Crossbar)
    tile = replace(
        tile,
        mapping="offset",
        slices=8,
        adder=joules(theirs.get_1b_adder_energy() * 16 * 1e-12),
        cell=replace(tile.cell, levels=2, read_energy=joules(cells * 1e-12)),
        dac=replace(tile.dac, bits=9, slice_bits=2, energy=joules(theirs.get_dac_cost()[2] * 1e-12)),
        adc=replace(tile.adc, energy=joules(theirs.get_adc_cost()[2] * 1e-12)),
    )
    b = Builder()
    model = b.model(b.node("MatMul", b.input("x", 1, 128), b.weight(128, 128)))
    plan = compile_model(model, hardware=with_tiles(machine, tile=tile))
    (step,) = (step for step in plan.inference.steps if step.kind == "free")
    cycles = 4
    assert step.cost.dac == pytest.approx(cycles * peak["dacs"] * 1e-12, rel=1e-9)
    assert step.cost.adc == pytest.approx(cycles * peak["adcs"] * 1e-12, rel=1e-9)
    array = cycles * (peak["mults"] + peak["analog_bl_addition"]) * 1e-12
    assert step.cost.array == pytest.approx(array, rel=0.05)
    adders = cycles * (peak["adders_pv"] + peak["accumulators"]) * 1e-12
    assert step.cost.adders == pytest.approx(adders, rel=0.15)
