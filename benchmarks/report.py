"""How large reports are, and how fast they open and answer in headless Chromium.

light_densenet121, a branching graph of 10,000 nodes, and light_squeezenet, whose training step is repeated
until it has 100,000 steps, are compiled and shown. Printed are the size of the file, seconds to
make it, first contentful paint and readiness, and the slowest of folds, unfolds and zooms of the graph, and
of zooms and pans of the timeline: from the event until the second animation frame after it, so drawing is
included. Bounds: light_densenet121 takes at most 3 MB, paints first within 2 s, and all answer within 100 ms.

python benchmarks/report.py [densenet121] [branching] [repeated] [--browser /usr/bin/chromium]
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import onnx
from compile import branching
from msgspec.structs import replace
from playwright.sync_api import Page, sync_playwright

from ffebm.compiler.driver import compile_model
from ffebm.plan.schedule import Schedule
from ffebm.report.facts.facts import Facts, facts
from ffebm.report.facts.timeline import timeline
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
LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"
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


def repeated(schedule: Schedule, times: int) -> Schedule:
    """A schedule so many times, one after the other."""
    count, lasts = len(schedule.steps), schedule.makespan_s
    steps = tuple(
        replace(
            step,
            id=step.id + n * count,
            start_s=step.start_s + n * lasts,
            end_s=step.end_s + n * lasts,
            freed_s=None if step.freed_s is None else step.freed_s + n * lasts,
            after=tuple(before + n * count for before in step.after),
            sample=n,
        )
        for n in range(times)
        for step in schedule.steps
    )
    return replace(schedule, steps=steps, makespan_s=times * lasts)


def long_training() -> Facts:
    """SqueezeNet, with a timeline of at least `MANY` steps."""
    plan = compile_model(LIGHT / "light_squeezenet.onnx")
    times = -(-MANY // len(plan.training.steps))
    return replace(facts(plan), training=timeline(repeated(plan.training, times)))


MANY = 100_000
"""Steps of a long timeline."""
SHOWN: dict[str, Callable[[], Facts]] = {
    "densenet121": lambda: facts(compile_model(LIGHT / "light_densenet121.onnx")),
    "branching": lambda: facts(compile_model(branching(10_000))),
    "repeated": long_training,
}


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


def report(name: str, found: Facts, tab: Page, path: Path) -> None:
    started = time.perf_counter()
    path.write_text(page(found), encoding="utf-8")
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
    times = moves_of_timeline(tab)
    size = path.stat().st_size / 1e6
    steps = f"{len(found.inference.kind):,} and {len(found.training.kind):,} steps"
    print(f"{name}, {len(found.nodes)} nodes, {steps}: {size:.2f} MB, made in {made:.2f} s")
    print(f"  first paint {paint:.0f} ms, ready {ready:.0f} ms")
    for what, spent in (("folds", fold), ("zooms", zooms), ("moves of the timeline", times)):
        print(f"  slowest of {len(spent)} {what} {max(spent, default=0.0):.0f} ms")


def moves_of_timeline(tab: Page) -> list[float]:
    """Milliseconds of zooms and pans of the timeline of a training step, all of it and parts of it."""
    tab.click("#timeline-tab")
    tab.select_option("#timeline-view select", "training")
    tab.wait_for_timeout(300)
    moves = [*("ctrlKey: true, deltaY: -60",) * 10, *("shiftKey: true, deltaY: 60",) * 5]
    moves += ["ctrlKey: true, deltaY: 60"] * 10
    return [answer(tab, "#timeline", "wheel", f"{{{move}}}") or 0.0 for move in moves]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", choices=list(SHOWN), default=list(SHOWN))
    parser.add_argument("--browser", default=CHROMIUM, help="where Chromium is")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=options.browser, args=ARGUMENTS)
        for name in options.names:
            tab = browser.new_page(viewport={"width": 1366, "height": 768})
            report(name, SHOWN[name](), tab, Path(scratch) / f"{name}.html")
            tab.close()
        browser.close()


if __name__ == "__main__":
    main()
