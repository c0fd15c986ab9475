"""The published code's own gradients; see `published.py`."""

import pytest
import torch

from ffebm.plan.schema import Settle
from ffebm.runtime.blocks.estimators.gradient import EP, Implicit
from tests.runtime.published import NAMES, ROUNDED, Published


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(a.double().flatten(), b.double().flatten(), dim=0))


@pytest.mark.parametrize("name", NAMES)
def test_nudging_with_the_cost_gives_the_published_gradients(name: str) -> None:
    case = Published(name)
    result = case.run(EP(case.beta, cost=True))
    assert result.loss == pytest.approx(case.case["loss"], abs=1e-6)
    torch.testing.assert_close(result.logits, case.tensors["logits"], rtol=0, atol=1e-6)
    expected = case.gradients("ep")
    assert set(result.gradients) == set(expected)
    for key, grad in expected.items():
        is_rounded = (name, key) in ROUNDED
        found = result.gradients[key]
        assert cosine(found, grad) >= (0.9997 if is_rounded else 0.9999), key
        assert float(found.norm()) == pytest.approx(float(grad.norm()), rel=0.015 if is_rounded else 1e-3), (
            key
        )


@pytest.mark.parametrize("name", NAMES)
def test_nudging_with_the_error_current_comes_close(name: str) -> None:
    case = Published(name)
    result = case.run(EP(case.beta))
    for key, grad in case.gradients("ep").items():
        assert cosine(result.gradients[key], grad) >= 0.99, key


@pytest.mark.parametrize("name", NAMES)
def test_the_adjoint_gives_the_exact_gradients_of_blocks_that_settle(name: str) -> None:
    case = Published(name, torch.float64)
    settles = [residual < 1e-10 for residual in case.case["residual_exact"]]
    # where no state is an equilibrium, the one that the case's own sweeps reach stands in for it
    settle = Settle(free_sweeps=3000, tol=1e-15) if all(settles) else case.settle
    result = case.run(Implicit(1e-13), settle)
    assert result.loss == pytest.approx(case.case["loss_exact"], abs=1e-10)
    for key, grad in case.gradients("exact").items():
        if key.startswith("readout") or settles[int(key.split(".")[1])]:
            assert float((result.gradients[key] - grad).norm() / grad.norm()) < 1e-6, key
    for does_settle, equilibrium in zip(settles, result.equilibria, strict=True):
        assert bool((equilibrium.residual < 1e-10).all()) == does_settle
