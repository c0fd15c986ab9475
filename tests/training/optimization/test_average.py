import torch
from torch import nn

import ffebm
from ffebm.training.optimization.average import Average


def test_it_is_the_moving_average_of_the_weights() -> None:
    net = ffebm.Executor(ffebm.compile(nn.Linear(3, 2), (torch.ones(1, 3),), hardware="ideal"))
    average, weight, expected = Average(0.9, net), net.weights()["weight"], None
    for value in (1.0, 2.0, 4.0):
        with torch.no_grad():
            weight.fill_(value)
        average.update()
        expected = value if expected is None else 0.9 * expected + 0.1 * value
    assert expected is not None
    torch.testing.assert_close(average.tensors["weight"], torch.full((2, 3), expected))

    twin = average.network(0)
    torch.testing.assert_close(twin.weights()["weight"].detach(), torch.full((2, 3), expected))
    assert float(weight[0, 0].detach()) == 4.0
    average.restore({"weight": torch.zeros(2, 3), "bias": torch.zeros(2)}, torch.device("cpu"))
    assert float(average.network(0)(torch.ones(1, 3)).detach().abs().max()) == 0.0
