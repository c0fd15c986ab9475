from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 -- torch's own name for it
from hypothesis import given, settings
from hypothesis import strategies as st

from ffebm.errors import NotSettledError
from ffebm.graph.energy_block import Activation, Pool
from ffebm.plan.schema import Settle
from ffebm.runtime.blocks.block_runtime import BlockRuntime
from ffebm.runtime.blocks.estimators import gradient
from ffebm.runtime.blocks.estimators.adjoint import solve_adjoint
from ffebm.runtime.blocks.estimators.gradient import EP, Implicit, Unrolled
from ffebm.runtime.blocks.physics.pooling import Pooling
from ffebm.runtime.blocks.physics.shared_maximum import centred, simplex, tied
from ffebm.runtime.blocks.settling.phase import Phase
from ffebm.runtime.blocks.settling.settling import Equilibrium
from tests.runtime.blocks.settling.test_settling import limit_cycle
from tests.runtime.some_blocks import IDENTITY, Builder, Case, max_pool, published_chain

QUICK = settings(max_examples=50, derandomize=True)


def free(case: Case, **options: Any) -> Equilibrium:
    with torch.no_grad():
        return BlockRuntime(case.block).run(case.inputs, case.weights, Settle(**options), EP())[1]


@QUICK
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=9))
def test_the_simplex_projection_is_the_nearest_point(values: list[float]) -> None:
    v = torch.tensor(values, dtype=torch.float64)
    p = simplex(v)
    assert float(p.sum()) == pytest.approx(1)
    assert bool((p >= 0).all())
    # the variational inequality of a projection on a convex set, at the corners of the simplex
    corners = torch.eye(len(values), dtype=torch.float64)
    assert float(((corners - p) @ (v - p)).max()) < 1e-9


def test_padding_gets_no_share() -> None:
    assert simplex(torch.tensor([0.2, -torch.inf, 0.3])).tolist() == pytest.approx([0.45, 0.0, 0.55])


POOLS = [
    (Pool("MaxPool", (2, 2), (2, 2), (0, 0, 0, 0)), (3, 6, 6)),
    (Pool("MaxPool", (3, 3), (2, 2), (1, 1, 0, 1)), (2, 7, 8)),
    (Pool("MaxPool", (2, 3), (1, 2), (0, 1, 1, 1), dilations=(2, 1)), (2, 6, 7)),
    (Pool("MaxPool", (3,), (2,), (1, 0)), (4, 9)),
    (Pool("MaxPool", (2, 2, 2), (2, 2, 1), (0, 0, 0, 0, 0, 0)), (2, 4, 4, 3)),
]


@pytest.mark.parametrize(("pool", "shape"), POOLS)
def test_sharp_shares_are_the_maximum(pool: Pool, shape: tuple[int, ...]) -> None:
    y = torch.randn(2, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    pooling = Pooling(pool, shape)
    largest, index = pooling.pool(y)
    shares = pooling.shares(y, None, None, 1.0)
    p = torch.randn(largest.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(pooling.gather(y, shares), largest)
    torch.testing.assert_close(pooling.transpose(p, shares), pooling.transpose(p, index))


@pytest.mark.parametrize(("pool", "shape"), POOLS)
def test_shares_are_carried_back_by_the_transpose(pool: Pool, shape: tuple[int, ...]) -> None:
    random = torch.Generator().manual_seed(0)
    y, z = (torch.randn(2, *shape, dtype=torch.float64, generator=random) for _ in range(2))
    pooling = Pooling(pool, shape)
    p = -torch.rand(pooling.pool(y)[0].shape, dtype=torch.float64, generator=random)
    shares = pooling.shares(y, pooling.shares(z, None, None, 1.0), pooling.over_windows(p), 0.1)
    assert bool(tied(shares).any())
    torch.testing.assert_close(
        (p * pooling.gather(y, shares)).sum(), (y * pooling.transpose(p, shares)).sum()
    )


def test_centred_values_have_no_mean_among_those_that_tie() -> None:
    among = torch.tensor([[True, True, False], [False, False, False]])
    found = centred(torch.tensor([[1.0, 3.0, 7.0], [1.0, 2.0, 3.0]]), among)
    assert found.tolist() == [[-1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]


def test_a_limit_cycle_settles_at_its_tie() -> None:
    case = limit_cycle()
    equilibrium = free(case, free_sweeps=60, tol=1e-12, winners="shared")
    assert equilibrium.converged.tolist() == [True, True]
    first, second = equilibrium.state["s1"][0].flatten()[:2]
    # both drives by hand: s1 = 0.8 + 0.9 a m and 0.79 + 0.9 a (1 - m) are equal; a = 0.9 s1 - 1.5
    tie = (1.59 - 0.9 * 1.5) / (2 - 0.81)
    assert float(first) == pytest.approx(tie, abs=1e-11)
    assert float(second) == pytest.approx(tie, abs=1e-11)


def cycling_chain(seed: int, pool: Pool, strength: float) -> Case:
    """Clips below a pooling under a linear top, coupled so strongly that sharp winners cycle."""
    clip = Activation("Clip", 0.7, low=0.0, high=1.0)
    b = Builder(seed, 2, strength)
    b.input("x", 3, 6, 6)
    b.layer("s1", clip, b.drive("x"))
    b.conv("s2", "s1", 3, clip)
    b.conv("s3", "s2", 3, IDENTITY, pool)
    return b.case()


CYCLING = [(1, max_pool(), 1.1), (2, max_pool(3, 2, (1, 1, 0, 1)), 0.8)]


@pytest.mark.parametrize(("seed", "pool", "strength"), CYCLING)
def test_blocks_that_cycle_settle_and_can_be_strict(seed: int, pool: Pool, strength: float) -> None:
    case = cycling_chain(seed, pool, strength)
    sharp = free(case, free_sweeps=400, tol=1e-6)
    assert not bool(sharp.converged.any())
    assert bool((sharp.period > 0).any())
    shared = free(case, free_sweeps=2000, tol=1e-6, winners="shared", strict=True)
    assert bool(shared.converged.all())
    with pytest.raises(NotSettledError, match=r"hint: try winners='shared' or relaxation=0\.5 in Settle"):
        free(case, free_sweeps=400, tol=1e-6, strict=True)


@pytest.mark.parametrize(("seed", "pool", "strength"), CYCLING)
def test_gradients_at_ties_are_those_of_finite_differences(seed: int, pool: Pool, strength: float) -> None:
    case = cycling_chain(seed, pool, strength)
    settle = Settle(free_sweeps=1500, nudged_sweeps=800, tol=1e-12, winners="shared")
    exact = case.run(Implicit(), settle)[1]
    nudged = case.run(EP(1e-4), settle)[1]
    unrolled = case.run(Unrolled(200), settle)[1]
    random = torch.Generator().manual_seed(1)
    for name in ("s2.w", "s3.w", "x"):
        grad = exact[name]
        step = {n: torch.zeros_like(t) for n, t in {**case.weights, **case.inputs}.items()}
        step[name] = torch.randn(grad.shape, generator=random, dtype=torch.float64)
        change = case.settled_loss(settle, step, 1e-5) - case.settled_loss(settle, step, -1e-5)
        assert float((grad * step[name]).sum()) == pytest.approx(change / 2e-5, rel=1e-4, abs=1e-6)
        for other in (nudged, unrolled):
            assert float(F.cosine_similarity(grad.flatten(), other[name].flatten(), dim=0)) > 0.9999


@pytest.mark.parametrize(("seed", "pool", "strength"), CYCLING)
def test_states_and_shares_both_have_to_come_to_rest(seed: int, pool: Pool, strength: float) -> None:
    case = cycling_chain(seed, pool, strength)
    found, rest = (free(case, free_sweeps=2000, tol=tol, winners="shared") for tol in (1e-6, 1e-13))
    for name, s in rest.state.items():
        assert float((found.state[name] - s).norm() / s.norm()) < 1e-5


def test_where_no_state_is_negative_winners_stay_sharp_to_the_bit() -> None:
    b = Builder()
    b.input("x", 2, 6, 6)
    b.conv("s1", "x", 3, Activation("Relu"))
    b.conv("s2", "s1", 3, Activation("Clip", low=0.0, high=1.0), max_pool())
    case = b.case()
    sharp, shared = (free(case, winners=winners) for winners in ("sharp", "shared"))
    assert all(torch.equal(shared.state[name], s) for name, s in sharp.state.items())


def test_blocks_that_settle_with_sharp_winners_settle_alike_with_shared_ones() -> None:
    settled = 0
    for seed in range(8):
        b = Builder(seed, strength=0.3)
        b.input("x", 2, 6, 6)
        b.conv("s1", "x", 3, Activation("Sigmoid"))
        b.conv("s2", "s1", 3, IDENTITY, max_pool())
        case = b.case()
        sharp, shared = (free(case, free_sweeps=300, tol=1e-11, winners=w) for w in ("sharp", "shared"))
        assert bool(shared.converged.all())
        settled += int(sharp.converged.sum())
        for name, s in sharp.state.items():
            found = shared.state[name]
            torch.testing.assert_close(found[sharp.converged], s[sharp.converged], rtol=0, atol=1e-9)
    assert settled >= 8


def test_samples_settle_alike_in_every_batch() -> None:
    case = cycling_chain(*CYCLING[0])
    options: dict[str, Any] = {"free_sweeps": 300, "tol": 1e-8, "winners": "shared"}
    together = free(case, **options)
    for i in range(len(together.sweeps)):
        alone = free(Case(case.block, case.weights, {"x": case.inputs["x"][i : i + 1]}), **options)
        assert int(alone.sweeps) == int(together.sweeps[i])
        for name, s in alone.state.items():
            torch.testing.assert_close(s[0], together.state[name][i], rtol=0, atol=1e-12)


@pytest.mark.parametrize("options", [{"anderson": 4}, {"relaxation": 0.8}, {"start": "feedforward"}])
def test_other_settings_go_with_shared_winners(options: dict[str, Any]) -> None:
    case = cycling_chain(*CYCLING[0])
    found = free(case, free_sweeps=2000, tol=1e-8, winners="shared", **options)
    assert bool(found.converged.all())


def test_the_published_chain_is_unchanged() -> None:
    case = published_chain()
    sharp, shared = (free(case, winners=winners) for winners in ("sharp", "shared"))
    for name, s in sharp.state.items():
        torch.testing.assert_close(shared.state[name], s, rtol=0, atol=1e-12)


def test_looking_for_the_adjoint_does_not_move_the_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a block that has not settled, where another look would move them."""
    seen = []

    def solve(phase: Phase, *others: Any) -> Any:
        before = [None if index is None else index.clone() for index in phase.indices]
        found = solve_adjoint(phase, *others)
        seen.append((before, phase.indices))
        return found

    monkeypatch.setattr(gradient, "solve_adjoint", solve)
    cycling_chain(*CYCLING[0]).run(Implicit(), Settle(free_sweeps=5, winners="shared"))
    ((before, after),) = seen
    for index, other in zip(before, after, strict=True):
        if index is not None:
            assert other is not None
            assert torch.equal(index, other)
    assert any(index is not None and index.is_floating_point() for index in before)
