"""Reading an exported program: what both modes of a module hold is copied once."""

import numpy as np
import torch
from torch import Tensor

from ffebm.compiler.torch.reader import Copies
from ffebm.graph.tensor import Array


def test_a_tensor_is_copied_again_when_something_was_written_into_it() -> None:
    made: list[Tensor] = []

    def copy(tensor: Tensor) -> Array:
        made.append(tensor)
        return tensor.numpy().copy()

    copies, weight, other = Copies(), torch.ones(3), torch.ones(3)
    first = copies.of(weight, copy)
    assert copies.of(weight, copy) is first
    assert copies.of(other, copy) is not first
    weight.add_(1.0)
    np.testing.assert_array_equal(first, np.ones(3))
    np.testing.assert_array_equal(copies.of(weight, copy), np.full(3, 2.0))
    assert len(made) == 3
    with torch.inference_mode():
        frozen = torch.ones(2)
    assert copies.of(frozen, copy) is copies.of(frozen, copy)
