"""Where the windows of convolutions and poolings lie."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil

from torch import Tensor
from torch.nn import functional

from ffebm.errors import ModelError
from ffebm.runtime.kernels.call import Call


@dataclass(frozen=True)
class Window:
    """A window that slides over the spatial axes.

    Attributes:
        kernel: Its size, per spatial axis as all that follows.
        strides: How far it moves.
        dilations: How far apart its taps are.
        begin: Padding before the first element.
        end: Padding after the last one; negative if the last elements are never read.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]

    @property
    def extents(self) -> tuple[int, ...]:
        """How many elements the window spans."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    @property
    def symmetric(self) -> bool:
        """The padding is the same at both ends."""
        return self.begin == self.end

    def steps(self, size: Sequence[int], *, round_up: bool = False) -> tuple[int, ...]:
        """How many windows fit on each axis; one that starts in the end padding does not count."""
        count = []
        for n, extent, stride, begin, end in zip(
            size, self.extents, self.strides, self.begin, self.end, strict=True
        ):
            room = n + begin + end - extent
            steps = (ceil(room / stride) if round_up else room // stride) + 1
            count.append(steps - 1 if round_up and (steps - 1) * stride >= n + begin else steps)
        return tuple(count)

    def fitted(self, size: Sequence[int], *, round_up: bool = False) -> "Window":
        """The same windows with just the end padding that they read."""
        ends = [
            (steps - 1) * stride + extent - n - begin
            for steps, stride, extent, n, begin in zip(
                self.steps(size, round_up=round_up),
                self.strides,
                self.extents,
                size,
                self.begin,
                strict=True,
            )
        ]
        return replace(self, end=tuple(ends))


def window_of(call: Call, kernel: Sequence[int], size: Sequence[int]) -> Window:
    """The window that the attributes of a convolution or pooling describe.

    Args:
        call: The node.
        kernel: Size of the window.
        size: Spatial size of the input.
    """
    n_axes = len(kernel)
    if n_axes not in (1, 2, 3):
        raise ModelError(f"{call.op} over {n_axes} spatial axes", allowed="1, 2 or 3 are possible")
    ones = (1,) * n_axes
    pads = call.integers("pads", (0,) * (2 * n_axes))
    window = Window(
        kernel=tuple(kernel),
        strides=call.integers("strides", ones) or ones,
        dilations=call.integers("dilations", ones) or ones,
        begin=pads[:n_axes],
        end=pads[n_axes:],
    )
    window = _auto_padded(window, call.text("auto_pad", "NOTSET"), size)
    call.check_size(n + b + e for n, b, e in zip(size, window.begin, window.end, strict=True))
    return window


def _auto_padded(window: Window, auto_pad: str, size: Sequence[int]) -> Window:
    if auto_pad in ("NOTSET", ""):
        return window
    none = (0,) * len(size)
    if auto_pad == "VALID":
        return replace(window, begin=none, end=none)
    total = [
        max((ceil(n / stride) - 1) * stride + extent - n, 0)
        for n, stride, extent in zip(size, window.strides, window.extents, strict=True)
    ]
    less = tuple(pad // 2 for pad in total)
    more = tuple(pad - pad // 2 for pad in total)
    if auto_pad == "SAME_UPPER":
        return replace(window, begin=less, end=more)
    return replace(window, begin=more, end=less)


def padded(x: Tensor, begin: Sequence[int], end: Sequence[int], value: float = 0.0) -> Tensor:
    """`x` with its last axes padded; negative padding crops."""
    if not any(begin) and not any(end):
        return x
    pads = [pad for pair in zip(reversed(begin), reversed(end), strict=True) for pad in pair]
    return functional.pad(x, pads, value=value)
