from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import pytest

from ffebm.errors import UsageError
from ffebm.mapping.solver.choice import STREAMED_GAP, STREAMED_SHARE, choose, choose_beside, choose_streamed
from ffebm.mapping.solver.linear_program import LinearProgram, Solved
from ffebm.mapping.solver.price import Price
from ffebm.mapping.solver.problem import Candidate, Decision, Figures, Limits, Link, Problem, figures_of
from ffebm.plan.mapping import Objective
from tests.mapping.solver.problems import costs, random_problem, within

OBJECTIVES: tuple[Objective, ...] = ("analog", "latency", "throughput", "energy", "edp")
SMALL = tuple(range(60))
CLOSE = {"edp": 0.006}
"""Share by which a choice may be above the best one; elsewhere what the solver is asked for, and a tie."""


@cache
def every_cost(seed: int) -> tuple[Figures, ...]:
    problem, limits = random_problem(seed, 5, 4, 1 + seed % 2)
    return tuple(costs(problem, limits))


def value(figures: Figures, objective: Objective) -> float:
    return {
        "latency": figures.seconds,
        "throughput": figures.interval,
        "energy": figures.joules,
        "edp": figures.edp,
        "analog": figures.seconds,
    }[objective]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_choice_is_the_best_of_all(objective: Objective) -> None:
    """And its bound is below the best, in graphs with ties, two groups of tiles and two digital groups."""
    for seed in SMALL:
        problem, limits = random_problem(seed, 5, 4, 1 + seed % 2)
        choice = choose(problem, objective, limits, effort=1000)
        everything = every_cost(seed)
        if objective == "analog":
            most = max(figures.work for figures in everything)
            assert choice.figures.work == most
            everything = tuple(figures for figures in everything if figures.work == most)
        best = min(value(figures, objective) for figures in everything)
        assert within(choice.figures, limits)
        assert choice.figures == figures_of(problem, choice.picked)
        assert best * (1 - 1e-9) <= choice.value <= best * (1 + CLOSE.get(objective, 1e-3))
        assert choice.bound <= best * (1 + 1e-9)
        assert choice.gap == pytest.approx((choice.value - choice.bound) / choice.value)


def test_a_choice_beside_a_known_one_has_nearly_the_least_product() -> None:
    """On fewer tiles, from the best choice on all: no more than the tangent of the product leaves open."""
    for seed in range(20):
        problem, limits = random_problem(seed, 5, 4, 1 + seed % 2)
        known = choose(problem, "edp", limits, effort=1000).figures
        less = Limits(tiles={group: most * 0.7 for group, most in limits.tiles.items()})
        best = min((f for f in every_cost(seed) if within(f, less)), key=lambda figures: figures.edp)
        picked = choose_beside(problem, less, 1000, known)
        assert picked is not None
        found = figures_of(problem, picked)
        shares = best.seconds / known.seconds + best.joules / known.joules
        assert within(found, less)
        assert best.edp <= found.edp * (1 + 1e-9)
        assert found.edp <= (shares / 2) ** 2 * known.edp * (1 + 2e-3)


def test_a_streamed_choice_has_nearly_the_least_of_its_sum() -> None:
    """The busiest unit's time and a share of that of the longest chain, within the gap; none if none fits."""

    def streamed(figures: Figures) -> float:
        return figures.interval + STREAMED_SHARE * figures.seconds

    for seed in range(20):
        problem, limits = random_problem(seed, 5, 4, 1 + seed % 2)
        picked = choose_streamed(problem, limits, 1000)
        assert picked is not None
        found = figures_of(problem, picked)
        assert within(found, limits)
        assert streamed(found) <= min(map(streamed, every_cost(seed))) * (1 + STREAMED_GAP + 1e-9)
        assert choose_streamed(problem, replace(limits, seconds=found.seconds * 1e-3), 1000) is None


@pytest.mark.parametrize("objective", ["latency", "energy", "edp"])
def test_limits_hold(objective: Objective) -> None:
    """A limit halfway between the least and what the choice takes without it."""
    for seed in range(12):
        problem, limits = random_problem(seed, 5, 4, 1 + seed % 2)
        free = choose(problem, objective, limits, effort=1000).figures
        everything = every_cost(seed)
        limits = Limits(
            tiles=limits.tiles,
            seconds=(free.seconds + min(f.seconds for f in everything)) / 2,
            area=(free.area + min(f.area for f in everything)) / 2,
        )
        allowed = [value(f, objective) for f in everything if within(f, limits)]
        if not allowed:
            with pytest.raises(UsageError):
                choose(problem, objective, limits, effort=1000)
            continue
        choice = choose(problem, objective, limits, effort=1000)
        assert within(choice.figures, limits)
        assert choice.value <= min(allowed) * (1 + CLOSE.get(objective, 1e-3))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_larger_choices_have_a_small_gap(objective: Objective) -> None:
    problem, limits = random_problem(7, 30, 8, 2)
    choice = choose(problem, objective, limits, effort=2000)
    assert choice.gap <= (0.03 if objective == "edp" else 0.01)
    assert within(choice.figures, limits)


@pytest.mark.slow
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_many_larger_choices_have_a_small_gap(objective: Objective) -> None:
    worst = 0.0
    for seed in range(200):
        problem, limits = random_problem(seed, 20 + seed % 40, 4 + seed % 9, 1 + seed % 2)
        worst = max(worst, choose(problem, objective, limits, effort=2000).gap)
    assert worst <= (0.03 if objective == "edp" else 0.01)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_without_a_search_the_relaxation_is_rounded(objective: Objective) -> None:
    for seed in range(6):
        problem, limits = random_problem(seed, 5, 4, 1)
        choice = choose(problem, objective, limits, effort=0)
        best = choose(problem, objective, limits, effort=1000)
        assert within(choice.figures, limits)
        assert choice.bound <= best.value * (1 + 1e-9)
        assert choice.value >= best.bound * (1 - 1e-9) or choice.figures.work < best.figures.work


@pytest.mark.parametrize("effort", [0, 1])
@pytest.mark.parametrize("objective", ["analog", "latency", "throughput", "energy", "edp"])
def test_a_search_that_finds_nothing_leaves_the_fewest_tiles(
    objective: Objective, effort: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without limits there is always a choice, also where little effort has overlooked all."""
    minimum = LinearProgram.minimum

    def overlooked(
        rows: LinearProgram,
        terms: Mapping[int, float],
        nodes: int,
        gap: float,
        fixed: Mapping[int, float] | None = None,
    ) -> Solved:
        relaxed = minimum(rows, terms, 0, gap)
        return relaxed if nodes == 0 else Solved(None, relaxed.bound)

    monkeypatch.setattr(LinearProgram, "minimum", overlooked)
    problem, limits = random_problem(1, 5, 4)
    choice = choose(problem, objective, limits, effort)
    assert within(choice.figures, limits)
    assert sum(choice.figures.tiles.values()) == 0
    assert choice.bound <= choice.value


def test_a_choice_is_the_same_every_time() -> None:
    problem, limits = random_problem(3, 25, 6, 2)
    assert choose(problem, "latency", limits, 500) == choose(problem, "latency", limits, 500)


def test_a_limit_that_nothing_keeps_is_named_with_what_can_be_reached() -> None:
    slow = Candidate(Price(seconds=4e-6, joules=1e-6), "digital")
    fast = Candidate(Price(seconds=1e-6, joules=3e-6, tiles={"tiles": 1.0}, area=2.0))
    problem = Problem((Decision((slow, fast)), Decision((slow, fast))), (Link(0, (1,), Price()),), area=5.0)
    one = {"tiles": 1.0}

    def message(limits: Limits) -> str:
        with pytest.raises(UsageError) as error:
            choose(problem, "energy", limits, effort=100)
        return str(error.value)

    hint = "\n  hint: raise the limit, or allow more tiles"
    assert message(Limits(one, seconds=2e-6)) == (
        f"no mapping keeps max_latency 2e-06 s; the least that was found is 5e-06 s{hint}"
    )
    assert message(Limits(one, joules=1e-6)) == (
        f"no mapping keeps max_energy 1e-06 J; the least that was found is 2e-06 J{hint}"
    )
    assert message(Limits(one, area=4.0)) == (
        f"no mapping keeps max_area 4 mm2; the least that was found is 5 mm2{hint}"
    )
    assert message(Limits(one, seconds=5e-6, joules=3e-6)) == (
        "no mapping keeps max_energy 3e-06 J beside max_latency 5e-06 s; the least that was found is 4e-06 J"
        + hint
    )


def test_a_value_is_carried_once_to_each_digital_group() -> None:
    def at(place: str) -> Decision:
        return Decision((Candidate(Price(seconds=1.0), place),))

    carry = Price(seconds=0.5, joules=2.0, busy={"network": 0.5})
    problem = Problem((at(""), at("vector"), at("vector"), at("matrix")), (Link(0, (1, 2, 3), carry),))
    figures = figures_of(problem, (0, 0, 0, 0))
    assert (figures.seconds, figures.joules, figures.interval) == (2.5, 4.0, 1.0)
