import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import ffebm


@pytest.mark.slow
def test_a_last_layer_learns_in_place_from_any_start() -> None:
    """16-32-5, 150 steps on `resistive`; ranges that follow first weights gave .53, 1.46, 1.58, 1.58."""
    random = torch.Generator().manual_seed(0)
    x = torch.randn(256, 16, generator=random)
    target = (x @ torch.randn(16, 5, generator=random)).argmax(1)

    def loss(factor: float) -> float:
        torch.manual_seed(0)
        last = nn.Linear(32, 5)
        model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), last)
        with torch.no_grad():
            last.weight.mul_(factor)
        net = ffebm.Executor(ffebm.compile(model, (x[:2],), hardware="resistive"))
        optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
        batches = torch.Generator().manual_seed(1)
        for _ in range(150):
            chosen = torch.randint(256, (32,), generator=batches)
            optimizer.zero_grad()
            torch.autograd.backward(cross_entropy(net(x[chosen]), target[chosen]))
            optimizer.step()
        with torch.no_grad():
            return float(cross_entropy(net(x), target))

    found = [loss(factor) for factor in (1.0, 0.1, 0.01, 0.001)]
    assert max(found) < 0.8
    assert max(found) - min(found) < 0.2
