import math

import pytest
import torch
from torch import Tensor

from ffebm.graph.energy_block import Activation
from ffebm.plan.schema import Settle
from ffebm.runtime.blocks.circuit import Circuit
from ffebm.runtime.blocks.estimators.adjoint import _minres as minres
from ffebm.runtime.blocks.estimators.adjoint import solve_adjoint
from ffebm.runtime.blocks.estimators.gradient import EP, Implicit
from ffebm.runtime.blocks.settling.phase import Phase
from ffebm.runtime.blocks.settling.settling import Outcome, Rule, relax
from tests.runtime.some_blocks import IDENTITY, Builder, Case, published_chain

EXACT = Settle(free_sweeps=400, nudged_sweeps=400, tol=1e-13)
CLIP = Activation("Clip", low=0.0, high=1.0)


def chain(units: tuple[int, ...], strength: float, activation: Activation = CLIP) -> Case:
    """Layers in a chain."""
    b = Builder(seed=5)
    b.input("x", 16)
    for k, n in enumerate(units):
        b.dense(f"s{k}", f"s{k - 1}" if k else "x", n, activation)
        b.weights[f"s{k}.w"] *= strength
        b.weights[f"s{k}.b"] = torch.full((n,), 0.5, dtype=torch.float64)
    return b.case()


def settled(case: Case) -> Phase:
    circuit = Circuit(case.block, {})
    drives = circuit.constant_drives(case.inputs, case.weights)
    phase = Phase(circuit, case.weights, drives, len(case.inputs["x"]))
    relax(phase, Rule(400, EXACT, circuit.colours))
    return phase


def adjoint(phase: Phase, colours: list[list[int]]) -> tuple[Tensor, Outcome]:
    """The adjoint of all layers, [batch, units], as a block of those colours."""
    top = phase.settled_state()[-1]
    current = {len(phase.state) - 1: torch.cos(torch.arange(top.numel(), dtype=top.dtype)).view(top.shape)}
    kept, phase.circuit.colours = phase.circuit.colours, colours
    found, outcome = solve_adjoint(phase, current, 1e-12, 200)
    phase.circuit.colours = kept
    return torch.cat([s.flatten(1) for s in found.layers], 1), outcome


def test_one_colour_alone_gives_the_adjoint_of_all_layers_in_half_the_iterations() -> None:
    for case in (published_chain(), chain((24, 20, 16, 12, 8, 4), 0.9)):
        phase = settled(case)
        whole, slowly = adjoint(phase, [[layer] for layer in range(len(phase.state))])
        found, outcome = adjoint(phase, phase.circuit.colours)
        assert bool(outcome.converged.all())
        assert torch.allclose(found, whole, atol=1e-10)
        assert int(outcome.sweeps.max()) <= 0.65 * int(slowly.sweeps.max())


def test_the_residual_of_a_solve_that_is_cut_short_is_that_of_all_layers() -> None:
    phase = settled(chain((12, 10, 8, 4), 0.9, IDENTITY))
    top = phase.settled_state()[-1]
    current = torch.cos(torch.arange(top.numel(), dtype=top.dtype)).view(top.shape)
    found, outcome = solve_adjoint(phase, {3: current}, 1e-12, 2)
    w = [phase.weights[f"s{k}.w"] for k in range(4)]
    missing = []
    for k, answer in enumerate(found.layers):
        below = found.layers[k - 1] @ w[k].t() if k else torch.zeros_like(answer)
        above = found.layers[k + 1] @ w[k + 1] if k < 3 else current
        missing.append(answer - below - above)
    residual = torch.cat(missing, 1).norm(dim=1) / current.norm(dim=1)
    assert torch.allclose(residual, outcome.residual)
    assert not bool(outcome.converged.any())


def test_layers_that_nothing_joins_have_their_own_current_alone() -> None:
    b = Builder(seed=3)
    b.input("x", 6)
    b.dense("s0", "x", 8, CLIP)
    b.dense("s1", "s0", 5, CLIP)
    b.dense("alone", "x", 4, CLIP)
    case = b.case("s1", "alone")
    _, exact, equilibrium = case.run(Implicit(1e-13), EXACT)
    _, nudged, _ = case.run(EP(1e-5), EXACT)
    assert equilibrium.backward is not None
    assert bool(equilibrium.backward.converged.all())
    assert all(torch.allclose(exact[name], g, atol=1e-7) for name, g in nudged.items())


@pytest.mark.parametrize("size", [1e-36, 1e-25, 1e25, 1e36])
@pytest.mark.parametrize("whole", [False, True])
def test_the_adjoint_goes_with_the_current_however_faint_it_is_in_single_precision(
    size: float, whole: bool
) -> None:
    case = chain((12, 10, 4), 0.7)
    single = {name: w.float() for name, w in case.weights.items()}
    phase = settled(Case(case.block, single, {name: x.float() for name, x in case.inputs.items()}))
    if whole:
        phase.circuit.colours = [[layer] for layer in range(len(phase.state))]
    top = phase.settled_state()[-1]
    current = torch.cos(torch.arange(top.numel(), dtype=top.dtype)).view(top.shape)
    unit, _ = solve_adjoint(phase, {2: current}, 1e-5, 200)
    found, outcome = solve_adjoint(phase, {2: size * current}, 1e-5, 200)
    assert bool(outcome.converged.all())
    assert all(
        torch.allclose(s.double() / size, u.double(), atol=1e-4)
        for s, u in zip(found.layers, unit.layers, strict=True)
    )
    assert any(bool((u != 0).any()) for u in unit.layers)


def of_condition(condition: float, n: int, definite: bool) -> Tensor:
    """Symmetric matrices with eigenvalues from 1 down to 1 over the condition, [4, n, n]."""
    maker = torch.Generator().manual_seed(7)
    axes, _ = torch.linalg.qr(torch.randn(4, n, n, generator=maker, dtype=torch.float64))
    sizes = torch.logspace(0, -math.log10(condition), n, dtype=torch.float64)
    sizes[1::2] *= 1 if definite else -1
    matrices: Tensor = (axes * sizes) @ axes.mT
    return matrices


@pytest.mark.parametrize("definite", [True, False])
@pytest.mark.parametrize("condition", [1.5, 10, 100, 1e3, 1e4])
@pytest.mark.parametrize("tol", [1e-2, 1e-3])
def test_what_counts_as_solved_in_single_precision_is(tol: float, condition: float, definite: bool) -> None:
    matrices = of_condition(condition, 60, definite)
    right = torch.cos(torch.arange(240.0)).view(4, 60)
    products = []

    def product(v: Tensor) -> Tensor:
        products.append(v)
        return torch.einsum("rij,rj->ri", matrices.float(), v)

    x, outcome = minres(product, right, right.norm(dim=1), (tol, 400))
    missing = right.double() - torch.einsum("rij,rj->ri", matrices, x.double())
    relative = missing.norm(dim=1) / right.norm(dim=1)
    assert bool((relative[outcome.converged] <= 1.1 * tol).all())
    assert condition > 100 or bool(outcome.converged.all())
    if condition == 1.5:  # the recurrence is enough: nothing is spent on a look
        assert len(products) == int(outcome.sweeps.max())
        assert bool((relative > 0.1 * tol).any())
