import pytest
import torch
import torch.nn.functional as F  # noqa: N812 -- torch's own name for it
from torch import Tensor

from ffebm.graph.energy_block import Activation
from ffebm.plan.schema import Settle
from ffebm.runtime.blocks.block_runtime import BlockRuntime
from ffebm.runtime.blocks.estimators.gradient import EP
from ffebm.runtime.blocks.tied_windows import TiedWindows
from tests.runtime.some_blocks import Builder, Case, max_pool

SETTLE = Settle(free_sweeps=60, nudged_sweeps=4)


def block(below: Activation) -> Case:
    """Two layers with a maximum between them."""
    b = Builder(batch=4)
    b.input("x", 2, 8, 8)
    b.conv("s1", "x", 3, below)
    b.conv("s2", "s1", 4, Activation("Clip", low=0.0, high=1.0), max_pool())
    return b.case()


def tied(case: Case, x: Tensor, dtype: torch.dtype = torch.float64) -> TiedWindows:
    weights = {name: w.detach().to(dtype) for name, w in case.weights.items()}
    runtime = BlockRuntime(case.block)
    _, settled = runtime.run({"x": x.to(dtype)}, weights, SETTLE, EP())
    return runtime.tied_windows(settled, weights)


def brute_force(case: Case, x: Tensor) -> int:
    """Windows of the feedforward pass whose two largest values are nearly equal."""
    s1 = F.conv2d(x, case.weights["s1.w"], case.weights["s1.b"], 1, 1).sigmoid()
    y = F.conv2d(s1, case.weights["s2.w"], None, 1, 1)
    windows = F.unfold(y.flatten(0, 1).unsqueeze(1), 2, stride=2).mT.flatten(0, 1)
    best = windows.topk(2).values
    return int((best[:, 0] - best[:, 1] < 1e-12).sum())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_windows_over_a_constant_background_tie(dtype: torch.dtype) -> None:
    case = block(Activation("Sigmoid"))
    x = torch.randn(4, 2, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x[:, :, :, :5] = 0.3
    found = tied(case, x, dtype)
    assert found.windows == 4 * 4 * 4 * 4
    assert found.first == brute_force(case, x.detach()) > 20
    assert found.settled < found.first  # the winner has got what comes back from above
    assert found.first_share == found.first / 256
    assert found.settled_share == found.settled / 256


@pytest.mark.parametrize(("below", "share"), [("Sigmoid", 0.0), ("Clip", 1.0)])
def test_noise_leaves_ties_only_where_nothing_comes_through(below: str, share: float) -> None:
    case = block(Activation(below, low=0.0, high=1e-9) if below == "Clip" else Activation(below))
    x = torch.full((4, 2, 8, 8), 0.3, dtype=torch.float64)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert tied(case, x).first_share > 0.2
    assert tied(case, x + 1e-3 * noise).first_share == share


def test_blocks_without_a_maximum_have_no_windows() -> None:
    b = Builder(batch=4)
    b.input("x", 6)
    b.dense("s1", "x", 5, Activation("Tanh"))
    b.dense("s2", "s1", 4, Activation("Tanh"))
    case = b.case()
    runtime = BlockRuntime(case.block)
    _, settled = runtime.run(case.inputs, case.weights, SETTLE, EP())
    found = runtime.tied_windows(settled, case.weights)
    assert (found.windows, found.first_share, found.settled_share) == (0, 0.0, 0.0)


def test_windows_add_up() -> None:
    assert TiedWindows(8, 2, 1) + TiedWindows(4, 3, 0) == TiedWindows(12, 5, 1)
