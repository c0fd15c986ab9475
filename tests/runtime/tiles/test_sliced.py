import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from ffebm.hardware.description import Crossbar
from ffebm.plan.conductance import full_scale
from ffebm.runtime.tiles.crossbar import CrossbarTile
from ffebm.runtime.tiles.sliced import SlicedTile
from tests.runtime.tiles.bench import crossbar, random, source, with_cell


def tile_of(kind: Crossbar) -> SlicedTile:
    return SlicedTile(kind, lambda k: CrossbarTile(kind, source(), f"slice {k}", k))


@settings(max_examples=30)
@given(
    levels=st.integers(3, 20),
    slices=st.integers(1, 4),
    mapping=st.sampled_from(["differential", "offset"]),
    seed=st.integers(0, 100),
)
def test_slices_hold_a_weight_as_finely_as_one_cell_of_all_their_levels(
    levels: int, slices: int, mapping: str, seed: int
) -> None:
    kind = replace(with_cell(crossbar(), levels=levels), slices=slices, mapping=mapping)
    weight = random(2, 6, 8, seed=seed)
    tile = tile_of(kind)
    tile.program(weight)
    top = levels**slices - 1 if mapping == "differential" else (levels**slices - 1) // 2
    assert kind.top_level == top
    nearest = (weight / full_scale(weight) * top).round() / top * full_scale(weight)
    torch.testing.assert_close(tile.read(), nearest)


def test_products_are_those_of_the_slices_added() -> None:
    kind = replace(crossbar(levels=4, bits=24), slices=5)
    weight, x, y = random(6, 8), random(3, 8, seed=1), random(3, 6, seed=2)
    tile = tile_of(kind)
    tile.program(weight)
    torch.testing.assert_close(tile.mvm(x), x @ tile.read().T, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(tile.mvm_t(y), y @ tile.read(), rtol=1e-4, atol=1e-4)
    assert tile.readings().total == 5 * (3 * 6 + 3 * 8)


@pytest.mark.parametrize("mapping", ["differential", "offset"])
def test_a_step_carries_over_from_digit_to_digit(mapping: str) -> None:
    kind = replace(crossbar(levels=64), slices=3, mapping=mapping)
    weight, step = random(6, 8), 0.01 * random(6, 8, seed=1)
    tile = tile_of(kind)
    tile.program(weight)
    tile.update(step)
    torch.testing.assert_close(tile.read(), weight + step, rtol=0, atol=1e-4)
