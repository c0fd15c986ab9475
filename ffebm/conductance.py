"""From weights to conductances and converter ranges.

The compiler maps with numpy, the runtime with torch whenever a weight has changed; both call these functions,
which use only what the two kinds of array share.
"""

from typing import Any

from ffebm.hardware import Crossbar
from ffebm.ir import Linear

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
        [groups, n_out, n_in]. A convolution's n_in runs over channels, then the kernel.
    """
    if linear.op == "MatMul":
        return (weight if linear.transposed else weight.T)[None]
    groups = linear.groups
    if linear.op == "Conv":
        return weight.reshape(groups, weight.shape[0] // groups, -1)
    # A transposed convolution spreads pixels: n_in are channels, n_out runs over channels, then the kernel.
    return weight.reshape(groups, weight.shape[0] // groups, -1).swapaxes(1, 2)


def full_scale(piece: Matrix) -> Matrix:
    """The weight that a whole conductance range stands for: the largest magnitude; 1 for a zero matrix.

    Args:
        piece: [..., n_out, n_in].

    Returns:
        [..., 1, 1].
    """
    largest = _largest(_largest(abs(piece)))[..., None, None]
    return largest + (largest == 0)


def to_levels(piece: Matrix, scale: Matrix, levels: int) -> Matrix:
    """Signed levels of a differential pair: the difference of its two cells, in steps.

    Args:
        piece: Weights, [..., n_out, n_in].
        scale: From `full_scale`.
        levels: Levels of one cell.

    Returns:
        Whole numbers in [-(levels - 1), levels - 1], in the type of `piece`.
    """
    top = levels - 1
    return (piece / scale * top).round().clip(-top, top)


def to_pair(signed_levels: Matrix, crossbar: Crossbar) -> tuple[Matrix, Matrix]:
    """Target conductances of the two cells, siemens; the unused one rests at g_min."""
    low, high = crossbar.cell.g_min.value, crossbar.cell.g_max.value
    step = (high - low) / (crossbar.cell.levels - 1)
    return low + signed_levels.clip(0, None) * step, low + (-signed_levels).clip(0, None) * step


def adc_range(signed_levels: Matrix, crossbar: Crossbar) -> Matrix:
    """Largest output that an ADC of this piece resolves, for inputs in [-1, 1] and full-scale weights of 1.

    Inputs spread evenly over [-1, 1] have a standard deviation of 1/sqrt(3); the range takes `adc_sigmas` of
    them on the heaviest column, and never more than what a column can reach, with `HEADROOM` for noise.

    Args:
        signed_levels: [..., n_out, n_in].
        crossbar: The tile.

    Returns:
        [..., 1, 1].
    """
    weight = signed_levels / (crossbar.cell.levels - 1)
    likely = _largest(((weight * weight).sum(-1) / 3.0) ** 0.5) * crossbar.adc_sigmas.value
    reachable = _largest(abs(weight).sum(-1)) * HEADROOM
    smaller = likely * (likely <= reachable) + reachable * (reachable < likely)
    return (smaller + (smaller == 0))[..., None, None]


def _largest(values: Matrix) -> Matrix:
    """Maximum along the last axis; torch's `max` would return the positions too."""
    return values.amax(-1) if hasattr(values, "amax") else values.max(-1)
