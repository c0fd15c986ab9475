"""The API reference: pages for what is public, links that lead somewhere, examples that are true."""

import doctest
import importlib
import runpy
from pathlib import Path
from typing import Any

import pytest

import ffebm
from tests.test_architecture import MODULES

ROOT = Path(ffebm.__file__).parent.parent
EXAMPLES = sorted(name for name, path in MODULES.items() if ">>>" in path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    pytest.importorskip("pdoc", reason="no pdoc: `make venv`; the API reference is not made")
    return runpy.run_path(str(ROOT / "docs" / "make_reference.py"))


def test_every_public_name_has_a_place(script: dict[str, Any], tmp_path: Path) -> None:
    kept = {name: vars(ffebm)[name] for name in ffebm.__all__ if name in vars(ffebm)}
    script["make"](tmp_path, "ffebm", "ffebm.errors")
    for name in ffebm.__all__:
        if name not in kept:
            delattr(ffebm, name)  # imported when it is first used, as before
    page = script["Links"]((tmp_path / "ffebm.html").read_text(encoding="utf-8"))
    assert set(ffebm.__all__) <= page.anchors
    assert {"Executor.loss", "Plan.save", "Hardware.quantities", "EP.beta"} <= page.anchors
    assert script["dead_links"](tmp_path) == []


def test_a_dead_link_is_found(script: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<a id="x" href="b.html#y">b</a><a href="b.html#z">c</a><a href="c.html">d</a><a href="#x">e</a>'
        '<a href="https://example.org/none">f</a><script>"<a href=\\"${url}\\">"</script>'
    )
    (tmp_path / "b.html").write_text('<p id="y"></p>')
    assert script["dead_links"](tmp_path) == ["a.html: b.html#z", "a.html: c.html"]


def test_examples_in_docstrings_there_are() -> None:
    assert {"ffebm.hardware.description", "ffebm.plan.summary", "ffebm.visible"} <= set(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_in_docstrings_say_what_comes_out(name: str) -> None:
    failed, tried = doctest.testmod(importlib.import_module(name), verbose=False)
    assert failed == 0
    assert tried > 0
