"""The terminal's answers: golden text, the plan's own figures, and names that do no harm."""

from collections.abc import Callable, Iterable
from io import StringIO

import pytest
from rich.console import Console

from ffebm.plan import Plan, engineering
from ffebm.report.sections import ROWS, SECTIONS
from ffebm.report.visible import visible
from tests.report.conftest import WICKED


def printed(plan: Plan, sections: Iterable[str] = SECTIONS, width: int = 80) -> str:
    """As in a pipe of that width."""
    stream = StringIO()
    console = Console(file=stream, width=width, highlight=False, emoji=False)
    for name in sections:
        for part in SECTIONS[name](plan):
            console.print(part)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def test_everything_at_80_columns(digits: Plan, golden: Callable[[str], None]) -> None:
    text = printed(digits)
    golden(text)
    assert max(map(len, text.splitlines())) <= 80
    assert text.isascii()


def test_energies_and_conversions_are_the_schedules(digits: Plan) -> None:
    text = printed(digits, ["costs"], 200)
    for schedule in (digits.inference, digits.training):
        for kind in ("array", "dac", "adc", "digital", "memory", "network"):
            joules = sum(getattr(step.cost, kind) for step in schedule.steps)
            assert f"{engineering(joules, 'J')}" in text
        assert f"{sum(step.cost.dac_count for step in schedule.steps if step.kind == 'free'):,}" in text


def test_a_unit_is_drawn_where_it_works(digits: Plan) -> None:
    rows: dict[str, str] = {}
    for line in printed(digits, ["time"]).splitlines()[2:]:
        if line.startswith("critical path"):
            break
        rows[line.split()[0]] = line
    busiest = digits.inference.busiest_unit
    assert rows[busiest].count("#") == max(row.count("#") for row in rows.values())


def test_names_do_no_harm(wicked: Plan) -> None:
    text = printed(wicked)
    assert all(character.isprintable() or character in "\n\u200d" for character in text)
    assert "\x1b" not in text
    # no name is cut off: it may only be wrapped
    dense = "".join(text.split())
    for number, name in enumerate(WICKED):
        if number % 2:
            assert "".join(visible(f"s{number}{name}").split()) in dense


def test_more_units_than_rows_are_counted(deep: Plan) -> None:
    text = printed(deep, ["time"])
    units = {unit for step in deep.training.steps for unit in step.units}
    assert len(units) > ROWS
    assert f"{len(units) - ROWS} more units, each busy for at most " in text


@pytest.mark.parametrize("width", [80, 120, 200])
def test_no_line_is_wider_than_the_terminal(digits: Plan, width: int) -> None:
    assert max(map(len, printed(digits, width=width).splitlines())) <= width
