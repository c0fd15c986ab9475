import numpy as np

from ffebm.compiler.driver import pass_order
from ffebm.compiler.observe import observe
from ffebm.compiler.onnx.from_onnx import from_onnx
from ffebm.graph.graph import Graph
from ffebm.hardware.description import load_hardware
from ffebm.plan.schema import Options
from tests.models import Builder


def test_what_each_pass_has_changed() -> None:
    b = Builder()
    half = b.node("Mul", b.constant(np.float32(0.5)), b.constant(np.float32(2.0)))
    y = b.node("Relu", b.node("Mul", b.node("MatMul", b.input("x", "N", 4), b.weight(4, 3)), half))
    b.node("Neg", y)
    graph, shown = from_onnx(b.model(y), {}).graph, []

    def show(name: str, found: Graph) -> None:
        shown.append((name, len(found.nodes)))

    found = {step.name: step for step in observe(graph, load_hardware("ideal"), pass_order(Options()), show)}
    assert [name for name, _ in shown][:2] == ["fold-constants", "remove-dead"]
    assert (found["fold-constants"].removed, found["fold-constants"].added) == (1, 0)
    assert [count for _, count in shown][:2] == [4, 3]
    assert (found["energy-blocks"].blocks, found["placement"].parts) == (1, 1)
    assert all(step.seconds >= 0 for step in found.values())
