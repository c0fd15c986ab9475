"""What lies in memories, by what it is."""

from typing import Literal, NamedTuple

Content = Literal["value", "error", "plus", "minus", "gradient"]
"""What a buffer holds: a value; the error current of one; a layer's state nudged up or down; a gradient."""
NUDGED: tuple[Content, Content] = ("plus", "minus")
"""States of the two nudged phases."""
HOST = ""
"""Where a buffer is that lies in a memory of the digital units or the chip."""
Rows = tuple[int, int]
"""Rows [first, behind) of an axis."""
GIVEN = -1
"""In the place of a step: what is there before the first one."""


class Held(NamedTuple):
    """What a buffer holds.

    Attributes:
        content: What it is.
        name: Of the value, layer or weight.
        at: The block beside whose tiles it lies, by name; `HOST` for a memory of the digital units.
        rows: The band [a, b) of its rows; None: all of them.
        sample: Which of several samples in flight.
    """

    content: Content
    name: str
    at: str = HOST
    rows: Rows | None = None
    sample: int = 0
