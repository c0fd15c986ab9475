"""Deep resistive networks: Kirchhoff's law, the power, the energy's slope, gradients, what is refused."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import ffebm
from ffebm.errors import UsageError
from ffebm.graph.energy_block import Activation, Linear
from ffebm.plan.schema import Settle
from ffebm.runtime.blocks.estimators.gradient import EP, Implicit, Unrolled
from ffebm.runtime.blocks.physics.deep_resistive import LEAST, DeepResistive
from tests import models
from tests.runtime.some_blocks import IDENTITY, Builder, Case, average_pool

EXACT = Settle(free_sweeps=2000, nudged_sweeps=2000, tol=1e-14)


def plus(gain: float) -> Activation:
    return Activation("Relu", gain)


def minus(gain: float) -> Activation:
    return Activation("Clip", gain, high=0.0)


def network(seed: int, gain: float) -> Case:
    """Doubled inputs, two layers of either sign each, a convolution below and a linear output."""
    b = Builder(seed, batch=3)
    b.input("x", 4, 4, 4)
    b.inputs["x"][:, 2:] = -b.inputs["x"][:, :2]
    conv = Linear("Conv", "w+", "b+", (2, 2), (1, 1, 1, 1), (1, 1))
    b.layer("h+", plus(gain), b.drive("x", (3, 4, 3, 3), conv))
    other = Linear("Conv", "w-", None, (2, 2), (1, 1, 1, 1), (1, 1))
    b.layer("h-", minus(gain), b.drive("x", (2, 4, 3, 3), other))
    second = [
        b.drive(f"h{sign}", (3, n, 1, 1), Linear("Conv", f"u{sign}", None, (1, 1), (0, 0, 0, 0), (1, 1)))
        for sign, n in (("+", 3), ("-", 2))
    ]
    limit = 0.2 * gain**2
    b.layer("k", Activation("Clip", 0.5 * gain, low=-limit, high=limit), *second)
    b.dense("y", "k", 5, IDENTITY)
    return conducting(b)


def two_layers(gain: float) -> Case:
    b = Builder(1)
    b.input("x", 6)
    b.dense("h", "x", 5, plus(gain))
    b.dense("y", "h", 4, IDENTITY)
    return conducting(b)


def conducting(b: Builder) -> Case:
    """The network with conductances for weights."""
    case = b.case()
    case.physics = DeepResistive()
    for name, w in case.weights.items():
        if not name.endswith((".b", "b+")):
            w.abs_().add_(0.01)
    return case


@pytest.mark.parametrize("gain", [1.0, 4.0])
def test_currents_into_every_node_between_its_diodes_add_up_to_nothing(gain: float) -> None:
    """Kirchhoff's law, with amplifiers that divide what flows back by their gain."""
    case = two_layers(gain)
    state = case.settled(EXACT).state
    x, h, y = case.inputs["x"], state["h"], state["y"]
    g, u = case.weights["h.w"], case.weights["y.w"]
    voltage = h / gain
    up = (g * (x[:, None] - voltage[:, :, None])).sum(2)
    back = (u * (y[:, :, None] - h[:, None])).sum(1) / gain
    # biases are currents in the unit of the energy: of the amplified side of the node
    hidden = up + back + gain * case.weights["h.b"]
    free = h > 0
    assert 0 < int(free.sum()) < free.numel()
    assert float(hidden[free].abs().max()) < 1e-12
    assert float(hidden[~free].max()) < 1e-12
    out = (u * (h[:, None] - y[:, :, None])).sum(2) + gain**2 * case.weights["y.b"]
    assert float(out.abs().max()) < 1e-11


def test_the_energy_is_half_the_power_that_conductances_take() -> None:
    gain = 3.0
    b = Builder(1)
    b.input("x", 6)
    linear = [Linear("MatMul", name, transposed=True) for name in ("g", "u")]
    b.layer("h", plus(gain), b.drive("x", (5, 6), linear[0]))
    b.layer("y", IDENTITY, b.drive("h", (4, 5), linear[1]))
    case = conducting(b)
    h, y = b.random(3, 5).abs(), b.random(3, 4)
    below = (case.weights["g"] * (h[:, :, None] / gain - case.inputs["x"][:, None]).square()).sum((1, 2))
    above = (case.weights["u"] * (y[:, :, None] - h[:, None]).square()).sum((1, 2))
    torch.testing.assert_close(case.energy({"h": h, "y": y}), below / 2 + above / (2 * gain**2))
    assert bool(case.energy({"h": h - 9, "y": y}).isinf().all())


@pytest.mark.parametrize("gain", [1.0, 2.0])
def test_an_update_is_the_least_energy_of_its_layer(gain: float) -> None:
    """Of a layer given its neighbours, by differences of the energy to either side."""
    case = network(5, gain)
    settled = case.settled(EXACT).state
    best = case.energy(settled)
    for name, s in settled.items():
        for step in (-1e-4, 1e-4):
            for index in range(s[0].numel()):
                moved = {n: t.clone() for n, t in settled.items()}
                moved[name].flatten(1)[:, index] += step
                assert bool((case.energy(moved) > best).all())


def differences(case: Case, step: dict[str, Tensor], h: float) -> float:
    """Slope of the settled loss along a step: central differences at h and h / 2, extrapolated to h^4."""
    wide, narrow = (
        (case.settled_loss(EXACT, step, size) - case.settled_loss(EXACT, step, -size)) / (2 * size)
        for size in (h, h / 2)
    )
    return (4 * narrow - wide) / 3


@pytest.mark.parametrize(("seed", "gain"), [(0, 1.0), (1, 2.0)])
def test_gradients_are_those_of_the_settled_loss(seed: int, gain: float) -> None:
    case = network(seed, gain)
    _, exact, equilibrium = case.run(Implicit(1e-14), EXACT)
    assert bool(equilibrium.converged.all())
    generator = torch.Generator().manual_seed(2)
    # as far in every weight and input, so that none hides behind another
    step = {n: torch.randn(g.shape, generator=generator, dtype=g.dtype) for n, g in exact.items()}
    step = {n: direction / direction.norm() for n, direction in step.items()}
    found = sum(float((grad * step[name]).sum()) for name, grad in exact.items())
    # a diode that turns over inside the interval spoils one of the two
    assert min(abs(found - differences(case, step, h)) for h in (1e-3, 1e-4)) < 1e-9 * abs(found)


@pytest.mark.parametrize("gain", [1.0, 4.0])
def test_gradients_are_those_of_the_implicit_function_theorem_on_the_energy(gain: float) -> None:
    """dL/dw = -(dE/dw ds)^T (dE/ds ds)^-1 dL/ds on the nodes between diodes, all by autograd."""
    case = network(6, gain)
    _, grads, equilibrium = case.run(Implicit(1e-14), EXACT)
    state = equilibrium.state
    flat = torch.cat([s.flatten() for s in state.values()])

    def by_name(values: Tensor) -> dict[str, Tensor]:
        parts = torch.split(values, [s.numel() for s in state.values()])
        return {name: part.view_as(s) for (name, s), part in zip(state.items(), parts, strict=True)}

    physics = DeepResistive()
    free = torch.cat(
        [
            ((s > physics.bounds(layer)[0]) & (s < physics.bounds(layer)[1])).flatten()
            for layer, s in zip(case.block.layers, state.values(), strict=True)
        ]
    )
    assert 0 < int(free.sum()) < free.numel()
    hessian = torch.autograd.functional.hessian(  # type: ignore[no-untyped-call]
        lambda v: case.energy(by_name(v)).sum(), flat
    )
    leaf = flat.clone().requires_grad_()
    (delta,) = torch.autograd.grad(case.loss({"y": by_name(leaf)["y"]}), leaf)
    answer = torch.zeros_like(flat)
    answer[free] = torch.linalg.solve(hessian[free][:, free], delta[free])

    leaves = {name: t.clone().requires_grad_() for name, t in (case.weights | case.inputs).items()}
    weights = {name: leaves[name] for name in case.weights}
    leaf = flat.clone().requires_grad_()
    energy = case.runtime().energy({"x": leaves["x"]}, weights, by_name(leaf)).sum()
    (force,) = torch.autograd.grad(energy, leaf, create_graph=True)
    expected = torch.autograd.grad(-(force @ answer), list(leaves.values()))
    for name, grad in zip(leaves, expected, strict=True):
        torch.testing.assert_close(grads[name], grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("gain", [1.0, 4.0])
@pytest.mark.parametrize(
    ("estimator", "limit"), [(EP(1e-4), 1e-7), (EP(1e-5, points=1), 1e-3), (Unrolled(200), 1e-8)]
)
def test_every_estimator_finds_them(estimator: Any, limit: float, gain: float) -> None:
    case = network(3, gain)
    _, exact, _ = case.run(Implicit(1e-14), EXACT)
    _, found, _ = case.run(estimator, EXACT)
    assert exact.keys() == found.keys()
    for name, grad in exact.items():
        assert float((found[name] - grad).norm()) < limit * float(grad.norm()), name


@pytest.mark.parametrize("gain", [1.0, 4.0])
def test_the_settled_state_is_stationary_and_sweeps_never_raise_the_energy(gain: float) -> None:
    case = network(4, gain)
    energies = [case.energy(case.settled(Settle(free_sweeps=n)).state) for n in range(1, 12)]
    for before, after in itertools.pairwise(energies):
        assert bool((after <= before + 1e-12 * before.abs()).all())
    state = {name: s.requires_grad_() for name, s in case.settled(EXACT).state.items()}
    grads = torch.autograd.grad(case.energy(state).sum(), list(state.values()))
    for layer, s, grad in zip(case.block.layers, state.values(), grads, strict=True):
        low, high = DeepResistive().bounds(layer)
        assert float(grad[(s > low) & (s < high)].abs().max()) < 1e-12
        assert bool((grad[s == low] > -1e-12).all())
        assert bool((grad[s == high] < 1e-12).all())


def test_a_layer_behind_unlike_gains_has_no_energy() -> None:
    b = Builder()
    b.input("x", 3)
    b.dense("a", "x", 3, plus(2.0))
    b.dense("b", "a", 3, plus(1.0))
    linear = [Linear("MatMul", name, transposed=True) for name in ("u", "v", "w")]
    b.layer("c", plus(3.0), b.drive("a", (2, 3), linear[0]), b.drive("b", (2, 3), linear[1]))
    conducting(b).runtime()  # behind b stands no amplifier, so both ways have a gain of 2
    b.layer("d", IDENTITY, b.drive("c", (2, 2), linear[2]), b.drive("b", (2, 3), linear[1]))
    with pytest.raises(
        UsageError, match="layer 'd' is driven through unlike gains; one product of the gains"
    ):
        conducting(b).runtime()


def test_negative_conductances_are_refused_until_they_are_constrained() -> None:
    case = network(0, 1.0)
    case.weights["u+"][0, 0] = -0.5
    with pytest.raises(UsageError, match=r"'u\+' has conductances down to -0\.5"):
        case.settled(EXACT)
    bias = case.weights["b+"].clone()
    case.runtime().constrain(case.weights)
    assert float(case.weights["u+"][0, 0]) == LEAST
    assert torch.equal(case.weights["b+"], bias)
    assert bool(case.settled(EXACT).converged.all())


def test_pairs_that_learn_in_place_are_refused() -> None:
    """Their differences are what programming noise has made of conductances near 0."""
    b = models.Builder()
    small = b.constant(np.full((4, 3), 2.0**-20, np.float32))
    y = b.node("Relu", b.node("MatMul", b.input("x", "N", 4), b.constant(np.eye(4, dtype=np.float32))))
    model = b.model(b.node("MatMul", y, small))
    plan = ffebm.compile(model, hardware="resistive", block_size=2, physics="deep-resistive")
    with pytest.raises(UsageError, match="as pairs hold differences, which noise makes negative"):
        ffebm.Executor(plan)(torch.ones(2, 4))


def test_a_node_without_conductances_is_at_nothing() -> None:
    case = two_layers(1.0)
    case.weights["h.w"][2], case.weights["y.w"][:, 2], case.weights["h.b"][2] = 0.0, 0.0, 0.0
    state = case.settled(EXACT).state
    assert not state["h"][:, 2].any()
    assert bool(state["y"].isfinite().all())


def test_squares_have_no_complex_nudge() -> None:
    with pytest.raises(UsageError, match="more than two nudging points"):
        network(0, 1.0).run(EP(0.1, points=4), EXACT)


def test_a_pooling_is_refused() -> None:
    b = Builder()
    b.input("x", 2, 4, 4)
    b.conv("s", "x", 2, plus(1.0), average_pool())
    with pytest.raises(UsageError, match="layer 's': a resistive network has no AveragePool"):
        conducting(b).runtime()
