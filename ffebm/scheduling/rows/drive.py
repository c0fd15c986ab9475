"""Linear maps that drive a layer: which of their vectors some rows of it need, and when they are read.

Vectors come row by row, windows of an image or rows of a matrix, and are shared out over the copies of a
weight in turn.
"""

from dataclasses import dataclass, replace
from itertools import pairwise

from ffebm.plan.memory.held import Rows
from ffebm.scheduling.rows.row_window import RowWindow

IDLE = 0.1
"""Share by which rows with reads of their own may lengthen those of all copies (an assumption)."""


@dataclass(frozen=True)
class Reach:
    """Rows of a value that some rows of an item's output need, through windows one behind the other."""

    windows: tuple[RowWindow, ...]

    @property
    def axis(self) -> int:
        """Of the value."""
        return self.windows[-1].axis

    @property
    def size(self) -> int:
        """Rows of the value."""
        return self.windows[-1].size

    def needed(self, rows: Rows) -> Rows:
        """The rows of the value that some output rows need."""
        for window in self.windows:
            if rows[0] < rows[1]:
                rows = window.needed(rows)
        return rows

    def complete(self, row: int, last: int) -> int:
        """How many first rows of the value no output row from `row` to `last` needs.

        What goes back through the windows is complete there once the output rows before have gone.
        """
        first, behind = self.needed((row, last))
        return first if first < behind else self.size


@dataclass(frozen=True)
class Drive:
    """Products of a linear map that drives a layer, in the order of its vectors.

    Copies of the weight take as many vectors at once, whatever rows these are of, so none is idle where a row
    ends: a read begins the next row, of which a part then lies where the layer does. On the way back a read
    waits until the error currents of all its vectors are there. Where few would be idle each row has reads of
    its own, and waits for no vector of the next one.

    Attributes:
        reach: Rows of vectors that some rows of the layer need.
        row: Vectors of a row.
        at_once: Vectors that a read of all copies takes; 1 where each row has reads of its own.
    """

    reach: Reach
    row: int
    at_once: int = 1

    def shared_out(self, copies: int, last: int) -> "Drive":
        """The same on copies of the weight.

        Args:
            copies: How many.
            last: Rows that the layer has.
        """
        if copies < 2:
            return self
        ends = [self.wanted(row, last) for row in range(last + 1)]
        reads = sum(-(-(behind - first) // copies) for first, behind in pairwise(ends))
        return self if reads <= (1 + IDLE) * -(-self.count // copies) else replace(self, at_once=copies)

    @property
    def count(self) -> int:
        """All of its vectors."""
        return self.row * self.reach.size

    def vectors(self, rows: Rows, last: int) -> Rows:
        """Those that are read for some rows of the layer, and were not for rows before.

        Args:
            rows: Of the layer.
            last: How many it has; the last ones read what is left.
        """
        first, behind = (self.read(row, last) for row in rows)
        return first, max(first, behind)

    def read(self, row: int, last: int) -> int:
        """How many have been read once so many rows of the layer are made: whole reads of all copies."""
        return min(-(-self.wanted(row, last) // self.at_once) * self.at_once, self.count)

    def wanted(self, row: int, last: int) -> int:
        """How many so many rows of the layer need."""
        if row == 0:
            return 0
        return self.count if row == last else self.row * self.reach.needed((0, row))[1]

    def first(self, row: int) -> int:
        """The first of those that a row of the layer needs."""
        return self.row * self.reach.needed((row, row + 1))[0]

    def returned(self, rows: Rows, last: int) -> Rows:
        """Those that go back with some rows of the layer, and did not before.

        Args:
            rows: Of the layer.
            last: How many it has.
        """
        first, behind = (self.gone(row, last) for row in rows)
        return first, max(first, behind)

    def gone(self, row: int, last: int) -> int:
        """How many have gone back once so many rows of the layer have: whole reads of all copies."""
        complete = self.complete(row, last)
        return complete if complete == self.count else complete // self.at_once * self.at_once

    def complete(self, row: int, last: int) -> int:
        """How many have their error currents once so many rows of the layer have."""
        return 0 if row == 0 else self.row * self.reach.complete(row, last)
