"""Warns of blocks that do not settle."""

import warnings
from collections.abc import Iterable
from functools import partial

from ffebm.errors import NotSettledWarning
from ffebm.plan.schema import Settle
from ffebm.runtime.blocks.block_runtime import BlockRuntime
from ffebm.runtime.blocks.settling.settling import Outcome


class Notices:
    """Warnings of one network, one a block and kind of phase until its blocks are made anew.

    Attributes:
        enabled: False where somebody else reports how blocks settled.
    """

    def __init__(self) -> None:
        self.enabled = True
        self._told: set[tuple[str, bool]] = set()

    def watch(self, blocks: Iterable[BlockRuntime], settle: Settle) -> None:
        """Look at the phases of new blocks.

        Args:
            blocks: The blocks.
            settle: How they settle.
        """
        self._told.clear()
        for block in blocks:
            block.watch = partial(self._see, block.block.name, settle.tol is not None)

    def _see(self, block: str, to_tolerance: bool, outcome: Outcome) -> None:
        """Warn if a phase did not settle: a free one, or a nudged one that was to reach a tolerance.

        A fixed number of nudged sweeps is an estimator of its own, but the nudge must get to every layer.
        """
        is_nudged = outcome.beta is not None
        due = not is_nudged or to_tolerance or outcome.timed or not outcome.reached
        if not self.enabled or not due or (block, is_nudged) in self._told:
            return
        lost = ~outcome.converged
        if bool(lost.any()):
            self._told.add((block, is_nudged))
            share, residual = float(lost.double().mean()), float(outcome.residual.max())
            warnings.warn(NotSettledWarning(block, share, residual, _hint(outcome)), stacklevel=3)


def _hint(outcome: Outcome) -> str:
    if outcome.timed:
        return "its circuit still moves when its time is over: compile anew with the weights as they are now"
    if not outcome.reached:
        return "the nudge has not reached every layer: more nudged_sweeps in Settle"
    if outcome.beta is not None:
        return "in a nudged phase: try more nudged_sweeps or relaxation=0.5 in Settle"
    if bool((outcome.period > 0).any()):
        return "it goes round in a limit cycle: try winners='shared' or relaxation=0.5 in Settle"
    return "try more free_sweeps, anderson=5, or relaxation=0.5 in Settle"
