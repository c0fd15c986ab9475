"""Which rows of an input some rows of an output need."""

from dataclasses import dataclass

from ffebm.plan.memory.held import Rows


@dataclass(frozen=True)
class RowWindow:
    """Rows [a, b) of an output need rows floor(step a + low) up to floor(step (b - 1) + high) of an input.

    Attributes:
        axis: Of the input.
        size: Rows that the input has.
        step: Input rows from one output row to the next, in units of 1 / `per` as are `low` and `high`.
        low: The first row that output row 0 needs; negative in padding.
        high: The last one.
        per: Units of an input row.
        clamped: Where a window lies beyond the input, it reads the input's first or last row.
    """

    axis: int
    size: int
    step: int = 1
    low: int = 0
    high: int = 0
    per: int = 1
    clamped: bool = False

    def needed(self, rows: Rows) -> Rows:
        """The input rows that some output rows need; (n, n) if none."""
        first = (self.step * rows[0] + self.low) // self.per
        behind = (self.step * (rows[1] - 1) + self.high) // self.per + 1
        if self.clamped:
            return min(max(first, 0), self.size - 1), max(min(behind, self.size), 1)
        first = min(max(first, 0), self.size)
        return first, max(first, min(behind, self.size))


def same_rows(axis: int, size: int) -> RowWindow:
    """Each output row needs the same row of an input."""
    return RowWindow(axis, size)


def sliding(axis: int, size: int, kernel: int, stride: int, dilation: int, begin: int) -> RowWindow:
    """A window that slides over an input, as that of a convolution or pooling.

    Args:
        axis: Of the input.
        size: Rows of the input.
        kernel: Taps of the window.
        stride: Rows from window to window.
        dilation: Rows from tap to tap.
        begin: Padding before the first row.
    """
    return RowWindow(axis, size, stride, -begin, (kernel - 1) * dilation - begin)


def scattering(axis: int, size: int, kernel: int, stride: int, dilation: int, begin: int) -> RowWindow:
    """A transposed convolution: input row i adds to output rows i stride - begin + tap dilation.

    Args:
        axis: Of the input.
        size: Rows of the input.
        kernel: Taps.
        stride: Output rows from input row to input row.
        dilation: Output rows from tap to tap.
        begin: Output rows that are cut off at the start.
    """
    # the first row is a ceiling: the floor of what is stride - 1 units more
    low = begin - (kernel - 1) * dilation + stride - 1
    return RowWindow(axis, size, 1, low, begin, per=stride)
