"""What an exporter makes: the files of a folder that another tool reads, and what they cannot say."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ffebm.errors import UsageError
from ffebm.graph.energy_block import Linear
from ffebm.graph.tensor import Array
from ffebm.hardware.description import AnalogGroup
from ffebm.plan.conductance import range_scale, to_digits, to_levels, to_matrix, weight_range
from ffebm.plan.plan import Plan
from ffebm.plan.schema import Piece


@dataclass(frozen=True)
class Export:
    """A plan in the format of another tool.

    Attributes:
        marker: The file that is always among them.
        files: Contents by relative name.
        notes: What the format cannot express, or what the user must know; the files say it too.
    """

    marker: str
    files: Mapping[str, bytes]
    notes: tuple[str, ...]


def linears(plan: Plan) -> dict[str, Linear]:
    """The linear maps on tiles by the source name of their weight, in graph order."""
    return {
        i.linear.weight: i.linear for b in plan.blocks for _, i in b.interactions() if i.linear is not None
    }


def layer_name(weight: str) -> str:
    """The module that owns a weight, as PyTorch names both."""
    return weight.rpartition(".")[0] or weight


def held_slices(plan: Plan, linear: Linear, piece: Piece) -> list[Array]:
    """What the cells of each slice of a piece stand for when they meet their targets, [n_out, n_in].

    Raises:
        UsageError: If they are single cells, whose range is that of a circuit.
    """
    matrix = to_matrix(linear, plan.weights[linear.weight])[piece.group]
    part = matrix[slice(*piece.outputs), slice(*piece.inputs)].astype(np.float32)
    if not used_group(plan).tile.has_cells:
        return [np.ascontiguousarray(part)]
    tile = used_group(plan).tile.crossbar()
    if tile.is_single:
        raise UsageError(
            f"the plan lies on single cells, {used_group(plan).name!r} of machine {plan.hardware.name!r}",
            allowed="arrays that are read, whose weights have a sign",
            hint="--to spice writes circuits of conductances",
        )
    scale = weight_range(part, tile, matrix.shape[-1])
    digits = to_digits(to_levels(part, scale, tile), tile)
    shares = [digit / (tile.cell.levels - 1) for digit in digits]
    return [
        np.ascontiguousarray((share * range_scale(scale, tile, index)).astype(np.float32))
        for index, share in enumerate(shares)
    ]


def held_piece(plan: Plan, linear: Linear, piece: Piece) -> Array:
    """All slices of a piece together, [n_out, n_in]: weights on levels."""
    first, *others = held_slices(plan, linear, piece)
    return sum(others, first)


def slice_ranges(plan: Plan, piece: Piece, *, transposed: bool = False) -> list[float]:
    """The ADC range of each slice of a piece; of lines that differ, the largest."""
    count = used_group(plan).tile.slices
    largest = piece.adc_range_t if transposed else piece.adc_range
    ranges = plan.crossbars.get(f"piece{piece.id}.adc_range{'_t' if transposed else ''}")
    if ranges is None:
        return [largest] * count
    return [float(found) for found in ranges.reshape(count, -1).max(1)]


def held_matrix(plan: Plan, linear: Linear) -> Array:
    """All pieces of a weight together, [groups, n_out, n_in]."""
    matrix = np.zeros(to_matrix(linear, plan.weights[linear.weight]).shape, np.float32)
    for _, piece in plan.pieces():
        if piece.weight == linear.weight and not piece.transposed:
            matrix[piece.group, slice(*piece.outputs), slice(*piece.inputs)] = held_piece(plan, linear, piece)
    return matrix


def source_line(plan: Plan) -> str:
    """Which plan a file was made from."""
    return f"{plan.source.name} on {plan.hardware.name}, sha256 {plan.source.digest}"


def settling_notes(plan: Plan) -> list[str]:
    """Blocks that are more than one feedforward layer, which no inference simulator settles."""
    settling = [block.name for block in plan.blocks if len(block.layers) > 1]
    if not settling:
        return []
    return [f"{_some(settling)}: the layers settle together; here each is one product, fed forward"]


def sharing_notes(plan: Plan) -> list[str]:
    """Tiles that hold several pieces, which other simulators place alone."""
    shared = [f"tile{tile.id}" for tile in plan.tiles if len(tile.pieces) > 1]
    if not shared:
        return []
    return [f"{_some(shared)}: several pieces share the tile; here each has an array of its own"]


def replica_notes(plan: Plan) -> list[str]:
    """Weights that lie on tiles several times, which other tools hold once."""
    copied = dict.fromkeys(piece.weight for _, piece in plan.pieces() if piece.replica)
    turned = dict.fromkeys(piece.weight for _, piece in plan.pieces() if piece.transposed)
    found = []
    if copied:
        found.append(f"{_some(list(copied))}: several replicas share the vectors; here each is held once")
    if turned:
        found.append(f"{_some(list(turned))}: transposes lie beside them; here each is held once")
    return found


WEIGHT_SLICES, INPUT_SLICES, SCALES = "weights in slices", "inputs in slices", "scales of single columns"
ADC_NOISE = "noise of ADCs"


def used_group(plan: Plan) -> AnalogGroup:
    """The group of tiles that a plan lies on; the machine's first if it lies on none.

    Raises:
        UsageError: If it lies on several: other tools know one kind of tile.
    """
    used = {tile.group for tile in plan.tiles}
    groups = [group for group in plan.hardware.analog if group.name in used]
    if len(groups) > 1:
        raise UsageError(
            f"the plan lies on tiles of {len(groups)} kinds: {', '.join(group.name for group in groups)}",
            allowed="plans on one kind of tile, which is what the format describes",
            hint=f"compile for a machine without [[analog]] {groups[-1].name!r}",
        )
    return groups[0] if groups else plan.hardware.analog[0]


def effects(plan: Plan) -> list[str]:
    """What the hardware description asks of tiles beyond levels, plain noise and one range for each ADC."""
    if not used_group(plan).tile.has_cells:
        return []
    tile = used_group(plan).tile.crossbar()
    cell, converters = tile.cell, (tile.dac, tile.adc)
    asked = {
        WEIGHT_SLICES: tile.slices > 1,
        INPUT_SLICES: tile.dac.slice_bits is not None,
        "offset columns": tile.mapping == "offset",
        "input ranges of DACs": tile.dac.range != "vector",
        SCALES: tile.scale == "column",
        "ADC ranges of single lines": tile.adc.range == "column",
        "write-and-verify": cell.verify is not None,
        "variation between cells": cell.variation is not None,
        "stuck cells": cell.stuck is not None,
        "drift": cell.drift is not None,
        "noise and drift by conductance": cell.statistics is not None,
        "mismatch of the two directions": tile.mismatch is not None,
        "wire resistance": tile.wires is not None,
        "offsets of converters": any(c.offset is not None for c in converters),
        "gain errors of converters": any(c.gain is not None for c in converters),
        "unused cells off": tile.unused == "off",
        "several devices a cell": cell.devices > 1,
        "cells that are no resistors": bool(cell.steepness),
        "curves of ADCs": bool(tile.adc.curve),
        ADC_NOISE: bool(tile.adc.deviation),
        "learning in place": tile.update is not None,
        "continuous settling": used_group(plan).settling == "continuous",
    }
    return [name for name, wanted in asked.items() if wanted]


def missing_notes(plan: Plan, known: frozenset[str] = frozenset()) -> list[str]:
    """Effects that an export leaves out."""
    missing = [name for name in effects(plan) if name not in known]
    return [f"left out of what the hardware description asks for: {', '.join(missing)}"] if missing else []


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
