"""The package does what it says, found by its entry point."""

import torch
from torch import nn

import ffebm
from ffebm.training.data import load_data
from ffebm.training.settings import Training
from ffebm.training.trainer import Trainer


def test_a_network_learns_the_moons_by_name() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 2))
    net = ffebm.Executor(ffebm.compile(model, (torch.randn(2, 2),), hardware="ideal"))
    *_, last = Trainer(net, load_data("moons"), Training(data="moons", epochs=4, lr=0.1)).run()
    assert last.test_accuracy > 0.9
