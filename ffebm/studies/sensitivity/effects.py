"""Tiles that are better or worse than the plan's own in one respect."""

from collections.abc import Callable
from typing import Literal

import msgspec

from ffebm.hardware.crossbar import Crossbar
from ffebm.hardware.quantity import Ratio

Axis = Literal["noise", "bits"]

NOISES = ("programming_noise", "read_noise", "variation")
"""Random deviations of a cell; beside them the mismatch between the two directions of an array, and the noise
of ADCs."""


def has_noise(crossbar: Crossbar) -> bool:
    """Whether any deviation is above zero."""
    found = [getattr(crossbar.cell, name) for name in NOISES] + [crossbar.mismatch, crossbar.adc.noise]
    measured = crossbar.cell.statistics is not None and crossbar.cell.statistics.noise > 0
    return measured or any(quantity is not None and quantity.value > 0 for quantity in found)


def with_noise(crossbar: Crossbar, factor: float) -> Crossbar:
    """The tile with every deviation of its cells, and the noise of its ADCs, multiplied."""
    scaled = {name: _times(getattr(crossbar.cell, name), factor) for name in NOISES}
    measured = crossbar.cell.statistics
    if measured is not None:
        measured = msgspec.structs.replace(measured, noise=measured.noise * factor)
    cell = msgspec.structs.replace(crossbar.cell, **scaled, statistics=measured)
    adc = msgspec.structs.replace(crossbar.adc, noise=_times(crossbar.adc.noise, factor))
    mismatch = _times(crossbar.mismatch, factor)
    return msgspec.structs.replace(crossbar, cell=cell, mismatch=mismatch, adc=adc)


def with_bits(crossbar: Crossbar, bits: float) -> Crossbar:
    """The tile with converters of so many bits in both directions."""
    dac, adc = (msgspec.structs.replace(c, bits=int(bits)) for c in (crossbar.dac, crossbar.adc))
    return msgspec.structs.replace(crossbar, dac=dac, adc=adc)


VARIED: dict[Axis, Callable[[Crossbar, float], Crossbar]] = {"noise": with_noise, "bits": with_bits}
"""What a level means on each axis: a factor of the plan's own noise, a number of bits."""


def _times(quantity: Ratio | None, factor: float) -> Ratio | None:
    return quantity and msgspec.structs.replace(quantity, value=quantity.value * factor)
