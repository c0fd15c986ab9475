"""Blocks whose layers feel those above weaker than they drive them."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ffebm
from ffebm.errors import UsageError
from tests.models import Builder


def chain(layers: int) -> Any:
    b = Builder()
    x = b.input("x", "N", 6)
    for index in range(layers):
        x = b.node("Relu", b.node("MatMul", x, b.weight(6, 6)), name=f"act{index}")
    return b.model(x)


def test_only_blocks_whose_layers_feel_each_other_have_one() -> None:
    plan = ffebm.compile(chain(3), hardware="ideal", block_size=2, feedback=0.25)
    assert [block.feedback for block in plan.blocks] == [0.25, 1.0]
    assert [block.stiffness() for block in plan.blocks] == [(4.0, 1.0), (1.0,)]
    assert "blocks      2; block size 2, boundary tile, feedback 0.25" in plan.summary()


def test_the_weaker_the_feedback_the_nearer_a_block_is_to_the_model() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 7), nn.Sigmoid(), nn.Linear(7, 6), nn.Softplus()
    ).double()
    x = torch.randn(4, 5, dtype=torch.float64)
    settle = ffebm.Settle(free_sweeps=300, tol=1e-12)

    def off(feedback: float) -> float:
        plan = ffebm.compile(model, (x,), hardware="ideal", block_size=3, settle=settle, feedback=feedback)
        found: Tensor = ffebm.Executor(plan).double()(x) - model(x)
        return float(found.detach().square().sum().sqrt())

    found = [off(feedback) for feedback in (1.0, 0.02, 0.01)]
    assert found[0] > 10 * found[1]
    assert found[1] == pytest.approx(2 * found[2], rel=0.05)


@pytest.mark.parametrize("feedback", [0.0, -0.5, 1.5, float("nan"), True])
def test_a_feedback_out_of_range(feedback: float) -> None:
    with pytest.raises(UsageError) as caught:
        ffebm.compile(chain(2), hardware="ideal", block_size=2, feedback=feedback)
    assert str(caught.value) == f"feedback {feedback}; at least 0.001, and at most 1"


def test_layers_that_feel_no_other() -> None:
    with pytest.raises(UsageError) as caught:
        ffebm.compile(chain(2), hardware="ideal", feedback=0.5)
    assert str(caught.value) == (
        "model: feedback 0.5 where no layer of a block feels another; blocks of several layers\n"
        "  hint: ask for larger ones: --block-size 2"
    )


def test_blocks_that_are_circuits() -> None:
    with pytest.raises(UsageError) as caught:
        ffebm.compile(chain(2), hardware="resistive", block_size=2, feedback=0.5)
    assert str(caught.value) == (
        "model: feedback 0.5 on 'tiles' of machine 'resistive', whose blocks are circuits; machines with "
        "clocked settling, which multiply what was read"
    )


def test_blocks_of_another_physics() -> None:
    b = Builder()
    x = b.input("x", "N", 6)
    for _ in range(2):
        weight = b.constant(np.full((6, 6), 0.25, np.float32))
        x = b.node("Relu", b.node("MatMul", x, weight))
    with pytest.raises(UsageError) as caught:
        ffebm.compile(b.model(x), hardware="ideal", physics="deep-resistive", block_size=2, feedback=0.5)
    assert str(caught.value) == (
        "model: feedback 0.5 in blocks of physics 'deep-resistive'; blocks of physics 'hopfield'\n"
        "  hint: amplifiers decide it there: the currents that come back are divided by their gain"
    )


def test_a_nudge_that_hardly_arrives_is_noted() -> None:
    plan = ffebm.compile(chain(3), hardware="ideal", block_size=3, feedback=0.002)
    assert (
        "layer 'v1' of an energy block feels a nudge at 4e-06 of its strength, which single precision may "
        "not resolve: gradients by a stronger feedback, or Implicit, are safe"
    ) in plan.notes
    assert not any(
        "nudge" in note
        for note in ffebm.compile(chain(3), hardware="ideal", block_size=3, feedback=0.01).notes
    )
