"""Writes the source model with trained weights."""

import os
from collections.abc import Mapping
from pathlib import Path

import onnx
from onnx import ModelProto, numpy_helper

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
    model = ModelProto.FromString(plan.model)
    _fill(model, {**plan.weights, **learnt}, set(learnt))
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.part")
    try:
        if model.ByteSize() > TOO_LARGE:
            data = f"{path.name}.data"
            onnx.save(model, scratch, save_as_external_data=True, location=data, size_threshold=1024)
        else:
            scratch.write_bytes(model.SerializeToString())
        os.replace(scratch, path)
    except OSError as error:
        raise UsageError(f"cannot be written: {error.strerror}", location=where) from None
    finally:
        scratch.unlink(missing_ok=True)


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
    made = [node for node in graph.node if len(node.output) == 1 and node.output[0] in learnt - held]
    for node in made:
        graph.node.remove(node)
        name = node.output[0]
        graph.initializer.append(numpy_helper.from_array(values[name], name))
        if model.ir_version < 4:
            tensor = graph.initializer[-1]
            graph.input.append(onnx.helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims)))
