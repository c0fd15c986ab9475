"""How cells learn in place, and what is done about coarse and asymmetric pulses."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ffebm.hardware.quantity import Count, Energy, Ratio, Time


class Accumulate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="accumulate"):
    """Mixed precision, for coarse pulses: steps add up digitally, and whole pulses go to the cells."""


class Transfer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="transfer"):
    """Tiki-Taka, for asymmetric pulses: a fast array takes the steps; what it holds moves on to the slow one.

    Attributes:
        every: Updates from one transfer to the next.
        rate: Share of what the fast array holds that a transfer asks of the slow one.
    """

    every: Count
    rate: Ratio


class Update(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Learning in place: cells take pulses that move them a little, by a law of their own.

    Weights are counted in shares of their range, from -1 to 1.

    Attributes:
        bounds: "soft": a pulse shrinks in proportion to the distance from the bound that it leads to;
            "hard": it stays the same up to the bound.
        pulse: Mean size of a pulse up and one down at a weight of 0.
        pulses: Most pulses of one weight in one update.
        asymmetry: By how much a pulse up is larger than the mean, and one down smaller, as a share.
        noise: Standard deviation of a pulse from cycle to cycle, as a share of it.
        range: The weight at the end of the range, in units of the largest one that was programmed first.
        spread: That largest one counts as no less than spread / sqrt(fan-in): 1 is the bound of torch's
            uniform initialisation; 0 takes it as it is.
        time: Of an update of an array, all lines in parallel.
        energy: Of one cell in one update.
        remedy: What is done about asymmetric and coarse pulses.
    """

    bounds: Literal["soft", "hard"]
    pulse: Ratio
    pulses: Count
    asymmetry: Ratio
    noise: Ratio
    range: Ratio
    time: Time
    energy: Energy
    spread: Annotated[float, Meta(ge=0, le=1000)] = 1.0
    remedy: Accumulate | Transfer | None = None
