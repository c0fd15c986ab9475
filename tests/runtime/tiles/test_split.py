import pytest
import torch

from ffebm.errors import InternalError
from ffebm.runtime.tiles.crossbar import CrossbarTile
from ffebm.runtime.tiles.ideal import IdealTile
from ffebm.runtime.tiles.split import SplitTile, Stack, stacks
from ffebm.runtime.tiles.tile import Readings
from tests.runtime.tiles.bench import crossbar, piece, pieces, random, sized, source


def test_equal_pieces_share_a_stack() -> None:
    found = stacks(pieces(2, 12, 16, crossbar()))
    assert found == (Stack((0, 1), ((0, 8), (8, 16)), ((0, 6), (6, 12))),)


def test_uneven_pieces_fall_into_few_stacks() -> None:
    found = stacks(pieces(3, 8, 17, crossbar(), even=False))
    everyone = (0, 1, 2)
    assert set(found) == {
        Stack(everyone, ((0, 8), (8, 16)), ((0, 6),)),
        Stack(everyone, ((0, 8), (8, 16)), ((6, 8),)),
        Stack(everyone, ((16, 17),), ((0, 6),)),
        Stack(everyone, ((16, 17),), ((6, 8),)),
    }


RAGGED = [  # the two groups are cut differently, and not into a grid
    piece(0, (0, 5), (0, 2)),
    piece(0, (0, 3), (2, 4)),
    piece(0, (3, 5), (2, 4)),
    piece(1, (2, 5), (0, 4)),
    piece(1, (0, 2), (0, 4)),
]


def test_every_piece_is_in_one_stack() -> None:
    held = [(g, o, i) for s in stacks(RAGGED) for g in s.groups for o in s.outputs for i in s.inputs]
    assert sorted(held) == sorted((p.group, p.outputs, p.inputs) for p in RAGGED)


def test_any_cut_gives_the_product() -> None:
    tile = SplitTile(RAGGED, IdealTile)
    weight, x, y = random(2, 4, 5), random(2, 3, 5, seed=1), random(2, 3, 4, seed=2)
    tile.program(weight)
    assert torch.equal(tile.read(), weight)
    assert torch.allclose(tile.mvm(x), x @ weight.mT, rtol=1e-12)
    assert torch.allclose(tile.mvm_t(y), y @ weight, rtol=1e-12)
    tile.update(weight)
    assert torch.allclose(tile.mvm(x), 2 * x @ weight.mT, rtol=1e-12)
    assert tile.readings() == Readings()


def test_split_crossbars_do_what_single_crossbars_do() -> None:
    described, generator = crossbar(), source()
    weight, x = random(1, 8, 17), random(1, 3, 17, seed=1)
    cut = pieces(1, 8, 17, described, even=False)
    tile = SplitTile(cut, lambda: CrossbarTile(described, generator))
    tile.program(weight)
    expected = torch.zeros(1, 3, 8, dtype=torch.float64)
    for part in cut:
        alone = CrossbarTile(sized(described, part.n_out, part.n_in), generator)
        alone.program(weight[:, slice(*part.outputs), slice(*part.inputs)])
        expected[..., slice(*part.outputs)] += alone.mvm(x[..., slice(*part.inputs)])
    assert torch.allclose(tile.mvm(x), expected, rtol=1e-12)
    assert tile.readings() == Readings(total=3 * 3 * 8, clipped=0)


def test_pieces_that_do_not_cover_the_weight_are_refused() -> None:
    tile = SplitTile(RAGGED[:-1], IdealTile)
    with pytest.raises(InternalError, match=r"a weight of \[2, 4, 5\]"):
        tile.program(random(2, 4, 5))


def test_pieces_that_do_not_hold_each_element_once() -> None:
    for cut, n_cells in (([*RAGGED, RAGGED[0]], 50), (RAGGED[1:], 30)):
        tile = SplitTile(cut, IdealTile)
        with pytest.raises(InternalError) as caught:
            tile.program(random(2, 4, 5))
        assert str(caught.value) == f"a weight of [2, 4, 5] on pieces with {n_cells} cells, [2, 4, 5]"
