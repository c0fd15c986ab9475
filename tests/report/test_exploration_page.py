"""The page of an exploration in headless Chromium: it opens, answers, and shows the figures of its points."""

from collections.abc import Callable
from html import escape, unescape

import pytest
from playwright.sync_api import Page

from ffebm.exploration.figures import FIGURES
from ffebm.exploration.knobs import Grid, knobs_of
from ffebm.exploration.table import ExploredPoint
from ffebm.report.facts.exploration_facts import ExplorationFacts, exploration_facts
from ffebm.report.page import exploration_page
from tests.report.conftest import WICKED

Open = Callable[..., Page]
KNOBS = knobs_of(["bits=4,6,8", "unit.a+unit.b=none,1", "objective=analog,energy"])


def points(refused: str = "a limit that cannot be kept") -> list[ExploredPoint]:
    """Twelve points; the last one is refused. More bits take more time and less energy."""
    grid, rows = Grid(KNOBS), []
    for number, point in enumerate(grid):
        bits = int(point["bits"] or 0)
        last = number == len(grid) - 1
        figures: dict[str, float | None] = dict.fromkeys(FIGURES, None if last else 1.0 + number)
        if not last:
            figures |= {"inference_s": 1e-9 * bits, "inference_j": 1e-6 / bits, "area_mm2": 20.0}
        row = ExploredPoint(
            number=number,
            point=dict(point),
            figures=figures,
            front=not last,
            refused=refused if last else "",
            summary=[f"summary of {number}"],
            command="" if last else f"ffebm-compile model.onnx --number {number}",
        )
        rows.append(row)
    return rows


def explored(source: str = "model.onnx", refused: str = "a limit that cannot be kept") -> ExplorationFacts:
    front = ("inference_s", "inference_j", "area_mm2")
    return exploration_facts((source, "reference"), 12, KNOBS, front, points(refused))


@pytest.fixture
def tab(show: Open) -> Page:
    return show(exploration_page(explored()))


def test_the_page_shows_every_point(tab: Page) -> None:
    assert tab.inner_text("h1") == "model.onnx on reference: 12 of 12 points"
    assert tab.locator("#scatter .dot").count() == 11
    assert "dashed: front of these two, 3 points" in tab.inner_text("#scatter-key")
    assert tab.locator("#point-rows tbody tr[aria-rowindex]").count() == 12
    assert tab.inner_text("#kept") == "11 points of 11"


def test_a_click_shows_a_point(tab: Page) -> None:
    tab.click('#point-rows tr[aria-rowindex="7"]')
    text = tab.inner_text("#detail")
    for part in ("point 5", "unit.a+unit.b", "6 ns", "166.7 nJ", "20 mm2", "summary of 5"):
        assert part in text
    assert tab.inner_text("#detail .command") == "ffebm-compile model.onnx --number 5"
    tab.dispatch_event('#scatter [data-point="2"]', "click")
    assert "point 2, on the front" in tab.inner_text("#detail")
    tab.click('#point-rows tr[aria-rowindex="13"]')
    assert "a limit that cannot be kept" in tab.inner_text("#detail")
    assert tab.locator("#detail .command").count() == 0


def test_no_tick_is_cut_by_the_border(tab: Page) -> None:
    for name in ("inference_s", "inference_j"):
        tab.select_option("#across", name)
        beyond = """svg => [...svg.querySelectorAll('text')].map(one => one.getBBox())
            .filter(box => box.x < 0 || box.x + box.width > svg.viewBox.baseVal.width).length"""
        assert tab.eval_on_selector("#scatter svg", beyond) == 0


def test_the_axes_are_chosen(tab: Page) -> None:
    tab.select_option("#up", "area_mm2")
    assert "dashed: front of these two, 1 point" in tab.inner_text("#scatter-key")
    tab.select_option("#across", "tiles")
    assert tab.get_attribute("#scatter svg", "aria-label") == "area_mm2 against tiles of 11 points"


def test_a_value_keeps_its_points(tab: Page) -> None:
    tab.dispatch_event("#parallel .value >> nth=0", "click")
    assert tab.inner_text("#kept") == "4 points of 11"
    assert tab.locator("#scatter .dot").count() == 4
    assert tab.inner_text("#filtered") == "4 of 12 points"
    tab.dispatch_event("#parallel .value >> nth=3", "click")
    assert tab.locator("#scatter .dot").count() == 2
    tab.click("#all")
    assert tab.inner_text("#kept") == "11 points of 11"


def test_the_table_sorts_and_filters(tab: Page) -> None:
    tab.click("#point-rows thead button >> nth=5")
    assert tab.get_attribute("#point-rows th >> nth=5", "aria-sort") == "ascending"
    first = tab.inner_text('#point-rows tr[aria-rowindex="2"] td >> nth=5')
    assert first == "4 ns"
    tab.check("#only-front")
    assert tab.inner_text("#filtered") == "11 of 12 points"


def test_what_matters_is_said_for_each_figure(tab: Page) -> None:
    rows = tab.locator("#importance tbody tr")
    assert rows.nth(0).inner_text().split() == ["bits", "100.0", "%"]
    tab.select_option("#figure", "area_mm2")
    assert [row.split()[-2:] for row in rows.all_inner_texts()] == [["0.0", "%"]] * 3


def test_wicked_names_do_no_harm(show: Open) -> None:
    for names in (WICKED, WICKED[::-1]):  # what one leaves open, another one meets
        name = "".join(names)
        tab = show(exploration_page(explored(name, refused=name)), dark=True)
        tab.click('#point-rows tr[aria-rowindex="13"]')
        assert tab.locator("#detail .note").count() == 1
    assert escape("<script>") in exploration_page(explored(WICKED[0]))


def test_a_page_without_figures_opens(show: Open) -> None:
    facts = exploration_facts(("m", "reference"), 12, KNOBS, ("inference_s", "inference_j"), points()[-1:])
    assert show(exploration_page(facts)).locator("#point-rows tbody tr[aria-rowindex]").count() == 1


def test_the_page_asks_for_nothing() -> None:
    html = unescape(exploration_page(explored()))
    assert "default-src 'none'" in html
    assert "http:" not in html.replace("http://www.w3.org/2000/svg", "")
