"""The plan: what a compiled model is, in memory and on disk."""

from typing import Literal

import msgspec


class Settle(msgspec.Struct, frozen=True, kw_only=True):
    """How energy blocks settle.

    Attributes:
        free_sweeps: Most sweeps in a free phase; a sweep updates every layer once.
        nudged_sweeps: Most sweeps in a nudged phase.
        tol: Stop when every sample's residual is at most this; None runs all sweeps.
        start: Where the free phase starts. Part of the model: a block with max-pooling can have several
            equilibria. Nudged phases start from the free state.
        relaxation: Step towards the update: 1 takes it, below damps, above over-relaxes; in (0, 2).
        anderson: States that Anderson acceleration remembers; 0 is off.
        strict: A block that does not settle is an error.
    """

    free_sweeps: int = 60
    nudged_sweeps: int = 20
    tol: float | None = None
    start: Literal["zero", "feedforward"] = "zero"
    relaxation: float = 1.0
    anderson: int = 0
    strict: bool = False
