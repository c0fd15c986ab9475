"""Runs an ONNX graph node by node with our kernels; what the conformance tests drive."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, numpy_helper, version_converter
from onnx.inliner import inline_local_functions
from torch import Tensor

from ffebm.runtime.kernels import KERNELS, Call, Subgraph
from ffebm.runtime.kernels.call import Value
from ffebm.runtime.kernels.dtypes import from_numpy

OLDEST_OPSET = 20


def run_model(model: ModelProto, inputs: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
    """The outputs of a model; old ones are first converted to the oldest opset that kernels know."""
    return run_graph(prepared(model).graph, inputs, {})


def prepared(model: ModelProto) -> ModelProto:
    """The model without local functions, and with the oldest opset that kernels know or a later one."""
    opsets = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    if opsets and max(opsets) < OLDEST_OPSET:
        model = version_converter.convert_version(model, OLDEST_OPSET)
    return inline_local_functions(model) if model.functions else model


def run_graph(
    graph: GraphProto, inputs: Iterable[Tensor | None], outer: Mapping[str, Tensor | None]
) -> tuple[Tensor, ...]:
    """The outputs of a graph, whose nodes may read values of the graph around it."""
    values: dict[str, Tensor | None] = {**outer, "": None}
    constants = {constant.name: to_torch(constant) for constant in graph.initializer}
    values.update(constants)
    fed = [value.name for value in graph.input if value.name not in constants]
    values.update(zip(fed, inputs, strict=False))
    for node in graph.node:
        values.update(zip(node.output, run_node(node, values), strict=False))
    results = (values[value.name] for value in graph.output)
    return tuple(result for result in results if result is not None)


def run_node(node: NodeProto, values: Mapping[str, Tensor | None]) -> tuple[Tensor, ...]:
    """The outputs of one node."""
    result = KERNELS[op_name(node)](call_of(node, values), *(values[name] for name in node.input))
    return (result,) if isinstance(result, Tensor) else result


def op_name(node: NodeProto) -> str:
    """The node's op as the kernels name it."""
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"


def call_of(node: NodeProto, values: Mapping[str, Tensor | None]) -> Call:
    """What the kernel may know about the node."""
    attrs: dict[str, Value] = {}
    tensors: dict[str, Tensor] = {}
    graphs: dict[str, Subgraph] = {}
    for attr in node.attribute:
        if attr.type == AttributeProto.GRAPH:
            graphs[attr.name] = subgraph(attr.g, values)
        elif attr.type == AttributeProto.TENSOR:
            tensors[attr.name] = to_torch(attr.t)
        else:
            attrs[attr.name] = plain(onnx.helper.get_attribute_value(attr))
    return Call(node.op_type, attrs, len(node.output), tensors=tensors, graphs=graphs)


def subgraph(graph: GraphProto, values: Mapping[str, Tensor | None]) -> Subgraph:
    """A graph as a function of its inputs."""

    def run(*inputs: Tensor) -> tuple[Tensor, ...]:
        return run_graph(graph, inputs, values)

    return run


def plain(value: object) -> Value:
    """An attribute as python knows it."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, Iterable) and not isinstance(value, str):
        return tuple(item.decode() if isinstance(item, bytes) else item for item in value)
    assert isinstance(value, int | float | str)
    return value


def to_torch(value: object) -> Tensor:
    """A protobuf tensor or an array as a torch tensor of the same element type."""
    if isinstance(value, onnx.TensorProto):
        return from_numpy(numpy_helper.to_array(value), value.data_type)
    array = np.asarray(value)
    return from_numpy(array, onnx.helper.np_dtype_to_tensor_dtype(array.dtype))
