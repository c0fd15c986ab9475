"""How much a small file may ask for, the environment variable that raises each bound, and what a number is.

A model's weights are as large as its file, and are never bounded; what a few bytes can blow up is.
"""

import math
import os
from dataclasses import dataclass
from numbers import Integral
from typing import SupportsFloat

from ffebm.errors import Location, ModelError, UsageError


def as_number(value: object) -> float:
    """A number that a caller gave; NaN, which is within no bounds, if it is none: a text, too, is none.

    >>> as_number(1), as_number("1")
    (1.0, nan)
    """
    if isinstance(value, str) or not isinstance(value, SupportsFloat):
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):  # an array of several numbers
        return math.nan


def is_whole(value: object) -> bool:
    """Whether a caller gave a whole number: a truth value is none, nor is 2.0.

    >>> is_whole(2), is_whole(2.0), is_whole(True)
    (True, False, False)
    """
    return isinstance(value, Integral) and not isinstance(value, bool)


@dataclass(frozen=True)
class Limit:
    """A bound that the environment can raise.

    Attributes:
        variable: The environment variable.
        default: The bound without it.
        unit: What is counted.
    """

    variable: str
    default: int
    unit: str

    @property
    def value(self) -> int:
        """The bound that holds now.

        Raises:
            UsageError: If the variable holds no whole number of at least 1.
        """
        text = os.environ.get(self.variable, "")
        if not text:
            return self.default
        if not (text.isascii() and text.isdecimal() and 1 <= int(text[:20]) < 2**63):
            raise UsageError(f"{self.variable}={text!r}", allowed="a whole number of at least 1")
        return int(text)

    @property
    def allowed(self) -> str:
        """The bound as text, for messages."""
        return f"at most {self.value:,} {self.unit}"

    @property
    def hint(self) -> str:
        """How to raise it, for messages."""
        return f"if that is meant, set the environment variable {self.variable} to a larger number"

    def check(self, count: int, found: str, location: Location | None = None) -> None:
        """Refuse a model that asks for more.

        Args:
            count: How much it asks for.
            found: The same in words.
            location: Where.

        Raises:
            ModelError: If the count is above the bound.
        """
        if count > self.value:
            raise ModelError(found, allowed=self.allowed, hint=self.hint, location=location)


FOLDED_BYTES = Limit("FFEBM_MAX_FOLDED_BYTES", 2**30, "bytes of constants that are computed in a compilation")
INLINED_NODES = Limit("FFEBM_MAX_INLINED_NODES", 10_000, "nodes, or ten times what the file holds")
ARRAY_LINES = Limit("FFEBM_MAX_ARRAY_LINES", 65_536, "word lines or bit lines of one array")
CONVERTER_SECONDS = Limit("FFEBM_MAX_CONVERTER_SECONDS", 120, "seconds for converting an opset")
VALUE_ELEMENTS = Limit("FFEBM_MAX_VALUE_ELEMENTS", 2**31, "elements of one value")
LOOP_ROUNDS = Limit("FFEBM_MAX_LOOP_ROUNDS", 100_000, "rounds of one loop")
DIGITAL_UNITS = Limit("FFEBM_MAX_DIGITAL_UNITS", 1_000_000, "digital units")
SCHEDULE_STEPS = Limit("FFEBM_MAX_SCHEDULE_STEPS", 500_000, "steps of one schedule")
CIRCUIT_CELLS = Limit(
    "FFEBM_MAX_CIRCUIT_CELLS", 1_000_000, "cells of one circuit that is written as a netlist"
)
CIRCUIT_SECONDS = Limit("FFEBM_MAX_CIRCUIT_SECONDS", 600, "seconds for simulating one circuit")
CIRCUIT_SAMPLES = Limit("FFEBM_MAX_CIRCUIT_SAMPLES", 16, "samples that one circuit is driven with")
