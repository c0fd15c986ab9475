"""Steps that follow residuals, against Young's relation for layers that answer linearly."""

import cmath

import pytest
import torch

from ffebm.plan.schema import Settle
from ffebm.runtime.blocks.estimators.gradient import EP, Implicit, Unrolled
from ffebm.runtime.blocks.settling.step_size import EVERY, MOST, StepSize, next_step
from tests.runtime.some_blocks import published_chain, smooth_chain


def shrinks(r: float, omega: float) -> float:
    """Size of the larger lambda of (lambda + omega - 1)^2 = lambda omega^2 r."""
    half = omega**2 * r / 2 - omega + 1
    root = cmath.sqrt(half**2 - (omega - 1) ** 2)
    return float(max(abs(half + root), abs(half - root)))


def best(r: float) -> float:
    return float(2 / (1 + (1 - r) ** 0.5))


@pytest.mark.parametrize("r", [0.1, 0.5, 0.8, 0.88])
@pytest.mark.parametrize("part", [0.0, 0.3, 0.9])
def test_the_rate_of_any_smaller_step_gives_the_best_one(r: float, part: float) -> None:
    omega = 1 + part * (best(r) - 1)
    rate = torch.tensor([shrinks(r, omega)], dtype=torch.float64)
    found = next_step(rate, torch.tensor([omega], dtype=torch.float64))
    assert float(found) == pytest.approx(best(r), rel=1e-6)


def test_steps_have_a_bound_and_go_back_where_the_residual_grows() -> None:
    rate = torch.tensor([0.99, 1.5, 2.0, 0.05, 0.0])
    omega = torch.tensor([1.0, 1.0, 1.4, 1.2, 1.0])
    # the fourth shrinks as fast as its step can, the last one is there
    assert next_step(rate, omega).tolist() == pytest.approx([MOST, 1.0, 1.2, 1.2, 1.0])


@pytest.mark.parametrize("reach", [2, 3, 4])
def test_a_step_is_looked_for_when_the_nudge_has_reached_all(reach: int) -> None:
    steps = StepSize("auto", nodes=2, reach=reach)
    residuals = [torch.tensor([1.0, 1.0])] * (reach - 1)
    residuals += [torch.tensor([0.5**n, 1.0]) for n in range(EVERY + 1)]
    for residual in residuals:
        assert steps.rows == 1.0
        steps.see(residual)
    rows = steps.rows
    assert isinstance(rows, torch.Tensor)
    assert rows.tolist() == pytest.approx([best(0.5), 1.0, best(0.5), 1.0])
    steps.keep(torch.tensor([0]))
    assert isinstance(steps.rows, torch.Tensor)
    assert steps.rows.tolist() == pytest.approx([best(0.5)] * 2)


def test_a_given_step_stays() -> None:
    steps = StepSize(0.7, nodes=1, reach=1)
    for _ in range(3 * EVERY):
        steps.see(torch.tensor([0.5]))
    assert (steps.rows, steps.is_found) == (0.7, False)


@pytest.mark.parametrize("gradient", [EP(1e-3), EP(1e-3, cost=True), Implicit(), Unrolled(30)])
def test_gradients_are_those_of_plain_sweeps(gradient: EP | Implicit | Unrolled) -> None:
    for case in (smooth_chain(), published_chain()):
        plain, found = (
            case.run(gradient, Settle(free_sweeps=800, nudged_sweeps=800, tol=1e-12, relaxation=relaxation))[
                1
            ]
            for relaxation in (1.0, "auto")
        )
        for name, g in plain.items():
            torch.testing.assert_close(found[name], g, rtol=1e-6, atol=1e-8)
