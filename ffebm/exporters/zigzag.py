"""ZigZag exporter: one tile as an in-memory-computing core, the layers on tiles as workload, and a mapping.

Source of the format: the validators of KULeuven-MICAS/zigzag 3.x.
"""

import textwrap
from collections.abc import Iterator
from math import ceil, log2, prod
from typing import Any

import msgspec

from ffebm.errors import UsageError
from ffebm.exporters.export import (
    INPUT_SLICES,
    Export,
    layer_name,
    missing_notes,
    replica_notes,
    settling_notes,
    source_line,
    used_group,
)
from ffebm.graph.energy_block import EnergyBlock, Interaction, Linear
from ffebm.hardware.description import Crossbar, Hardware
from ffebm.plan.plan import Plan
from ffebm.plan.program import Instruction

ACCELERATOR, MAPPING, WORKLOAD = "accelerator.yaml", "mapping.yaml", "workload.yaml"
PICO = 1e12

OPERANDS = {"O": "O", "W": "I2", "I": "I1"}
SPATIAL = {"D1": ["K"], "D2": ["C", "FX", "FY"]}
"""Outputs along the first axis of the array, inputs along the second."""


def export_zigzag(plan: Plan) -> Export:
    """A plan as the three YAML files that ZigZag takes.

    Raises:
        UsageError: If the tiles are exact ones, of which ZigZag knows no cost.
    """
    if not used_group(plan).tile.has_cells:
        raise UsageError(
            f"the tiles of {plan.hardware.name} are exact, with no array, cells or converters",
            allowed="crossbars",
            hint="compile for a machine with crossbars, such as --hardware reference",
        )
    tile = used_group(plan).tile.crossbar()
    layers, left_out = _layers(plan, tile)
    notes = tuple(_notes(plan, tile, left_out))
    mapping = [{"name": "default", "memory_operand_links": OPERANDS, "spatial_mapping_hint": SPATIAL}]
    documents: dict[str, object] = {
        ACCELERATOR: _accelerator(plan.hardware, tile),
        MAPPING: mapping,
        WORKLOAD: layers,
    }
    lines = [source_line(plan), "", "What these files cannot express:"]
    for note in notes:
        lines += textwrap.wrap(note, 100, initial_indent="- ", subsequent_indent="  ")
    head = "".join(f"# {line}".rstrip() + "\n" for line in lines)
    files = {
        name: (head + "\n".join(_yaml(document, 0)) + "\n").encode() for name, document in documents.items()
    }
    return Export(marker=ACCELERATOR, files=files, notes=notes)


# --- the machine -------------------------------------------------------------------------------------


def _accelerator(hardware: Hardware, tile: Crossbar) -> dict[str, Any]:
    inputs, weights = _power_of_two(tile.dac.bits), _weight_bits(tile)
    return {
        "name": hardware.name,
        "memories": _memories(hardware, tile, inputs, weights),
        "operational_array": {
            "is_imc": True,
            "imc_type": "analog",
            "input_precision": [inputs, weights],
            "bit_serial_precision": min(inputs, _power_of_two(tile.dac.slice_bits or inputs)),
            "adc_resolution": tile.adc.bits,
            "dimensions": ["D1", "D2"],
            "sizes": [tile.cols, tile.rows],
        },
    }


def _memories(hardware: Hardware, tile: Crossbar, inputs: int, weights: int) -> dict[str, Any]:
    """From the cells up: line registers, which cost nothing here, the digital memory, the network."""
    bits = hardware.host.fp32.value_bits
    cycle = tile.read_time.value + tile.dac.time.value + tile.adc.time.value
    width = max(tile.rows * inputs, tile.cols * bits)  # all lines at once: ffebm counts no time of the memory
    channel = max(inputs, min(width, int(hardware.network.bit_rate.value * cycle)))
    memory = hardware.memory_of(hardware.host.name).bit_energy.value * PICO
    moved = hardware.network.bit_energy.value * hardware.network.hops.value * PICO + memory
    both = ("I1, tl", "O, tl", "O, th"), ("I1, fh", "O, fh", "O, fl")
    every = tuple(f"{operand}, {way}" for operand in ("I1", "I2") for way in ("fh", "tl"))
    return {
        "cells": _memory(
            weights,
            (0.0, tile.used_cells_a_weight * tile.cell.devices * tile.cell.write_energy.value * PICO),
            0,
            ["I2"],
            [],
        )
        | {"ports": [_port("rw_port_1", weights, ("I2, fh", "I2, tl"))]},
        "input_registers": _memory(inputs, (0.0, 0.0), 1, ["I1"], ["D1"])
        | {"ports": [_port("r_port_1", inputs, ("I1, tl",)), _port("w_port_1", inputs, ("I1, fh",))]},
        "output_registers": _memory(bits, (0.0, 0.0), 1, ["O"], ["D2"])
        | {
            "ports": [
                _port(f"{kind}_port_{index}", bits, (f"O, {way}",))
                for kind, index, way in (("r", 1, "tl"), ("r", 2, "th"), ("w", 1, "fh"), ("w", 2, "fl"))
            ]
        },
        "digital_memory": _memory(2**33, (memory * width, memory * width), 1, ["I1", "O"], ["D1", "D2"])
        | {"ports": [_port("r_port_1", width, both[0], inputs), _port("w_port_1", width, both[1], inputs)]},
        "network": _memory(2**40, (moved * channel, moved * channel), 1, ["I1", "I2", "O"], ["D1", "D2"])
        | {"ports": [_port("rw_port_1", channel, (*every, "O, fh", "O, tl", "O, fl", "O, th"), inputs)]},
    }


def _memory(
    size: int, costs: tuple[float, float], latency: int, operands: list[str], served: list[str]
) -> dict[str, Any]:
    """A memory of `size` bits; costs of a read and a write of its whole width, picojoules."""
    return {
        "size": size,
        "r_cost": costs[0],
        "w_cost": costs[1],
        "area": 0.0,
        "latency": latency,
        "operands": operands,
        "served_dimensions": served,
    }


def _port(name: str, width: int, allocation: tuple[str, ...], least: int = 0) -> dict[str, Any]:
    """A port of `width` bits a cycle, of which an access takes multiples of `least`."""
    kind = {"r": "read", "w": "write", "rw": "read_write"}[name.partition("_")[0]]
    return {
        "name": name,
        "type": kind,
        "bandwidth_min": least or width,
        "bandwidth_max": width,
        "allocation": list(allocation),
    }


def _power_of_two(bits: int) -> int:
    """ZigZag counts bits of inputs and weights in powers of two."""
    return int(2 ** ceil(log2(bits)))


def _weight_bits(tile: Crossbar) -> int:
    return _power_of_two(ceil(log2(2 * tile.top_level + 1)))


# --- the layers --------------------------------------------------------------------------------------


def _layers(plan: Plan, tile: Crossbar) -> tuple[list[dict[str, Any]], list[str]]:
    """The linear maps on tiles in graph order, and the names of those that have no form there."""
    found: list[dict[str, Any]] = []
    left_out: list[str] = []
    maker: dict[str, int] = {}
    for runner in _runners(plan):
        if isinstance(runner, Instruction):
            _pass_on(maker, runner)
            continue
        for layer, interaction in runner.interactions():
            linear, source = interaction.linear, maker.get(interaction.source)
            loops = None if linear is None else _loops(plan, linear, interaction)
            if linear is None or loops is None:
                left_out += [layer_name(linear.weight)] if linear is not None else []
                if source is not None:
                    maker[layer.value] = source
                continue
            number = len(found)
            operands = {"W": number, "I": number if source is None else source}
            tail = {"operand_precision": _precision(plan, tile), "operand_source": operands}
            found.append({"id": number, "name": layer_name(linear.weight)} | loops | tail)
            maker[layer.value] = number
    return found, left_out


def _runners(plan: Plan) -> Iterator[EnergyBlock | Instruction]:
    """Blocks and digital instructions in the order of an inference."""
    blocks = {block.name: block for block in plan.blocks}
    digital = {i.name: i for segment in plan.segments for i in segment.program.instructions}
    for step in plan.inference.runs:
        yield blocks[step.name] if step.kind == "free" else digital[step.name]


def _pass_on(maker: dict[str, int], instruction: Instruction) -> None:
    """ZigZag sees layers on tiles only: what a digital node makes comes from the last of them before it."""
    before = [maker[value] for value in instruction.inputs if value in maker]
    if before:
        maker.update(dict.fromkeys(instruction.outputs, max(before)))


def _precision(plan: Plan, tile: Crossbar) -> dict[str, int]:
    bits = plan.hardware.host.fp32.value_bits
    return {"W": _weight_bits(tile), "I": _power_of_two(tile.dac.bits), "O": bits, "O_final": bits}


def _loops(plan: Plan, linear: Linear, interaction: Interaction) -> dict[str, Any] | None:
    """Equation and loops; None for windows over three axes, which ZigZag has not."""
    if linear.op == "Conv":
        return _window_loops(plan, linear, interaction)
    shape = plan.weights[linear.weight].shape
    if linear.op == "MatMul":
        n_in, n_out = shape[::-1] if linear.transposed else shape
        rows = prod(interaction.linear_shape[:-1])
    else:
        # Every pixel drives its window: a product whose outputs are added digitally.
        n_in, n_out = shape[0] // linear.groups, prod(shape[1:])
        rows = prod(_layout(interaction)[1:]) * linear.groups
    return {
        "operator_type": "Gemm",
        "equation": "O[d][k]+=I[d][c]*W[c][k]",
        "dimension_relations": [],
        "loop_dims": ["C", "D", "K"],
        "loop_sizes": [int(n_in), plan.batch * rows, int(n_out)],
    }


def _layout(interaction: Interaction) -> tuple[int, ...]:
    """Shape of what the linear map reads, without the batch."""
    shape = interaction.source_shape
    for change in interaction.before:
        if change.op == "Reshape":
            shape = change.sizes
        else:
            shape = tuple((0, *shape)[axis] for axis in change.sizes[1:])
    return shape


def _window_loops(plan: Plan, linear: Linear, interaction: Interaction) -> dict[str, Any] | None:
    shape = plan.weights[linear.weight].shape
    axes = len(shape) - 2
    if axes > 2:
        return None
    one = (1,) * (2 - axes)
    kernel = (*one, *shape[2:])
    strides = (*one, *(linear.strides or (1,) * axes))
    dilations = (*one, *(linear.dilations or (1,) * axes))
    pads = linear.pads or (0,) * (2 * axes)
    edges = [[0, 0]] * (2 - axes) + [[pads[a], pads[a + axes]] for a in range(axes)]
    outputs = (*one, *interaction.linear_shape[1:])
    inputs = (*one, *_layout(interaction)[1:])
    return {
        "operator_type": "Conv",
        "equation": "O[b][g][k][oy][ox]+=W[g][k][c][fy][fx]*I[b][g][c][iy][ix]",
        "dimension_relations": [
            f"{i}={stride}*{o}+{dilation}*{f}"
            for i, o, f, stride, dilation in zip(
                ("iy", "ix"), ("oy", "ox"), ("fy", "fx"), strides, dilations, strict=True
            )
        ],
        "loop_dims": ["B", "K", "G", "OY", "OX", "C", "FY", "FX"],
        "loop_sizes": [
            plan.batch,
            shape[0] // linear.groups,
            linear.groups,
            *outputs,
            shape[1],
            *kernel,
        ],
        "pr_loop_dims": ["IY", "IX"],
        "pr_loop_sizes": list(inputs),
        "padding": edges,
    }


# --- text --------------------------------------------------------------------------------------------


def _notes(plan: Plan, tile: Crossbar, left_out: list[str]) -> Iterator[str]:
    tiles: dict[str, set[int]] = {}
    for place, piece in plan.pieces():
        if not piece.replica and not piece.transposed:
            tiles.setdefault(piece.weight, set()).add(place.id)
    split = [weight for weight, found in tiles.items() if len(found) > 1]
    yield (
        f"the core is one tile; the machine has {used_group(plan).count}, holds every weight for good and "
        "lets tiles work at once, where ZigZag writes weights before each use"
    )
    if split:
        yield f"{len(split)} layers lie on several tiles; ZigZag takes their pieces in turn"
    yield (
        "energies of array, DACs and ADCs and the clock are those of ZigZag's own 28 nm fit; only the costs "
        "of memories and of writing cells come from the hardware description"
    )
    yield (
        f"inputs are moved as DAC codes, of {_power_of_two(tile.dac.bits)} bits; ffebm moves values of "
        f"{plan.hardware.host.fp32.value_bits}"
    )
    yield "noise, ADC ranges, scales, digital nodes, biases, activations and pooling have no place there"
    yield "training has none either: no nudged phases, transposed reads and updates"
    yield from settling_notes(plan)
    yield from replica_notes(plan)
    yield from missing_notes(plan, frozenset({INPUT_SLICES}))
    for name, bits in (("DAC", tile.dac.bits), ("weight", ceil(log2(2 * tile.top_level + 1)))):
        if _power_of_two(bits) != bits:
            yield f"{bits} {name} bits are counted as {_power_of_two(bits)}: ZigZag takes powers of two"
    if left_out:
        yield f"convolutions over three axes are left out: {', '.join(left_out)}"


def _yaml(value: object, depth: int) -> Iterator[str]:
    """Plain data as YAML blocks, the innermost lists in brackets."""
    pad = "  " * depth
    if isinstance(value, dict):
        for key, item in value.items():
            if isinstance(item, dict) or (isinstance(item, list) and any(isinstance(i, dict) for i in item)):
                yield f"{pad}{key}:"
                yield from _yaml(item, depth + 1)
            else:
                yield f"{pad}{key}: {_flow(item)}"
    elif isinstance(value, list):
        for item in value:
            first, *rest = _yaml(item, depth + 1)
            yield f"{pad}- {first.strip()}"
            yield from rest


def _flow(value: object) -> str:
    """JSON, which YAML reads as it is."""
    return msgspec.json.encode(value).decode()
