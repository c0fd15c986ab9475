"""Plans to report on, and a real browser to look at the pages with."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from ffebm.compiler.driver import compile_model
from ffebm.plan import Plan
from ffebm.report.facts import facts
from ffebm.report.page import page
from tests.models import Builder
from tests.report.digits import digits_model

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
Open = Callable[..., Page]


@pytest.fixture(scope="session")
def digits() -> Plan:
    """The digits CNN on crossbars: four blocks, one of them of two layers."""
    return compile_model(digits_model(), block_size=2)


@pytest.fixture(scope="session")
def deep() -> Plan:
    """A chain of 60 dense layers with a skip and a softmax here and there: enough for sections."""
    b = Builder()
    x = b.input("x", "N", 16)
    for _ in range(30):
        y = b.node("Relu", b.node("MatMul", x, b.weight(16, 16)))
        x = b.node("Add", b.node("Softmax", b.node("MatMul", y, b.weight(16, 16))), x)
    return compile_model(b.model(x))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium: `apt-get install chromium`; pages are not looked at in a browser")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture
def show(browser: Browser, tmp_path: Path) -> Iterator[Open]:
    """Opens pages from disk; there must be no message, and no request but that of the page itself."""
    noise: list[str] = []
    tabs: list[Page] = []

    def open_page(html: Plan | str, *, dark: bool = False) -> Page:
        path = tmp_path / f"page{len(tabs)}.html"
        path.write_text(page(facts(html)) if isinstance(html, Plan) else html, encoding="utf-8")
        tab = browser.new_page(
            viewport={"width": 1366, "height": 768}, color_scheme="dark" if dark else "light"
        )
        tabs.append(tab)
        tab.on("console", lambda message: noise.append(f"console: {message.text}"))
        tab.on("pageerror", lambda error: noise.append(f"error: {error}"))
        tab.on("dialog", lambda dialog: noise.append(f"dialog: {dialog.message}"))
        tab.on("request", lambda request: noise.append(f"request: {request.url}"))
        tab.goto(path.as_uri())
        noise.remove(f"request: {path.as_uri()}")
        tab.wait_for_selector("html[data-ready=yes]", timeout=20_000)
        return tab

    yield open_page
    for tab in tabs:
        tab.close()
    assert noise == []
