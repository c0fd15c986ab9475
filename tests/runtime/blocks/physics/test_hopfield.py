import itertools
import math

import pytest
import torch
from hypothesis import HealthCheck, Phase, assume, given, settings
from torch import Tensor

from ffebm.errors import UsageError
from ffebm.graph.energy_block import Activation
from ffebm.plan.schema import Settle
from ffebm.runtime.blocks.block_runtime import BlockRuntime
from ffebm.runtime.blocks.estimators.gradient import EP, Implicit
from ffebm.runtime.blocks.physics.activation import bounds
from tests.runtime.some_blocks import (
    KINKED,
    SMOOTH,
    Builder,
    Case,
    average_pool,
    cases,
    max_pool,
    published_chain,
    smooth_chain,
)

EXACT = Settle(free_sweeps=600, tol=1e-14)
PROPERTY = settings(
    max_examples=20,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    phases=[Phase.explicit, Phase.generate],
)


def slopes(case: Case, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Gradient of the energy by each layer, less what the bounds of its states hold back."""
    leaves = {name: s.detach().requires_grad_() for name, s in state.items()}
    grads = torch.autograd.grad(case.energy(leaves).sum(), list(leaves.values()))
    found = {}
    for layer, s, grad in zip(case.block.layers, state.values(), grads, strict=True):
        low, high = bounds(layer.activation)
        held = ((s <= low) & (grad >= 0)) | ((s >= high) & (grad <= 0))
        found[layer.value] = torch.where(held, 0.0, grad)
    return found


def may_rise(case: Case) -> bool:
    """A maximum under a negative layer: its energy has no bound that is linear in the source."""
    pooled = [
        layer.activation
        for layer, interaction in case.block.interactions()
        if interaction.pool is not None and interaction.pool.op == "MaxPool"
    ]
    return any(bounds(activation)[0] < 0 for activation in pooled)


@PROPERTY
@given(cases())
def test_a_settled_state_is_stationary(case: Case) -> None:
    equilibrium = case.settled(EXACT)
    assume(bool(equilibrium.converged.all()))  # with a maximum inside, limit cycles are real
    for name, slope in slopes(case, equilibrium.state).items():
        # a state of a flat activation leaves its drive open by as much as it is flat
        assert float(slope.abs().max()) < 1e-9, name


@PROPERTY
@given(cases())
def test_a_state_that_has_not_settled_is_not(case: Case) -> None:
    assume(len(case.block.layers) > 1)
    early = case.settled(Settle(free_sweeps=1))
    late = case.settled(EXACT)
    assume(bool(late.converged.all()))
    assume(max(float((s - early.state[name]).abs().max()) for name, s in late.state.items()) > 1e-3)
    size = max(float(slope.abs().max()) for slope in slopes(case, early.state).values())
    assert size > 1e-6


@PROPERTY
@given(cases())
def test_sweeps_never_raise_the_energy(case: Case) -> None:
    assume(not may_rise(case))
    energies = [case.energy(case.settled(Settle(free_sweeps=n)).state) for n in (1, 2, 3, 5, 8)]
    for before, after in itertools.pairwise(energies):
        assert bool((after <= before + 1e-12 * (1 + before.abs())).all())


@pytest.mark.parametrize("activation", SMOOTH + KINKED, ids=lambda a: a.op)
@pytest.mark.parametrize("pool", [None, "average", "maximum"])
def test_every_activation_behind_every_pooling(activation: Activation, pool: str | None) -> None:
    b = Builder(3, batch=2)
    b.input("x", 2, 6, 6)
    b.conv("s1", "x", 3, activation)
    pools = {"average": average_pool(3, 2, (1, 1, 1, 1)), "maximum": max_pool(3, 2, (1, 1, 0, 1))}
    b.conv("s2", "s1", 3, Activation("Sigmoid"), pools.get(pool or ""))
    b.dense("s3", "s2", 4, activation)
    case = b.case()
    equilibrium = case.settled(EXACT)
    assert bool(equilibrium.converged.all())
    assert max(float(slope.abs().max()) for slope in slopes(case, equilibrium.state).values()) < 1e-9


def test_the_energy_of_two_units_by_hand() -> None:
    b = Builder(batch=1)
    b.input("x", 1)
    b.dense("s", "x", 1, Activation("Clip", 0.5, low=0.0, high=1.0))
    b.dense("t", "s", 1, Activation("Tanh"))
    case = b.case()
    case.inputs["x"][:] = 2.0
    case.weights.update(
        {k: torch.full_like(w, v) for (k, w), v in zip(case.weights.items(), (3, 4, 5, 6), strict=True)}
    )
    assert list(case.weights) == ["s.w", "s.b", "t.w", "t.b"]
    s, t = 0.25, 0.5
    potentials = s**2 / (2 * 0.5) + (1.5 * math.log(1.5) + 0.5 * math.log(0.5)) / 2
    expected = potentials - s * (3 * 2.0 + 4) - t * (5 * s + 6)
    found = case.energy({"s": torch.tensor([[s]]).double(), "t": torch.tensor([[t]]).double()})
    assert float(found) == pytest.approx(expected, rel=1e-14)


def test_gradients_are_those_of_the_implicit_function_theorem_on_the_energy() -> None:
    """dL/dw = -(dE/dw ds)^T (dE/ds ds)^-1 dL/ds with all derivatives by autograd: no code of an estimator."""
    case = smooth_chain(batch=1)
    _, grads, equilibrium = case.run(Implicit(1e-14), EXACT)
    shapes = {name: s.shape for name, s in equilibrium.state.items()}
    flat = torch.cat([s.flatten() for s in equilibrium.state.values()])

    def by_name(values: Tensor) -> dict[str, Tensor]:
        parts = torch.split(values, [shape.numel() for shape in shapes.values()])
        return {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}

    hessian = torch.autograd.functional.hessian(  # type: ignore[no-untyped-call]
        lambda v: case.energy(by_name(v)).sum(), flat
    )
    leaf = flat.clone().requires_grad_()
    (delta,) = torch.autograd.grad(case.loss({"s3": by_name(leaf)["s3"]}), leaf)
    answer = torch.linalg.solve(hessian, delta)

    leaves = {name: t.clone().requires_grad_() for name, t in (case.weights | case.inputs).items()}
    weights = {name: leaves[name] for name in case.weights}
    inputs = {name: leaves[name] for name in case.inputs}
    leaf = flat.clone().requires_grad_()
    energy = BlockRuntime(case.block).energy(inputs, weights, by_name(leaf)).sum()
    (force,) = torch.autograd.grad(energy, leaf, create_graph=True)
    expected = torch.autograd.grad(-(force @ answer), list(leaves.values()))
    for name, grad in zip(leaves, expected, strict=True):
        torch.testing.assert_close(grads[name], grad, rtol=1e-9, atol=1e-12)


def test_a_state_out_of_range_has_infinite_energy() -> None:
    case = published_chain()
    state = case.settled(EXACT).state
    state["s2"][1] += 2.0
    energy = case.energy(state)
    assert bool(energy[[0, 2]].isfinite().all())
    assert float(energy[1]) == math.inf


def test_low_precision_states_are_computed_in_single() -> None:
    case = published_chain()
    inputs, weights = ({n: t.half() for n, t in given.items()} for given in (case.inputs, case.weights))
    with torch.no_grad():
        _, equilibrium = BlockRuntime(case.block).run(inputs, weights, EXACT, EP())
        found = BlockRuntime(case.block).energy(inputs, weights, equilibrium.state)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), case.energy(case.settled(EXACT).state), rtol=1e-2, atol=1e-2)


def test_a_missing_state_is_named() -> None:
    case = published_chain()
    state = case.settled(EXACT).state
    del state["s3"]
    with pytest.raises(UsageError) as error:
        case.energy(state)
    assert str(error.value) == (
        "block0: the energy at no state of 's3'; a state for each of its layers, here [batch, 5, 3, 3]\n"
        "  hint: `Equilibrium.state` holds them by name"
    )
    state["s3"] = torch.zeros(3, 5)
    with pytest.raises(UsageError, match="the energy at a state \\[3, 5\\] of 's3'"):
        case.energy(state)


def test_any_weights_will_do() -> None:
    case = smooth_chain()
    kept = {name: w.clone() for name, w in case.weights.items()}
    case.runtime().constrain(case.weights)
    assert all(torch.equal(kept[name], w) for name, w in case.weights.items())
