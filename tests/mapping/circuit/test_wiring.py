"""That a circuit's wiring, with a weight's matrix on its lines, is the linear map that torch computes."""

import numpy as np
import pytest
import torch

from ffebm.graph.energy_block import Activation, Interaction, Layer, Linear, Rearrangement
from ffebm.mapping.circuit.wiring import NOWHERE, wiring
from ffebm.plan.conductance import to_matrix
from ffebm.runtime.blocks.coupling import Coupling
from ffebm.runtime.blocks.physics.hopfield import Bilinear

CONV = Linear("Conv", "w", strides=(2, 1), pads=(1, 0, 2, 1), dilations=(1, 2), groups=2)
TRANSPOSED = Linear("ConvTranspose", "w", strides=(2, 1), pads=(1, 0, 0, 1), groups=2, output_padding=(1, 0))
DENSE = Linear("MatMul", "w", transposed=True)
FLAT = (Rearrangement("Transpose", (0, 2, 3, 1)), Rearrangement("Reshape", (-1,)))
ROWS = (Rearrangement("Reshape", (4, 15)),)

CASES = {
    "dense": (DENSE, (7, 5), (5,), (7,), (), ()),
    "rows": (DENSE, (7, 5), (3, 5), (3, 7), (), ()),
    "flattened": (DENSE, (7, 60), (4, 5, 3), (7,), FLAT, ()),
    "convolution": (CONV, (6, 2, 3, 2), (4, 6, 5), (6, 4, 4), (), ()),
    "grouped line": (Linear("Conv", "w", groups=2), (4, 1, 3), (2, 8), (4, 6), (), ()),
    "transposed convolution": (TRANSPOSED, (4, 3, 3, 2), (4, 3, 4), (6, 7, 4), (), ()),
    "convolution, flattened behind": (Linear("Conv", "w"), (2, 1, 2, 2), (1, 3, 4), (2, 2, 3), (), FLAT),
    "an identity in rows": (None, (), (60,), (60,), ROWS, ()),
}


@pytest.mark.parametrize("name", CASES)
def test_lines_and_matrix_together_are_the_linear_map(name: str) -> None:
    linear, shape, source, made, before, after = CASES[name]
    rng = np.random.default_rng(0)
    made = (4, 15) if name.startswith("an identity") else made
    layer_shape = (12,) if after else made
    interaction = Interaction("x", source, made, before, linear, None, after)
    layer = Layer("s", layer_shape, Activation("Identity"), (interaction,))
    z = rng.standard_normal((2, *source))
    weight = rng.standard_normal(shape) if linear else np.eye(60)
    coupling = Coupling(layer, interaction, Bilinear())
    expected, _ = coupling.push(torch.from_numpy(z), {"w": torch.from_numpy(weight)})

    kernel = shape[2:] if linear is not None and "Conv" in linear.op else ()
    found = wiring(interaction, kernel)
    matrices = to_matrix(linear, weight) if linear else weight[None]
    padded = np.concatenate([z.reshape(2, -1), np.zeros((2, 1))], axis=1)  # index -1 is zero
    driven = np.zeros((2, int(np.prod(layer_shape)) + 1))
    for group, matrix in enumerate(matrices):
        product = padded[:, found.sources[group]] @ matrix.T
        for row, values in zip(driven, product, strict=True):
            np.add.at(row, found.targets[group], values)
    np.testing.assert_allclose(driven[:, :-1], expected.reshape(2, -1).numpy(), atol=1e-12)
    assert NOWHERE == -1
