"""Check sizes: weights fit what they multiply, and no layer is empty; onnx does not check every op."""

from dataclasses import dataclass

import numpy as np

from ffebm.errors import Location, ModelError
from ffebm.files.mapped import let_go
from ffebm.graph.graph import Graph, Node, Stage, captured
from ffebm.graph.ops import Kind, kind_of
from ffebm.hardware.description import Hardware
from ffebm.plan.tensor_file import storable


@dataclass(frozen=True)
class CheckSizes:
    """Refuses weights that do not fit, and layers of which something is empty."""

    name: str = "check-sizes"
    requires: Stage = Stage.IMPORTED
    ensures: Stage = Stage.IMPORTED

    def run(self, graph: Graph, hardware: Hardware) -> None:
        """Check every node; the graph stays as it is."""
        for value in graph.constants:
            _check_storable(graph, value)
        for value in sorted(graph.trainable):
            _check_finite(graph, value)
        for node in graph.nodes:
            if kind_of(node.op) in {Kind.LINEAR, Kind.POOL}:
                for value in [*captured(node), *node.outputs]:
                    if value:
                        _check_filled(graph, value, node.location)
            if node.op in {"Conv", "ConvTranspose"}:
                _check_channels(graph, node)
                _check_kernel(graph, node)
            elif node.op == "Gemm":
                _check_bias(graph, node)


def _check_finite(graph: Graph, value: str) -> None:
    finite = np.isfinite(graph.constants[value]).all()
    let_go(graph.constants[value])
    if not finite:
        raise ModelError(
            f"weight {value!r} holds a NaN or an infinite number",
            allowed="finite weights",
            location=Location(graph.source, value),
        )


def _check_filled(graph: Graph, value: str, location: Location | None) -> None:
    shape = graph.shape(value)
    empty = [size for size in shape or () if isinstance(size, int) and size < 1]
    if shape is not None and empty:
        raise ModelError(
            f"{value!r} has a dimension of size {empty[0]}: {list(shape)}",
            allowed="sizes of at least 1",
            location=location,
        )


def _check_storable(graph: Graph, value: str) -> None:
    array = graph.constants[value]
    if not storable(array):
        raise ModelError(
            f"{value!r} is of type {graph.types[value].dtype}",
            allowed="numbers and booleans",
            location=Location(graph.source, value),
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
    if groups < 1 or (isinstance(w[0], int) and w[0] % groups):
        raise ModelError(
            f"weight {list(w)} cannot be divided into {groups} group(s)",
            hint="check the weight's shape and the group attribute",
            location=node.location,
        )
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


def _check_kernel(graph: Graph, node: Node) -> None:
    kernel, w = node.attrs.get("kernel_shape"), graph.shape(node.inputs[1])
    if isinstance(kernel, tuple) and w is not None and kernel != w[2:]:
        raise ModelError(f"kernel_shape {list(kernel)} does not fit weight {list(w)}", location=node.location)


def _check_bias(graph: Graph, node: Node) -> None:
    bias = graph.shape(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else None
    out = graph.shape(node.outputs[0])
    if bias is None or out is None:
        return
    # An open size, such as the batch, is only known at run time.
    pairs = zip(bias[::-1], out[::-1], strict=False)
    if len(bias) > len(out) or any(isinstance(n, int) and b not in {1, n} for b, n in pairs):
        raise ModelError(f"bias {list(bias)} does not fit output {list(out)}", location=node.location)
