"""The package does what it says, found by its entry point."""

import torch
from ffebm_ternary import TernaryTile, ternary
from torch import nn

import ffebm
from ffebm.runtime.tiles.choice import OwnTile


def plan() -> tuple[ffebm.Plan, nn.Linear]:
    torch.manual_seed(0)
    linear = nn.Linear(6, 5)
    return ffebm.compile(nn.Sequential(linear, nn.ReLU()), (torch.randn(2, 6),)), linear


def test_products_are_those_of_ternary_weights() -> None:
    made, linear = plan()
    x = torch.randn(4, 6)
    net = ffebm.Executor(made, tiles={"0.weight": "ternary"})
    expected = torch.relu(x @ ternary(linear.weight).T + linear.bias)
    torch.testing.assert_close(net(x), expected)
    net(x).sum().backward()
    assert net.weights()["0.weight"].grad is not None


def test_noise_follows_the_seed() -> None:
    made, _ = plan()
    x = torch.randn(4, 6)
    noisy = OwnTile(lambda generator, name: TernaryTile(generator, noise=0.1))
    runs = [ffebm.Executor(made, seed=seed, tiles={"0.weight": noisy})(x) for seed in (0, 0, 1)]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])
