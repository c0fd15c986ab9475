"""Check sizes: weights fit what they multiply, and nothing is empty; onnx does not check every op."""

from dataclasses import dataclass

from ffebm.errors import Location, ModelError
from ffebm.hardware import Hardware
from ffebm.ir import Graph, Node, Stage, captured
from ffebm.ops import Kind, kind_of


@dataclass(frozen=True)
class CheckSizes:
    """Refuses weights that do not fit and values that are empty."""

    name: str = "check-sizes"
    requires: Stage = Stage.IMPORTED
    ensures: Stage = Stage.IMPORTED

    def run(self, graph: Graph, hardware: Hardware) -> None:
        """Check every node; the graph stays as it is."""
        for value in graph.inputs:
            _check_filled(graph, value, Location(graph.source, value))
        for node in graph.nodes:
            if kind_of(node.op) in {Kind.LINEAR, Kind.POOL}:
                for value in [*captured(node), *node.outputs]:
                    if value:
                        _check_filled(graph, value, node.location)
            if node.op in {"Conv", "ConvTranspose"}:
                _check_channels(graph, node)
            elif node.op == "BatchNormalization":
                _check_statistics(graph, node)


def _check_filled(graph: Graph, value: str, location: Location | None) -> None:
    shape = graph.shape(value)
    if shape is not None and 0 in shape:
        raise ModelError(
            f"{value!r} has a dimension of size 0: {list(shape)}",
            allowed="sizes of at least 1",
            location=location,
        )


def _check_channels(graph: Graph, node: Node) -> None:
    x, w = graph.shape(node.inputs[0]), graph.shape(node.inputs[1])
    if x is None or w is None or len(x) < 2 or len(w) != len(x):
        if x is not None and w is not None:
            raise ModelError(
                f"weight {list(w)} does not fit input {list(x)}",
                allowed="equal numbers of axes, at least 3",
                location=node.location,
            )
        return
    groups = node.attrs.get("group", 1)
    taken, outputs = (w[1], w[0]) if node.op == "Conv" else (w[0], w[1])
    if not (isinstance(groups, int) and isinstance(taken, int) and isinstance(x[1], int)):
        return
    needed = taken * groups if node.op == "Conv" else taken
    if x[1] != needed:
        raise ModelError(
            f"weight {list(w)} in {groups} group(s) takes {needed} channels, its input {list(x)} has {x[1]}",
            hint="check the weight's shape and the group attribute",
            location=node.location,
        )
    bias = graph.shape(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else None
    made = outputs if node.op == "Conv" else outputs * groups if isinstance(outputs, int) else outputs
    if bias is not None and bias != (made,):
        raise ModelError(f"bias {list(bias)} does not fit {made} output channels", location=node.location)


def _check_statistics(graph: Graph, node: Node) -> None:
    x = graph.shape(node.inputs[0])
    for value in node.inputs[1:5]:
        shape = graph.shape(value)
        if x is not None and len(x) > 1 and isinstance(x[1], int) and shape is not None and shape != (x[1],):
            raise ModelError(
                f"{value!r} is {list(shape)}, its input {list(x)} has {x[1]} channels", location=node.location
            )
