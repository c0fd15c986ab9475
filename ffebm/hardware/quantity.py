"""Physical constants: a value with its unit, where it comes from, and whether it is an assumption."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Count = Annotated[int, Meta(ge=1)]
Bits = Annotated[int, Meta(ge=1, le=32)]
Amount = Annotated[float, Meta(ge=0)]


class Quantity(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A physical constant.

    Attributes:
        value: In the unit that the subclass fixes.
        source: Paper, table or file that it comes from.
        assumption: No source measured or derived it for this machine; reports mark it.
    """

    value: Amount
    source: Annotated[str, Meta(min_length=1)]
    assumption: bool = False


class Energy(Quantity, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An energy in joules."""

    unit: Literal["J"]


class Time(Quantity, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A time in seconds."""

    unit: Literal["s"]


class Rate(Quantity, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Events a second."""

    unit: Literal["1/s"]


class Conductance(Quantity, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A conductance in siemens."""

    unit: Literal["S"]


class Resistance(Quantity, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A resistance in ohms."""

    unit: Literal["Ohm"]


class Voltage(Quantity, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A voltage in volts."""

    unit: Literal["V"]


class Ratio(Quantity, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A number without a unit."""

    unit: Literal["1"]


class Area(Quantity, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An area of silicon in square millimetres."""

    unit: Literal["mm2"]


class Power(Quantity, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A power in watts."""

    unit: Literal["W"]


class Capacity(Quantity, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a memory holds, in bits."""

    unit: Literal["bit"]
