"""The picture of a partition: XML whatever names hold."""

from copy import copy
from xml.etree import ElementTree

import pytest

from ffebm.plan.pictures.partition import picture
from ffebm.plan.plan import Plan
from ffebm.plan.schema import Source
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
