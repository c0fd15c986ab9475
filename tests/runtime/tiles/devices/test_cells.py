import math

import pytest
import torch
from msgspec.structs import replace
from torch import Tensor

from ffebm.hardware.description import Crossbar, Stuck, Verify
from ffebm.runtime.tiles.devices.cells import PairedCells
from tests.machines import ratio
from tests.runtime.tiles.bench import crossbar, drift, source, with_cell

LOW, HIGH = 0.25e-6, 25e-6  # siemens, of the reference cell


def programmed(levels: Tensor, kind: Crossbar, seed: int = 0, name: str = "") -> PairedCells:
    cells = PairedCells(kind, source(seed), name)
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


MANY = torch.full((400, 500), 64.0, dtype=torch.float64)
MIDDLE = LOW + 64 / 127 * (HIGH - LOW)


def missed(cells: PairedCells) -> Tensor:
    """By how much the cells that count up miss a level of 64, as a share of the range."""
    return (cells.plus - MIDDLE) / (HIGH - LOW)


@pytest.mark.parametrize("writes", [2, 3, 5])
def test_write_and_verify_leaves_what_so_many_tries_leave(writes: int) -> None:
    sigma, tolerance = 0.01, 0.008
    verify = Verify(writes=writes, tolerance=ratio(tolerance))
    error = missed(programmed(MANY, with_cell(crossbar(programming=sigma), verify=verify)))
    within = math.erf(tolerance / sigma / math.sqrt(2))  # of one write
    share = float((error.abs() > tolerance).double().mean())
    expected = (1 - within) ** writes
    assert share == pytest.approx(expected, abs=4 * math.sqrt(expected / MANY.numel()))


def test_verified_cells_have_the_deviation_of_a_truncated_normal_number() -> None:
    sigma, tolerance = 0.01, 0.008
    verify = Verify(writes=200, tolerance=ratio(tolerance))
    error = missed(programmed(MANY, with_cell(crossbar(programming=sigma), verify=verify)))
    assert float(error.abs().max()) <= tolerance
    a = tolerance / sigma
    density = math.exp(-a * a / 2) / math.sqrt(2 * math.pi)
    expected = sigma * math.sqrt(1 - 2 * a * density / math.erf(a / math.sqrt(2)))
    assert float(error.std()) == pytest.approx(expected, rel=0.01)
    assert abs(float(error.mean())) < 4 * expected / MANY.numel() ** 0.5


def test_variation_is_the_same_at_every_write_and_that_of_the_machine() -> None:
    kind = with_cell(crossbar(), variation=ratio(0.05))
    cells = programmed(MANY, kind, name="a")
    first = cells.plus.clone()
    factor = first / MIDDLE
    assert float(factor.std()) == pytest.approx(0.05, rel=0.01)
    assert float(factor.mean()) == pytest.approx(1.0, abs=4 * 0.05 / MANY.numel() ** 0.5)
    cells.program(MANY / 2)
    half = LOW + 32 / 127 * (HIGH - LOW)
    torch.testing.assert_close(cells.plus / half, factor)
    assert torch.equal(programmed(MANY, kind, seed=1, name="a").plus, first)
    other = programmed(MANY, kind, name="b").plus
    both = torch.stack([first.flatten(), other.flatten()])
    assert abs(float(torch.corrcoef(both)[0, 1])) < 0.01


def test_each_verified_write_leaves_the_share_of_an_error_that_is_the_cells_own() -> None:
    kind = with_cell(crossbar(), variation=ratio(0.1))
    once = missed(programmed(MANY, kind)) * (HIGH - LOW)
    verify = Verify(writes=3, tolerance=ratio(1e-12))
    thrice = missed(programmed(MANY, with_cell(kind, verify=verify))) * (HIGH - LOW)
    # an error of e becomes -d e, with d of the cell: first d target
    d = once / MIDDLE
    torch.testing.assert_close(thrice, MIDDLE * d**3, rtol=1e-4, atol=1e-14)


def test_stuck_cells_stay_where_they_are() -> None:
    kind = with_cell(crossbar(programming=0.01), stuck=Stuck(at_min=ratio(0.04), at_max=ratio(0.01)))
    cells = programmed(MANY, kind, name="a")
    at_min, at_max = cells.plus == LOW, cells.plus == HIGH
    n = MANY.numel()
    assert float(at_min.double().mean()) == pytest.approx(0.04, abs=4 * math.sqrt(0.04 / n))
    assert float(at_max.double().mean()) == pytest.approx(0.01, abs=4 * math.sqrt(0.01 / n))
    cells.program(-MANY / 3)
    cells.move(torch.full_like(MANY, 0.3))
    assert bool((cells.plus[at_min] == LOW).all())
    assert bool((cells.plus[at_max] == HIGH).all())
    again = programmed(MANY, kind, seed=5, name="a")
    assert torch.equal(again.plus == HIGH, at_max)


def test_drift_follows_its_law() -> None:
    nu, spread, elapsed = 0.05, 0.02, 1e6
    cells = programmed(MANY, with_cell(crossbar(), drift=drift(nu, 0.0, elapsed)))
    torch.testing.assert_close(cells.held(), 64 / 127 * torch.full_like(MANY, elapsed**-nu))
    cells = programmed(MANY, with_cell(crossbar(), drift=drift(nu, spread, elapsed)))
    found = (cells.held() * (HIGH - LOW) + LOW * elapsed**-nu) / MIDDLE  # the other cell of a pair is small
    log = math.log(elapsed)
    mean = math.exp(-nu * log + (spread * log) ** 2 / 2)  # of a log-normal number
    assert float(found.mean()) == pytest.approx(mean, rel=0.005)
    deviation = mean * math.sqrt(math.exp((spread * log) ** 2) - 1)
    assert float(found.std()) == pytest.approx(deviation, rel=0.02)
    at_start = programmed(MANY, with_cell(crossbar(), drift=drift(nu, spread, 1.0)))
    torch.testing.assert_close(at_start.held(), MANY / 127)


def test_compensation_makes_up_for_the_mean_decay() -> None:
    levels = torch.randint(-127, 128, (2, 100, 100), generator=source()).double()
    kind = with_cell(crossbar(), drift=drift(0.05, 0.0, 1e6, compensated=True))
    factor = programmed(levels, kind).compensation()
    assert factor is not None
    torch.testing.assert_close(factor, torch.full((2, 1, 1), 1e6**0.05, dtype=torch.float64))
    spread = programmed(levels, with_cell(crossbar(), drift=drift(0.05, 0.01, 1e6, compensated=True)))
    factor = spread.compensation()
    assert factor is not None
    total = (spread.held() * factor).abs().sum((-2, -1))
    torch.testing.assert_close(total, levels.abs().sum((-2, -1)) / 127)
    assert programmed(levels, with_cell(crossbar(), drift=drift(0.05))).compensation() is None
    zeros = programmed(torch.zeros(1, 3, 3), kind).compensation()
    assert zeros is not None
    assert zeros.item() == 1.0


def test_an_offset_column_is_shared_by_the_weights_of_a_row() -> None:
    kind = replace(crossbar(levels=6), mapping="offset")  # steps -2 ... 2 of 5
    levels = torch.tensor([[2.0, -2.0, 0.0], [1.0, 0.0, -1.0]], dtype=torch.float64)
    cells = programmed(levels, kind)
    step = (HIGH - LOW) / 5
    torch.testing.assert_close(cells.plus, LOW + (levels + 2) * step)
    torch.testing.assert_close(cells.minus, torch.full((1, 3), LOW + 2 * step, dtype=torch.float64))
    torch.testing.assert_close(cells.held(), levels / 5)
    column = cells.minus.clone()
    cells.move(torch.tensor([[0.2, 0.0, 0.2], [0.4, 0.0, 0.0]], dtype=torch.float64))
    torch.testing.assert_close(
        cells.held() * 5, torch.tensor([[2.0, -2.0, 1.0], [2.0, 0.0, -1.0]], dtype=torch.float64)
    )
    assert torch.equal(cells.minus, column)


def test_errors_of_an_offset_column_are_common_to_its_weights() -> None:
    kind = replace(crossbar(programming=0.01), mapping="offset")
    held = programmed(torch.zeros(300, 2000, dtype=torch.float64), kind).held()
    # each weight has an error of its own and the column's, of equal deviation
    rows = torch.corrcoef(held)
    off = rows[~torch.eye(300, dtype=torch.bool)]
    assert float(off.mean()) == pytest.approx(0.5, abs=0.02)
    assert float(held.std()) == pytest.approx(math.sqrt(2) * 0.01, rel=0.03)


def test_the_transposed_read_meets_other_conductances() -> None:
    kind = replace(crossbar(), mismatch=ratio(0.03))
    cells = programmed(MANY, kind, name="a")
    ratio_of_both = cells.held(transposed=True) / cells.held()
    assert float(ratio_of_both.mean()) == pytest.approx(1.0, abs=0.001)
    # the resting cell of a pair, at g_min, adds a little
    size = math.hypot(MIDDLE, LOW) / (MIDDLE - LOW)
    assert float(ratio_of_both.std()) == pytest.approx(0.03 * size, rel=0.01)
    again = programmed(MANY, kind, seed=3, name="a")
    assert torch.equal(again.held(transposed=True), cells.held(transposed=True))


def test_variation_leaves_no_conductance_negative() -> None:
    """Without noise: a deviation of 2 makes every third factor negative."""
    cells = programmed(torch.zeros(100, 100), with_cell(crossbar(), variation=ratio(2.0)))
    for found in (cells.plus, cells.minus):
        assert float(found.min()) == 0.0
        assert 0.25 < float((found == 0).double().mean()) < 0.4


def test_compensation_of_an_array_of_zeros_changes_nothing() -> None:
    kind = with_cell(crossbar(), drift=drift(0.05, compensated=True))
    assert float(programmed(torch.zeros(3, 4), kind).compensation()) == 1.0  # type: ignore[arg-type]
    assert float(programmed(torch.ones(3, 4), kind).compensation()) > 1.0  # type: ignore[arg-type]
