"""What notebooks show: whole, and harmless whatever names hold."""

from base64 import b64decode
from copy import copy
from xml.etree import ElementTree

import pytest

from ffebm.plan.pictures.partition import picture
from ffebm.plan.plan import Plan
from ffebm.plan.schema import Source
from ffebm.visible import visible_lines
from tests.report.conftest import WICKED


@pytest.mark.parametrize("name", WICKED)
def test_picture_and_summary_whatever_names_hold(wicked: Plan, name: str) -> None:
    plan = copy(wicked)
    plan.source = Source(name=name, format="onnx", digest=plan.source.digest)
    root = ElementTree.fromstring(plan._repr_html_())
    assert [element.tag for element in root.iter()] == ["div", "img", "pre"]
    image, words = root
    kind, _, data = image.attrib["src"].partition(",")
    assert (kind, b64decode(data).decode()) == ("data:image/svg+xml;base64", picture(plan))
    assert words.text == visible_lines(plan.summary().rstrip("\n"))
    assert "\n" not in repr(plan)
    assert repr(plan).isprintable() or "\u200d" in repr(plan)
