import itertools
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from ffebm.runtime.sensitivity.search import by_distortion, by_work, frontier
from ffebm.runtime.sensitivity.units import Unit

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


def test_by_work_takes_most_work_first_and_puts_back_what_costs_too_much() -> None:
    asked, ask = counted(lambda names: "u1" not in names)
    assert by_work(made(5, 9, 7), ask) == {"u0", "u2"}
    assert asked == [{"u1"}, {"u2"}, {"u2", "u0"}]


def test_by_distortion_leaves_out_what_disturbs_most_for_its_work() -> None:
    units, distortions = made(5, 9, 7), {"u0": 1.0, "u1": 20.0, "u2": 2.0}
    asked, ask = counted(lambda names: sum(distortions[name] for name in names) <= 4.0)
    assert by_distortion(units, distortions, ask) == {"u0", "u2"}
    assert len(asked) <= 3


def test_greedy_by_work_can_be_stuck_where_distortion_is_not() -> None:
    """The largest unit uses up what two others could share."""
    units, distortions = made(10, 9, 8), {"u0": 4.0, "u1": 2.0, "u2": 2.0}

    def keeps(names: Names) -> bool:
        return sum(distortions[name] for name in names) <= 4.0

    assert by_work(units, keeps) == {"u0"}
    assert by_distortion(units, distortions, keeps) == {"u1", "u2"}


def test_the_frontier_of_three() -> None:
    sets = list(frontier(made(1, 2, 4), {"u0": 3.0, "u1": 1.0, "u2": 1.0}))
    assert sets == [set(), {"u2"}, {"u1", "u2"}, {"u0", "u1", "u2"}]


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[Unit], dict[str, float], float]:
    macs = draw(st.lists(st.integers(1, 20), min_size=1, max_size=7))
    units = made(*macs)
    distortions = {unit.name: float(draw(st.integers(0, 20))) for unit in units}
    return units, distortions, float(draw(st.integers(0, 60)))


@given(problems())
def test_by_distortion_is_best_where_distortions_add_up(
    problem: tuple[list[Unit], dict[str, float], float],
) -> None:
    units, distortions, most = problem
    asked, ask = counted(lambda names: sum(distortions[name] for name in names) <= most)
    found = by_distortion(units, distortions, ask)
    work = {unit.name: unit.macs for unit in units}
    best = max(
        sum(work[name] for name in names)
        for count in range(len(units) + 1)
        for names in itertools.combinations(work, count)
        if sum(distortions[name] for name in names) <= most
    )
    assert sum(work[name] for name in found) == best
    assert len(asked) <= len(units)
