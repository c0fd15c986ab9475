"""The Pareto front and the importance of knobs."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffebm.exploration.figures import FIGURES, MEASURED
from ffebm.exploration.front import dominates, importance, on_front
from ffebm.exploration.knobs import Knob

NAMES = ("inference_s", "inference_j", "area_mm2")
NUMBERS = st.one_of(st.none(), st.integers(0, 4).map(float))
ROWS = st.lists(st.fixed_dictionaries(dict.fromkeys(NAMES, NUMBERS)), max_size=12)


@given(rows=ROWS)
def test_the_front_is_what_nothing_dominates(rows: list[dict[str, float | None]]) -> None:
    """By brute force: every pair is compared."""
    found = on_front(rows, NAMES)
    whole = [all(row[name] is not None for name in NAMES) for row in rows]
    costs = [tuple(row[name] or 0.0 for name in NAMES) for row in rows]
    for index in range(len(rows)):
        beaten = any(whole[k] and dominates(costs[k], costs[index]) for k in range(len(rows)))
        assert found[index] == (whole[index] and not beaten)


@given(rows=ROWS, order=st.randoms())
def test_the_front_does_not_depend_on_the_order(rows: list[dict[str, float | None]], order: object) -> None:
    mixed = list(range(len(rows)))
    order.shuffle(mixed)  # type: ignore[attr-defined]
    found = on_front([rows[index] for index in mixed], NAMES)
    assert [found[mixed.index(index)] for index in range(len(rows))] == on_front(rows, NAMES)


def test_importance_of_a_product() -> None:
    """A figure f(a) g(b) is a sum by its logarithm: main effects are shares of its variance, and sum to 1."""
    knobs = [Knob("a", (1, 10)), Knob("b", (1, 2, 4)), Knob("c", (0, 1))]
    points = [{"a": a, "b": b, "c": c} for a in (1, 10) for b in (1, 2, 4) for c in (0, 1)]
    found = importance(points, [point["a"] * point["b"] for point in points], knobs)
    of_a = (math.log(10) / 2) ** 2
    of_b = 2 / 3 * math.log(2) ** 2
    assert found == pytest.approx({"a": of_a / (of_a + of_b), "b": of_b / (of_a + of_b), "c": 0.0})


def test_importance_of_what_knobs_do_together() -> None:
    """An exclusive or has no main effects."""
    points = [{"a": a, "b": b} for a in (0, 1) for b in (0, 1)]
    values = [1.0 + (point["a"] ^ point["b"]) for point in points]
    assert importance(points, values, [Knob("a", (0, 1)), Knob("b", (0, 1))]) == {"a": 0.0, "b": 0.0}


def test_importance_of_what_does_not_change() -> None:
    assert importance([{"a": 0}, {"a": 1}], [2.0, None], [Knob("a", (0, 1))]) == {"a": 0.0}
    assert importance([{"a": 0}, {"a": 1}], [None, None], [Knob("a", (0, 1))]) == {"a": 0.0}


def test_less_of_a_cost_is_better() -> None:
    assert [name for name, kind in FIGURES.items() if kind.better == "more"] == list(MEASURED)


def test_more_of_an_accuracy_is_better() -> None:
    rows = [{"accuracy": 0.9, "inference_j": 2.0}, {"accuracy": 0.8, "inference_j": 2.0}]
    assert on_front(rows, ("accuracy", "inference_j")) == [True, False]
