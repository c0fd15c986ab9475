"""How cells learn in place, and what is done about coarse and asymmetric pulses."""

import math
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ffebm.hardware.quantity import Count, Energy, Ratio, Time


class Accumulate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="accumulate"):
    """Mixed precision, for coarse pulses: steps add up digitally, and whole pulses go to the cells."""


class Chopper(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Signs of the lines of a fast array, which flip now and then: what is always the same cancels.

    Attributes:
        inputs: Chance that a word line flips behind a transfer.
        outputs: Chance that a bit line does; None: none flips.
        regular: All word lines flip together, behind every 1 / `inputs`-th transfer (rounded up, 2 at least).

    Source: Rasch et al. 2024 (10.1038/s41467-024-51221-z); ChoppedTransferCompound of IBM/aihwkit 1.2.0.
    """

    inputs: Ratio
    outputs: Ratio | None = None
    regular: bool = False


class Transfer(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    kw_only=True,
    omit_defaults=True,
    tag="transfer",
):
    """Tiki-Taka, for asymmetric pulses: a fast array takes the steps; what it holds moves on to the slow one.

    Attributes:
        every: Updates from one transfer to the next.
        rate: Share of what the fast array holds that a transfer asks of the slow one.
        buffered: Readings add up digitally, and whole pulses of the sum go to the slow array.
        chopper: The fast array takes steps, and is read, with signs that flip.

    Source: buffer: Gokmen 2021 (TTv2, 10.3389/frai.2021.699148).
    """

    every: Count
    rate: Ratio
    buffered: bool = False
    chopper: Chopper | None = None


class LinearStep(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="linear"):
    """Pulses that shrink in proportion to the weight: up by 1 - up w, down by 1 + down w of their size at 0.

    Attributes:
        up: Share by which a pulse up is smaller at the upper bound than at 0.
        down: Share by which a pulse down is smaller at the lower bound than at 0.
        spread: Standard deviation of either share between cells, drawn once for a machine; its magnitude
            counts.

    Source: LinearStepDevice of IBM/aihwkit, simulator/configs/devices.py.
    """

    up: Ratio
    down: Ratio
    spread: Ratio


class ExponentialStep(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="exponential"
):
    """Pulses that shrink exponentially: by max(0, 1 - A exp(+-gamma z)), z = slope w + offset, + for one up.

    Attributes:
        up: A of pulses up.
        down: A of pulses down.
        exponent_up: gamma of pulses up.
        exponent_down: gamma of pulses down.
        slope: a.
        offset: b.

    Source: ExpStepDevice of IBM/aihwkit, simulator/configs/devices.py.
    """

    up: Annotated[float, Meta(ge=0, le=1000)]
    down: Annotated[float, Meta(ge=0, le=1000)]
    exponent_up: Annotated[float, Meta(ge=0, le=100)]
    exponent_down: Annotated[float, Meta(ge=0, le=100)]
    slope: Annotated[float, Meta(ge=-10, le=10)]
    offset: Annotated[float, Meta(ge=-10, le=10)]


PulsedBy = Literal["matrix", "states", "differences"]
"""What pulses follow: steps of an optimiser, or outer products of vectors on both lines of an array."""


class Update(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Learning in place: cells take pulses that move them a little, by a law of their own.

    Weights are counted in shares of their range, from -1 to 1.

    Attributes:
        bounds: "soft": a pulse shrinks in proportion to the distance from the bound that it leads to;
            "hard": it stays the same up to the bound, or follows `step`.
        pulse: Mean size of a pulse up and one down at a weight of 0.
        pulses: Most pulses of one weight in one update: of a step, or of one outer product, whose trains are
            as long at most.
        asymmetry: By how much a pulse up is larger than the mean, and one down smaller, as a share.
        noise: Standard deviation of a pulse from cycle to cycle, as a share of it.
        range: The weight at the end of the range, in units of the largest one that was programmed first.
        spread: That largest one counts as no less than spread / sqrt(fan-in): 1 is the bound of torch's
            uniform initialisation; 0 takes it as it is.
        time: Of an update of an array, all lines in parallel.
        energy: Of one cell in one update.
        remedy: What is done about asymmetric and coarse pulses.
        step: How a pulse between hard bounds depends on the weight; None: not.
        pulsed_by: "matrix": steps of an optimiser, from gradients that are computed digitally. Else outer
            products of the vectors on both lines of an array, each as coincidences of two stochastic pulse
            trains: "states", of the states in each phase, up or down by the sign of its nudge; "differences",
            of states with the differences that the nudge makes of them.

    Source: coincidences: Gokmen & Vlasov 2016 (arXiv 1603.07341).
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
    step: LinearStep | ExponentialStep | None = None
    pulsed_by: PulsedBy = "matrix"

    def sizes(self, weight: float) -> tuple[float, float]:
        """A pulse up and one down at a weight, as shares of the range, of a cell without spread."""
        up, down = 1.0, 1.0
        if self.bounds == "soft":
            up, down = 1.0 - weight, 1.0 + weight
        elif isinstance(self.step, LinearStep):
            up, down = 1.0 - self.step.up.value * weight, 1.0 + self.step.down.value * weight
        elif self.step is not None:
            z = self.step.slope * weight + self.step.offset
            up = max(0.0, 1.0 - self.step.up * math.exp(self.step.exponent_up * z))
            down = max(0.0, 1.0 - self.step.down * math.exp(-self.step.exponent_down * z))
        size, a = self.pulse.value, self.asymmetry.value
        return size * (1.0 + a) * up, size * (1.0 - a) * down

    @property
    def symmetric_point(self) -> float | None:
        """The weight at which a pulse up and one down are equal, between the bounds; None if there is none.

        Below it pulses up are larger, above it those down; found by bisection.
        """
        if self.bounds == "soft":
            return float(self.asymmetry.value)

        def excess(weight: float) -> float:
            up, down = self.sizes(weight)
            return up - down

        low, high = -1.0, 1.0
        if self.step is None or not excess(low) > 0 > excess(high):
            return None
        for _ in range(60):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if excess(middle) > 0 else (low, middle)
        return 0.5 * (low + high)
