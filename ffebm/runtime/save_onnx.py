"""Writes the source model with trained weights."""

import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
from onnx import ModelProto, TensorProto, numpy_helper

from ffebm.errors import Location, UsageError
from ffebm.ir import Array
from ffebm.plan import Plan

TOO_LARGE = 2**31 - 2**20
"""Bytes above which protobuf refuses a file, with a margin; weights then go into a file beside it."""


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
    where = Location(str(path))
    if not plan.model:
        raise UsageError(
            f"{plan.source.name} was no ONNX model",
            hint="give the weights to the torch module: module.load_state_dict(net.weights(), strict=False)",
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
    size = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as scratch:
            fresh, data = Path(scratch) / path.name, f"{path.name}.data"
            if size > TOO_LARGE:
                onnx.save(model, fresh, save_as_external_data=True, location=data, size_threshold=1024)
                os.replace(Path(scratch) / data, path.with_name(data))
            else:
                fresh.write_bytes(model.SerializeToString())
            os.replace(fresh, path)
    except OSError as error:
        raise UsageError(f"cannot be written: {error.strerror}", location=Location(str(path))) from None


def _fill(model: ModelProto, values: Mapping[str, Array], learnt: set[str]) -> None:
    """Give initializers their data; a learnt constant that a node made becomes an initializer."""
    graph = model.graph
    for tensor in graph.initializer:
        if tensor.name in values and not tensor.HasField("raw_data"):
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
