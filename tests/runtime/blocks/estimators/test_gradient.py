import math
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, assume, given, settings
from torch import Tensor

from ffebm.errors import UsageError
from ffebm.graph.energy_block import Activation, Linear
from ffebm.plan.schema import Settle
from ffebm.runtime.blocks.circuit import Circuit
from ffebm.runtime.blocks.estimators import gradient, nudged
from ffebm.runtime.blocks.estimators.contrast import Gradients, contrast
from ffebm.runtime.blocks.estimators.gradient import EP, Implicit, Unrolled
from ffebm.runtime.blocks.projection import ExactProjection
from tests.runtime.some_blocks import IDENTITY, Builder, Case, cases, published_chain, smooth_chain

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


def deep_chain(batch: int = 8) -> Case:
    """Six linear layers whose answers shrink from layer to layer."""
    b = Builder(seed=5, batch=batch)
    b.input("x", 16)
    for k in range(6):
        b.dense(f"s{k}", f"s{k - 1}" if k else "x", 16, Activation("Clip", low=0.0, high=1.0))
        b.weights[f"s{k}.w"] = 0.08 * b.random(16, 16)
        b.weights[f"s{k}.b"] = torch.full((16,), 0.5, dtype=torch.float64)
    return b.case()


def cosines(found: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, float]:
    size = {name: float(g.norm() * found[name].norm()) for name, g in expected.items()}
    return {n: float((found[n] * g).sum()) / size[n] if size[n] else 0.0 for n, g in expected.items()}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    "options",
    [{"beta": 0.02}, {"beta": 0.02, "points": 1}, {"beta": 0.2}, {"beta": 0.02, "relative": False}],
)
def test_a_tolerance_waits_for_the_answer_of_every_layer(options: Any, dtype: torch.dtype) -> None:
    case = deep_chain()
    case = Case(
        case.block,
        {name: w.to(dtype) for name, w in case.weights.items()},
        {name: x.to(dtype) for name, x in case.inputs.items()},
    )
    completely = Settle(free_sweeps=400, nudged_sweeps=400, tol=1e-12)
    _, exact, _ = case.run(Implicit(), completely)
    _, settled, _ = case.run(EP(**options), completely)
    _, found, equilibrium = case.run(EP(**options), Settle(free_sweeps=100, nudged_sweeps=100, tol=1e-3))
    assert min(cosines(found, exact).values()) > (0.99 if options["beta"] < 0.1 else 0.98)
    assert min(cosines(found, settled).values()) > 0.999
    assert all(0.99 < float(found[n].norm() / g.norm()) < 1.01 for n, g in settled.items())
    assert equilibrium.backward is not None
    assert bool(equilibrium.backward.converged.all())
    assert int(equilibrium.backward.sweeps.max()) < 30


def test_a_nudge_that_has_not_reached_every_layer_has_not_settled() -> None:
    # a sweep carries the nudge over two layers of six
    case = deep_chain()
    for sweeps in (1, 2):
        for tol in (None, 1e-3):
            _, found, equilibrium = case.run(EP(), Settle(nudged_sweeps=sweeps, tol=tol))
            assert equilibrium.backward is not None
            assert not bool(equilibrium.backward.converged.any())
            assert float(equilibrium.backward.residual.min()) >= 1.0
            assert float(found["s0.w"].norm()) == 0.0


@pytest.mark.parametrize("factor", [10.0, 0.1, 1e-3, 1e-9, 1e30])
@pytest.mark.parametrize("options", [{}, {"points": 1}, {"beta": "auto"}, {"points": 2, "beta": 0.5}])
def test_gradients_by_a_relative_nudge_are_proportional_to_the_loss(factor: float, options: Any) -> None:
    class Scaled(Case):
        def loss(self, outputs: Any) -> Tensor:
            return factor * Case.loss(self, outputs)

    case, settle = published_chain(), Settle(free_sweeps=60, nudged_sweeps=20)
    relative = EP(relative=True, **options)
    _, expected, _ = case.run(relative, settle)
    _, found, _ = Scaled(case.block, case.weights, case.inputs).run(relative, settle)
    assert distance({name: g / factor for name, g in found.items()}, expected) < 1e-9


def test_a_sample_is_nudged_alike_in_every_batch() -> None:
    case, settle = published_chain(batch=4), Settle(free_sweeps=60, nudged_sweeps=20)
    relative = EP(relative=True)
    _, together, _ = case.run(relative, settle)
    alone: dict[str, Tensor] = {}
    for i in range(4):
        _, found, _ = Case(case.block, case.weights, {"x": case.inputs["x"][i : i + 1]}).run(relative, settle)
        for name in case.weights:
            alone[name] = alone.get(name, torch.zeros(())) + found[name] / 4
    assert distance({name: together[name] for name in alone}, alone) < 1e-9


def test_where_a_nudge_is_relative() -> None:
    exact = Circuit(smooth_chain().block, {})
    noisy = Circuit(smooth_chain().block, {0: ExactProjection(Linear("MatMul", "w"))})
    assert [EP().is_relative(c) for c in (exact, noisy)] == [False, True]
    assert [EP(cost=True).is_relative(c) for c in (exact, noisy)] == [False, False]
    assert [EP(relative=True).is_relative(c) for c in (exact, noisy)] == [True, True]
    assert [EP(relative=False).is_relative(c) for c in (exact, noisy)] == [False, False]


def test_a_nudge_that_is_not_relative_has_the_unit_of_the_loss() -> None:
    # in a smooth block the error is that of beta squared, and beta grows with the loss
    case = smooth_chain()

    class Tenth(Case):
        def loss(self, outputs: Any) -> Tensor:
            return 0.1 * Case.loss(self, outputs)

    _, exact, _ = case.run(Implicit(1e-14), EXACT)
    _, whole, _ = case.run(EP(0.2, relative=False), EXACT)
    _, tenth, _ = Tenth(case.block, case.weights, case.inputs).run(EP(0.2, relative=False), EXACT)
    ratio = distance(whole, exact) / distance({name: 10 * g for name, g in tenth.items()}, exact)
    assert 30 < ratio < 300


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


@pytest.mark.parametrize("wanted", [{"s1.w"}, {"s2.b"}, {"x"}, {"s2.w", "s1.b"}])
@pytest.mark.parametrize("estimator", [EP(1e-3), EP(1e-3, points=1), EP(1e-2, points=3), Implicit()])
def test_no_gradient_is_made_that_nobody_wants(
    wanted: set[str], estimator: EP | Implicit, monkeypatch: pytest.MonkeyPatch
) -> None:
    b = Builder()
    b.input("x", 6)
    b.dense("s1", "x", 5, Activation("Tanh"))
    b.dense("s2", "s1", 4, IDENTITY)
    case, made = b.case(), []

    def spied(*arguments: Any) -> Gradients:
        made.append(contrast(*arguments))
        return made[-1]

    monkeypatch.setattr(gradient, "contrast", spied)
    monkeypatch.setattr(nudged, "contrast", spied)
    leaves = {**case.weights, **case.inputs}
    found = {name: t.clone().requires_grad_(name in wanted) for name, t in leaves.items()}
    weights, inputs = ({name: found[name] for name in group} for group in (case.weights, case.inputs))
    case.loss(case.runtime().run(inputs, weights, EXACT, estimator)[0]).backward()  # type: ignore[no-untyped-call]
    assert {*made[0].weights, *made[0].inputs} == wanted


@pytest.mark.parametrize("estimator", [EP(0.1), EP(0.1, points=1), EP(0.1, points=3), EP(0.1, points=4)])
def test_nudged_phases_start_from_the_free_state(estimator: EP) -> None:
    """Without a current it is their equilibrium too: one sweep moves nothing, and no gradient is made."""
    b = Builder()
    b.input("x", 6)
    for name, source in (("s1", "x"), ("s2", "s1"), ("s3", "s2")):
        b.dense(name, source, 5, Activation("Tanh"))
    case = b.case()
    weights = {name: w.clone().requires_grad_() for name, w in case.weights.items()}
    settle = Settle(free_sweeps=400, nudged_sweeps=1, tol=1e-15)
    (out,) = case.runtime().run(case.inputs, weights, settle, estimator)[0].values()
    (0.0 * out).sum().backward()  # type: ignore[no-untyped-call]
    for weight in weights.values():
        assert weight.grad is not None
        assert float(weight.grad.abs().max()) < 1e-12


def test_points_on_a_circle_start_from_the_free_state_too() -> None:
    """After one sweep they give what two points give that nudge much less."""
    b = Builder()
    b.input("x", 6)
    for name, source in (("s1", "x"), ("s2", "s1"), ("s3", "s2")):
        b.dense(name, source, 5, Activation("Tanh"))
    case = b.case()
    settle = Settle(free_sweeps=400, nudged_sweeps=1)
    circle, centered = (case.run(estimator, settle)[1] for estimator in (EP(0.02, points=4), EP(1e-4)))
    assert float(centered["s3.w"].norm()) > 0.01
    assert distance(circle, centered) < 1e-6


def test_in_single_precision_the_adjoint_is_solved_as_well_as_it_can_be() -> None:
    case = smooth_chain()
    single = Case(
        case.block,
        {name: w.float() for name, w in case.weights.items()},
        {name: x.float() for name, x in case.inputs.items()},
    )
    settle = Settle(free_sweeps=100)
    outcome = single.run(Implicit(1e-12), settle)[2].backward
    assert outcome is not None
    assert bool(outcome.converged.all())
    assert int(outcome.sweeps.max()) < 50
    assert distance(single.run(Implicit(1e-12), settle)[1], case.run(Implicit(1e-12), settle)[1]) < 1e-3
