"""The picture of a partition: XML whatever names hold."""

from collections.abc import Callable
from copy import copy
from xml.etree import ElementTree

import pytest

from ffebm import compile as compile_plan
from ffebm.plan.pictures.partition import picture
from ffebm.plan.plan import Plan
from ffebm.plan.schema import Source
from tests.models import Builder
from tests.report.conftest import WICKED

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("name", WICKED)
def test_names_do_no_harm(wicked: Plan, name: str) -> None:
    plan = copy(wicked)
    plan.source = Source(name=name, format="onnx", digest=plan.source.digest)
    root = ElementTree.fromstring(picture(plan))
    assert {element.tag for element in root.iter()} == {
        f"{SVG}{tag}" for tag in ("svg", "style", "defs", "marker", "path", "rect", "text")
    }
    titles = [text.text for text in root.iter(f"{SVG}text") if text.get("class") == "title"]
    assert len(titles) == 1
    assert "\x1b" not in str(titles[0])
    assert "4 energy blocks" in str(titles[0])
    assert sum(rect.get("class") == "tile" for rect in root.iter(f"{SVG}rect")) == 4


def test_the_picture(golden: Callable[[str], None]) -> None:
    """Of a skip over a block, a value of two readers, a long name and more boxes than a row holds."""
    b = Builder()
    x = b.input("x", "N", 6)
    y = b.node("Sigmoid", b.node("MatMul", x, b.weight(6, 6)), name="a_name_that_is_longer_than_its_box")
    skip = y
    for _ in range(6):
        y = b.node("Softmax", b.node("Relu", b.node("MatMul", y, b.weight(6, 6))))
    y = b.node("Mul", y, skip)
    lines = picture(compile_plan(b.model(y), hardware="reference")).replace("><", ">\n<").splitlines()
    # what it takes is not what is drawn
    golden("\n".join(line for line in lines if "multiply-accumulates" not in line) + "\n")
