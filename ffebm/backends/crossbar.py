"""Crossbar backend: weights become differential conductance pairs with a scale and converter ranges."""

import numpy as np

from ffebm import conductance
from ffebm.hardware import Crossbar, Hardware
from ffebm.ir import Array, Graph, Part
from ffebm.plan import Piece, TilePlan


def emit_tiles(graph: Graph, hardware: Hardware) -> tuple[tuple[TilePlan, ...], dict[str, Array]]:
    """What lies on each tile.

    Args:
        graph: A placed graph.
        hardware: The machine.

    Returns:
        The tiles in use, and the target conductances of their pieces in siemens: `piece<id>.plus` and
        `piece<id>.minus`, [n_in, n_out] ([n_in, 1] for an offset column; with bit slices, [slices, …] of
        these).
        Ranges that differ between lines or slices: `piece<id>.adc_range` and `.adc_range_t`; scales of
        columns: `piece<id>.scale`, [n_out]. Exact tiles have none.
    """
    tile = hardware.tiles.tile
    linears = {
        i.linear.weight: i.linear for b in graph.blocks for _, i in b.interactions() if i.linear is not None
    }
    arrays: dict[str, Array] = {}
    pieces: dict[int, list[Piece]] = {}
    count = 0
    for weight, parts in graph.parts.items():
        matrix = conductance.to_matrix(linears[weight], graph.constants[weight])
        for part in parts:
            place = graph.places[part]
            settings = _program(matrix, part, tile, arrays, count) if isinstance(tile, Crossbar) else {}
            piece = Piece(
                id=count,
                weight=weight,
                group=part.group,
                inputs=part.inputs,
                outputs=part.outputs,
                row=place.row,
                col=place.col,
                **settings,
            )
            pieces.setdefault(place.tile, []).append(piece)
            count += 1
    return tuple(_tile(number, pieces[number], hardware) for number in sorted(pieces)), arrays


def _program(
    matrix: Array, part: Part, crossbar: Crossbar, arrays: dict[str, Array], number: int
) -> dict[str, float]:
    """Write a part's conductances; its scale and converter ranges."""
    piece = matrix[part.group, part.outputs[0] : part.outputs[1], part.inputs[0] : part.inputs[1]]
    scale = conductance.weight_range(piece, crossbar, matrix.shape[-1])
    digits = conductance.to_digits(conductance.to_levels(piece, scale, crossbar), crossbar)
    # Siemens are too small for half precision.
    pairs = [conductance.to_pair(d.astype(np.float32), crossbar, k) for k, d in enumerate(digits)]
    plus, minus = (np.stack([np.swapaxes(pair[side], -1, -2) for pair in pairs]) for side in (0, 1))
    ranges = np.stack([conductance.adc_range(d, crossbar)[..., 0] for d in digits])
    ranges_t = np.stack([conductance.adc_range(d.T, crossbar)[..., 0] for d in digits])
    if crossbar.slices == 1:
        plus, minus, ranges, ranges_t = plus[0], minus[0], ranges[0], ranges_t[0]
    name = f"piece{number}"
    arrays[f"{name}.plus"], arrays[f"{name}.minus"] = plus, minus
    if ranges.size > 1 or ranges_t.size > 1:
        arrays[f"{name}.adc_range"] = ranges.astype(np.float32)
        arrays[f"{name}.adc_range_t"] = ranges_t.astype(np.float32)
    scales = conductance.range_scale(scale, crossbar)[:, 0]
    if scales.size > 1:
        arrays[f"{name}.scale"] = scales.astype(np.float32)
    return {
        "scale": float(scales.max()),
        "adc_range": float(ranges.max()),
        "adc_range_t": float(ranges_t.max()),
    }


def _tile(number: int, pieces: list[Piece], hardware: Hardware) -> TilePlan:
    tile = hardware.tiles.tile
    if isinstance(tile, Crossbar):
        return TilePlan(
            id=number,
            kind="crossbar",
            rows=tile.rows,
            cols=tile.cols,
            dac_bits=tile.dac.bits,
            adc_bits=tile.adc.bits,
            pieces=tuple(pieces),
        )
    return TilePlan(
        id=number,
        kind="exact",
        rows=max(p.row + p.n_in for p in pieces),
        cols=max(p.col + p.n_out for p in pieces),
        dac_bits=0,
        adc_bits=0,
        pieces=tuple(pieces),
    )
