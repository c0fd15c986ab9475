"""How many windows of a pooling or a convolution an axis has."""

import math


def n_windows(  # noqa: PLR0913 -- the facts of one axis
    size: int, kernel: int, stride: int, dilation: int, begin: int, end: int, *, ceil: bool
) -> int:
    """Windows along an axis; one that would start beyond the input and its leading pad is left out."""
    room = size + begin + end - dilation * (kernel - 1) - 1
    n = (math.ceil(room / stride) if ceil else room // stride) + 1
    return n - 1 if ceil and (n - 1) * stride >= size + begin else n
