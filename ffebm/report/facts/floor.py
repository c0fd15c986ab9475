"""Floor: every crossbar with the pieces on it, and a small picture of its conductances."""

import base64
import math

import msgspec
import numpy as np

from ffebm.graph.tensor import Array
from ffebm.plan.plan import Plan
from ffebm.plan.programming import LEVELS
from ffebm.plan.schema import TilePlan

SIDE = 64
"""Rows and columns of the largest map."""
BUDGET = 512 * 1024
"""Bytes of all maps of a page; many tiles get smaller maps."""
ZERO = 128
"""Map value of equal cells; 1 and 255 are the ends of the range, 0 is no weight."""


class PieceFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a weight matrix on a tile.

    Attributes:
        id: Of the piece.
        weight: Source name of the weight.
        blocks: Ids of the energy blocks that use it.
        group: Group of a grouped convolution.
        inputs: Range of the matrix's inputs.
        outputs: Range of the matrix's outputs.
        row: First word line.
        col: First bit-line pair.
        n_in: Word lines.
        n_out: Bit-line pairs.
        scale: Weight that the conductance range stands for.
        adc_range: Largest output that the ADCs resolve, in units of scale times the largest input.
        adc_range_t: The same for the transposed read.
    """

    id: int
    weight: str
    blocks: tuple[int, ...]
    group: int
    inputs: tuple[int, int]
    outputs: tuple[int, int]
    row: int
    col: int
    n_in: int
    n_out: int
    scale: float
    adc_range: float
    adc_range_t: float


class TileFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A tile.

    Attributes:
        id: Number of the tile.
        group: Which group of the machine's tiles it belongs to.
        kind: "exact" or "crossbar".
        rows: Word lines.
        cols: Bit-line pairs.
        dac_bits: Resolution of its DACs.
        adc_bits: Resolution of its ADCs.
        used: Cell pairs that hold weights.
        pieces: What it holds.
        map_rows: Rows of the map; 0 without one.
        map_cols: Columns of the map.
        map: G+ - G- of the cell pairs, slices together, base64 of one byte a place, row by row: 0 where no
            weight lies, else 128 plus 127 times the difference over its largest possible value. A place that
            stands for several pairs shows the one of largest magnitude.
    """

    id: int
    group: str
    kind: str
    rows: int
    cols: int
    dac_bits: int
    adc_bits: int
    used: int
    pieces: tuple[PieceFacts, ...]
    map_rows: int
    map_cols: int
    map: str


def floor(plan: Plan) -> tuple[TileFacts, ...]:
    """Every tile in use."""
    users: dict[str, tuple[int, ...]] = {}
    for block in plan.blocks:
        for weight in block.weights():
            users[weight] = (*users.get(weight, ()), block.id)
    side = min(SIDE, math.isqrt(BUDGET // max(1, len(plan.tiles))))
    return tuple(_tile(plan, tile, users, side) for tile in plan.tiles)


def _tile(plan: Plan, tile: TilePlan, users: dict[str, tuple[int, ...]], side: int) -> TileFacts:
    pieces = tuple(
        PieceFacts(
            id=piece.id,
            weight=piece.weight,
            blocks=users[piece.weight],
            group=piece.group,
            inputs=piece.inputs,
            outputs=piece.outputs,
            row=piece.row,
            col=piece.col,
            n_in=piece.n_in,
            n_out=piece.n_out,
            scale=piece.scale,
            adc_range=piece.adc_range,
            adc_range_t=piece.adc_range_t,
        )
        for piece in tile.pieces
    )
    known = tile.kind == "crossbar" and not plan.options.no_weights
    picture = _small(_differences(plan, tile), side) if known else np.zeros((0, 0), np.uint8)
    return TileFacts(
        id=tile.id,
        group=tile.group,
        kind=tile.kind,
        rows=tile.rows,
        cols=tile.cols,
        dac_bits=tile.dac_bits,
        adc_bits=tile.adc_bits,
        used=tile.used,
        pieces=pieces,
        map_rows=picture.shape[0],
        map_cols=picture.shape[1],
        map=base64.b64encode(picture.tobytes()).decode("ascii"),
    )


def _differences(plan: Plan, tile: TilePlan) -> Array:
    """Levels over the largest one, slices together, [rows, cols]; NaN where no weight lies."""
    crossbar = plan.hardware.analog_group(tile.group).tile.crossbar()
    whole = np.full((tile.rows, tile.cols), np.nan, np.float32)
    for piece in tile.pieces:
        place = np.s_[piece.row : piece.row + piece.n_in, piece.col : piece.col + piece.n_out]
        levels = plan.crossbars[f"piece{piece.id}.{LEVELS}"].astype(np.float64)
        whole[place] = levels / crossbar.top_level
    return whole


def _small(whole: Array, side: int) -> Array:
    """At most [side, side] bytes; each is the entry of largest magnitude in its patch."""
    rows, cols = (-(-size // -(-size // side)) for size in whole.shape)
    high, wide = -(-whole.shape[0] // rows), -(-whole.shape[1] // cols)
    padded = np.full((rows * high, cols * wide), np.nan, np.float32)
    padded[: whole.shape[0], : whole.shape[1]] = whole
    patches = padded.reshape(rows, high, cols, wide).swapaxes(1, 2).reshape(rows, cols, -1)
    filled = np.where(np.isnan(patches), -1.0, np.abs(patches))
    strongest = np.take_along_axis(patches, filled.argmax(-1)[..., None], -1)[..., 0]
    level = np.rint(ZERO + 127 * np.clip(np.nan_to_num(strongest), -1, 1))
    small: Array = np.where(np.isnan(strongest), 0, level).astype(np.uint8)
    return small
