import pytest
import torch

from ffebm.graph.energy_block import Linear
from ffebm.plan.conductance import from_matrix
from ffebm.runtime.blocks.projection import ExactProjection, weight_grad
from ffebm.runtime.tiles.lines.vectors import line_vectors
from tests.runtime.tiles.bench import random

MAPS = {
    "matrix": (Linear(op="MatMul", weight="w"), (5, 4), (3, 5)),
    "matrix by rows": (Linear(op="MatMul", weight="w"), (5, 4), (3, 2, 5)),
    "transposed matrix": (Linear(op="MatMul", weight="w", transposed=True), (4, 5), (3, 5)),
    "convolution": (
        Linear(op="Conv", weight="w", pads=(1, 0, 1, 2), strides=(2, 1)), (4, 3, 3, 2), (2, 3, 5, 6),
    ),
    "dilated groups": (
        Linear(op="Conv", weight="w", groups=2, dilations=(1, 2), pads=(0, 1, 0, 1)),
        (4, 3, 2, 2),
        (2, 6, 4, 5),
    ),
    "along one axis": (Linear(op="Conv", weight="w", pads=(1, 1)), (4, 3, 3), (2, 3, 7)),
    "transposed convolution": (
        Linear(op="ConvTranspose", weight="w", strides=(2, 2), pads=(1, 0, 0, 1), groups=2), (4, 3, 3, 2),
        (2, 4, 3, 4),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MAPS)
def test_outer_products_add_up_to_the_gradient(name: str) -> None:
    linear, shape, inputs = MAPS[name]
    weight, z = random(*shape), random(*inputs, seed=1)
    y = random(*ExactProjection(linear).product(z, weight).shape, seed=2)
    x, d = line_vectors(linear, z, y, weight)
    assert x.shape[:2] == d.shape[:2]
    found = from_matrix(linear, d.mT @ x, tuple(weight.shape))
    torch.testing.assert_close(found, weight_grad(linear, z, y, weight))


def test_the_windows_of_a_sample_are_beside_each_other() -> None:
    linear, shape, inputs = MAPS["convolution"]
    z = random(*inputs)
    z[1] = 0
    y = ExactProjection(linear).product(z, random(*shape))
    x, _ = line_vectors(linear, z, y, random(*shape))
    half = x.shape[1] // 2
    assert bool(x[:, :half].any())
    assert not x[:, half:].any()
