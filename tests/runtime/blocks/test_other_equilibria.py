"""Blocks with several equilibria: two units whose equilibria are known in closed form."""

import pytest
import torch

from ffebm.graph.energy_block import Activation
from ffebm.plan.schema import Settle
from ffebm.runtime.blocks.other_equilibria import OtherEquilibria, apart
from tests.runtime.some_blocks import KINKED, SMOOTH, Builder

SETTLE = Settle(free_sweeps=60, nudged_sweeps=4)
CLIP = Activation("Clip", low=0.0, high=1.0)


def two_units(coupling: float, bias: float, *inputs: float) -> OtherEquilibria:
    """s1 = clip(x + c s2), s2 = clip(c s1 + bias)."""
    b = Builder(batch=len(inputs))
    b.input("x", 1)
    b.dense("s1", "x", 1, CLIP)
    b.dense("s2", "s1", 1, CLIP)
    case = b.case()
    for name, value in (("s1.w", 1.0), ("s1.b", 0.0), ("s2.w", coupling), ("s2.b", bias)):
        case.weights[name].fill_(value)
    case.inputs["x"] = torch.tensor(inputs, dtype=torch.float64)[:, None]
    return case.runtime().other_equilibria(case.settled(SETTLE), case.weights, SETTLE, 32)


def test_a_latch_keeps_what_the_sample_before_has_set() -> None:
    # for -1 <= x <= 0 both (0, 0) and (1, 1) are equilibria; from zero the first is found
    assert two_units(2.0, -0.5, 0.8, -0.5, -2.0) == OtherEquilibria(3, started=1)
    assert two_units(2.0, -0.5, -2.0, -0.5, 0.8) == OtherEquilibria(3)
    assert two_units(2.0, -0.5, -0.5) == OtherEquilibria(1)


def test_of_two_rivals_a_sweep_lets_the_first_win_and_a_race_the_stronger() -> None:
    # (x, 0) and (0, 0.9) are equilibria for x >= 0.45; a race from zero goes to the larger drive
    found = two_units(-2.0, 0.9, 0.6, 0.6)
    assert (found.started, found.together, found.unknown) == (0, 2, 0)
    assert two_units(-2.0, 0.5, 0.9) == OtherEquilibria(1)


@pytest.mark.parametrize("activation", [*SMOOTH, *KINKED], ids=lambda a: a.op)
def test_blocks_that_contract_have_one_equilibrium(activation: Activation) -> None:
    b = Builder(seed=1, batch=5, strength=0.3)
    b.input("x", 4)
    for name, source in (("s1", "x"), ("s2", "s1"), ("s3", "s2")):
        b.dense(name, source, 5, activation)
    case = b.case()
    settled = case.settled(SETTLE)
    found = case.runtime().other_equilibria(settled, case.weights, SETTLE, 3)
    assert found == OtherEquilibria(3)


def test_blocks_of_layers_that_do_not_interact_are_not_tried() -> None:
    b = Builder(batch=2)
    b.input("x", 4)
    b.dense("s1", "x", 5, CLIP)
    case = b.case()
    assert case.runtime().other_equilibria(case.settled(SETTLE), case.weights, SETTLE, 9) == OtherEquilibria(
        2
    )


def test_shares_are_of_all_blocks() -> None:
    found = sum([OtherEquilibria(4, 1, 2, 0), OtherEquilibria(4, 0, 0, 1)], OtherEquilibria())
    assert [found.share(n) for n in (found.started, found.together, found.unknown)] == [0.125, 0.25, 0.125]
    assert OtherEquilibria().share(0) == 0


def test_states_that_differ_by_less_than_a_thousandth_are_the_same() -> None:
    one = torch.ones(1, 3)
    assert apart([one, one], [one * 1.0005, one]).tolist() == [False]
    assert apart([one, one], [one * 1.01, one]).tolist() == [True]
