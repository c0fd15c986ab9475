"""Writes the source model with trained weights."""

from collections.abc import Mapping
from pathlib import Path

import onnx
from onnx import ModelProto, TensorProto, numpy_helper
from onnx.external_data_helper import set_external_data

from ffebm.errors import Location, UsageError
from ffebm.files.write_file import write_file
from ffebm.graph.tensor import Array
from ffebm.plan.checks.left_out import needs_weights
from ffebm.plan.checks.source import holds_data
from ffebm.plan.plan import Plan

TOO_LARGE = 2**31 - 2**20
"""Bytes above which protobuf refuses a file, with a margin; weights then go into a file beside it."""
APART = 1024
"""Bytes from which a weight is large enough to go there."""


def save_onnx(plan: Plan, learnt: Mapping[str, Array], path: Path) -> None:
    """Write a plan's source model; whole or not at all.

    Args:
        plan: Compiled from ONNX.
        learnt: New values by source name.
        path: Where the model goes.

    Raises:
        UsageError: If the source was no ONNX model, its weights were folded, or the disk refuses.
    """
    write_model(source_model(plan, learnt, path), path)


def source_model(plan: Plan, learnt: Mapping[str, Array], path: Path) -> ModelProto:
    """A plan's source model with its weights, `learnt` ones in place of the plan's.

    Args:
        plan: Compiled from ONNX.
        learnt: New values by source name.
        path: Where the model will go; errors name it.

    Raises:
        UsageError: If the source was no ONNX model, or its weights were folded.
    """
    needs_weights(plan)
    where = Location(str(path))
    if not plan.model:
        raise UsageError(
            f"{plan.source.name} was no ONNX model",
            hint="give the weights to the torch module: module.load_state_dict(net.torch_state(module))",
            location=where,
        )
    if plan.options.fold_batch_norm:
        raise UsageError(
            "the plan's weights hold folded batch normalisations, so they are not the source model's",
            hint="compile without folding to train and save",
            location=where,
        )
    model: ModelProto = ModelProto.FromString(plan.model)
    _fill(model, {**plan.weights, **learnt}, set(learnt))
    return model


def write_model(model: ModelProto, path: Path) -> None:
    """Write an ONNX model; whole or not at all, with a file for its weights where it is too large for one.

    Raises:
        UsageError: If the disk refuses.
    """
    for name, content in model_files(model, path.name).items():
        write_file(path.with_name(name), content)


def model_files(model: ModelProto, name: str) -> dict[str, bytes]:
    """An ONNX model as files by name, the one with its weights first where it is too large for one.

    Args:
        model: The model, which loses the weights that go into a file of their own.
        name: Of its file.
    """
    size = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    if size <= TOO_LARGE:
        return {name: model.SerializeToString()}
    beside, parts, offset = f"{name}.data", [], 0
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) >= APART:
            parts.append(tensor.raw_data)
            set_external_data(tensor, beside, offset, len(tensor.raw_data))
            offset += len(tensor.raw_data)
            tensor.ClearField("raw_data")
    return {beside: b"".join(parts), name: model.SerializeToString()}


def _fill(model: ModelProto, values: Mapping[str, Array], learnt: set[str]) -> None:
    """Give initializers their data; a learnt constant that a node made becomes an initializer."""
    graph = model.graph
    for tensor in graph.initializer:
        if tensor.name in learnt or (tensor.name in values and not holds_data(tensor)):
            dtype = onnx.helper.tensor_dtype_to_np_dtype(
                tensor.data_type
            )  # a cast weight is held as it is used
            array = values[tensor.name].astype(dtype, copy=False)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    held = {tensor.name for tensor in graph.initializer}
    for node in list(graph.node):
        made = [name for name in node.output if name in learnt - held]
        if len(made) == len(node.output):
            graph.node.remove(node)
        for name in made:
            node.output[list(node.output).index(name)] = f"{name}.untrained"
            _add_initializer(model, numpy_helper.from_array(values[name], name))


def _add_initializer(model: ModelProto, tensor: TensorProto) -> None:
    """Before IR 4 every initializer is an input as well."""
    model.graph.initializer.append(tensor)
    if model.ir_version < 4:
        port = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        model.graph.input.append(port)
