import itertools
import math
from collections.abc import Callable, Sequence
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from ffebm.studies.sensitivity.search import ALL, LEAST, STEPS, by_superposition, by_work, candidates
from ffebm.studies.sensitivity.units import Unit

Names = frozenset[str]


def made(*macs: int) -> list[Unit]:
    return [Unit(name=f"u{i}", weights=(f"w{i}",), macs=m) for i, m in enumerate(macs)]


def counted(keeps: Callable[[Names], bool]) -> tuple[list[Names], Callable[[Names], bool]]:
    """The question, and a list of how it was asked."""
    asked: list[Names] = []

    def ask(names: Names) -> bool:
        asked.append(names)
        return keeps(names)

    return asked, ask


def sure(keeps: Callable[[Names], bool]) -> Callable[[Sequence[Names]], list[float]]:
    """Predictions that are true."""
    return lambda sets: [float(keeps(names)) for names in sets]


def within(damage: dict[str, float], most: float) -> Callable[[Names], bool]:
    """Keeps the accuracy as long as damages add up to no more than that."""
    return lambda names: sum(damage[name] for name in names) <= most


def test_by_work_takes_most_work_first_and_puts_back_what_costs_too_much() -> None:
    asked, ask = counted(lambda names: "u1" not in names)
    assert by_work(made(5, 9, 7), ask) == {"u0", "u2"}
    assert asked == [{"u1"}, {"u2"}, {"u2", "u0"}]


def test_one_question_is_enough_where_predictions_are_true() -> None:
    units, damage = made(5, 9, 7), {"u0": 1.0, "u1": 20.0, "u2": 2.0}
    keeps = within(damage, 4.0)
    asked, ask = counted(keeps)
    assert by_superposition(units, damage, sure(keeps), ask, 3) == {"u0", "u2"}
    assert asked == [{"u0", "u2"}]


def test_greedy_by_work_is_stuck_where_the_largest_unit_uses_up_what_others_could_share() -> None:
    units, damage = made(10, 9, 8), {"u0": 4.0, "u1": 2.0, "u2": 2.0}
    keeps = within(damage, 4.0)
    assert by_work(units, keeps) == {"u0"}
    assert by_superposition(units, damage, sure(keeps), keeps, 1) == {"u1", "u2"}


def test_a_wrong_prediction_is_caught_and_the_next_set_is_asked_for() -> None:
    units, damage = made(4, 3, 2), {"u0": 1.0, "u1": 1.0, "u2": 1.0}
    asked, ask = counted(lambda names: "u0" not in names)
    assert by_superposition(units, damage, lambda sets: [0.9] * len(sets), ask, 9) == {"u1", "u2"}
    assert asked == [{"u0", "u1", "u2"}, {"u0", "u1"}, {"u0", "u2"}, {"u1", "u2"}]


def test_what_was_asked_changes_what_is_asked_next() -> None:
    asked, ask = counted(lambda names: len(names) == 1)
    units = made(4, 3, 2)

    def chances(sets: Sequence[Names]) -> list[float]:
        return [0.0 if any(len(names) >= len(a) for a in asked) else 0.5 for names in sets]

    assert by_superposition(units, dict.fromkeys(("u0", "u1", "u2"), 1.0), chances, ask, 9) == {"u0"}
    assert asked == [{"u0", "u1", "u2"}, {"u0", "u1"}, {"u0"}]


def test_what_promises_little_is_not_asked_for() -> None:
    units, damage = made(50, 50), {"u0": 1.0, "u1": 1.0}
    asked, ask = counted(lambda _: True)
    assert by_superposition(units, damage, lambda sets: [0.99 * LEAST] * len(sets), ask, 9) == set()
    assert asked == []
    assert by_superposition(units, damage, lambda sets: [1.01 * LEAST] * len(sets), ask, 9) == {"u0", "u1"}


def test_all_sets_of_few_units_are_candidates() -> None:
    sets = candidates(made(*range(1, ALL + 1)), {f"u{i}": 1.0 for i in range(ALL)})
    assert len(set(sets)) == len(sets) == 2**ALL - 1


def test_of_many_units_the_sets_of_least_damage_are_candidates() -> None:
    """Half of the units do twice the work for the same damage."""
    count = 30
    units, damage = made(*([1, 2] * (count // 2))), {f"u{i}": 1.0 for i in range(count)}
    sets = candidates(units, damage)
    assert len(sets) <= 8 * (STEPS + 1)
    work = {unit.name: unit.macs for unit in units}
    for macs in range(1, 3 * count // 2 + 1):
        least = math.ceil(macs / 2) if macs <= count else macs - count // 2
        found = min(len(names) for names in sets if sum(work[name] for name in names) == macs)
        assert found == least


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[Unit], dict[str, float], float]:
    macs = draw(st.lists(st.integers(1, 20), min_size=1, max_size=7))
    units = made(*macs)
    damage = {unit.name: float(draw(st.integers(0, 20))) for unit in units}
    return units, damage, float(draw(st.integers(0, 60)))


@settings(deadline=None, max_examples=40)
@given(problems())
def test_one_question_finds_the_most_work_where_predictions_are_true(
    problem: tuple[list[Unit], dict[str, float], float],
) -> None:
    units, damage, most = problem
    keeps = within(damage, most)
    asked, ask = counted(keeps)
    found = by_superposition(units, damage, sure(keeps), ask, len(units))
    work = {unit.name: unit.macs for unit in units}
    best = max(
        sum(work[name] for name in names)
        for count in range(len(units) + 1)
        for names in itertools.combinations(work, count)
        if keeps(frozenset(names))
    )
    assert sum(work[name] for name in found) == best
    assert len(asked) <= 1


@settings(deadline=None, max_examples=40)
@given(problems(), st.integers(1, 9), st.integers(0, 99))
def test_what_is_found_has_been_asked_for_and_keeps(
    problem: tuple[list[Unit], dict[str, float], float], most: int, seed: int
) -> None:
    """Whatever is predicted; and no set is asked for twice."""
    units, damage, limit = problem
    keeps = within(damage, limit)
    asked, ask = counted(keeps)
    random = Random(seed)
    found = by_superposition(units, damage, lambda sets: [random.random() for _ in sets], ask, most)
    assert found in asked or not found
    assert keeps(found) or not found
    assert len(set(asked)) == len(asked) <= most
    work = {unit.name: unit.macs for unit in units}
    assert all(sum(work[n] for n in names) <= sum(work[n] for n in found) for names in asked if keeps(names))
