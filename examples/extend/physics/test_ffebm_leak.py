"""The package does what it says, found by its entry point."""

from pathlib import Path

import torch
from ffebm_leak import LEAK
from torch import Tensor, nn

import ffebm

SETTLE = ffebm.Settle(free_sweeps=1000, nudged_sweeps=1000, tol=1e-13)


def model() -> nn.Sequential:
    """Two layers that clip, and one whose activation no diode makes; in float64."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3), nn.Hardtanh(), nn.Linear(3, 2), nn.Tanh()
    ).double()


def plan(block_size: int = 1) -> ffebm.Plan:
    x = torch.randn(2, 5, dtype=torch.float64)
    return ffebm.compile(model(), (x,), "ideal", block_size, physics="leak", settle=SETTLE)


def test_a_plan_says_what_its_blocks_are(tmp_path: Path) -> None:
    made = plan()
    assert {block.physics for block in made.blocks} == {"leak"}
    assert made.packages == ("ffebm-leak",)
    reasons = {node.op: node.reason for node in made.nodes if node.unit == "digital"}
    assert reasons == {"Tanh": "diodes clip, and make no Tanh"}
    made.save(tmp_path / "plan")
    net, x = ffebm.Executor(ffebm.load_plan(tmp_path / "plan")), torch.randn(3, 5, dtype=torch.float64)
    first, _, second, _, third, _ = model()
    h = torch.relu(first(x)) / (1 + LEAK)
    k = (second(h) / (1 + LEAK)).clamp(-1, 1)
    torch.testing.assert_close(net(x), torch.tanh(third(k) / (1 + LEAK)))


def gradients(gradient: ffebm.EP | ffebm.Implicit) -> list[Tensor | None]:
    net = ffebm.Executor(plan(block_size=3), gradient=gradient)
    net(torch.linspace(-1, 1, 15, dtype=torch.float64).reshape(3, 5)).square().sum().backward()
    return [weight.grad for weight in net.weights().values()]


def test_its_gradient_is_that_of_the_exact_adjoint() -> None:
    for found, exact in zip(gradients(ffebm.EP(1e-3)), gradients(ffebm.Implicit()), strict=True):
        torch.testing.assert_close(found, exact, rtol=1e-5, atol=1e-7)
