"""The package does what it says, found by its entry point."""

import torch
from ffebm_leaky import Leaky
from torch import nn

import ffebm


def models(seed: int = 0) -> tuple[nn.Module, nn.Module]:
    """The same weights, with Relu and with LeakyRelu."""
    torch.manual_seed(seed)
    first, last = nn.Linear(6, 5), nn.Linear(5, 3)
    return nn.Sequential(first, nn.ReLU(), last), nn.Sequential(first, nn.LeakyReLU(0.1), last)


def test_the_plan_computes_the_leaky_model() -> None:
    plain, leaky = models()
    x = torch.randn(4, 6)
    for own in (Leaky(), "leaky"):
        plan = ffebm.compile(plain, (x,), hardware="ideal", passes=[own])
        torch.testing.assert_close(ffebm.Executor(plan)(x), leaky(x))
        assert plan.options.passes == ("leaky",)
        assert plan.blocks[0].layers[0].activation.op == "LeakyRelu"
