"""Tiles of a plan: pieces fit, each copy holds every element once, and what they say is what weights say."""

from bisect import bisect
from collections.abc import Iterator, Mapping
from itertools import pairwise

import msgspec
import numpy as np

from ffebm.graph.energy_block import Linear
from ffebm.graph.tensor import Array, TensorType
from ffebm.graph.windows import two_way_weights, windows_of
from ffebm.hardware.description import TileKind
from ffebm.plan.checks.left_out import stand_in
from ffebm.plan.conductance import common_limits, to_matrix
from ffebm.plan.programming import LEVELS, PROGRAMMED, programming_problems
from ffebm.plan.schema import Piece, PlanData, TilePlan


def tile_problems(plan: PlanData) -> Iterator[str]:
    """Every contradiction of what lies on tiles, as text; blocks and their weights have none."""
    seen: set[int] = set()
    for tile in plan.tiles:
        if tile.id in seen or not 0 <= tile.id < plan.hardware.tile_count:
            yield f"tile {tile.id} is not one of the machine's {plan.hardware.tile_count} tiles, each once"
            return
        seen.add(tile.id)
        for piece in tile.pieces:
            yield from _place_problems(tile, piece)
        yield from _kind_problems(plan, tile)
        yield from _overlaps(tile)
        yield from _bundle_problems(tile)
        yield from _line_problems(plan, tile)
    yield from _replica_problems(plan)
    cells: dict[tuple[str, int, bool], int] = {}
    parts: dict[tuple[str, int, int, bool], list[Piece]] = {}
    for position, (_, piece) in enumerate(sorted(plan.pieces(), key=lambda pair: pair[1].id)):
        if piece.id != position:
            yield f"piece {piece.id} stands at position {position}"
        copy = piece.weight, piece.replica, piece.transposed
        cells[copy] = cells.get(copy, 0) + piece.n_in * piece.n_out
        parts.setdefault((piece.weight, piece.replica, piece.group, piece.transposed), []).append(piece)
    for (weight, _, group, _), held in parts.items():
        inside = tuple(map(_in_matrix, held))
        matrix = TilePlan(
            id=group, group="", kind="exact", rows=1, cols=1, dac_bits=0, adc_bits=0, pieces=inside
        )
        if any(True for _ in _overlaps(matrix)):
            yield f"an element of {weight!r} lies on tiles twice"
    for (weight, *_), count in cells.items():
        if weight in plan.weights and plan.weights[weight].size != count:
            yield f"{count} of the {plan.weights[weight].size} elements of {weight!r} lie on tiles"
    yield from _content_problems(plan)


def _bundle_problems(tile: TilePlan) -> Iterator[str]:
    """What is read together has lines of its own, and nothing else lies where these cross."""
    bundles: dict[tuple[str, int, int, bool], list[Piece]] = {}
    for piece in tile.pieces:
        key = piece.weight, piece.replica, piece.bundle, piece.transposed
        bundles.setdefault(key, []).append(piece)
    boxes = []
    for held in bundles.values():
        for left, right in pairwise(sorted(held, key=lambda p: (p.turn, p.row))):
            if left.turn == right.turn and (
                left.row + left.n_in > right.row or left.col + left.n_out > right.col
            ):
                yield f"pieces {left.id} and {right.id} are read together, and share a line of tile {tile.id}"
                return
        row, col = min(p.row for p in held), min(p.col for p in held)
        high, wide = max(p.row + p.n_in for p in held) - row, max(p.col + p.n_out for p in held) - col
        box = msgspec.structs.replace(
            held[0], row=row, col=col, inputs=(0, high), outputs=(0, wide), transposed=False
        )
        boxes.append(box)
    yield from _overlaps(msgspec.structs.replace(tile, pieces=tuple(boxes)))


def _line_problems(plan: PlanData, tile: TilePlan) -> Iterator[str]:
    """Pieces of circuits that settle at once share no line."""
    group = plan.hardware.group_of_tile(tile.id)
    if group is None or group.settling == "clocked":
        return
    for name, spans in (
        ("word", [(p.row, p.row + p.n_in, p.id) for p in tile.pieces]),
        ("bit", [(p.col, p.col + p.n_out, p.id) for p in tile.pieces]),
    ):
        for (_, end, one), (start, _, other) in pairwise(sorted(spans)):
            if start < end:
                yield f"pieces {one} and {other} settle at once, and share a {name} line of tile {tile.id}"
                return


def _replica_problems(plan: PlanData) -> Iterator[str]:
    """Copies are numbered from zero, and a bundle lies on one tile; a circuit has a copy for each window."""
    tiles: dict[tuple[str, int, int, bool], int] = {}
    copies: dict[tuple[str, bool], set[int]] = {}
    settling: set[str] = set()
    windows, two_way = windows_of(plan.blocks), two_way_weights(plan.blocks)
    for tile, piece in plan.pieces():
        copies.setdefault((piece.weight, piece.transposed), set()).add(piece.replica)
        group = plan.hardware.group_of_tile(tile.id)
        if group is not None and group.settling == "continuous":
            settling.add(piece.weight)
        key = piece.weight, piece.replica, piece.bundle, piece.transposed
        if tiles.setdefault(key, tile.id) != tile.id:
            yield f"bundle {piece.bundle} of {piece.weight!r} lies on several tiles"
            return
    for (weight, turned), found in copies.items():
        if found != {*range(len(found))}:
            yield f"{weight!r} has replicas {', '.join(map(str, sorted(found)))}"
        elif weight in settling and len(found) != windows.get(weight, 1):
            yield (
                f"{weight!r} has {len(found)} replicas in a circuit that settles by itself, and takes "
                f"{windows.get(weight, 1)} vectors at once"
            )
        elif turned and not (weight in settling and weight in two_way):
            yield f"{weight!r} lies transposed, for which no circuit has a use"
    for weight in sorted(settling & two_way):
        if (weight, True) not in copies:
            yield f"{weight!r} joins layers of a circuit that settles by itself, and lies one way"


def _kind_problems(plan: PlanData, tile: TilePlan) -> Iterator[str]:
    """A tile is one of the machine's."""
    group = plan.hardware.group_of_tile(tile.id)
    if group is None or tile.group != group.name:
        yield f"tile {tile.id} is of group {tile.group!r}, that number is one of {group and group.name!r}"
        return
    kind = group.tile
    if tile.kind != kind.kind:
        yield f"tile {tile.id} is of kind {tile.kind!r}, those of {plan.hardware.name} are {kind.kind!r}"
    if (tile.dac_bits, tile.adc_bits) != kind.converter_bits:
        yield f"tile {tile.id} has converters of {tile.dac_bits} and {tile.adc_bits} bits"
    used = (
        max((piece.row + piece.n_in for piece in tile.pieces), default=0),
        max((piece.col + piece.n_out for piece in tile.pieces), default=0),
    )
    if not tile.pieces or (kind.size is not None and (tile.rows, tile.cols) != kind.size):
        yield f"tile {tile.id} is empty, or of {tile.rows} x {tile.cols} cells"
    elif kind.size is None and (tile.rows, tile.cols) != used:
        yield f"tile {tile.id} is of {tile.rows} x {tile.cols} cells, its pieces use {used[0]} x {used[1]}"


def _place_problems(tile: TilePlan, piece: Piece) -> Iterator[str]:
    if piece.row < 0 or piece.col < 0 or piece.n_in < 1 or piece.n_out < 1:
        yield f"piece {piece.id} has no valid place"
    if piece.row + piece.n_in > tile.rows or piece.col + piece.n_out > tile.cols:
        yield f"piece {piece.id} reaches over the edge of tile {tile.id}"


def _in_matrix(piece: Piece) -> Piece:
    """A piece placed where it lies in its weight's matrix, to find elements that two pieces hold."""
    return msgspec.structs.replace(piece, row=piece.inputs[0], col=piece.outputs[0], transposed=False)


def _overlaps(tile: TilePlan) -> Iterator[str]:
    """Pieces that share a cell: rows are swept, the pieces open at once kept in order of their columns."""
    events = [(p.row + p.n_in, 0, p) for p in tile.pieces] + [(p.row, 1, p) for p in tile.pieces]
    open_pieces: list[tuple[int, int, Piece]] = []
    for _, opens, piece in sorted(events, key=lambda event: (event[0], event[1], event[2].id)):
        spot = bisect(open_pieces, (piece.col, piece.id), key=lambda entry: entry[:2])
        if not opens:
            del open_pieces[spot - 1]
            continue
        for _, _, other in open_pieces[max(0, spot - 1) : spot + 1]:
            if other.col < piece.col + piece.n_out and piece.col < other.col + other.n_out:
                yield f"pieces {other.id} and {piece.id} overlap on tile {tile.id}"
                return
        open_pieces.insert(spot, (piece.col, piece.id, piece))


# --- what lies there ---------------------------------------------------------------------------------


def _content_problems(plan: PlanData) -> Iterator[str]:
    """Pieces are parts of weights that blocks use; what they are programmed to is what these weights say."""
    linears: dict[str, Linear] = {}
    for block in plan.blocks:
        for _, interaction in block.interactions():
            if interaction.linear is not None:
                linears.setdefault(interaction.linear.weight, interaction.linear)
    pieces = [piece for _, piece in plan.pieces()]
    kinds = {weight: group.tile for weight, group in plan.groups_of_weights().items()}
    yield from _group_problems(plan)
    matrices: dict[str, Array] = {}
    limits = _common_limits(plan, linears, kinds)
    for piece in pieces:
        if piece.weight not in linears or piece.weight not in plan.weights:
            yield f"piece {piece.id} holds {piece.weight!r}, which no block uses"
            return
        if piece.weight not in matrices:
            matrices[piece.weight] = _matrix(plan, linears[piece.weight])
            if kinds[piece.weight].has_cells and not np.isfinite(matrices[piece.weight]).all():
                yield f"weight {piece.weight!r} holds a NaN or an infinite number, which no cell holds"
                return
        limit = limits.get(piece.weight)
        yield from _piece_problems(plan, piece, kinds[piece.weight], matrices[piece.weight], limit)
    for weight in sorted(linears.keys() - {piece.weight for piece in pieces}):
        yield f"weight {weight!r} of a block lies on no tile"
    known = {f"piece{piece.id}.{name}" for piece in pieces for name in PROGRAMMED}
    for name in sorted(plan.crossbars.keys() - known)[:1]:
        yield f"{name!r} belongs to no piece"


def _common_limits(
    plan: PlanData, linears: Mapping[str, Linear], kinds: Mapping[str, TileKind]
) -> dict[str, float]:
    """What g_max stands for, by weight in an array of single cells; not known without weights."""
    if plan.options.no_weights:
        return {}
    single = {w: kind.crossbar() for w, kind in kinds.items() if kind.has_cells and kind.crossbar().is_single}
    known = {w: tile for w, tile in single.items() if w in linears and w in plan.weights}
    return common_limits(plan.blocks, plan.weights, known)


def _matrix(plan: PlanData, linear: Linear) -> Array:
    """A weight as its crossbars hold it; of one that was left out, its shape."""
    weight = plan.weights[linear.weight]
    if linear.weight in plan.left_out:  # of 16 bits, a copy in a wider type would take memory
        weight = stand_in(TensorType("float32", weight.shape))
    matrix: Array = to_matrix(linear, weight)
    return matrix


def _group_problems(plan: PlanData) -> Iterator[str]:
    """A weight lies on tiles of one group: that of the blocks that use it."""
    wanted = {weight: block for block in plan.blocks for weight in block.weights()}
    for tile, piece in plan.pieces():
        block = wanted.get(piece.weight)
        if block is not None and block.group != tile.group:
            yield f"{block.name} lies on group {block.group!r}, and {piece.weight!r} of it on {tile.group!r}"
            return


def _piece_problems(
    plan: PlanData, piece: Piece, kind: TileKind, matrix: Array, limit: float | None
) -> Iterator[str]:
    groups, n_out, n_in = matrix.shape
    if not 0 <= piece.group < groups or not _inside(piece.outputs, n_out) or not _inside(piece.inputs, n_in):
        yield f"piece {piece.id} is no part of {piece.weight!r}"
        return
    held = ((name, plan.crossbars.get(f"piece{piece.id}.{name}")) for name in PROGRAMMED)
    stored = {name: array for name, array in held if array is not None}
    settings = {name: getattr(piece, name) for name in ("scale", "adc_range", "adc_range_t")}
    if not kind.has_cells or plan.options.no_weights:
        if stored or settings != {"scale": 1.0, "adc_range": 0.0, "adc_range_t": 0.0}:
            without = "is of a plan without weights" if kind.has_cells else "lies on an exact tile"
            yield f"piece {piece.id} {without}, and has levels, a scale or ranges"
        return
    tile = kind.crossbar()
    wrong = next(programming_problems(matrix, piece, tile, stored, settings, limit), None)
    if wrong is not None:
        verb = "are" if wrong == LEVELS else "is"
        yield f"{wrong} of piece {piece.id} {verb} not what {piece.weight!r} says"


def _inside(span: tuple[int, int], size: int) -> bool:
    return 0 <= span[0] < span[1] <= size
