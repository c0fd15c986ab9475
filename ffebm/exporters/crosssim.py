"""CrossSim exporter: parameters as JSON, and the matrix of every piece with its own weight and ADC range.

Source of the format: the parameter classes and configurations of sandialabs/cross-sim 3.x.
"""

import io
import math
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np

from ffebm.exporters.export import (
    INPUT_SLICES,
    WEIGHT_SLICES,
    Export,
    held_slices,
    linears,
    missing_notes,
    settling_notes,
    sharing_notes,
    slice_ranges,
    source_line,
    used_group,
)
from ffebm.graph.tensor import Array
from ffebm.hardware.description import Crossbar
from ffebm.plan.checks.left_out import needs_weights
from ffebm.plan.plan import Plan
from ffebm.plan.schema import Piece, TilePlan

PARAMETERS, PIECES, MATRICES, LOADER = "parameters.json", "pieces.json", "matrices.npz", "load.py"

KNOWN = frozenset({WEIGHT_SLICES, INPUT_SLICES, "offset columns"})

LOADER_TEXT = '''\
"""Loads this folder into CrossSim 3: one AnalogCore for each piece of a weight, or each slice of one.

    cores = load.cores(folder)            # {name: AnalogCore}; core @ x and y @ core
    y = load.product(folder, weight, x)   # W x over all pieces of one weight, group and replica

CrossSim installs a package named `simulator`; put its checkout on PYTHONPATH.
"""

import json
from pathlib import Path

import numpy as np
from simulator import AnalogCore, CrossSimParameters


def cores(folder, weight=None, group=0, replica=0):
    """The core of every piece, or of one weight, group and replica, by name."""
    folder = Path(folder)
    pieces = json.loads((folder / "pieces.json").read_text())["pieces"]
    found = {}
    with np.load(folder / "matrices.npz") as matrices:
        for piece in pieces:
            place = piece["weight"], piece["group"], piece["replica"]
            if weight is None or place == (weight, group, replica):
                params = CrossSimParameters.from_json(folder / "parameters.json")
                params.update(piece["update"])
                found[piece["name"]] = AnalogCore(matrices[piece["name"]], params)
    return found


def product(folder, weight, x, group=0, replica=0):
    """W x for x [n_in] or [n_in, batch]; partial products are added digitally."""
    pieces = json.loads((Path(folder) / "pieces.json").read_text())["pieces"]
    places = {piece["name"]: piece for piece in pieces}
    x = np.asarray(x)
    found = cores(folder, weight, group, replica)
    total = np.zeros((max(places[name]["outputs"][1] for name in found), *x.shape[1:]))
    for name, core in found.items():
        (first, last), (start, stop) = places[name]["inputs"], places[name]["outputs"]
        lines = np.zeros((core.shape[1], *x.shape[1:]))
        lines[: last - first] = x[first:last]
        total[start:stop] += (core @ lines)[: stop - start]
    return total
'''


def export_crosssim(plan: Plan) -> Export:
    """A plan as a folder for CrossSim.

    `parameters.json` holds what all tiles share and loads as it is; `pieces.json` names each placed piece,
    with what its core adds to that; `matrices.npz` holds the pieces, [n_out, n_in], on the cells' levels.
    """
    needs_weights(plan)
    maps = linears(plan)
    tile = used_group(plan).tile
    pieces, matrices = [], {}
    for place, piece in plan.pieces():
        if piece.transposed:
            continue  # one core multiplies both ways
        for number, matrix in enumerate(held_slices(plan, maps[piece.weight], piece)):
            entry = _entry(plan, place, piece, number)
            pieces.append(entry)
            matrices[entry["name"]] = _at_least_two(matrix)
    notes = tuple(_notes(plan))
    document = {"source": source_line(plan), "notes": notes, "pieces": pieces}
    packed = io.BytesIO()
    np.savez(packed, allow_pickle=False, **matrices)
    return Export(
        marker=PARAMETERS,
        files={
            PARAMETERS: _json(_parameters(tile.crossbar()) if tile.has_cells else _exact(plan)),
            PIECES: _json(document),
            MATRICES: packed.getvalue(),
            LOADER: LOADER_TEXT.encode(),
        },
        notes=notes,
    )


def _json(document: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def _entry(plan: Plan, place: TilePlan, piece: Piece, index: int) -> dict[str, Any]:
    """A slice of a piece, and the dotted parameters that differ from one core to the next."""
    tile = used_group(plan).tile
    largest, name, update = float(np.abs(plan.weights[piece.weight]).max()) or 1.0, f"piece{piece.id}", {}
    if tile.has_cells:
        tile = tile.crossbar()
        largest = piece.scale * tile.cell.levels**index or 1.0  # CrossSim divides by it
        name += f".slice{index}" if tile.slices > 1 else ""
        span = 1.0 - tile.cell.g_min.value / tile.cell.g_max.value
        for direction in ("mvm", "vmm"):
            limit = slice_ranges(plan, piece, transposed=direction == "vmm")[index] * span
            update[f"xbar.adc.{direction}.calibrated_range"] = [-limit, limit]
    weights: dict[str, Any] = {"core.mapping.weights.min": -largest, "core.mapping.weights.max": largest}
    return {
        "name": name,
        "weight": piece.weight,
        "group": piece.group,
        "replica": piece.replica,
        "inputs": piece.inputs,
        "outputs": piece.outputs,
        "tile": place.id,
        "row": piece.row,
        "col": piece.col,
        "update": weights | update,
    }


def _parameters(tile: Crossbar) -> dict[str, Any]:
    """The fewest keys that say what a tile is: CrossSim refuses unknown ones and fills in the rest."""
    cell = tile.cell
    g_max, g_min = cell.g_max.value, cell.g_min.value
    span = 1.0 - g_min / g_max
    bits = math.log2(cell.levels)
    device: dict[str, Any] = {
        "cell_bits": int(bits) if bits.is_integer() else 0,
        "Rmin": 1.0 / g_max,
        "Rmax": 1.0 / g_min if g_min else 1e3 / g_max,
        "infinite_on_off_ratio": g_min == 0,
        "read_noise": _normal(cell.read_deviation * span),
        "programming_error": _normal(cell.programming_deviation / math.sqrt(cell.devices) * span),
    }
    adc: dict[str, Any] = {"model": "SignMagnitudeADC", "bits": tile.adc.bits, "signed": True}
    dac: dict[str, Any] = {"model": "SignMagnitudeDAC", "bits": tile.dac.bits, "signed": True}
    if tile.dac.slice_bits is not None:
        adc["adc_per_ibit"] = True
        dac |= {"input_bitslicing": True, "slice_size": tile.dac.slice_bits}
    ranges = {"adc_range_option": 1, "calibrated_range": [-1.0, 1.0]}
    return {
        "core": _core(tile.rows, tile.cols),
        "simulation": {"disable_fast_matmul": True},
        "xbar": {
            "device": device,
            "adc": {"_match": False} | {direction: adc | ranges for direction in ("mvm", "vmm")},
            "dac": {"_match": True, "mvm": dac, "vmm": dac},
        },
    }


def _exact(plan: Plan) -> dict[str, Any]:
    """Tiles without converters and noise, as large as the largest piece."""
    rows = max((piece.n_in for _, piece in plan.pieces()), default=1)
    cols = max((piece.n_out for _, piece in plan.pieces()), default=1)
    return {
        "core": _core(max(rows, 2), max(cols, 2)),
        "xbar": {"device": {"infinite_on_off_ratio": True}},
    }


def _core(rows: int, cols: int) -> dict[str, Any]:
    """One-sided pairs; each input vector is scaled to its largest magnitude, as our DACs do."""
    scaled = {"clipping": False, "min": None, "max": None, "percentile": 1.0}
    return {
        "style": 1,
        "rows_max": rows,
        "cols_max": cols,
        "balanced": {"style": 1, "interleaved_posneg": False, "subtract_current_in_xbar": True},
        "mapping": {
            "weights": {"clipping": True, "min": -1.0, "max": 1.0},
            "inputs": {"_match": True, "mvm": scaled, "vmm": scaled},
        },
    }


def _normal(magnitude: float) -> dict[str, Any]:
    """A normal error of one size, in units of the largest conductance."""
    if not magnitude:
        return {"enable": False}
    return {"enable": True, "model": "NormalIndependentDevice", "magnitude": magnitude}


def _at_least_two(matrix: Array) -> Array:
    """Older CrossSim refuses a matrix with one row or column; a zero line more changes no product."""
    n_out, n_in = matrix.shape
    return np.pad(matrix, ((0, max(0, 2 - n_out)), (0, max(0, 2 - n_in))))


def _notes(plan: Plan) -> list[str]:
    tile = used_group(plan).tile
    notes = [
        "only matrices are here: no biases, activations, pooling, windows of convolutions, digital part",
        "energies and times of the hardware description have no place in CrossSim",
        *settling_notes(plan),
        *sharing_notes(plan),
        *missing_notes(plan, KNOWN),
    ]
    if any(min(piece.n_in, piece.n_out) == 1 for _, piece in plan.pieces()):
        notes.append("pieces with one input or output carry a line of zeros: older CrossSim takes no vectors")
    return [*notes, *_cell_notes(tile.crossbar())] if tile.has_cells else notes


def _cell_notes(tile: Crossbar) -> Iterator[str]:
    if tile.mapping == "offset":
        yield "an offset column becomes a second cell of each weight, so its noise is not common to all"
    if not math.log2(tile.cell.levels).is_integer():
        yield f"{tile.cell.levels} levels are no power of two; the matrices are on levels already"
    if tile.cell.read_deviation or tile.cell.programming_deviation:
        yield "CrossSim keeps cells under noise at or above 0 S; ffebm draws normal numbers"
