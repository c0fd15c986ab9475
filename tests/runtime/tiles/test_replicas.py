from collections.abc import Callable

import pytest
import torch
from msgspec.structs import replace
from torch import Tensor

from ffebm.graph.energy_block import Linear
from ffebm.plan.conductance import to_matrix
from ffebm.plan.schema import Piece
from ffebm.runtime.tiles import projection as module
from ffebm.runtime.tiles.crossbar import CrossbarTile
from ffebm.runtime.tiles.ideal import IdealTile
from ffebm.runtime.tiles.projection import TileProjection, crossbar_projection
from ffebm.runtime.tiles.replicas import ReplicatedTile, tile_of
from ffebm.runtime.tiles.split import SplitTile
from tests.runtime.tiles.bench import crossbar, fine, pieces, random, source
from tests.runtime.tiles.test_projection import CASES, Case


def copied(held: list[Piece], replicas: int) -> list[Piece]:
    return [replace(piece, replica=number) for number in range(replicas) for piece in held]


def uneven(replicas: int) -> ReplicatedTile:
    """Replica k holds k + 1 times the weight that it is given."""

    class Scaled(IdealTile):
        def program(self, weight: Tensor) -> None:
            factors = torch.arange(1.0, replicas + 1).repeat_interleave(len(weight) // replicas)
            super().program(factors[:, None, None] * weight)

    return ReplicatedTile(Scaled(), replicas)


def test_vectors_are_shared_out_one_after_the_other() -> None:
    tile, weight, x, y = uneven(3), random(2, 4, 5), random(2, 7, 5, seed=1), random(2, 7, 4, seed=2)
    tile.program(weight)
    factors = (torch.arange(7) % 3 + 1.0)[:, None]
    assert torch.allclose(tile.mvm(x), factors * (x @ weight.mT), rtol=1e-12)
    assert torch.allclose(tile.mvm_t(y), factors * (y @ weight), rtol=1e-12)
    numbers = torch.tensor([5, 5, 3, 1, 0, 2, 2])
    factors = (numbers % 3 + 1.0)[:, None]
    assert torch.allclose(tile.shared_out(x, numbers), factors * (x @ weight.mT), rtol=1e-12)
    assert torch.allclose(tile.read(), 2 * weight, rtol=1e-12)


def test_copies_are_read_at_once_however_many_there_are() -> None:
    calls = []

    class Counted(IdealTile):
        def mvm(self, x: Tensor) -> Tensor:
            calls.append(x.shape)
            return super().mvm(x)

    tile = tile_of(copied(pieces(2, 4, 5, crossbar()), 6), Counted)
    tile.program(random(2, 4, 5))
    tile.mvm(random(2, 20, 5))
    assert calls == [(12, 1, 1, 4, 5)]  # four vectors for each of six copies of two groups


def test_updates_and_states_reach_every_copy() -> None:
    tile, weight = uneven(2), random(1, 4, 5)
    tile.program(weight)
    tile.update(weight)
    assert torch.allclose(tile.each(), torch.stack([2 * weight, 3 * weight]))
    other = uneven(2)
    other.program(torch.zeros_like(weight))
    other.restore(tile.state())
    assert torch.equal(tile.each(), other.each())


def test_no_vector_at_all() -> None:
    tile = uneven(2)
    tile.program(random(1, 4, 5))
    assert tile.mvm(random(1, 0, 5)).shape == (1, 0, 4)
    assert tile.mvm_t(random(1, 0, 4)).shape == (1, 0, 5)


def test_equal_copies_read_as_one() -> None:
    weight = random(1, 4, 5)
    tile = tile_of(copied(pieces(1, 4, 5, crossbar()), 3), IdealTile)
    tile.program(weight)
    assert torch.equal(tile.read(), weight)
    assert isinstance(tile_of(pieces(1, 4, 5, crossbar()), IdealTile), SplitTile)


def held(case: Case) -> list[Piece]:
    groups, n_out, n_in = to_matrix(case.linear, torch.zeros(case.weight)).shape
    return pieces(groups, n_out, n_in, crossbar())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("chunk", [40, 2**19])
def test_without_noise_replicas_are_one_copy(case: Case, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", chunk)
    one = crossbar_projection(case.linear, held(case), fine(), source())
    two = crossbar_projection(case.linear, copied(held(case), 2), fine(), source())
    weight, z = random(*case.weight), random(3, *case.z, seed=1)
    found = two.product(z, weight)
    assert torch.allclose(found, one.product(z, weight), rtol=1e-12, atol=1e-12)
    error = random(*found.shape, seed=2)
    expected = one.product_t(error, weight, case.z)
    assert torch.allclose(two.product_t(error, weight, case.z), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("chunk", [40, 2**19])
def test_an_error_returns_through_the_copy_that_its_window_went_through(
    case: Case, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """<y, W z> = <W' y, z> with three copies of different weights, in chunks of any size."""
    monkeypatch.setattr(module, "CHUNK", chunk)
    two = crossbar_projection(case.linear, held(case), fine(), source())
    two.array.tile = uneven(3)
    weight, z = random(*case.weight), random(2, *case.z, seed=1)
    out = two.product(z, weight)
    error = random(*out.shape, seed=2)
    back = two.product_t(error, weight, case.z)
    assert torch.allclose((out * error).sum(), (back * z).sum(), rtol=1e-9)
    whole = two.product(z[:1], weight)
    assert torch.allclose(whole, out[:1], rtol=1e-12)


def noisy(replicas: int, seed: int = 0) -> TileProjection:
    described = crossbar(programming=0.05)
    linear = Linear("MatMul", "w", transposed=True)
    return crossbar_projection(linear, copied(pieces(1, 6, 8, described), replicas), described, source(seed))


def test_each_replica_has_noise_of_its_own() -> None:
    """Four equal rows of one sample: rows of one replica agree, the other's cells missed by other amounts."""
    tile, weight, row = noisy(2), random(6, 8), random(8, seed=1)
    out = tile.product(row.expand(1, 4, 8), weight)[0]
    assert torch.equal(out[0], out[2])
    assert torch.equal(out[1], out[3])
    assert not torch.equal(out[0], out[1])


def reads_of(make: Callable[[], CrossbarTile]) -> int:
    tile = tile_of(copied(pieces(1, 6, 8, crossbar()), 2), make)
    tile.program(random(1, 6, 8))
    tile.mvm(random(1, 10, 8))
    return tile.readings().total


def test_a_vector_is_read_by_one_replica() -> None:
    assert reads_of(lambda: CrossbarTile(crossbar(), source())) == 10 * 6
