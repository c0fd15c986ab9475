"""What the solver chooses packs, and is asked for once."""

from ffebm.mapping.search.goal import OBJECTIVES, Goal
from ffebm.mapping.search.known import Known
from ffebm.mapping.search.solving import Solving
from ffebm.mapping.solver.problem import Limits
from ffebm.mapping.whole import whole_choice
from tests.mapping.search.graphs import search


def solving(seed: int, goal: Goal, known: Known | None = None) -> Solving:
    """What the search of a graph asks."""
    one = search(seed, goal)
    whole = whole_choice(one.graph, one.hardware, one.choosing)
    return Solving(whole, goal, one.filling, known or one.known)


def test_the_last_of_what_is_found_packs_with_blocks_apart_or_is_on_the_fewest_tiles() -> None:
    for seed in range(3):
        for objective in OBJECTIVES:
            one = solving(seed, Goal(objective))
            choice, packed = one.packed(objective, Limits())
            densest = one.filling.densest()
            assert one.filling.packs(packed[-1], apart=True) or packed[-1] in (densest, (0,) * len(densest))
            assert all(one.filling.packs(picked, apart=False) for picked in packed)
            assert choice.bound <= choice.value


def test_without_limits_each_objective_is_solved_for_once() -> None:
    known = Known()
    first = solving(0, Goal("latency"), known).packed("edp", Limits())
    assert solving(0, Goal("energy"), known).packed("edp", Limits()) is first
    assert sorted(known.solved) == ["edp", "energy", "latency"]  # the ends of a product's sweep


def test_limits_are_solved_for_anew() -> None:
    one = solving(0, Goal("latency"))
    free = one.packed("energy", Limits())[0]
    fast = one.packed("latency", Limits())[0]
    limited = one.packed("energy", Limits(seconds=fast.figures.seconds * 1.01))[0]
    assert limited.figures.seconds <= fast.figures.seconds * 1.01 * (1 + 1e-9)
    assert limited.value >= free.value * (1 - 0.01)
    assert one.packed("energy", Limits())[0] is free
