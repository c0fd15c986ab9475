"""From weights to conductances and converter ranges.

The compiler maps with numpy, the runtime with torch whenever a weight has changed; both call these functions,
which use only what the two kinds of array share.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ffebm.graph.energy_block import EnergyBlock, Linear
from ffebm.hardware.description import Crossbar

HEADROOM = 1.05
"""Noise pushes a column over what its weights can reach; so much is still resolved."""
Matrix = Any
"""A numpy array or a torch tensor; what goes in comes out."""


def to_matrix(linear: Linear, weight: Matrix) -> Matrix:
    """A weight as the matrices that its crossbars hold.

    Args:
        linear: The linear map.
        weight: As the source model stores it.

    Returns:
        [groups, n_out, n_in], of a numpy array in single precision at least: levels do not fit in 16 bits. A
        convolution's n_in runs over channels, then the kernel.
    """
    if hasattr(weight, "astype") and weight.dtype.itemsize < 4:
        weight = weight.astype("float32")
    if linear.op == "MatMul":
        return (weight if linear.transposed else weight.T)[None]
    groups = linear.groups
    if linear.op == "Conv":
        return weight.reshape(groups, weight.shape[0] // groups, -1)
    # A transposed convolution spreads pixels: n_in are channels, n_out runs over channels, then the kernel.
    return weight.reshape(groups, weight.shape[0] // groups, -1).swapaxes(1, 2)


def from_matrix(linear: Linear, matrix: Matrix, shape: tuple[int, ...]) -> Matrix:
    """The inverse of `to_matrix`.

    Args:
        linear: The linear map.
        matrix: [groups, n_out, n_in].
        shape: Of the weight as the source model stores it.
    """
    if linear.op == "MatMul":
        return matrix[0] if linear.transposed else matrix[0].T
    return (matrix if linear.op == "Conv" else matrix.swapaxes(1, 2)).reshape(shape)


def full_scale(piece: Matrix, *, by_column: bool = False) -> Matrix:
    """The largest magnitude of a piece or of each of its columns.

    Args:
        piece: [..., n_out, n_in].
        by_column: Of each column, which is a row here.

    Returns:
        [..., 1, 1]; [..., n_out, 1] by column.
    """
    return _largest_weight(piece, by_column=by_column)


def weight_range(piece: Matrix, crossbar: Crossbar, fan_in: int) -> Matrix:
    """The weight at the end of the range of weights, of a piece or of each of its columns.

    The largest weight takes the share `omega` of the range. Cells that learn in place start with room for
    `update.range` times the largest weight, which counts as no less than `update.spread` / sqrt(fan-in): what
    an initialisation usually spreads over, so that a layer that starts small or at zero can still learn.

    Args:
        piece: [..., n_out, n_in].
        crossbar: The tile.
        fan_in: Inputs of the whole layer.

    Returns:
        [..., 1, 1]; [..., n_out, 1] by column; 0 where all weights are zero and none learn: what their cells
        hold then counts for nothing, noise included.

    Source: `weight_scaling_omega` and `weight_scaling_columnwise` of IBM/aihwkit, MappingParameter; spread of
    initialisations: LeCun et al. 1998, Efficient BackProp, section 4.6.
    """
    by_column, law = crossbar.scale == "column", crossbar.update
    if law is None:
        return full_scale(piece, by_column=by_column) / crossbar.omega
    largest, least = _largest_weight(piece, by_column=by_column), law.spread / fan_in**0.5
    largest = largest * (largest >= least) + least * (largest < least)
    return (largest + (largest == 0)) * law.range.value


def to_levels(piece: Matrix, scale: Matrix, crossbar: Crossbar) -> Matrix:
    """A weight in steps: what its cells are to differ by, all slices together.

    Args:
        piece: Weights, [..., n_out, n_in].
        scale: From `weight_range`.
        crossbar: The tile.

    Returns:
        Whole numbers in [-top_level, top_level], in the type of `piece`; of single cells the level of the
        cell, from 0 on.
    """
    top = crossbar.top_level
    steps = exact_levels(piece, scale, crossbar).round()
    return steps.clip(0, top) if crossbar.is_single else steps.clip(-top, top)


def exact_levels(piece: Matrix, scale: Matrix, crossbar: Crossbar) -> Matrix:
    """The same before rounding, not limited to the range."""
    least = crossbar.least_level
    return piece / (scale + (scale == 0)) * (crossbar.top_level + least) - least


def range_scale(scale: Matrix, crossbar: Crossbar, index: int = 0) -> Matrix:
    """The weight that a difference of g_max - g_min stands for in a slice.

    Args:
        scale: From `weight_range`.
        crossbar: The tile.
        index: The slice, the one of the lowest digit first.
    """
    top = crossbar.cell.levels - 1
    return scale * (top * crossbar.cell.levels**index / (crossbar.top_level + crossbar.least_level))


def to_digits(signed_levels: Matrix, crossbar: Crossbar) -> list[Matrix]:
    """What each slice holds of a weight, the lowest digit first.

    In a differential array the digits of the magnitude, with the weight's sign. With an offset column the
    digits of level + top_level, less those of top_level, which the column holds.

    Args:
        signed_levels: From `to_levels`, [..., n_out, n_in].
        crossbar: The tile.

    Returns:
        One array a slice, whole numbers in [-(levels - 1), levels - 1].
    """
    if crossbar.slices == 1:
        return [signed_levels]
    base = crossbar.cell.levels
    if crossbar.mapping == "offset":
        shifted = signed_levels + crossbar.top_level
        return [
            shifted // base**k % base - crossbar.top_level // base**k % base for k in range(crossbar.slices)
        ]
    sign = 1.0 - 2.0 * (signed_levels < 0)
    return [abs(signed_levels) // base**k % base * sign for k in range(crossbar.slices)]


def to_pair(digits: Matrix, crossbar: Crossbar, index: int = 0) -> tuple[Matrix, Matrix]:
    """Target conductances of the two cells that a weight is the difference of, siemens.

    Args:
        digits: From `to_digits`, [..., n_out, n_in]; they need not be whole.
        crossbar: The tile.
        index: The slice.

    Returns:
        The cells that count up, [..., n_out, n_in], and those that count down: as many in a differential
        array, where the unused one rests at g_min or is off (0), the offset column, [..., 1, n_in], or
        none, [..., 0, n_in].
    """
    low, high = crossbar.cell.g_min.value, crossbar.cell.g_max.value
    step = (high - low) / (crossbar.cell.levels - 1)
    if crossbar.is_single:
        return low + digits * step, digits[..., :0, :]
    if crossbar.unused == "off":
        step = high / (crossbar.cell.levels - 1)
        return _formed(digits.clip(0, None) * step, low), _formed((-digits).clip(0, None) * step, low)
    if crossbar.mapping == "offset":
        middle = crossbar.top_level // crossbar.cell.levels**index % crossbar.cell.levels
        return low + (digits + middle) * step, low + middle * step + 0 * digits[..., :1, :]
    return low + digits.clip(0, None) * step, low + (-digits).clip(0, None) * step


def _formed(wanted: Matrix, low: float) -> Matrix:
    """Conductances of cells that are off or above the lowest: nearer to g_min than to off, or above it."""
    return wanted * (wanted >= low) + low * ((wanted >= low / 2) & (wanted < low))


def uniform_deviation(digits: Matrix, crossbar: Crossbar) -> Matrix:
    """Standard deviation of each line's output for inputs spread evenly over [-1, 1].

    Of resistors the inputs' own is 1/sqrt(3).

    Args:
        digits: From `to_digits`, [..., n_out, n_in].
        crossbar: The tile.

    Returns:
        [..., n_out], for full-range weights of 1.
    """
    weight = _shares(digits, crossbar)
    return ((weight * weight).sum(-1) * crossbar.cell.driven_power) ** 0.5


def adc_range(digits: Matrix, crossbar: Crossbar, spread: Matrix | None = None) -> Matrix:
    """Largest output that an ADC of a piece resolves, for inputs in [-1, 1] and full-range weights of 1.

    A calibrated range takes `deviations` standard deviations of the output of the heaviest line (a range by
    column, of each line), and never more than what the line can reach, with `HEADROOM` for noise; the maximal
    range is what the heaviest line can reach.

    With a range by level, one code is one level of a cell times one step of the DAC.

    Args:
        digits: From `to_digits`, [..., n_out, n_in]; transposed for the transposed read.
        crossbar: The tile.
        spread: How many times the range for uniform inputs each line takes, [..., n_out]; None is 1.

    Returns:
        [..., 1, 1]; [..., n_out, 1] by column.
    """
    weight = _shares(digits, crossbar)
    reachable = abs(weight).sum(-1) * HEADROOM
    if crossbar.adc.range == "level":
        steps = (crossbar.cell.levels - 1) * crossbar.dac.top_step
        return 0 * reachable[..., :1, None] + crossbar.adc.top / steps
    if crossbar.adc.range == "maximal":
        reach = _largest(reachable)[..., None, None]
        return reach + (reach == 0)
    likely = uniform_deviation(digits, crossbar) * crossbar.deviations
    if spread is not None:
        likely = likely * spread
    if crossbar.adc.range == "calibrated":
        likely, reachable = _largest(likely)[..., None], _largest(reachable)[..., None]
    smaller = likely * (likely <= reachable) + reachable * (reachable < likely)
    return (smaller + (smaller == 0))[..., None]


def _shares(digits: Matrix, crossbar: Crossbar) -> Matrix:
    """Weights in units of g_max - g_min."""
    return (digits + crossbar.least_level) / (crossbar.cell.levels - 1)


def _largest_weight(piece: Matrix, *, by_column: bool) -> Matrix:
    """[..., 1, 1], or [..., n_out, 1] by column."""
    columns = _largest(abs(piece))[..., None]
    return columns if by_column else _largest(columns[..., 0])[..., None, None]


def _largest(values: Matrix) -> Matrix:
    """Maximum along the last axis; torch's `max` would return the positions too."""
    return values.amax(-1) if hasattr(values, "amax") else values.max(-1)


# --- one range for a circuit -------------------------------------------------------------------------
#
# Arrays that are read scale each piece digitally. In an array of single cells the lines are nodes of a
# circuit, which knows conductances alone: what g_max stands for is the same in all pieces of a block, and of
# blocks that share a weight.


def circuits_of(blocks: Iterable[EnergyBlock], held: Collection[str]) -> tuple[tuple[str, ...], ...]:
    """The weights that have one range.

    Args:
        blocks: Energy blocks.
        held: Source names of the weights in arrays of single cells.
    """
    found: list[dict[str, None]] = []
    for block in blocks:
        names = dict.fromkeys(
            i.linear.weight
            for _, i in block.interactions()
            if i.linear is not None and i.linear.weight in held
        )
        joined = [other for other in found if other.keys() & names.keys()]
        found = [other for other in found if not other.keys() & names.keys()]
        for other in joined:
            names = other | names
        if names:
            found.append(names)
    return tuple(tuple(names) for names in found)


def linears_of(blocks: Iterable[EnergyBlock]) -> dict[str, Linear]:
    """The linear map of each weight on tiles, by source name."""
    return {i.linear.weight: i.linear for b in blocks for _, i in b.interactions() if i.linear is not None}


def common_limit(
    names: Sequence[str], linears: Mapping[str, Linear], weight: Callable[[str], Matrix], tile: Crossbar
) -> float:
    """The weight that a cell at g_max stands for in a circuit: the largest range of its weights.

    Args:
        names: Weights of the circuit by source name.
        linears: Their maps.
        weight: The value of a name, in the layout of the source model.
        tile: What they lie on.
    """
    return max(_limits(names, linears, weight, tile))


def common_limits(
    blocks: Iterable[EnergyBlock], weights: Mapping[str, Matrix], tiles: Mapping[str, Crossbar]
) -> dict[str, float]:
    """The same by weight.

    Args:
        blocks: Energy blocks.
        weights: By source name.
        tiles: What each weight in an array of single cells lies on, by source name.
    """
    known, found = list(blocks), dict[str, float]()
    linears = linears_of(known)
    for names in circuits_of(known, tiles):
        found |= dict.fromkeys(names, common_limit(names, linears, weights.__getitem__, tiles[names[0]]))
    return found


def _limits(
    names: Sequence[str], linears: Mapping[str, Linear], weight: Callable[[str], Matrix], tile: Crossbar
) -> Iterator[float]:
    for name in names:
        matrix = to_matrix(linears[name], weight(name))
        for group in matrix:
            yield float(weight_range(group, tile, matrix.shape[-1]).max())
