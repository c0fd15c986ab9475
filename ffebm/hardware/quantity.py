"""Physical constants: a value with its unit, where it comes from, and whether it is an assumption."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Count = Annotated[int, Meta(ge=1)]
Bits = Annotated[int, Meta(ge=1, le=32)]
Amount = Annotated[float, Meta(ge=0)]


class Derived(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """The formula that a constant is computed by, and what is given with it.

    Attributes:
        name: Of the formula, one of `ffebm.hardware.formulas.FORMULAS`.
        supply: Volts.
        rate: Conversions a second.
        conversions: Lines that one converter takes in turn.
        adcs: ADCs of a tile.
        width: Bits of a sum.
    """

    name: str
    supply: float | None = None
    rate: float | None = None
    conversions: float | None = None
    adcs: float | None = None
    width: float | None = None


class Quantity(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """A physical constant.

    Attributes:
        value: In the unit that the subclass fixes.
        source: Paper, table or file that it comes from.
        assumption: No source measured or derived it for this machine; reports mark it.
        formula: What value and source are computed by; None if they are given.
    """

    value: Amount
    source: Annotated[str, Meta(min_length=1)]
    assumption: bool = False
    formula: Derived | None = None


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
