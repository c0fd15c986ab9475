from collections.abc import Mapping
from typing import Literal

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 -- torch's own name for it
from torch import Tensor

from ffebm.errors import UsageError
from ffebm.graph.energy_block import Activation
from ffebm.plan.schema import Settle
from ffebm.runtime.blocks.block_runtime import BlockRuntime
from ffebm.runtime.blocks.estimators import gradient
from ffebm.runtime.blocks.estimators.auto_beta import STRENGTHS, GradientOfBeta, choose_beta
from ffebm.runtime.blocks.estimators.gradient import EP, Implicit
from ffebm.runtime.blocks.projection import ExactProjection
from ffebm.runtime.tiles.projection import Pooled, PoolProducts
from tests.runtime.some_blocks import IDENTITY, Builder, Case

SETTLE = Settle(free_sweeps=200, nudged_sweeps=100, tol=1e-12)


def test_the_choice_is_where_bias_and_noise_meet() -> None:
    # bias c beta^2 and noise sigma / beta: the sum of squares is least at (sigma^2 / (2 c^2))^(1/6)
    answer, curve = torch.ones(2000, dtype=torch.float64), 0.3
    for sigma in (1e-5, 1e-4, 1e-3, 1e-2):
        random = torch.Generator().manual_seed(0)

        def respond(beta: float, sigma: float = sigma, random: torch.Generator = random) -> list[Tensor]:
            noise = torch.randn(answer.shape, generator=random, dtype=torch.float64)
            return [answer * (1 + curve * beta**2) + noise * sigma / beta]

        best = (sigma**2 / (2 * curve**2)) ** (1 / 6)
        nearest = min(range(len(STRENGTHS)), key=lambda k: abs(STRENGTHS[k] / best - 1))
        found = choose_beta(respond, [torch.finfo(torch.float64).eps * answer.norm()])
        assert abs(STRENGTHS.index(found) - nearest) <= 1


def test_without_noise_rounding_decides() -> None:
    for dtype, expected in ((torch.float64, (0.001,)), (torch.float32, (0.005, 0.01, 0.02))):
        ones = torch.ones(100, dtype=dtype)

        def respond(beta: float, ones: Tensor = ones) -> list[Tensor]:
            return [0.01 * ones * (1 + beta**2)]

        assert choose_beta(respond, [torch.finfo(dtype).eps * ones.norm()]) in expected


def chain() -> Case:
    b = Builder(seed=3, batch=16, strength=1.2)
    b.input("x", 8)
    b.dense("s1", "x", 12, Activation("Tanh"))
    b.dense("s2", "s1", 12, Activation("Tanh"))
    b.dense("s3", "s2", 6, IDENTITY)
    return b.case()


class Noisy:
    """An exact projection with noise on every product."""

    def __init__(self, case: Case, index: int, sigma: float) -> None:
        linear = case.block.interactions()
        found = [interaction.linear for _, interaction in linear][index]
        assert found is not None
        self._exact, self._sigma = ExactProjection(found), sigma
        self._random = torch.Generator().manual_seed(index)

    def product(self, z: Tensor, weight: Tensor) -> Tensor:
        return self._with_noise(self._exact.product(z, weight))

    def pooled(self, z: Tensor, weight: Tensor, pool: PoolProducts) -> Pooled:
        return pool(self.product(z, weight))

    def product_t(self, y: Tensor, weight: Tensor, shape: tuple[int, ...]) -> Tensor:
        return self._with_noise(self._exact.product_t(y, weight, shape))

    def _with_noise(self, y: Tensor) -> Tensor:
        return y + self._sigma * torch.randn(y.shape, generator=self._random, dtype=y.dtype)


def cosine(found: Mapping[str, Tensor], exact: Mapping[str, Tensor]) -> float:
    return min(float(F.cosine_similarity(found[k].flatten(), g.flatten(), dim=0)) for k, g in exact.items())


@pytest.mark.parametrize("points", [1, 2])
@pytest.mark.parametrize("sigma", [1e-4, 1e-3, 3e-3])
def test_noise_gets_a_strength_that_no_other_much_betters(points: int, sigma: float) -> None:
    case = chain()
    exact = case.run(Implicit(), SETTLE)[1]
    settle = Settle(free_sweeps=40, nudged_sweeps=20)

    def measured(beta: float | Literal["auto"]) -> tuple[float, float | None]:
        noisy = {k: Noisy(case, k, sigma) for k in range(3)}
        _, found, equilibrium = case.run(EP(beta, points), settle, noisy)
        assert equilibrium.backward is not None
        return cosine(found, exact), equilibrium.backward.beta

    others = {beta: measured(beta)[0] for beta in (0.02, 0.1, 0.5, 1.0, 5.0)}
    ours, beta = measured("auto")
    assert beta is not None
    assert 0.02 < beta < 1.0
    assert ours > max(others.values()) - 0.03
    assert ours > others[5.0] + 0.4


def test_exact_blocks_get_exact_gradients() -> None:
    case = chain()
    exact = case.run(Implicit(), SETTLE)[1]
    _, found, equilibrium = case.run(EP("auto"), SETTLE)
    assert equilibrium.backward is not None
    assert equilibrium.backward.beta == 0.001
    assert cosine(found, exact) > 0.999999


def test_a_block_without_a_current_does_not_choose() -> None:
    case, runtime = chain(), BlockRuntime(chain().block)
    for factor, expected in ((0.0, 0.1), (float("nan"), 0.1), (1.0, 0.001)):
        weights = {name: w.clone().requires_grad_() for name, w in case.weights.items()}
        outputs, equilibrium = runtime.run(case.inputs, weights, SETTLE, EP("auto"))
        (factor * case.loss(outputs)).backward()  # type: ignore[no-untyped-call]
        assert equilibrium.backward is not None
        assert equilibrium.backward.beta == expected


def test_a_block_measures_once() -> None:
    case, runtime, calls = chain(), BlockRuntime(chain().block), []

    for _ in range(2):
        weights = {name: w.clone().requires_grad_() for name, w in case.weights.items()}
        outputs, equilibrium = runtime.run(case.inputs, weights, SETTLE, EP("auto"))
        case.loss(outputs).backward()  # type: ignore[no-untyped-call]
        calls.append(equilibrium.backward)
        runtime._circuit.beta = 0.5  # what was found before is not measured again
    assert calls[1] is not None
    assert calls[1].beta == 0.5


def test_more_points_need_a_number() -> None:
    with pytest.raises(UsageError) as caught:
        EP("auto", points=4)
    assert str(caught.value) == 'beta="auto" with 4 points; 1 or 2 points, or a number'
    with pytest.raises(UsageError) as caught:
        EP(0.0)
    assert str(caught.value) == 'beta is 0.0; a finite strength other than 0, or "auto"'
    with pytest.raises(UsageError) as caught:
        EP("0.1")  # type: ignore[arg-type]
    assert str(caught.value) == """beta is '0.1'; a finite strength other than 0, or "auto\""""


@pytest.mark.parametrize(("common", "expected"), [(False, STRENGTHS[0]), (True, STRENGTHS[1])])
def test_noise_of_a_common_state_counts_too(common: bool, expected: float) -> None:
    """Squared noise of 0.05 in the weakest strength, squared bias of 0.15 in the next."""
    calls: list[float] = []

    def respond(beta: float) -> list[Tensor]:
        calls.append(beta)
        trial, sign = divmod(len(calls) - 1, 2)
        middle, noise = {0: (1.0, 0.1), 1: (1 + 0.15**0.5, 0.0)}.get(trial, (1.0, 10.0))
        return [torch.tensor([middle + (1 - 2 * sign) * noise], dtype=torch.float64)]

    assert choose_beta(respond, [torch.zeros((), dtype=torch.float64)], common) == expected
    decades = (1e-3, 1e-2, 1e-1, 1.0)
    strengths = [decade * k for decade in decades for k in (1, 2, 5)]
    assert calls == pytest.approx([tried for beta in strengths for tried in (beta, 2 * beta)])


def test_one_nudging_point_has_the_noise_of_the_free_state_and_all_its_rounding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: dict[bool, tuple[list[Tensor], list[Tensor]]] = {}

    def choose(answer: GradientOfBeta, rounding: list[Tensor], common: bool) -> float:
        seen[common] = (answer(1e-4), rounding)
        return 0.1

    monkeypatch.setattr(gradient, "choose_beta", choose)
    for points in (1, 2):
        chain().run(EP("auto", points), SETTLE)
    one, two = seen[True], seen[False]
    # half a difference of two nudged states, or a whole one to the free state
    torch.testing.assert_close(one[1], [2 * rounding for rounding in two[1]], rtol=1e-9, atol=0)
    torch.testing.assert_close(one[0], two[0], rtol=1e-2, atol=1e-6)
    assert all(float(layer.abs().max()) > 1e-3 for layer in two[0])
