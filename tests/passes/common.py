"""What the tests of single passes share."""

from onnx import ModelProto

from ffebm.compiler.driver import pass_order, run_passes
from ffebm.compiler.onnx.from_onnx import from_onnx
from ffebm.compiler.own_passes import Pass
from ffebm.graph.graph import Graph
from ffebm.graph.parse import parse
from ffebm.hardware.description import Hardware, load_hardware
from ffebm.plan.schema import Options


def imported(model: ModelProto) -> Graph:
    return from_onnx(model, {}).graph


def before(name: str, model: ModelProto, options: Options | None = None) -> tuple[Graph, Pass]:
    """The graph that a pass of the usual order finds, read from its text, and the pass."""
    order = pass_order(options or Options())
    index = [step.name for step in order].index(name)
    graph = imported(model)
    run_passes(graph, load_hardware("reference"), order[:index], None)
    return parse(str(graph), graph.arrays()), order[index]


def rewritten(
    name: str, model: ModelProto, options: Options | None = None, hardware: Hardware | None = None
) -> tuple[str, Graph]:
    """What a pass does, as text before and after, and the graph after it."""
    graph, step = before(name, model, options)
    text = f"--- before\n{graph}"
    run_passes(graph, hardware or load_hardware("reference"), (step,), None)
    return f"{text}--- after\n{graph}", graph
