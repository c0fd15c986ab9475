"""What the cells of a piece are programmed to; loading a plan holds it against the weights."""

from collections.abc import Hashable, Iterator, Mapping, Sequence

import numpy as np

from ffebm.graph.graph import Part
from ffebm.graph.tensor import Array, same_array
from ffebm.hardware.description import Crossbar
from ffebm.plan import conductance

CLOSE = 1e-4
"""Two machines may add up a range in another order; so much may it differ, relative to the range."""
ROUNDINGS = 4
"""Roundings of a quotient by which two machines may differ; so close to a tie, either level is right."""
LEVELS = "levels"
PROGRAMMED = (LEVELS, "adc_range", "adc_range_t", "scale")
"""Arrays that a piece may have."""


def programmed(
    matrix: Array, part: Part, crossbar: Crossbar, limit: float | None = None
) -> tuple[dict[str, Array], dict[str, float]]:
    """The levels of a part's weights, its scale and converter ranges.

    Args:
        matrix: The whole weight, [groups, n_out, n_in]; finite.
        part: Which part of it.
        crossbar: The tile.
        limit: What g_max stands for in a circuit of single cells; None: the part has a range of its own.

    Returns:
        Arrays by what they are: `levels`, and ranges and scales that differ between lines or slices; and the
        largest scale and ranges.
    """
    piece = _cut(matrix, part)
    scale = _range(matrix, piece, crossbar, limit)
    levels = conductance.to_levels(piece, scale, crossbar)
    arrays, largest = _ranges(levels, scale, crossbar)
    codes = np.ascontiguousarray(levels.T.astype(level_type(crossbar)))
    return {LEVELS: codes, **arrays}, largest


def level_type(crossbar: Crossbar) -> np.dtype[np.signedinteger]:
    """The smallest signed integers that hold every level of a weight."""
    for dtype in (np.int8, np.int16, np.int32):
        if crossbar.top_level <= np.iinfo(dtype).max:
            return np.dtype(dtype)
    return np.dtype(np.int64)


def target_conductances(levels: Array, crossbar: Crossbar) -> tuple[Array, Array]:
    """What the cells of a piece are programmed to, siemens.

    Args:
        levels: Of the plan, [n_in, n_out].
        crossbar: The tile.

    Returns:
        The cells that count up, [n_in, n_out], and those that count down: as many, the offset column,
        [n_in, 1], or none, [n_in, 0]. With bit slices these are stacked in front, the lowest digit first.
    """
    digits = conductance.to_digits(levels.T.astype(np.float64), crossbar)
    # Siemens are too small for half precision.
    pairs = [conductance.to_pair(d.astype(np.float32), crossbar, k) for k, d in enumerate(digits)]
    plus, minus = (np.stack([np.swapaxes(pair[side], -1, -2) for pair in pairs]) for side in (0, 1))
    return (plus[0], minus[0]) if crossbar.slices == 1 else (plus, minus)


def programming_problems(
    matrix: Array,
    part: Part,
    crossbar: Crossbar,
    stored: Mapping[str, Array],
    settings: Mapping[str, float],
    limit: float | None = None,
) -> Iterator[str]:
    """What a plan says of a part's cells and its weights do not, as names of arrays and settings.

    A level is right if it is the nearest one to its weight. Where the quotient of weight and scale lies
    between two levels, up to the rounding of that quotient, either is right: another machine may have rounded
    it the other way.

    Args:
        matrix: The whole weight, [groups, n_out, n_in]; finite.
        part: Which part of it.
        crossbar: The tile.
        stored: Arrays of the plan by what they are, as from `programmed`.
        settings: Its scale and ranges in the plan.
        limit: As for `programmed`.
    """
    piece = _cut(matrix, part)
    scale = _range(matrix, piece, crossbar, limit)
    codes = stored.get(LEVELS)
    if (
        codes is None
        or codes.dtype != level_type(crossbar)
        or codes.shape != piece.shape[::-1]
        or not _nearest(codes.T, piece, scale, crossbar)
    ):
        yield LEVELS
        return
    arrays, expected = _ranges(codes.T.astype(piece.dtype), scale, crossbar)
    for name in sorted(arrays.keys() | (stored.keys() - {LEVELS})):
        ours, theirs = arrays.get(name), stored.get(name)
        if ours is None or theirs is None or ours.shape != theirs.shape or not _close(ours, theirs):
            yield name
    for name, value in expected.items():
        if not abs(settings[name] - value) <= CLOSE * abs(value):
            yield name


def _range(matrix: Array, piece: Array, crossbar: Crossbar, limit: float | None) -> Array:
    """The weight at the end of the range, [1, 1], or [n_out, 1] by column."""
    if limit is None:
        own: Array = conductance.weight_range(piece, crossbar, matrix.shape[-1])
        return own
    return np.full((1, 1), limit, piece.dtype)


def _cut(matrix: Array, part: Part) -> Array:
    """The part as its array holds it, [bit lines, word lines]."""
    cut = matrix[part.group, slice(*part.outputs), slice(*part.inputs)]
    return cut.T if part.transposed else cut


def _ranges(levels: Array, scale: Array, crossbar: Crossbar) -> tuple[dict[str, Array], dict[str, float]]:
    """Ranges and scales that differ between lines or slices, and the largest; of levels [n_out, n_in]."""
    digits = conductance.to_digits(levels, crossbar)
    ranges = np.stack([conductance.adc_range(d, crossbar)[..., 0] for d in digits])
    ranges_t = np.stack([conductance.adc_range(d.T, crossbar)[..., 0] for d in digits])
    if crossbar.slices == 1:
        ranges, ranges_t = ranges[0], ranges_t[0]
    arrays: dict[str, Array] = {}
    if ranges.size > 1 or ranges_t.size > 1:
        arrays["adc_range"] = ranges.astype(np.float32)
        arrays["adc_range_t"] = ranges_t.astype(np.float32)
    scales = conductance.range_scale(scale, crossbar)[:, 0]
    if scales.size > 1:
        arrays["scale"] = scales.astype(np.float32)
    largest = {"scale": scales, "adc_range": ranges, "adc_range_t": ranges_t}
    return arrays, {name: float(values.max()) for name, values in largest.items()}


def _nearest(codes: Array, piece: Array, scale: Array, crossbar: Crossbar) -> bool:
    """Whether each level is the one nearest to its weight, [n_out, n_in], or one of two at a tie."""
    expected = conductance.to_levels(piece, scale, crossbar)
    off = codes != expected
    if not off.any():
        return True
    top = crossbar.top_level
    lowest = 0 if crossbar.is_single else -top
    exact = np.clip(conductance.exact_levels(piece, scale, crossbar), lowest, top)[off]
    sizes = np.maximum(np.abs(exact) + crossbar.least_level, 1.0)
    rounding = ROUNDINGS * float(np.finfo(piece.dtype.name).eps) * sizes
    return bool((np.abs(codes[off] - exact) <= 0.5 + rounding).all())


def _close(ours: Array, theirs: Array) -> bool:
    return bool(np.allclose(theirs, ours, rtol=CLOSE, atol=0))


# --- copies of a weight --------------------------------------------------------------------------------


def without_copies(arrays: Mapping[str, Array], pieces: Sequence[tuple[int, Hashable]]) -> dict[str, Array]:
    """What pieces are programmed to, without that of pieces that hold the same as an earlier one.

    Args:
        arrays: `piece<id>.<name>`.
        pieces: The id of each piece, and what tells its part of a weight from others; all in one order.
    """
    kept = dict(arrays)
    for number, first in _copies(pieces):
        names = [(f"piece{number}.{name}", f"piece{first}.{name}") for name in PROGRAMMED]
        if all(_same(arrays.get(mine), arrays.get(theirs)) for mine, theirs in names):
            for mine, _ in names:
                kept.pop(mine, None)
    return kept


def with_copies(arrays: Mapping[str, Array], pieces: Sequence[tuple[int, Hashable]]) -> dict[str, Array]:
    """The inverse of `without_copies`: pieces without arrays share those of the first one of their part."""
    whole = dict(arrays)
    for number, first in _copies(pieces):
        names = [(f"piece{number}.{name}", f"piece{first}.{name}") for name in PROGRAMMED]
        if not any(mine in arrays for mine, _ in names):
            whole |= {mine: arrays[theirs] for mine, theirs in names if theirs in arrays}
    return whole


def _copies(pieces: Sequence[tuple[int, Hashable]]) -> Iterator[tuple[int, int]]:
    """Pieces of a part that an earlier one holds too, with the first of these."""
    first: dict[Hashable, int] = {}
    for number, part in pieces:
        if first.setdefault(part, number) != number:
            yield number, first[part]


def _same(ours: Array | None, theirs: Array | None) -> bool:
    if ours is None or theirs is None:
        return ours is theirs
    return ours is theirs or same_array(ours, theirs)
