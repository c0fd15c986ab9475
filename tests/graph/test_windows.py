from itertools import product

import torch

from ffebm.graph.windows import n_windows


def test_windows_are_those_of_torch() -> None:
    for size, kernel, stride, dilation, pad in product((5, 8, 9), (1, 2, 3), (1, 2, 3), (1, 2), (0, 1)):
        reach = dilation * (kernel - 1) + 1
        if 2 * pad > kernel or reach > size:
            continue
        for ceil in (False, True):
            pool = torch.nn.MaxPool1d(kernel, stride, pad, dilation, ceil_mode=ceil)
            found = n_windows(size, kernel, stride, dilation, pad, pad, ceil=ceil)
            assert found == pool(torch.zeros(1, 1, size)).shape[-1]
