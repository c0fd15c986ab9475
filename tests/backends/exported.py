"""Plans to export, and the folder of an export."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec.structs import replace
from torch import Tensor

from ffebm.compiler.driver import compile_model
from ffebm.exporters.export import Export
from ffebm.files.folder import write_folder
from ffebm.hardware.description import Crossbar, Hardware
from ffebm.plan.conductance import adc_range, full_scale, range_scale, to_levels
from ffebm.plan.plan import Plan
from tests.machines import crossbars, ratio, with_tiles
from tests.models import Builder

INPUTS, HIDDEN, CLASSES = 20, 13, 5


def quiet(machine: Hardware) -> Hardware:
    """The same machine without noise."""
    tile = machine.analog[0].tile
    assert isinstance(tile, Crossbar)
    none = ratio(0.0)
    cell = replace(tile.cell, read_noise=none, programming_noise=none)
    return with_tiles(machine, tile=replace(tile, cell=cell))


def changed(machine: Hardware, **fields: Any) -> Hardware:
    """The same machine with other crossbars."""
    tile = machine.analog[0].tile
    assert isinstance(tile, Crossbar)
    return with_tiles(machine, tile=replace(tile, **fields))


def adc_limit(machine: Hardware, weight: Tensor) -> float:
    """The ADC range of a tile without slices, in units of its largest weight."""
    tile = machine.analog[0].tile
    assert isinstance(tile, Crossbar)
    limit = adc_range(to_levels(weight, full_scale(weight), tile), tile)
    return float(range_scale(limit, tile))


def dense_plan(hardware: Hardware | str = "") -> Plan:
    """Two dense layers on tiles, one of them on 2 x 2 of them, and digital nodes between and behind."""
    b = Builder()
    x = b.input("x", "N", INPUTS)
    b.weight(INPUTS, HIDDEN, name="fc1.weight")
    b.constant(b.rng.standard_normal(HIDDEN).astype("float32") / 10, "fc1.bias")
    b.weight(CLASSES, HIDDEN, name="fc2.weight")
    hidden = b.node("Relu", b.node("Gemm", x, "fc1.weight", "fc1.bias"), out="hidden")
    gate = b.node("Softmax", hidden, out="gate", axis=1)
    logits = b.node("Gemm", gate, "fc2.weight", transB=1, out="logits")
    model = b.model(b.node("Softmax", logits, out="y"))
    return compile_model(model, hardware=hardware or quiet(crossbars(16, 12, 8)))


def image_plan(hardware: Hardware | str = "", block_size: int = 1) -> Plan:
    """A convolution, a grouped one and a dense readout."""
    b = Builder()
    x = b.input("x", "N", 2, 6, 6)
    b.weight(6, 2, 3, 3, name="conv1.weight")
    b.weight(6, 3, 3, 3, name="conv2.weight")
    b.weight(96, 4, name="readout.weight")
    s = b.clip(b.node("Conv", x, "conv1.weight", pads=[1, 1, 1, 1]))
    s = b.clip(b.node("Conv", s, "conv2.weight", group=2, strides=[1, 1]))
    y = b.node("MatMul", b.node("Flatten", s), "readout.weight", out="y")
    return compile_model(b.model(y), hardware=hardware or quiet(crossbars(16, 32, 8)), block_size=block_size)


def written(exporter: Callable[[Plan], Export], plan: Plan, folder: Path) -> Path:
    """An export on disk."""
    exported = exporter(plan)
    write_folder(folder, exported.files, exported.marker)
    return folder
