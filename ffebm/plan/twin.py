"""The digital twin: what the same machine takes for the same model without its tiles."""

import math
from collections.abc import Iterator
from typing import Literal

import msgspec

TOTALS = ("inference_s", "inference_j", "training_s", "training_j")
Total = Literal["inference_s", "inference_j", "training_s", "training_j"]

COMPUTED = "fp32"
"""The data type that digital units compute in; the others are prices to compare with."""
NAMED = 8
"""Blocks that a note names one by one."""


class Batches(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Batches for which the plan takes less than its twin.

    Attributes:
        first: The smallest.
        last: The largest; None if there is no end.
    """

    first: int
    last: int | None = None

    def __str__(self) -> str:
        if self.last is None:
            return "any batch" if self.first == 1 else f"batches from {self.first:,}"
        return f"batches up to {self.last:,}"


class DigitalTwin(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Time and energy with no tiles, at one data type: what compiling with digital=["*"] bills.

    Attributes:
        inference_s: One inference of the plan's batch, seconds.
        inference_j: Its energy, joules.
        training_s: One training step, seconds.
        training_j: Its energy, joules.
        better: For which batches the plan takes less of each figure; a figure that is not there: for none.
        losing: Blocks whose settling takes more time and more energy than their own digital work, by name.
        blocks: Seconds and joules of each block's own digital work in an inference, by name.
    """

    inference_s: float
    inference_j: float
    training_s: float
    training_j: float
    better: dict[Total, Batches] = {}
    losing: tuple[str, ...] = ()
    blocks: dict[str, tuple[float, float]] = {}

    def batches(self, figure: Total) -> str:
        """For which batches the plan takes less of a figure, as text."""
        return str(self.better.get(figure, "no batch"))


def twin_problems(twins: dict[str, DigitalTwin], blocks: tuple[str, ...]) -> Iterator[str]:
    """Contradictions of digital twins, as text.

    Args:
        twins: By data type.
        blocks: Names of the plan's energy blocks.
    """
    for dtype, twin in twins.items():
        for figure in TOTALS:
            if not 0 <= getattr(twin, figure) < math.inf:
                yield f"the {dtype} twin has an {figure} of {getattr(twin, figure)}"
        for figure, batches in twin.better.items():
            if batches.first < 1 or (batches.last is not None and batches.last < batches.first):
                yield f"the {dtype} twin is beaten in {figure} from {batches.first} to {batches.last} samples"
        if {*twin.blocks} != {*blocks}:
            yield f"the {dtype} twin prices other blocks than there are"
        elif not all(0 <= figure < math.inf for pair in twin.blocks.values() for figure in pair):
            yield f"the {dtype} twin prices a block with no number of at least 0"
        unknown = [name for name in twin.losing if name not in blocks]
        if unknown:
            yield f"the {dtype} twin beats {unknown[0]!r}, which is no block"


def losing_notes(twins: dict[str, DigitalTwin]) -> Iterator[str]:
    """What the user should know of blocks that lose to a digital unit in the type that it computes in."""
    losing = twins[COMPUTED].losing if COMPUTED in twins else ()
    if losing:
        count = len(losing)
        named = ", ".join(losing[:NAMED]) + (f" and {count - NAMED} more" if count > NAMED else "")
        loses = "1 block loses to its" if count == 1 else f"{count} blocks lose to their"
        yield f"{loses} own {COMPUTED} digital work in both time and energy: {named}"
