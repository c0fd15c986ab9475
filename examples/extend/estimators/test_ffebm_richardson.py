"""The package does what it says, found by its entry point."""

import torch
from ffebm_richardson import Richardson
from torch import Tensor, nn

import ffebm
from ffebm.runtime.blocks.estimators.gradient import Gradient
from ffebm.training.estimator import estimator
from ffebm.training.settings import Training


def gradient(kind: Gradient) -> Tensor:
    """Of the first weight of a block of three layers, in float64."""
    torch.manual_seed(0)
    model = nn.Sequential(*(part for _ in range(3) for part in (nn.Linear(5, 5), nn.Tanh()))).double()
    x = torch.randn(4, 5, dtype=torch.float64)
    plan = ffebm.compile(model, (x,), hardware="ideal", block_size=3, settle=ffebm.Settle(free_sweeps=300))
    settle = ffebm.Settle(free_sweeps=300, nudged_sweeps=300, tol=1e-12)
    net = ffebm.Executor(plan, settle=settle, gradient=kind)
    net(x).square().sum().backward()
    found = net.weights()["0.weight"].grad
    assert found is not None
    return found


def test_it_errs_by_a_higher_order_than_ep() -> None:
    exact = gradient(ffebm.Implicit())
    by_name = estimator(Training(data="", gradient="richardson", beta=0.05))
    assert by_name == Richardson(ffebm.EP(0.05))
    plain, better = ((gradient(kind) - exact).norm() for kind in (ffebm.EP(0.05), by_name))
    assert better < plain / 100
    halved = (gradient(Richardson(ffebm.EP(0.025))) - exact).norm()
    assert 14 < better / halved < 18  # of order beta^4, where EP has beta^2
