"""What the cells of a piece are programmed to; loading a plan holds it against the weights."""

from collections.abc import Iterator, Mapping

import numpy as np

from ffebm.graph.graph import Array, Part
from ffebm.hardware.description import Crossbar
from ffebm.plan import conductance

CLOSE = 1e-4
"""Two machines may add up a range in another order; so much may it differ, relative to the range."""
PROGRAMMED = ("plus", "minus", "adc_range", "adc_range_t", "scale")
"""Arrays that a piece may have."""


def programmed(matrix: Array, part: Part, crossbar: Crossbar) -> tuple[dict[str, Array], dict[str, float]]:
    """Target conductances of a part, its scale and converter ranges.

    Args:
        matrix: The whole weight, [groups, n_out, n_in].
        part: Which part of it.
        crossbar: The tile.

    Returns:
        Arrays by what they are: `plus`, `minus`, and ranges and scales that differ between lines or slices;
        and the largest scale and ranges.
    """
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

    arrays = {"plus": plus, "minus": minus}
    if ranges.size > 1 or ranges_t.size > 1:
        arrays["adc_range"] = ranges.astype(np.float32)
        arrays["adc_range_t"] = ranges_t.astype(np.float32)
    scales = conductance.range_scale(scale, crossbar)[:, 0]
    if scales.size > 1:
        arrays["scale"] = scales.astype(np.float32)
    largest = {"scale": scales, "adc_range": ranges, "adc_range_t": ranges_t}
    return arrays, {name: float(values.max()) for name, values in largest.items()}


def programming_problems(
    matrix: Array, part: Part, crossbar: Crossbar, stored: Mapping[str, Array], settings: Mapping[str, float]
) -> Iterator[str]:
    """What a plan says of a part's cells and its weights do not, as names of arrays and settings.

    Args:
        matrix: The whole weight, [groups, n_out, n_in].
        part: Which part of it.
        crossbar: The tile.
        stored: Arrays of the plan by what they are, as from `programmed`.
        settings: Its scale and ranges in the plan.
    """
    arrays, expected = programmed(matrix, part, crossbar)
    for name in sorted(arrays.keys() | stored.keys()):
        ours, theirs = arrays.get(name), stored.get(name)
        if ours is None or theirs is None or ours.shape != theirs.shape or not _close(ours, theirs):
            yield name
    for name, value in expected.items():
        if not abs(settings[name] - value) <= CLOSE * abs(value):
            yield name


def _close(ours: Array, theirs: Array) -> bool:
    return bool(np.allclose(theirs, ours, rtol=CLOSE, atol=0))
