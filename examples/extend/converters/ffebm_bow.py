"""A curve of ADCs: large values are compressed, v - 0.1 v^3 with v = 1 at the end of the range.

A hardware description asks for it by name, `adc = { …, curve = "bow" }`.
"""

from torch import Tensor


def bow(values: Tensor) -> Tensor:
    """What the converters make of values in units of their range."""
    return values - 0.1 * values**3
