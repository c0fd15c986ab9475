"""The terminal's answers: golden text, the page's own figures, and names that do no harm."""

from collections.abc import Callable, Iterable
from io import StringIO

import pytest
from rich.cells import cell_len
from rich.console import Console

from ffebm.plan.plan import Plan
from ffebm.plan.summary import share
from ffebm.report.facts.facts import facts, quantity
from ffebm.report.terminal.sections import ROWS, SECTIONS, View
from ffebm.visible import visible
from tests.report.conftest import WICKED
from tests.scheduling.lagging import four_copies_in_a_core


def printed(
    plan: Plan,
    sections: Iterable[str] = SECTIONS,
    width: int = 80,
    *,
    terminal: bool = False,
    whole: bool = False,
) -> str:
    """As in a pipe, or a terminal, of that width."""
    stream = StringIO()
    console = Console(
        file=stream,
        width=width,
        highlight=False,
        emoji=False,
        markup=False,
        force_terminal=terminal,
        color_system="standard" if terminal else None,
    )
    view = View(facts(plan), console, whole)
    for name in sections:
        for part in SECTIONS[name](view):
            console.print(part)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def cells(text: str, head: str) -> list[list[str]]:
    """The rows of the table whose first head begins with these words, as their words."""
    lines = text.splitlines()
    at = next(place for place, line in enumerate(lines) if line.startswith(head))
    return [line.split() for line in "\n".join(lines[at + 2 :]).split("\n\n")[0].splitlines()]


def test_everything_at_80_columns(digits: Plan, golden: Callable[[str], None]) -> None:
    text = printed(digits)
    golden(text)
    assert {*text} - {*map(chr, range(128))} <= {*"×µ†²"}


def test_a_large_model_is_folded(deep: Plan, golden: Callable[[str], None]) -> None:
    golden(printed(deep, ["flow"]))


def test_all_unfolds_a_large_model(deep: Plan) -> None:
    text = printed(deep, ["flow"], whole=True)
    for block in deep.blocks:
        assert f"+- {block.name} --" in text
    assert "section" not in text


@pytest.mark.parametrize("name", ["inference", "training"])
def test_costs_are_the_schedules(digits: Plan, name: str) -> None:
    schedule = getattr(digits, name)
    text = printed(digits, ["costs"])
    text = text[text.index(f"{name}") :]
    totals = [row for row in cells(text, "by part") if row[0] == "together"]
    (total,) = totals
    energy = quantity(schedule.cost.energy, "J").split()
    assert total[1] == str(len(schedule.steps))
    assert total[4:6] == [energy[0], f"{energy[1]}†"]
    counts = [sum(getattr(step.cost, kind) for step in schedule.steps) for kind in ("dac_count", "adc_count")]
    assert total[-2:] == [f"{count:,}" for count in counts]
    for kind, label in (("array", "cells"), ("dac", "D/A"), ("memory", "memory")):
        joules = sum(getattr(step.cost, kind) for step in schedule.steps)
        (row,) = [row for row in cells(text, "by kind of energy") if row[0] == label]
        part = share(joules, schedule.cost.energy).split()
        assert row[1:] == [*quantity(joules, "J").split(), *part]


def test_marks_are_on_what_rests_on_assumptions(digits: Plan) -> None:
    """Of the energies of the reference machine, only those of its network and of leakage rest on one."""
    rows = {row[0]: row for row in cells(printed(digits, ["costs"]), "by kind of energy")}
    assert [kind for kind, row in rows.items() if any("†" in word for word in row)] == ["network", "leakage"]
    assumed = [name for name, constant in digits.hardware.quantities() if constant.assumption]
    text = "".join(printed(digits, ["costs"], 200).split())
    assert assumed
    assert all(name in text for name in assumed)


def test_wide_terminals_hold_energies_beside_the_rest(digits: Plan) -> None:
    narrow, wide = (printed(digits, ["costs"], width) for width in (120, 180))
    head = next(line for line in wide.splitlines() if line.startswith("by part"))
    assert head.split("  ")[-1].strip() == "A/D count"
    assert "memory" in head
    assert "memory" not in next(line for line in narrow.splitlines() if line.startswith("by part"))


def test_what_the_critical_path_is_made_of(digits: Plan) -> None:
    text = printed(digits, ["time"], whole=True)
    rows = cells(text, "critical path  ")
    chain = facts(digits).inference.critical
    assert sum(int(row[-5]) for row in rows) == len(chain)
    steps = cells(text, "its longest steps")
    assert [row[0] for row in steps] == [digits.inference.steps[step].name for step in chain]


def test_rows_left_out_are_counted(deep: Plan) -> None:
    text = printed(deep, ["time", "costs", "tiles"])
    units = {unit for step in deep.training.steps for unit in step.units}
    assert f"{len(units) - ROWS} more units, each busy for at most " in text
    parts = len(facts(deep).inference_bill.parts)
    assert f"\n{parts - ROWS} more: --all " in text
    assert f"\n{len(deep.tiles) - ROWS} more tiles: --all " in text
    assert " more" not in printed(deep, ["time", "tiles", "costs"], whole=True)


def test_units_that_always_work_together_share_a_row() -> None:
    """Four copies of a layer and their core are one row of the timeline, and a range beside their steps."""
    text = printed(four_copies_in_a_core(), ["time"])
    first = ["digital0", "network0-network1", "core0, tile0-tile3"]
    rows = [row for row in text.splitlines() if row.endswith("|")][:3]
    assert [row.split("  ")[0] for row in rows] == first
    steps = cells(text, "its longest steps")[:-1]
    assert {" ".join(row[3:5]) for row in steps} == {"core0, tile0-tile3"}


def test_names_do_no_harm(wicked: Plan) -> None:
    text = printed(wicked)
    assert all(character.isprintable() or character in "\n\u200d" for character in text)
    # no name is cut off: it may only be wrapped
    dense = "".join(text.replace("|", "").split())
    for number, name in enumerate(WICKED):
        if number % 2 and len(name) < 60:
            assert "".join(visible(f"s{number}{name}").replace("|", "").split()) in dense
    assert "n" * 300 in dense


def test_a_terminal_gets_colours_and_a_pipe_does_not(digits: Plan) -> None:
    pipe, terminal = printed(digits), printed(digits, terminal=True)
    assert "\x1b" not in pipe
    assert "\x1b[36m╭─" in terminal
    assert not {*pipe} & {*"╭─│"}


@pytest.mark.parametrize("width", [80, 120, 200])
@pytest.mark.parametrize("which", ["digits", "wicked", "deep"])
def test_no_line_is_wider_than_the_terminal(which: str, width: int, request: pytest.FixtureRequest) -> None:
    plan: Plan = request.getfixturevalue(which)
    assert max(map(cell_len, printed(plan, width=width).splitlines())) <= width


def test_the_timeline_takes_the_terminals_width(digits: Plan) -> None:
    for width in (80, 120, 200):
        bars = [line for line in printed(digits, ["time"], width).splitlines() if line.startswith("tile0")]
        assert all(width - 2 <= len(bar) <= width for bar in bars)


def test_a_block_lasts_as_long_as_its_bands_one_after_the_other() -> None:
    """Of one run of several; eight bands of 2.2 us, of which each starts 1.6 us behind the one before."""
    plan = four_copies_in_a_core(batch=3)
    row, *_ = cells(printed(plan, ["costs"]), "block, settling")
    assert row[:3] == ["block0", "13.4", "µs"]
