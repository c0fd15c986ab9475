"""Crossbar backend: weights become levels of cells with a scale and converter ranges."""

from collections.abc import Mapping

import numpy as np

from ffebm.errors import InternalError, Location, ModelError
from ffebm.files.mapped import let_go
from ffebm.graph.graph import Graph
from ffebm.graph.tensor import Array
from ffebm.hardware.description import Hardware
from ffebm.plan.conductance import common_limits, linears_of, to_matrix
from ffebm.plan.programming import programmed
from ffebm.plan.schema import Piece, TilePlan

Extent = tuple[int, int]
"""First line of a range, and one behind the last."""


def emit_tiles(
    graph: Graph, hardware: Hardware, *, levels: bool = True
) -> tuple[tuple[TilePlan, ...], dict[str, Array]]:
    """What lies on each tile.

    Args:
        graph: A placed graph.
        hardware: The machine.
        levels: Find what cells hold; without it there are no arrays, and pieces say as little of scales and
            ranges as on exact tiles.

    Returns:
        The tiles in use, and what the cells of their pieces hold as signed levels: `piece<id>.levels`,
        [n_in, n_out].
        Ranges that differ between lines or slices: `piece<id>.adc_range` and `.adc_range_t`; scales of
        columns: `piece<id>.scale`, [n_out]. Exact tiles have none.

    Raises:
        ModelError: If a weight is not finite.
    """
    linears = linears_of(graph.blocks)
    groups = {weight: block.group for block in graph.blocks for weight in block.weights()}
    arrays: dict[str, Array] = {}
    pieces: dict[int, list[Piece]] = {}
    count = 0
    limits = _common_limits(graph, hardware, groups) if levels else {}
    for weight, parts in graph.parts.items():
        tile = hardware.analog_group(groups[weight]).tile
        matrix = to_matrix(linears[weight], graph.constants[weight])
        if tile.has_cells:
            _check_finite(matrix, Location(graph.source, weight))
        # in all replicas
        alike: dict[tuple[int, Extent, Extent, bool], tuple[dict[str, Array], dict[str, float]]] = {}
        for part in parts:
            place = graph.places[part]
            settings: dict[str, float] = {}
            if tile.has_cells and levels:
                key = (part.group, part.inputs, part.outputs, part.transposed)
                if key not in alike:
                    alike[key] = programmed(matrix, part, tile.crossbar(), limits.get(weight))
                held, settings = alike[key]
                arrays |= {f"piece{count}.{name}": array for name, array in held.items()}
            piece = Piece(
                id=count,
                weight=weight,
                group=part.group,
                inputs=part.inputs,
                outputs=part.outputs,
                bundle=part.bundle,
                turn=part.turn,
                replica=part.replica,
                transposed=part.transposed,
                row=place.row,
                col=place.col,
                **settings,
            )
            pieces.setdefault(place.tile, []).append(piece)
            count += 1
        let_go(graph.constants[weight])
    return tuple(_tile(number, pieces[number], hardware) for number in sorted(pieces)), arrays


def _common_limits(graph: Graph, hardware: Hardware, groups: Mapping[str, str]) -> dict[str, float]:
    """What g_max stands for, by weight in an array of single cells."""
    kinds = {weight: hardware.analog_group(groups[weight]).tile for weight in graph.parts}
    single = {w: kind.crossbar() for w, kind in kinds.items() if kind.has_cells and kind.crossbar().is_single}
    linears = linears_of(graph.blocks)
    for weight in single:
        _check_finite(to_matrix(linears[weight], graph.constants[weight]), Location(graph.source, weight))
    return common_limits(graph.blocks, graph.constants, single)


def _check_finite(matrix: Array, where: Location) -> None:
    if not np.isfinite(matrix).all():
        raise ModelError(
            f"weight {where.node!r} holds a NaN or an infinite number",
            allowed="finite weights on cells",
            location=where,
        )


def _tile(number: int, pieces: list[Piece], hardware: Hardware) -> TilePlan:
    group = hardware.group_of_tile(number)
    if group is None:
        raise InternalError(f"a part lies on tile {number} of {hardware.tile_count}")
    tile = group.tile
    used = max(p.row + p.n_in for p in pieces), max(p.col + p.n_out for p in pieces)
    rows, cols = tile.size or used
    dac_bits, adc_bits = tile.converter_bits
    return TilePlan(
        id=number,
        group=group.name,
        kind=tile.kind,
        rows=rows,
        cols=cols,
        dac_bits=dac_bits,
        adc_bits=adc_bits,
        pieces=tuple(pieces),
    )
