"""Parts of bands with buffers of their own: what reads of tiles for earlier bands begin, and the rest."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import pairwise

from ffebm.plan.memory.dataflow import Dataflow
from ffebm.plan.memory.held import Rows
from ffebm.plan.memory.work import Work


class Parts:
    """Rows of what blocks make, cut where bands end, and where what steps begin of the next ones does.

    Args:
        flow: What nodes and blocks read and make.
        steps: What is done.
    """

    def __init__(self, flow: Dataflow, steps: Sequence[Work]) -> None:
        found: dict[str, set[int]] = {}
        for step in steps:
            if step.kind == "free" and step.rows is not None and step.block is not None:
                for layer in flow.blocks[step.block].layers:
                    found.setdefault(layer.value, set()).update((*step.rows, step.begun))
        self._edges = {value: sorted(edges) for value, edges in found.items()}

    def of(self, value: str, step: Work) -> tuple[Sequence[Rows | None], Sequence[Rows]]:
        """The parts of a value that a free step completes, and those that it begins; None is all rows."""
        if step.rows is None:
            return [None], []
        return self._between(value, step.rows), self._between(value, (step.rows[1], step.begun))

    def _between(self, value: str, rows: Rows) -> list[Rows]:
        edges = self._edges[value]
        return list(pairwise(edges[bisect_left(edges, rows[0]) : bisect_right(edges, rows[1])]))
