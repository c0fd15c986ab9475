"""The view of what was measured, in headless Chromium."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from playwright.sync_api import Page

from ffebm.plan.plan import Plan
from ffebm.report.facts.facts import Facts, facts
from ffebm.report.facts.measured.sensitivity_facts import SensitivityFacts, read_sensitivity
from ffebm.report.page import facts_of, page
from ffebm.studies.sensitivity.record import save_record
from tests.report.conftest import WICKED
from tests.report.measured import certificate_of, run_of, study_of

Open = Callable[..., Page]


def study_facts(plan: Plan, folder: Path) -> SensitivityFacts:
    save_record(study_of(plan), folder / "study.json")
    return read_sensitivity(plan, folder / "study.json")


@pytest.fixture
def whole(digits: Plan, tmp_path: Path) -> Facts:
    """The digits CNN with everything measured."""
    return facts(digits, run_of(), certificate_of(digits), study_facts(digits, tmp_path))


def rows(tab: Page, place: str) -> list[list[str]]:
    found: list[list[str]] = tab.eval_on_selector_all(
        f"{place} tbody tr[aria-rowindex]", "all => all.map(tr => [...tr.cells].map(c => c.textContent))"
    )
    return found


def drawn(tab: Page, place: str) -> list[str]:
    found: list[str] = tab.eval_on_selector_all(
        f"{place} svg[role=img]", "all => all.map(s => s.ariaLabel || s.getAttribute('aria-label'))"
    )
    return found


def titles(tab: Page, title: str) -> list[str]:
    """What the points of a chart say."""
    found: list[str] = tab.eval_on_selector_all(
        f'#run-view svg[aria-label^="{title}"] title', "all => all.map(t => t.textContent)"
    )
    return found


@pytest.mark.parametrize("dark", [False, True])
def test_everything_measured_is_drawn(whole: Facts, show: Open, dark: bool) -> None:
    tab = show(page(whole), dark=dark)
    assert facts_of(page(whole)) == whole
    tab.click("#run-tab")
    assert tab.eval_on_selector_all("#run-view h2.part", "all => all.map(h => h.textContent)") == [
        "Training run",
        "Gradients against the exact adjoint",
        "Sensitivity",
    ]
    assert len(drawn(tab, "#run-charts")) == 5
    assert len(drawn(tab, "#certificate-charts")) == 3
    assert len(drawn(tab, "#sensitivity-charts")) == 4
    assert tab.evaluate("[document.documentElement.scrollWidth, innerWidth]") == [1366, 1366]
    view = tab.evaluate("(v => [v.scrollWidth, v.clientWidth])(document.getElementById('run-view'))")
    assert view[0] == view[1]


def test_training_curves(digits: Plan, show: Open) -> None:
    tab = show(page(facts(digits, run_of())))
    tab.click("#run-tab")
    assert drawn(tab, "#run-charts") == [
        "Training loss by epoch: loss 1 to 0.25",
        "Accuracy by epoch: training samples 50 % to 50 %, test samples 40 % to 40 %",
        "Free phases that did not settle: share of samples and blocks 0 % to 0 %",
        "Sweeps of a free phase by epoch: mean over blocks and samples 2.5 to 2.5",
        "Time by epoch: wall-clock time 2 to 2",
    ]
    assert titles(tab, "Training loss")[1] == "loss, epoch 2: 0.5"
    assert tab.eval_on_selector_all("#run-view .jumps", "all => all.length") == 0
    assert "EP(beta=0.1)" in tab.inner_text("#run-view")


def test_a_run_without_sweeps_or_epochs(digits: Plan, show: Open) -> None:
    run = run_of()
    old = msgspec.structs.replace(
        run, epochs=tuple(msgspec.structs.replace(e, sweeps=0.0) for e in run.epochs)
    )
    tab = show(page(facts(digits, old)))
    tab.click("#run-tab")
    assert not any(label.startswith("Sweeps") for label in drawn(tab, "#run-charts"))
    tab = show(page(facts(digits, run_of(0))))
    tab.click("#run-tab")
    assert "The run has no finished epoch." in tab.inner_text("#run-view")


def test_gradients_by_weight(whole: Facts, show: Open) -> None:
    tab = show(page(whole))
    tab.click("#run-tab")
    assert whole.certificate is not None
    found = rows(tab, "#fidelity-rows")
    assert [row[0] for row in found] == [row.weight for row in whole.certificate.fidelity]
    assert found[1][2:] == ["-", "-", "-"]
    assert found[2][2:] == ["0.980000", "1.04000", "6.00e-2"]
    tab.click("#fidelity-rows th:nth-child(3) button")
    worst = whole.certificate.worst
    assert worst is not None
    assert rows(tab, "#fidelity-rows")[0][0] == worst.weight
    assert f"Smallest cosine {worst.cosine:.6f}, of {worst.weight}." in tab.inner_text("#run-view")
    tab.click("#fidelity-rows tbody tr[aria-rowindex]")
    assert tab.is_visible("#graph-view")
    node = next(n for n in whole.nodes if worst.weight in n.inputs)
    assert tab.inner_text("#detail h2") == node.name


def test_settling_is_on_logarithmic_axes(whole: Facts, show: Open) -> None:
    tab = show(page(whole))
    tab.click("#run-tab")
    points = titles(tab, "Settling by block")
    assert "block1, free sweeps 4: 0.0625" in points
    assert "block0, free sweeps 8: 0" in points
    chart = '#run-view svg[aria-label^="Settling by block"]'
    ticks = tab.eval_on_selector_all(f"{chart} text", "all => all.map(t => t.textContent)")
    for text in ("10⁻¹", "10⁻²", "10⁻³", "free sweeps", "largest residual (log)", "1", "2", "4", "8"):
        assert text in ticks
    marks = tab.eval_on_selector_all(
        f"{chart} .point", "all => [...new Set(all.map(p => p.tagName + (p.getAttribute('d') || '')))]"
    )
    assert len(marks) == len(whole.blocks)
    assert "A residual of 0 is drawn at the lower end." in tab.inner_text("#certificate-charts")
    assert rows(tab, "#settling-rows")[1] == [
        "block1",
        "75 %",
        "3.5",
        "3.9e-3",
        "0.500",
        "0 %",
        "1.0e-6",
        "0 %",
    ]


def test_the_slope_is_drawn_where_the_error_grows(whole: Facts, show: Open) -> None:
    tab = show(page(whole))
    tab.click("#run-tab")
    label = drawn(tab, '#certificate-charts .panel:has(svg[aria-label^="Error against"])')
    assert label == [
        "Error against the nudging strength: largest error over weights 0.0001 to 0.25, "
        "slope 2 0.0001 to 0.25"
    ]
    assert "The error grows with beta to the power of 2." in tab.inner_text("#certificate-charts")


def test_phases_cut_short_by_weight(whole: Facts, show: Open) -> None:
    tab = show(page(whole))
    tab.click("#run-tab")
    assert whole.certificate is not None
    last = whole.certificate.truncations[-1].weight
    tab.select_option('select[aria-label="weight"]', last)
    assert drawn(tab, "#certificate-charts")[-1] == (
        f"Phases cut short, {last}: EP, nudged phase cut short 0.5 to 0.99, adjoint cut short 0.49 to 1, "
        "exact gradient 1 to 1"
    )


def test_what_a_target_takes(whole: Facts, show: Open) -> None:
    tab = show(page(whole))
    tab.click("#run-tab")
    text = tab.inner_text("#certificate-charts")
    assert "What a cosine of 0.9 takes" in text
    assert "4 bits\t0.5\t0.8123\tmissed" in text
    assert "6 bits\t0.2\t0.9456\treached" in text


def test_sensitivity_by_unit_and_partitions(whole: Facts, show: Open) -> None:
    tab = show(page(whole))
    tab.click("#run-tab")
    study = whole.sensitivity
    assert study is not None
    found = rows(tab, "#unit-rows")
    assert [row[0] for row in found] == [unit.name for unit in study.units]
    assert found[1][2:] == ["89.9 %", "85 %", "0.970", "73 %", "0.970", "tile", "tile"]
    assert [row[-2:] for row in (found[0], found[-1])] == [["tile", "digital"], ["digital", "tile"]]
    offers = tab.inner_text("#offers")
    assert "by superposition (offered)\t87.50 %" in offers
    assert "by work (baseline)\t75.00 %" in offers
    assert f"1,234\t{', '.join(study.offers[0].digital)}" in offers
    assert drawn(tab, "#sensitivity-charts")[0].startswith(
        "Accuracy over noise, one block at a time: block0 90 % to 86 %, block1 89 % to 85 %"
    )


def test_charts_can_be_read_as_tables(whole: Facts, show: Open) -> None:
    tab = show(page(whole))
    tab.click("#run-tab")
    tab.click('#certificate-charts .panel:has(svg[aria-label^="Settling"]) summary')
    text = tab.inner_text('#certificate-charts .panel:has(svg[aria-label^="Settling"]) table')
    assert text.splitlines()[0] == "free sweeps\tblock0\tblock1\tblock2\tblock3"
    assert "4\t0\t0.0625\t0.125\t0.1875" in text


def test_many_curves_show_the_worst_or_the_chosen(deep: Plan, tmp_path: Path, show: Open) -> None:
    blocks = len(deep.blocks)
    assert blocks > 6
    tab = show(page(facts(deep, None, certificate_of(deep), study_facts(deep, tmp_path))))
    tab.click("#run-tab")
    chart = '#certificate-charts .panel:has(svg[aria-label^="Settling"])'
    worst = [deep.blocks[n].name for n in range(blocks - 6, blocks)]
    front = tab.eval_on_selector_all(f"{chart} .series", "all => all.map(s => s.textContent)")
    assert front == worst
    assert tab.eval_on_selector_all(f"{chart} .faint", "all => all.length") == blocks - 6
    tab.select_option(f"{chart} select", "block3")
    assert tab.eval_on_selector_all(f"{chart} .series", "all => all.map(s => s.textContent)") == ["block3"]
    assert tab.eval_on_selector_all(f"{chart} .faint", "all => all.length") == blocks - 1


def test_wicked_names_do_no_harm(wicked: Plan, tmp_path: Path, show: Open) -> None:
    certificate = msgspec.structs.replace(
        certificate_of(wicked), notes=tuple(WICKED), data=WICKED[0], estimator=WICKED[1]
    )
    run = msgspec.structs.replace(run_of(), settings=tuple((name, name) for name in WICKED))
    html = page(facts(wicked, run, certificate, study_facts(wicked, tmp_path)))
    tab = show(html)
    tab.click("#run-tab")
    assert tab.eval_on_selector_all("script", "all => all.length") == 3
    assert tab.eval_on_selector_all("img", "all => all.length") == 0
    assert tab.evaluate("[document.documentElement.scrollWidth, innerWidth]") == [1366, 1366]
    view = tab.evaluate("(v => [v.scrollWidth, v.clientWidth])(document.getElementById('run-view'))")
    assert view[0] == view[1]
    for place in range(len(certificate.truncations)):
        tab.select_option('select[aria-label="weight"]', index=place)
    tab.emulate_media(media="print")
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert len(rows(tab, "#fidelity-rows")) == len(certificate.fidelity)
    tab.evaluate("dispatchEvent(new Event('afterprint'))")
