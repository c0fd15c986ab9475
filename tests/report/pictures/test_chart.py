from xml.etree import ElementTree

import pytest

from ffebm.report.pictures.chart import Chart, Curve, draw

SVG = "{http://www.w3.org/2000/svg}"


def test_points_stand_at_equal_distances_and_at_their_height() -> None:
    curve = Curve("a & b", ((8, 100.0), (2, 0.0), (4, 50.0)), (0.0, 0.0, 5.0))
    picture = draw("Title <1>", [Chart("left", "bits", "%", (curve,), 0.0, 100.0)])
    root = ElementTree.fromstring(picture)
    circles = [(float(c.attrib["cx"]), float(c.attrib["cy"])) for c in root.iter(f"{SVG}circle")]
    (x0, y0), (x1, y1), (x2, y2) = circles
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.2)
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert texts[:2] == ["Title <1>", "left"]
    assert [t for t in texts if t in {"2", "4", "8"}] == ["2", "4", "8"]
    assert texts[-1] == "a & b"


def test_curves_of_one_name_look_the_same_in_all_charts() -> None:
    first, second = Curve("one", ((0, 1.0), (1, 2.0))), Curve("two", ((0, 0.5), (1, 1.0)))
    charts = [Chart("a", "x", "y", (first, second), 0, 2), Chart("b", "x", "y", (second,), 0, 2)]
    root = ElementTree.fromstring(draw("both", charts))
    curves = [p.attrib for p in root.iter(f"{SVG}path") if p.attrib["class"] == "curve"]
    colours = [curve["stroke"] for curve in curves]
    one, two = colours[:2]
    assert colours == [one, two, two, one, two]
    assert one != two


def test_what_lies_beyond_the_axis_is_drawn_at_its_end() -> None:
    curve = Curve("c", ((0, -5.0), (1, 0.0)))
    root = ElementTree.fromstring(draw("t", [Chart("a", "x", "y", (curve,), 0.0, 1.0)]))
    heights = [c.attrib["cy"] for c in root.iter(f"{SVG}circle")]
    assert heights[0] == heights[1]


def test_control_characters_show_as_pictures() -> None:
    name = "\x1b[31m<b>\n\u202e"
    root = ElementTree.fromstring(draw(name, [Chart(name, name, name, (Curve(name, ((0, 1.0),)),), 0, 1)]))
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert texts.count("␛[31m<b>␊⟨202E⟩") == 5
