import pytest
import torch
from torch import Tensor, nn

from ffebm.graph.energy_block import Linear
from ffebm.runtime.tiles.ideal import IdealTile
from ffebm.runtime.tiles.master import MasteredTile
from ffebm.runtime.tiles.projection import TileProjection
from tests.runtime.tiles.bench import random


class CountingTile(IdealTile):
    """Counts how often it is programmed."""

    times = 0

    def program(self, weight: Tensor) -> None:
        self.times += 1
        super().program(weight)


@pytest.fixture
def tile() -> CountingTile:
    return CountingTile()


@pytest.fixture
def projection(tile: CountingTile) -> TileProjection:
    linear = Linear("MatMul", "w")
    return TileProjection(linear, MasteredTile(linear, tile))


def test_a_parameter_is_programmed_once_for_each_change(
    projection: TileProjection, tile: CountingTile
) -> None:
    weight = nn.Parameter(random(4, 3))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    for step in range(1, 4):
        z = random(2, 4, seed=step)
        out = projection.product(z, weight)
        projection.product_t(out, weight.detach(), (4,))
        projection.product(z, weight)
        assert tile.times == step
        torch.testing.assert_close(out, z @ weight)
        weight.grad = torch.ones(4, 3, dtype=torch.float64)
        optimizer.step()


def test_new_values_are_seen_however_they_come(projection: TileProjection, tile: CountingTile) -> None:
    weight, z = nn.Parameter(random(4, 3)), random(2, 4, seed=1)
    projection.product(z, weight)
    weight.data = random(4, 3, seed=2)
    torch.testing.assert_close(projection.product(z, weight), z @ weight)
    weight = nn.Parameter(random(4, 3, seed=3))
    torch.testing.assert_close(projection.product(z, weight), z @ weight)
    with torch.no_grad():
        weight.copy_(random(4, 3, seed=4))
    torch.testing.assert_close(projection.product(z, weight), z @ weight)
    assert tile.times == 4


def test_projections_of_one_weight_share_its_tile(projection: TileProjection, tile: CountingTile) -> None:
    other = TileProjection(Linear("MatMul", "w"), projection.array)
    weight, z = nn.Parameter(random(4, 3)), random(2, 4, seed=1)
    assert torch.equal(projection.product(z, weight), other.product(z, weight))
    assert tile.times == 1


def test_a_copy_of_the_same_value_is_not_programmed_again(
    projection: TileProjection, tile: CountingTile
) -> None:
    weight, z = nn.Parameter(random(4, 3)), random(2, 4, seed=1)
    projection.product(z, weight)
    projection.product(z, weight.detach().clone())
    assert tile.times == 1
    with torch.no_grad():
        weight.add_(1.0)
    projection.product(z, weight.detach().clone())
    assert tile.times == 2


def test_a_parameter_that_learns_in_place_shows_what_the_tile_holds(tile: CountingTile) -> None:
    linear = Linear("MatMul", "w")
    array, weight = MasteredTile(linear, tile), nn.Parameter(random(4, 3))
    first = weight.detach().clone()
    array.learn(weight)
    assert not torch.any(weight != first)
    with torch.no_grad():
        weight.add_(0.25)
    array.learn(weight)
    array.learn(weight)
    assert tile.times == 1  # programmed once, then updated
    torch.testing.assert_close(weight.detach(), first + 0.25)
    torch.testing.assert_close(tile.read()[0].T, weight.detach())


def test_who_says_what_a_weight_is(tile: CountingTile) -> None:
    """The parameter until it is learnt or shown, and again when another value is read."""
    array, weight = MasteredTile(Linear("MatMul", "w"), tile), nn.Parameter(random(4, 3))
    assert not array.is_learning
    array.learn(weight)
    assert array.is_learning
    array.holding(random(4, 3, seed=1))
    assert not array.is_learning
    array.show(weight)
    assert array.is_learning
    torch.testing.assert_close(weight.detach(), random(4, 3, seed=1))
    array.empty()
    assert not array.is_learning
