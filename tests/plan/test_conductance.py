from typing import Any

import numpy as np
import pytest
import torch
from msgspec.structs import replace

from ffebm.plan.conductance import to_levels, weight_range
from tests.machines import ratio
from tests.runtime.tiles.bench import crossbar, random
from tests.runtime.tiles.devices.test_pulses import law

WEIGHT = torch.tensor([[0.5, -2.0, 0.25], [0.0, 0.0, 0.0], [0.1, 0.05, -0.2]])


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [[2.0]]),
        ({"omega": 0.5}, [[4.0]]),
        ({"scale": "column"}, [[2.0], [0.0], [0.2]]),
        ({"scale": "column", "omega": 2.0}, [[1.0], [0.0], [0.1]]),
        # room for twice the largest weight, and for twice 1 / sqrt(16) at least
        ({"update": law(range=ratio(2.0))}, [[4.0]]),
        ({"update": law(range=ratio(2.0)), "scale": "column"}, [[4.0], [0.5], [0.5]]),
        ({"update": law(range=ratio(2.0), spread=0.0), "scale": "column"}, [[4.0], [2.0], [0.4]]),
        ({"update": law(range=ratio(2.0), spread=10.0)}, [[5.0]]),
    ],
)
def test_the_range_of_weights(settings: dict[str, Any], expected: list[list[float]]) -> None:
    tile = replace(crossbar(), **settings)
    np.testing.assert_allclose(weight_range(WEIGHT.numpy(), tile, 16), expected, rtol=1e-6)
    assert torch.allclose(weight_range(WEIGHT, tile, 16), torch.tensor(expected))


def test_an_outlier_costs_its_own_column_only() -> None:
    weight = random(64, 64)
    weight[3, 5] = 1000.0
    found = {}
    for scale in ("piece", "column"):
        tile = replace(crossbar(), scale=scale)
        reach = weight_range(weight, tile, 64)
        found[scale] = to_levels(weight, reach, tile) / tile.top_level * reach - weight
    others = torch.arange(64) != 3
    # one scale: all other weights lie within half a level of zero
    assert float(found["piece"][others].norm() / weight[others].norm()) == pytest.approx(1.0, abs=0.01)
    # a uniform error of one of 127 steps up to the largest of 64 normal weights, about 2.5
    assert float(found["column"][others].norm() / weight[others].norm()) < 2.5 / 127 / 12**0.5 * 1.2


def test_weights_beyond_the_range_are_clipped() -> None:
    tile = replace(crossbar(), omega=4.0)
    reach = weight_range(WEIGHT, tile, 16)
    held = to_levels(WEIGHT, reach, tile) / tile.top_level * reach
    assert torch.allclose(held, WEIGHT.clamp(-0.5, 0.5), atol=0.5 / 254 * 1.001)
