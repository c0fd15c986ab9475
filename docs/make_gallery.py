"""Makes the pictures in docs/gallery/ and docs/report.md: real models, compiled, trained, shown in Chromium.

Usage: python docs/make_gallery.py [SCRATCH]; plans and pages are left in SCRATCH, out/gallery by default.
"""

import runpy
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from ffebm.commands.gradcheck import gradcheck
from ffebm.commands.sensitivity import sensitivity
from ffebm.commands.train import train
from ffebm.compiler.driver import compile_model
from ffebm.plan.plan import Plan, load_plan
from ffebm.plan.schema import Settle
from ffebm.report.facts.comparison import comparison
from ffebm.report.facts.facts import facts
from ffebm.report.facts.measured.certificate_facts import read_certificate
from ffebm.report.facts.measured.run_facts import read_run
from ffebm.report.facts.measured.sensitivity_facts import read_sensitivity
from ffebm.report.page import comparison_page, page

ROOT = Path(__file__).parents[1]
LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"
LARGEST = 300_000
"""Bytes of a picture."""


@dataclass(frozen=True)
class Shot:
    """A picture: of which page, what is done first, and what it shows."""

    name: str
    page: str
    act: Callable[[Page], object]
    text: str
    dark: bool = False


def on(view: str, *, training: bool = False) -> Callable[[Page], object]:
    def act(tab: Page) -> None:
        tab.click(f"#{view}-tab")
        if training:
            tab.select_option(f"#{view}-view select.schedule", "training")

    return act


def found(name: str) -> Callable[[Page], object]:
    def act(tab: Page) -> None:
        tab.fill("#search", name)
        tab.press("#search", "Enter")

    return act


def measured(place: str) -> Callable[[Page], object]:
    def act(tab: Page) -> None:
        tab.click("#run-tab")
        tab.evaluate("place => document.getElementById(place).scrollIntoView()", place)

    return act


def conductances(tab: Page) -> None:
    tab.click("#tiles-tab")
    tab.check("input[value=map]")


SHOTS = (
    Shot(
        "digits-graph",
        "digits",
        found("conv2"),
        "The digits CNN: energy blocks and digital nodes, and what the panel says of a node: why it is on "
        "tiles, where its weights lie, what its block costs.",
    ),
    Shot(
        "digits-bill",
        "digits",
        on("bill", training=True),
        "Where energy and time of a training step go, by kind and by part. Every figure shows on hover the "
        "constants behind it, with their sources; † marks those that rest on an assumption.",
    ),
    Shot("digits-run", "digits", on("run"), "A training run of the digits CNN: loss, accuracy, settling."),
    Shot(
        "digits-gradients",
        "trained",
        measured("certificate-charts"),
        "The certificate of the trained digits CNN: how its blocks settle, and the error of its gradients "
        "against the nudging strength.",
    ),
    Shot(
        "digits-sensitivity",
        "trained",
        measured("measured-sensitivity"),
        "Its sensitivity: the partition that is offered beside that by work, and what noise and converters "
        "do to one block at a time.",
        dark=True,
    ),
    Shot(
        "resnet50-graph",
        "resnet50",
        found("n7"),
        "light_resnet50 on 64 tiles: sections fold; what did not fit stays digital, with the reasons.",
    ),
    Shot(
        "resnet50-timeline",
        "resnet50",
        on("timeline", training=True),
        "A training step of light_resnet50: free phases go down the tiles, nudged phases come back up; on "
        "top the critical path.",
    ),
    Shot(
        "densenet121-graph",
        "densenet121",
        found("n42"),
        "light_densenet121, dark: 910 nodes, of which only the unfolded ones are laid out.",
        dark=True,
    ),
    Shot("densenet121-nodes", "densenet121", on("nodes"), "Every node, sortable and filterable."),
    Shot(
        "transformer-graph",
        "transformer",
        found("linear_1"),
        "A PyTorch transformer encoder: sections are its modules; attention stays digital.",
        dark=True,
    ),
    Shot(
        "transformer-tiles",
        "transformer",
        conductances,
        "Its tiles: which piece of which weight lies where, and the conductances.",
    ),
    Shot(
        "comparison",
        "comparison",
        lambda tab: None,
        "`ffebm report A B`: the digits CNN in blocks of two and of three layers.",
    ),
)


def pages(scratch: Path) -> dict[str, str]:
    """Compile, train and render."""
    torch.manual_seed(0)
    example = runpy.run_path(str(ROOT / "examples/digits_model.py"))["digits_model"]()
    onnx.save(example, scratch / "digits.onnx")
    settle = Settle(free_sweeps=8, nudged_sweeps=5)
    digits = compile_model(scratch / "digits.onnx", block_size=2, settle=settle, replicas=1)
    layer = torch.nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)
    encoder = torch.nn.TransformerEncoder(layer, 4, enable_nested_tensor=False).eval()
    three = compile_model(scratch / "digits.onnx", block_size=3, settle=settle, replicas=1)
    both = comparison(digits, three, ("digits-2.plan", "digits-3.plan"))
    record = trained(digits, scratch)
    return {
        "digits": page(facts(digits, read_run(digits, record))),
        "trained": checked(record / "trained.onnx", scratch),
        "resnet50": page(facts(compile_model(LIGHT / "light_resnet50.onnx"))),
        "densenet121": page(facts(compile_model(LIGHT / "light_densenet121.onnx"))),
        "transformer": page(facts(compile_model(encoder, torch.randn(2, 16, 64)))),
        "comparison": comparison_page(both),
    }


def trained(plan: Plan, scratch: Path) -> Path:
    """The record of a training run on the digits."""
    path, record = scratch / "digits.plan", scratch / "digits.plan.run"
    plan.save(path)
    shutil.rmtree(record, ignore_errors=True)
    assert load_plan(path) == plan
    train(path, data="digits", epochs=8, lr=0.004, schedule="cosine", beta=0.5)
    return record


def checked(model: Path, scratch: Path) -> str:
    """The page of a trained model with its certificate and a study of its sensitivity."""
    path, certificate, study = scratch / "trained.plan", scratch / "trained.json", scratch / "study.json"
    plan = compile_model(model, block_size=2, settle=Settle(free_sweeps=40, nudged_sweeps=20))
    plan.save(path)
    study.unlink(missing_ok=True)
    gradcheck(path, data="digits", samples=32, beta="1", output=certificate)
    sensitivity(path, data="digits", drop=2, output=study)
    return page(facts(plan, None, read_certificate(plan, certificate), read_sensitivity(plan, study)))


def picture(tab: Page, path: Path) -> None:
    """A screenshot in at most 256 colours."""
    tab.screenshot(path=path)
    Image.open(path).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    size = path.stat().st_size
    print(f"{path.relative_to(ROOT)}: {size / 1000:.0f} kB")
    assert size < LARGEST, f"{path} takes {size} bytes"


def main() -> None:
    scratch = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "out/gallery")
    gallery = ROOT / "docs/gallery"
    for folder in (scratch, gallery):
        folder.mkdir(parents=True, exist_ok=True)
    for name, html in pages(scratch).items():
        (scratch / f"{name}.html").write_text(html, encoding="utf-8")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or "google-chrome"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu", "--no-first-run"]
        )
        for shot in SHOTS:
            tab = browser.new_page(
                viewport={"width": 1366, "height": 768}, color_scheme="dark" if shot.dark else "light"
            )
            tab.goto((scratch / f"{shot.page}.html").resolve().as_uri())
            tab.wait_for_selector("html[data-ready=yes]")
            shot.act(tab)
            tab.wait_for_timeout(200)
            picture(tab, gallery / f"{shot.name}.png")
            tab.close()
        browser.close()
    show = "\n".join(f"\n{shot.text}\n\n![{shot.name}](gallery/{shot.name}.png)" for shot in SHOTS)
    guide = ROOT / "docs/report.md"
    words, _, _ = guide.read_text(encoding="utf-8").partition("## Gallery\n")
    guide.write_text(f"{words}## Gallery\n\nMade by `make gallery`.\n{show}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
