"""Which units the lines of an array meet, window by window, when a linear map is laid out as a circuit."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ffebm.graph.energy_block import Interaction, Linear, Rearrangement

Units = np.ndarray[tuple[int, ...], np.dtype[np.int64]]
"""Flat indices of units."""

NOWHERE = -1
"""A line that meets no unit: of an input it is padding, held at zero; of an output it is cut off."""


@dataclass(frozen=True)
class Wiring:
    """The units on the lines of each window of each group of a linear map.

    Attributes:
        sources: Flat index of the source's unit on each input line, [groups, windows, n_in]; or `NOWHERE`.
        targets: Flat index of the layer's unit on each output line, [groups, windows, n_out]; or `NOWHERE`.
    """

    sources: Units
    targets: Units


def wiring(interaction: Interaction, kernel: tuple[int, ...] = ()) -> Wiring:
    """How an interaction without pooling joins units, in the order of lines of `to_matrix`.

    Args:
        interaction: One whose drive has as many elements as its layer.
        kernel: Sizes of the kernel of a convolution; empty for a matrix product or an identity.

    Returns:
        The units on the lines; of an identity one window with a line a unit.
    """
    units = np.arange(math.prod(interaction.source_shape)).reshape(interaction.source_shape)
    source, target = _rearranged(interaction.before, units), unit_of_output(interaction)
    linear = interaction.linear
    if linear is None:
        return Wiring(source.reshape(1, 1, -1), target.reshape(1, 1, -1))
    if linear.op == "MatMul":
        return Wiring(source.reshape(1, -1, source.shape[-1]), target.reshape(1, -1, target.shape[-1]))
    if linear.op == "Conv":
        source = _unfolded(source, linear, kernel, target.shape[1:])
    else:
        target = _unfolded(target, linear, kernel, source.shape[1:])
    return Wiring(_by_group(source, linear.groups), _by_group(target, linear.groups))


def unit_of_output(interaction: Interaction) -> Units:
    """The flat index of the layer's unit that each output of the linear map drives, [*linear]."""
    count = math.prod(interaction.linear_shape)
    order = _rearranged(interaction.after, np.arange(count).reshape(interaction.linear_shape)).reshape(-1)
    target = np.empty(count, np.int64)
    target[order] = np.arange(count)
    return target.reshape(interaction.linear_shape)


def _rearranged(layouts: Sequence[Rearrangement], values: Units) -> Units:
    """Values behind some layouts; neither has the batch."""
    for layout in layouts:
        if layout.op == "Reshape":
            values = values.reshape(layout.sizes)
        else:
            values = values.transpose([axis - 1 for axis in layout.sizes[1:]])
    return values


def _unfolded(image: Units, linear: Linear, kernel: Sequence[int], counts: Sequence[int]) -> Units:
    """Units under each pixel of the kernel at each of its places.

    Args:
        image: Units, [channels, *size].
        linear: A convolution.
        kernel: Sizes of its kernel.
        counts: Places along each axis.

    Returns:
        Lines over channels, then the kernel, [lines, places].
    """
    axes = len(kernel)
    pads, strides = linear.pads or (0,) * (2 * axes), linear.strides or (1,) * axes
    dilations = linear.dilations or (1,) * axes
    picked: list[Units] = []
    outside = []
    for axis in range(axes):
        at = np.arange(kernel[axis])[:, None] * dilations[axis] - pads[axis]
        at = at + np.arange(counts[axis]) * strides[axis]
        size = image.shape[1 + axis]
        shape = [1] * (2 * axes)
        shape[axis], shape[axes + axis] = at.shape
        picked.append(at.clip(0, size - 1).reshape(shape))
        outside.append(((at < 0) | (at >= size)).reshape(shape))
    channels = np.arange(len(image)).reshape(-1, *[1] * (2 * axes))
    found: Units = image[(channels, *picked)]
    for missing in outside:
        found = np.where(missing, NOWHERE, found)
    lines: Units = found.reshape(image.shape[0] * math.prod(kernel), -1)
    return lines


def _by_group(lines: Units, groups: int) -> Units:
    """[lines, ...windows] to [groups, windows, lines of a group]."""
    return lines.reshape(groups, len(lines) // groups, -1).transpose(0, 2, 1)
