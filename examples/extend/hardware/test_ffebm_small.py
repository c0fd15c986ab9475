"""The package does what it says, found by its entry point."""

import torch
from torch import nn

import ffebm


def test_the_machine_is_known_by_name() -> None:
    plan = ffebm.compile(nn.Sequential(nn.Linear(6, 5), nn.ReLU()), (torch.randn(2, 6),), hardware="small")
    assert plan.hardware.name == "small"
    assert [(piece.n_in, piece.n_out) for _, piece in plan.pieces()] == [(3, 3), (3, 3), (3, 2), (3, 2)]
