import pytest
import torch
from torch import Tensor

from ffebm.hardware import Crossbar
from ffebm.runtime.tiles.cells import PairedCells
from tests.runtime.tiles.bench import crossbar, source

LOW, HIGH = 0.25e-6, 25e-6  # siemens, of the reference cell


def programmed(levels: Tensor, kind: Crossbar, seed: int = 0) -> PairedCells:
    cells = PairedCells(kind, source(seed))
    cells.program(levels)
    return cells


def test_a_pair_holds_the_difference_and_the_unused_cell_rests() -> None:
    cells = programmed(torch.tensor([[4.0, -4.0, 2.0, 0.0]], dtype=torch.float64), crossbar(levels=5))
    assert cells.plus.tolist() == [[HIGH, LOW, pytest.approx((LOW + HIGH) / 2), LOW]]
    assert cells.minus.tolist() == [[LOW, HIGH, LOW, LOW]]
    assert cells.held().tolist() == [pytest.approx([1.0, -1.0, 0.5, 0.0])]


def test_programming_noise_has_the_described_mean_and_deviation_on_both_cells() -> None:
    sigma = 0.003
    cells = programmed(torch.full((400, 500), 64.0), crossbar(programming=sigma))
    for found, target in ((cells.plus, LOW + 64 / 127 * (HIGH - LOW)), (cells.minus, LOW)):
        error = (found.double() - target) / (HIGH - LOW)
        assert abs(float(error.mean())) < 4 * sigma / 200_000**0.5
        assert float(error.std()) == pytest.approx(sigma, rel=0.01)
    both = torch.stack([cells.plus.flatten(), cells.minus.flatten()]).double()
    assert abs(float(torch.corrcoef(both)[0, 1])) < 0.01


def test_no_conductance_is_negative() -> None:
    cells = programmed(torch.zeros(100, 100), crossbar(programming=0.05))  # noise is five times g_min
    assert float(cells.plus.min()) == 0.0
    assert float(cells.minus.min()) == 0.0


def test_a_move_adds_and_stays_in_range() -> None:
    cells = programmed(torch.tensor([[127.0, 0.0, -127.0]], dtype=torch.float64), crossbar())
    cells.move(torch.tensor([[0.5, -0.001, 1.25]], dtype=torch.float64))
    assert cells.held().tolist() == [pytest.approx([1.0, -0.001, 0.25])]
    assert float(torch.minimum(cells.plus, cells.minus).max()) == pytest.approx(LOW)


def test_a_pair_that_stays_is_left_alone() -> None:
    cells = programmed(torch.full((10, 10), 30.0), crossbar(programming=0.01))
    before = cells.held()
    change = torch.zeros(10, 10)
    change[3] = 0.1
    cells.move(change)
    moved = cells.held() != before
    assert moved[3].all()
    assert int(moved.sum()) == 10
