"""Canonicalize: write equal things in one way, so that later passes need to know only one.

- Windows (convolutions and poolings) say strides, dilations and pads in full; `auto_pad` is resolved, and a
  global pooling is a pooling over all of its input.
- A weight behind Identity, Transpose or Cast is read directly, under its source name: a Cast is done once,
  and a transposed matrix is said to be one.
- Rows of a matrix product whose sizes are open are one axis (`open_rows.py`).
- A monotone activation followed by max-pooling is max-pooling followed by the activation, the same function:
  P(sigma(u)) = sigma(P(u)) for a non-decreasing sigma.
"""

from collections.abc import Collection
from dataclasses import dataclass

import onnx

from ffebm.errors import ModelError
from ffebm.graph.graph import Graph, Node, Stage
from ffebm.graph.monotone import activation_of
from ffebm.graph.tensor import TensorType
from ffebm.graph.windows import n_windows
from ffebm.hardware.description import Hardware
from ffebm.passes.open_rows import flatten_open_rows

WINDOWS = {"Conv", "ConvTranspose", "MaxPool", "AveragePool"}
GLOBAL = {"GlobalAveragePool": "AveragePool", "GlobalMaxPool": "MaxPool"}


@dataclass(frozen=True)
class Canonicalize:
    """Writes windows in full and pools before activating.

    Attributes:
        activations: Ops that are activations by what packages offer.
    """

    activations: tuple[str, ...] = ()
    name: str = "canonicalize"
    requires: Stage = Stage.IMPORTED
    ensures: Stage = Stage.CANONICAL

    def run(self, graph: Graph, hardware: Hardware) -> None:
        """Rewrite every node that has more than one spelling."""
        _read_weights_directly(graph)
        flatten_open_rows(graph)
        for node in graph.nodes:
            if node.op in GLOBAL:
                _pool_over_all(graph, node)
            if node.op in WINDOWS:
                _say_window(graph, node)
        _pool_before_activation(graph, self.activations)


def _read_weights_directly(graph: Graph) -> None:
    consumers = graph.consumers()
    for node in graph.nodes:
        if node.op == "Cast" and node.inputs[0] in graph.trainable:
            _cast_once(graph, node, consumers)
    roots = _roots(graph)
    for node in graph.nodes:
        for position, value in enumerate(node.inputs):
            root, turned = roots.get(value, (value, False))
            if root == value or root not in graph.constants:
                continue
            if turned and (position != 1 or node.op not in {"MatMul", "Gemm"}):
                continue
            node.inputs[position] = root
            if turned:
                node.attrs["transB"] = 0 if node.attrs.get("transB") else 1


def _roots(graph: Graph) -> dict[str, tuple[str, bool]]:
    """What each value is behind Identity and transposed matrices, and whether it is transposed."""
    roots: dict[str, tuple[str, bool]] = {}
    for node in graph.nodes:
        turns = _turns(graph, node)
        if node.op == "Identity" or turns:
            root, turned = roots.get(node.inputs[0], (node.inputs[0], False))
            roots[node.outputs[0]] = root, turned ^ turns
    return roots


def _turns(graph: Graph, node: Node) -> bool:
    """Whether a node transposes a matrix."""
    matrix = len(graph.shape(node.inputs[0]) or ()) == 2 if node.op == "Transpose" else False
    return matrix and node.attrs.get("perm", (1, 0)) == (1, 0)


def _cast_once(graph: Graph, node: Node, consumers: dict[str, list[Node]]) -> None:
    """Keep the weight in the type that it is cast to, if nothing else reads it."""
    name = node.inputs[0]
    dtype = onnx.helper.tensor_dtype_to_np_dtype(int(str(node.attrs["to"])))
    if len(consumers[name]) == 1 and name not in graph.outputs and dtype.kind == "f":
        graph.constants[name] = graph.constants[name].astype(dtype)
        graph.types[name] = TensorType(str(dtype), graph.constants[name].shape)
        node.op, node.attrs = "Identity", {}


def _pool_over_all(graph: Graph, node: Node) -> None:
    shape = graph.shape(node.inputs[0])
    if shape is None or len(shape) < 3 or not all(isinstance(size, int) for size in shape[2:]):
        return  # stays a global pooling, computed over whatever comes
    node.op = GLOBAL[node.op]
    node.attrs = {"kernel_shape": tuple(int(size) for size in shape[2:])}


def _say_window(graph: Graph, node: Node) -> None:
    kernel = _kernel(graph, node)
    axes = len(kernel)
    attrs = node.attrs
    attrs["kernel_shape"] = kernel
    for name in ("strides", "dilations"):
        attrs.setdefault(name, (1,) * axes)
    pads = _resolve_pads(graph, node, kernel)
    if pads is not None:
        attrs["pads"] = pads
        attrs.pop("auto_pad", None)
    if node.op != "ConvTranspose" and pads is not None:
        _check_fits(graph, node, pads)


def _check_fits(graph: Graph, node: Node, pads: tuple[int, ...]) -> None:
    """Refuse windows of which none lies in the padded input; onnx divides towards 0 and counts one."""
    shape = graph.shape(node.inputs[0])
    if shape is None:
        return
    kernel, strides, dilations = (
        tuple(_int(node.attrs[name], axis) for axis in range(len(pads) // 2))
        for name in ("kernel_shape", "strides", "dilations")
    )
    ceil = bool(node.attrs.get("ceil_mode", 0))
    axes = zip(kernel, strides, dilations, pads[: len(kernel)], pads[len(kernel) :], strict=True)
    for size, numbers in zip(shape[2:], axes, strict=False):
        if isinstance(size, int) and n_windows(size, *numbers, ceil=ceil) < 1:
            raise ModelError(
                f"no window of {list(kernel)}, dilated by {list(dilations)}, lies in an input of "
                f"{list(shape[2:])} with pads {list(pads)}",
                location=node.location,
            )


def _kernel(graph: Graph, node: Node) -> tuple[int, ...]:
    known = node.attrs.get("kernel_shape")
    if isinstance(known, tuple):
        return tuple(int(size) for size in known)
    shape = graph.shape(node.inputs[1]) if len(node.inputs) > 1 else None
    if shape is None or not all(isinstance(size, int) for size in shape[2:]):
        raise ModelError(
            "the kernel's size is unknown",
            allowed="a weight of known shape or a kernel_shape attribute",
            location=node.location,
        )
    return tuple(int(size) for size in shape[2:])


def _resolve_pads(graph: Graph, node: Node, kernel: tuple[int, ...]) -> tuple[int, ...] | None:
    """Pads in full; None where they depend on a size that is not known, or follow from `output_shape`."""
    attrs = node.attrs
    mode = attrs.get("auto_pad", "NOTSET")
    if mode in {"NOTSET", "VALID"}:
        pads = attrs.get("pads") if mode == "NOTSET" else None
        return tuple(int(p) for p in pads) if isinstance(pads, tuple) else (0,) * (2 * len(kernel))
    shape = graph.shape(node.inputs[0])
    if node.op == "ConvTranspose" or shape is None:
        return None
    begins, ends = [], []
    for axis, size in enumerate(kernel):
        length = shape[2 + axis]
        if not isinstance(length, int):
            return None
        stride, dilation = _int(attrs["strides"], axis), _int(attrs["dilations"], axis)
        total = max(0, (-(-length // stride) - 1) * stride + (size - 1) * dilation + 1 - length)
        small, large = total // 2, total - total // 2
        begins.append(small if mode == "SAME_UPPER" else large)
        ends.append(large if mode == "SAME_UPPER" else small)
    return (*begins, *ends)


def _int(values: object, axis: int) -> int:
    return int(values[axis]) if isinstance(values, tuple) else 1


def _pool_before_activation(graph: Graph, own: Collection[str]) -> None:
    """Swap an activation with the max-pooling that alone reads it, until none is left to swap."""
    producers, consumers = graph.producers(), graph.consumers()
    position = {id(node): index for index, node in enumerate(graph.nodes)}
    for pool in graph.nodes:
        if pool.op != "MaxPool" or len([o for o in pool.outputs if o]) != 1:
            continue
        activation = producers.get(pool.inputs[0])
        while activation is not None and _may_swap(graph, activation, consumers, own):
            before, after = activation.inputs[0], pool.outputs[0]
            graph.types.pop(activation.outputs[0])
            between = f"{after}.pooled"
            while between in graph.types:
                between += "_"
            pool.inputs[0], pool.outputs[0] = before, between
            activation.inputs[0], activation.outputs[0] = between, after
            graph.types[between] = graph.types[after]
            consumers[before] = [pool if n is activation else n for n in consumers[before]]
            consumers[between], producers[between], producers[after] = [activation], pool, activation
            here, there = position[id(activation)], position[id(pool)]
            graph.nodes[here], graph.nodes[there] = pool, activation
            position[id(pool)], position[id(activation)] = here, there
            activation = producers.get(pool.inputs[0])


def _may_swap(graph: Graph, node: Node, consumers: dict[str, list[Node]], own: Collection[str]) -> bool:
    value = node.outputs[0]
    return (
        activation_of(graph, node, own) is not None
        and value not in graph.outputs
        and len(consumers.get(value, [])) == 1
        and value in graph.types
    )
