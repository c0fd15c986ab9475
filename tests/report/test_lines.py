"""Lines of the graph go through no box, however many skips there are."""

from collections.abc import Callable

import pytest
from onnx import ModelProto
from playwright.sync_api import Page

from ffebm.compiler.driver import compile_model
from ffebm.plan.plan import Plan
from tests.models import Builder

Open = Callable[..., Page]
CROSSINGS = """() => {
  const world = document.getElementById("graph-world").getCTM(), crossings = [];
  const boxes = [...document.querySelectorAll("#graph .item:not(.frame) > .box")].map((box) => {
    const at = box.parentNode.getCTM(), { width, height } = box.getBBox();
    const [x, y] = [(at.e - world.e) / world.a, (at.f - world.f) / world.a];
    return { ref: box.parentNode.dataset.ref, x, y, right: x + width, bottom: y + height };
  });
  for (const line of document.querySelectorAll("#graph-world .edge")) {
    const length = line.getTotalLength();
    for (let far = 0; far < length; far += 5) {
      const { x, y } = line.getPointAtLength(far);
      const box = boxes.find((b) => x > b.x + 1 && x < b.right - 1 && y > b.y + 1 && y < b.bottom - 1);
      if (box) { crossings.push(box.ref); break; }
    }
  }
  return crossings;
}"""


def dense(layers: int) -> ModelProto:
    """Every layer reads all before it."""
    b = Builder()
    values = [b.input("x", "N", 1)]
    for _ in range(layers):
        values.append(b.node("Concat", *values, axis=1))
    return b.model(values[-1])


def deep_and_dense(layers: int) -> ModelProto:
    """Every layer of three nodes reads all layers before it."""
    b = Builder()
    values = [b.input("x", "N", 16)]
    for number in range(layers):
        joined = b.node("Concat", *values, axis=1) if number else values[0]
        values.append(b.node("Softmax", b.node("ReduceSum", joined, keepdims=1)))
    return b.model(b.node("Concat", *values, axis=1))


def branching(layers: int) -> ModelProto:
    """Every dense layer reads all before it."""
    b = Builder()
    values = [b.input("x", "N", 4)]
    for number in range(layers):
        joined = b.node("Concat", *values, axis=1) if number else values[0]
        values.append(b.node("Softmax", b.node("MatMul", joined, b.weight(4 * len(values), 4))))
    return b.model(b.node("Concat", *values, axis=1))


@pytest.mark.parametrize(
    "model", [dense(14), deep_and_dense(14), branching(16)], ids=["dense", "deep", "branching"]
)
def test_no_line_goes_through_a_box(model: ModelProto, show: Open) -> None:
    tab = show(compile_model(model))
    for act in ("#fit", "#unfold", "#fold"):
        tab.click(act)
        tab.click("#fit")
        assert tab.eval_on_selector_all("#graph-world .edge", "all => all.length") > 1
        assert tab.evaluate(CROSSINGS) == []


def test_no_line_of_a_deep_model_goes_through_a_box(deep: Plan, show: Open) -> None:
    tab = show(deep)
    tab.click("#unfold")
    tab.click("#fit")
    assert tab.eval_on_selector_all("#graph-world .edge", "all => all.length") > 60
    assert tab.evaluate(CROSSINGS) == []


def test_lines_beside_the_layers_reach_every_reader(show: Open) -> None:
    tab = show(compile_model(dense(14)))
    tab.click("#unfold")
    tab.click("#fit")
    assert tab.eval_on_selector_all("#graph-world .aside", "all => all.length") > 20
    lines = tab.eval_on_selector_all(
        "#graph-world .edge:not(.stub)", "all => all.map(p => p.getPointAtLength(1e9)).map(p => [p.x, p.y])"
    )
    tops = tab.evaluate("""() => {
      const world = document.getElementById("graph-world").getCTM();
      return [...document.querySelectorAll("#graph-world .item")].map((g) => {
        const at = g.getCTM(), { width } = g.querySelector(".box").getBBox();
        return [(at.e - world.e) / world.a, (at.f - world.f) / world.a, width];
      });
    }""")
    for x, y in lines:
        assert any(abs(y - top) < 0.5 and left <= x <= left + width for left, top, width in tops)
