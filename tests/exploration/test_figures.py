"""Figures of points: of whole batches, and of each inference in them."""

import pytest

from ffebm.compiler.variants import Variants
from ffebm.exploration.figures import FIGURES, FRONT_OF_BATCHES, figures_of, summary_of, with_each
from ffebm.exploration.front import on_front
from ffebm.plan.summary import engineering
from tests.exploration.models import request_of


@pytest.mark.parametrize("runs", [1, 3])
def test_an_inference_of_a_batch_takes_its_share(runs: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    request = request_of(tmp_path_factory.getbasetemp() / "batches", "batch=1,3")
    price = Variants(request.model).price(request.variant({"batch": runs}, ()))
    figures, cost = figures_of(price), price.inference.cost
    assert price.runs == runs
    assert figures["inference_s"] == price.inference.makespan_s
    assert figures["time_per_inference_s"] == pytest.approx(price.inference.makespan_s / runs, rel=1e-11)
    assert figures["energy_per_inference_j"] == pytest.approx(cost.energy / runs, rel=1e-11)
    assert list(figures) == [name for name in FIGURES if name in figures]

    time, energy = engineering(price.inference.makespan_s / 3, "s"), engineering(cost.energy / 3, "J")
    told = f"inference: 3 in a batch, {time} and {energy} each"
    assert [line for line in summary_of(price) if "batch" in line] == ([told] if runs == 3 else [])


def test_no_batch_beats_another_one_by_a_rounding() -> None:
    """0.1 + 0.2 takes 0.15 each, as 0.15 alone does; area and latency decide."""
    alone = with_each({"inference_s": 0.15, "inference_j": 0.7, "area_mm2": 1.0}, 1)
    pair = with_each({"inference_s": 0.1 + 0.2, "inference_j": 0.7 * 2, "area_mm2": 1.0}, 2)
    assert (0.1 + 0.2) / 2 != 0.15
    assert pair["time_per_inference_s"] == alone["time_per_inference_s"] == 0.15
    assert on_front([alone, pair], FRONT_OF_BATCHES) == [True, False]


def test_batches_that_take_less_of_each_inference_are_on_the_front() -> None:
    """Of all runs together none would be, whatever it takes of one."""
    prices = {1: (4.0, 4.0), 2: (6.0, 6.0), 4: (16.0, 16.0)}
    rows = [
        with_each({"inference_s": seconds, "inference_j": joules, "area_mm2": 1.0}, runs)
        for runs, (seconds, joules) in prices.items()
    ]
    assert on_front(rows, ("inference_s", "inference_j", "area_mm2")) == [True, False, False]
    assert on_front(rows, FRONT_OF_BATCHES) == [True, True, False]


def test_what_is_not_known_of_a_batch_is_not_known_of_its_inferences() -> None:
    assert with_each({"inference_s": None, "inference_j": 1.0}, 2) == {
        "inference_s": None,
        "inference_j": 1.0,
        "time_per_inference_s": None,
        "energy_per_inference_j": 0.5,
    }
