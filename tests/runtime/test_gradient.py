import math
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, assume, given, settings
from torch import Tensor

from ffebm.errors import UsageError
from ffebm.plan import Settle
from ffebm.runtime.gradient import EP, Implicit, Unrolled
from tests.runtime.blocks import IDENTITY, Builder, Case, cases, published_chain, smooth_chain

EXACT = Settle(free_sweeps=400, nudged_sweeps=400, tol=1e-13)
PROPERTY = settings(
    max_examples=25,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    phases=[Phase.explicit, Phase.generate],  # shrinking would take minutes and say no more
)


def distance(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """Largest relative distance over all gradients; tiny ones are compared with the largest."""
    largest = max(float(g.norm()) for g in expected.values())
    floor = 1e-3 * largest + 1e-6
    return max(float((found[k] - g).norm()) / max(float(g.norm()), floor) for k, g in expected.items())


@PROPERTY
@given(cases())
def test_the_exact_adjoint_is_the_derivative_of_the_settled_loss(case: Case) -> None:
    _, grads, equilibrium = case.run(Implicit(1e-13), EXACT)
    assume(bool(equilibrium.converged.all()))  # with a maximum inside, limit cycles are real
    generator = torch.Generator().manual_seed(1)
    step = {n: torch.randn(t.shape, generator=generator, dtype=t.dtype) for n, t in grads.items()}
    expected = sum(float((grads[name] * step[name]).sum()) for name in grads)
    sizes = (1e-5, 1e-6)
    slopes = [
        (case.settled_loss(EXACT, step, h) - case.settled_loss(EXACT, step, -h)) / (2 * h) for h in sizes
    ]
    scale = math.sqrt(sum(float((grads[name] * step[name]).square().sum()) for name in grads)) + abs(expected)
    # a kink inside the interval spoils one of the two sizes at most
    assert min(abs(slope - expected) for slope in slopes) <= 1e-5 * scale + 1e-8


@PROPERTY
@given(cases())
def test_small_nudges_and_unrolling_give_the_exact_adjoint(case: Case) -> None:
    _, exact, equilibrium = case.run(Implicit(1e-13), EXACT)
    assume(bool(equilibrium.converged.all()))
    assert equilibrium.backward is not None
    assert equilibrium.backward.converged.all()
    assert distance(case.run(EP(1e-5), EXACT)[1], exact) < 1e-4
    assert distance(case.run(Unrolled(150), EXACT)[1], exact) < 1e-6


@pytest.mark.parametrize(("points", "order"), [(1, 1), (2, 2), (3, 3), (4, 4)])
def test_the_error_of_smooth_blocks_falls_with_the_power_of_beta_that_theory_says(
    points: int, order: int
) -> None:
    case = smooth_chain()
    _, exact, _ = case.run(Implicit(1e-14), EXACT)
    large, small = (distance(case.run(EP(beta, points), EXACT)[1], exact) for beta in (0.4, 0.2))
    assert math.log2(large / small) == pytest.approx(order, abs=0.25)


@PROPERTY
@given(cases(smooth=True))
def test_points_on_a_circle_beat_centered_ones_on_smooth_blocks(case: Case) -> None:
    _, exact, _ = case.run(Implicit(1e-13), EXACT)
    assert distance(case.run(EP(0.1, points=6), EXACT)[1], exact) < 1e-6


@pytest.mark.parametrize("make", [smooth_chain, published_chain])
@pytest.mark.parametrize("sweeps", [1, 2, 3, 5])
def test_nudging_for_some_sweeps_is_unrolling_as_many(make: Any, sweeps: int) -> None:
    # Ernoult et al. 2019: equal sweep by sweep as beta -> 0, colours visited in opposite orders
    case = make()
    free = Settle(free_sweeps=2000, nudged_sweeps=sweeps)
    _, unrolled, _ = case.run(Unrolled(sweeps), free)
    _, nudged, _ = case.run(EP(1e-6), free)
    top = case.block.layers[-1].interactions[0].linear
    assert distance({top.weight: nudged[top.weight]}, {top.weight: unrolled[top.weight]}) < 1e-5 or sweeps < 2


def test_gradients_do_not_depend_on_the_scale_of_the_loss() -> None:
    case = published_chain()
    settle = Settle(free_sweeps=100, nudged_sweeps=100)
    _, exact, _ = case.run(Implicit(), settle)

    class Scaled(Case):
        def loss(self, outputs: Any) -> Tensor:
            return 1e6 * Case.loss(self, outputs)

    _, scaled, _ = Scaled(case.block, case.weights, case.inputs).run(EP(1e-3), settle)
    assert distance({name: g / 1e6 for name, g in scaled.items()}, exact) < 1e-2


def test_one_sided_nudges_have_opposite_errors_on_opposite_sides() -> None:
    case = smooth_chain()
    _, exact, _ = case.run(Implicit(1e-14), EXACT)
    up, down = (case.run(EP(beta, points=1), EXACT)[1] for beta in (0.02, -0.02))
    mean = {name: (up[name] + down[name]) / 2 for name in up}
    assert distance(mean, exact) < 0.1 * distance(up, exact)


def test_zero_error_current_gives_zero_gradients() -> None:
    class Flat(Case):
        def loss(self, outputs: Any) -> Tensor:
            return sum((s.sum() * 0.0 for s in outputs.values()), torch.zeros(()))

    case = smooth_chain()
    _, grads, _ = Flat(case.block, case.weights, case.inputs).run(EP(), Settle(free_sweeps=20))
    assert all(float(g.abs().max()) < 1e-12 for g in grads.values())


def test_kinks_refuse_more_than_two_points() -> None:
    with pytest.raises(UsageError, match=r"block0: Clip has kinks; .*\n  hint: use EP\(points=2\)"):
        published_chain().run(EP(points=3), Settle())


@pytest.mark.parametrize(
    "options", [{"beta": 0.0}, {"points": 0}, {"points": 3, "cost": True}, {"beta": math.inf}]
)
def test_impossible_options_are_refused(options: Any) -> None:
    with pytest.raises(UsageError):
        EP(**options)


def test_unrolling_needs_a_sweep() -> None:
    with pytest.raises(UsageError):
        Unrolled(0)


def test_a_linear_block_has_the_gradient_of_its_linear_system() -> None:
    b = Builder(batch=2)
    b.input("x", 4)
    b.dense("s1", "x", 5, IDENTITY)
    b.dense("s2", "s1", 3, IDENTITY)
    case = b.case()
    w = {name: t.clone().requires_grad_() for name, t in case.weights.items()}
    x = case.inputs["x"].clone().requires_grad_()
    # s1 = W1 x + b1 + W2^T s2,  s2 = W2 s1 + b2
    inner = torch.eye(3, dtype=torch.float64) - w["s2.w"] @ w["s2.w"].t()
    s2 = torch.linalg.solve(inner, ((x @ w["s1.w"].t() + w["s1.b"]) @ w["s2.w"].t() + w["s2.b"]).t()).t()
    case.loss({"s2": s2}).backward()  # type: ignore[no-untyped-call]
    expected = {name: t.grad for name, t in {**w, "x": x}.items() if t.grad is not None}
    _, grads, equilibrium = case.run(Implicit(1e-14), EXACT)
    assert torch.allclose(equilibrium.state["s2"], s2.detach(), atol=1e-12)
    assert distance(grads, expected) < 1e-12
    _, centered, _ = case.run(EP(1e-3), EXACT)
    # the block is linear, so the nudge has no error of its own at all
    assert distance(centered, expected) < 1e-9
