"""How large reports are, and how fast they open and answer in headless Chromium.

light_densenet121 and a branching graph of 10,000 nodes are compiled and shown. Printed are the size of the
file, seconds to make it, first contentful paint and readiness, and the slowest of folds, unfolds and zooms:
from the event until the second animation frame after it, so drawing is included. Bounds: light_densenet121
takes at most 3 MB, paints first within 2 s, and answers within 100 ms.
"""

import sys
import tempfile
import time
from pathlib import Path

import onnx
from compile import branching
from playwright.sync_api import Page, sync_playwright

from ffebm.compiler.driver import compile_model
from ffebm.plan.plan import Plan
from ffebm.report.facts.facts import facts
from ffebm.report.page import page

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DENSENET = Path(onnx.__file__).parent / "backend/test/data/light/light_densenet121.onnx"
ANSWER = """async (selector, type, extra) => {
  const target = document.querySelector(selector);
  if (!target) return null;
  const at = (target.querySelector(".box") || target).getBoundingClientRect();
  const place = { bubbles: true, cancelable: true, clientX: at.left + 20, clientY: at.top + 8, ...extra };
  const event = type === "wheel" ? new WheelEvent("wheel", place) : new MouseEvent(type, place);
  const started = performance.now();
  target.dispatchEvent(event);
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  return performance.now() - started;
}"""


def answer(tab: Page, selector: str, kind: str, extra: str = "{}") -> float | None:
    """Milliseconds from an event until what it changed is on the screen; None if there is no such element."""
    found: float | None = tab.evaluate(f"() => ({ANSWER})({selector!r}, {kind!r}, {extra})")
    return found


def folds(tab: Page, most: int) -> list[float]:
    """Milliseconds of unfolding, and folding again, one frame after the other, deeper ones too."""
    times = []
    tab.click("#fold")
    seen: set[str] = set()
    while len(seen) < most:
        folded = tab.eval_on_selector_all(
            '.item[aria-expanded="false"]', "all => all.map(g => g.dataset.ref)"
        )
        fresh = [ref for ref in folded if ref not in seen]
        if not fresh:
            break
        seen.add(fresh[-1])
        for _ in range(3):  # unfold, fold, unfold
            spent = answer(tab, f'[data-ref="{fresh[-1]}"]', "click")
            if spent is not None:
                times.append(spent)
    return times


def report(name: str, plan: Plan, tab: Page, path: Path) -> None:
    started = time.perf_counter()
    path.write_text(page(facts(plan)), encoding="utf-8")
    made = time.perf_counter() - started
    tab.goto(path.as_uri())
    tab.wait_for_selector("html[data-ready=yes]", timeout=60_000)
    ready = tab.evaluate("() => performance.now()")
    tab.wait_for_timeout(300)
    paint = tab.evaluate(
        "() => performance.getEntriesByName('first-contentful-paint').map(e => e.startTime)[0] ?? -1"
    )
    zooms = [answer(tab, "#graph", "wheel", f"{{deltaY: {d}}}") or 0.0 for d in (-60, -60, 60, 60) * 5]
    fold = folds(tab, 40)
    size = path.stat().st_size / 1e6
    print(f"{name}, {len(plan.nodes)} nodes: {size:.2f} MB, made in {made:.2f} s")
    print(f"  first paint {paint:.0f} ms, ready {ready:.0f} ms")
    print(f"  slowest of {len(fold)} folds {max(fold):.0f} ms, of {len(zooms)} zooms {max(zooms):.0f} ms")


def main() -> None:
    chosen = sys.argv[1] if len(sys.argv) > 1 else CHROMIUM
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chosen, args=ARGUMENTS)
        for name, model in (("light_densenet121", str(DENSENET)), ("branching", branching(10_000))):
            tab = browser.new_page(viewport={"width": 1366, "height": 768})
            report(name, compile_model(model), tab, Path(scratch) / f"{name}.html")
            tab.close()
        browser.close()


if __name__ == "__main__":
    main()
