"""The page as text: nothing foreign runs, nothing is fetched, the same plan gives the same bytes."""

import json
import re
from copy import copy
from html import unescape

import msgspec
import pytest
from msgspec.structs import replace

from ffebm.hardware.description import Crossbar
from ffebm.plan.plan import Plan
from ffebm.plan.schema import Source
from ffebm.report.facts.facts import facts
from ffebm.report.page import embedded, facts_of, page
from tests.report.conftest import WICKED


def test_the_same_plan_gives_the_same_page(digits: Plan) -> None:
    assert page(facts(digits)) == page(facts(digits))


@pytest.mark.parametrize(
    "text", ["</script><script>alert(1)</script>", "<!--", "]]>", "a & b", "\u2028\u2029", '"']
)
def test_embedded_json_holds_no_markup(text: str) -> None:
    found = embedded(json.dumps({text: text}, ensure_ascii=False).encode())
    assert not set("<>&\u2028\u2029") & set(found)
    assert json.loads(found) == {text: text}


def test_the_page_asks_for_nothing(digits: Plan) -> None:
    html = page(facts(digits))
    assert "default-src 'none'" in unescape(html)
    assert re.findall(r"""(?:src|href)=["']?(?!#)([^"' >]+)""", html) == ["data:,"]
    assert not re.search(r"@import|url\((?!#)|sourceMappingURL|fetch\(|XMLHttpRequest|WebSocket", html)


def test_the_library_keeps_its_licence(digits: Plan) -> None:
    html = page(facts(digits))
    assert "@dagrejs/dagre 3.1.3" in html
    assert "Permission is hereby granted, free of charge" in html


def test_hostile_names_are_text(digits: Plan) -> None:
    nodes = list(digits.nodes)
    name = '</script><script>document.title = "taken"</script><img src=x onerror=alert(1)>"\'&😀'
    source = msgspec.structs.replace(digits.source, name=name)
    plan = msgspec.structs.replace(digits, source=source, nodes=tuple(nodes), notes=(name,))
    html = page(facts(plan))
    assert html.count("<script") == 3
    assert "<img" not in html
    assert facts_of(html).source.name == name


def test_a_text_without_facts_is_no_page() -> None:
    with pytest.raises(ValueError, match="the page embeds no facts"):
        facts_of("<html></html>")


def test_the_page_holds_no_control_characters(wicked: Plan) -> None:
    plan = copy(wicked)
    plan.source = Source(name="".join(WICKED), format="onnx", digest=plan.source.digest)
    plan.notes = tuple(WICKED)
    html = re.sub(r"<script.*?</script>", "", page(facts(plan)), flags=re.DOTALL)
    assert {character for character in html if ord(character) < 0x20} == {"\n"}
    assert "\u202e" not in html
    assert "new␊line␉tab␍␛[31mred␀" in html


def test_an_adc_range_that_follows_from_the_bits_is_shown(digits: Plan) -> None:
    tile = digits.hardware.analog[0].tile
    assert isinstance(tile, Crossbar)

    def row(tile: Crossbar) -> str:
        tiles = (replace(digits.hardware.analog[0], tile=tile),)
        html = page(facts(replace(digits, hardware=replace(digits.hardware, analog=tiles))))
        return next(
            line.strip()
            for line in html.splitlines()
            if "analog.tiles.tile.adc_sigmas" in line and "<tr>" in line
        )

    start = '<tr><th scope="row">analog.tiles.tile.adc_sigmas</th><td>'
    assert row(tile) == f"{start}3.92, by the bits of the ADCs</td></tr>"
    maximal = replace(tile, adc=replace(tile.adc, range="maximal"))
    assert row(maximal).startswith('<tr><th scope="row">left out, so off</th>')
