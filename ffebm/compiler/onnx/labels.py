"""Classifiers' outputs that are no tensors of numbers: maps of probabilities, and labels that are texts.

A map is dropped for the tensor of probabilities in it, a text label for the number of its class; notes
say so.
"""

from collections.abc import Mapping

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from ffebm.compiler.onnx.maps import without_maps
from ffebm.compiler.onnx.structure import all_nodes, op_name
from ffebm.errors import Location, ModelError

TREES = "ai.onnx.ml.TreeEnsembleClassifier"
PASSES = frozenset({"Identity", "Reshape", "Flatten"})
"""Ops that pass labels on."""
MAPPER, ENCODER = "ai.onnx.ml.CategoryMapper", "ai.onnx.ml.LabelEncoder"
UNUSED = "_Unused"
"""What a CategoryMapper gives for other numbers, if it does not say."""
NUMBERED = frozenset({"ai.onnx.ml.LinearClassifier", "ai.onnx.ml.SVMClassifier", TREES})


def numbered(model: ModelProto, name: str) -> tuple[ModelProto, list[str]]:
    """A model whose classifiers give tensors of numbers.

    Args:
        model: The model, which is left as it is.
        name: How the user named it.

    Returns:
        The model, a copy where something is changed; and what the user should know.

    Raises:
        ModelError: If a node needs texts in any other way.
    """
    if all(node.domain != "ai.onnx.ml" for node, _ in all_nodes(model.graph)):
        return model, []
    copy = ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    notes = without_maps(copy, name) + [
        note for node in graph.node if op_name(node) == "ai.onnx.ml.ZipMap" for note in _dropped(graph, node)
    ]
    for value, found in _numbered_texts(copy).items():
        shown = ", ".join(f"{number} for {text!r}" for number, text in enumerate(found[:5]))
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        notes.append(f"{value!r}: labels are numbers of classes, {shown}{more}; texts are no tensors")
    for node, label in all_nodes(graph):
        for attribute in node.attribute if node.domain == "ai.onnx.ml" else ():
            if attribute.strings and attribute.name != "nodes_modes":
                raise ModelError(
                    f"{node.op_type}: {attribute.name} are texts",
                    allowed="numbers; only the labels that a classifier gives may be texts",
                    hint="encode texts as numbers before the model, and convert it without that step",
                    location=Location(name, label),
                )
    return copy, notes


def _numbered_texts(model: ModelProto) -> dict[str, list[str]]:
    """Give numbers in place of texts; the texts by the value that has their numbers."""
    graph = model.graph
    texts, known = dict[str, list[str]](), dict[str, list[str]]()
    for node in graph.node:
        if node.op_type in PASSES and node.input and node.input[0] in known:
            known[node.output[0]] = known[node.input[0]]
        else:
            texts.update(_labels(graph, node, known))
            known.update(texts)
    if texts:
        _number_outputs(graph, set(texts))
    if any(op_name(node) == ENCODER for node in graph.node):
        for entry in model.opset_import:  # from 2 on, a label encoder maps numbers to numbers
            if entry.domain == "ai.onnx.ml":
                entry.version = max(2, entry.version)
    return texts


def _dropped(graph: GraphProto, node: NodeProto) -> list[str]:
    """Give the tensor in place of the map that holds it."""
    labels: list[object] = []
    for attribute in node.attribute:
        labels = list(attribute.ints) or [text.decode("utf-8", "replace") for text in attribute.strings]
    node.op_type, node.domain = "Identity", ""
    del node.attribute[:]
    for port in graph.output:
        if port.name == node.output[0]:
            port.type.CopyFrom(helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    columns = ", ".join(map(repr, labels[:5])) + (f" and {len(labels) - 5} more" if len(labels) > 5 else "")
    return [
        f"{node.output[0]!r}: a tensor in place of a map from label to probability; columns are {columns}"
    ]


def _labels(graph: GraphProto, node: NodeProto, known: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Number the text labels of a node; what it makes, with the texts.

    Args:
        graph: Where it lies.
        node: The node, which is changed.
        known: The texts of what the nodes before it make.
    """
    attributes = {attribute.name for attribute in node.attribute}
    if op_name(node) == MAPPER or (op_name(node) == ENCODER and "classes_strings" in attributes):
        return _categories(graph, node, known)
    if op_name(node) == "ai.onnx.ml.ArrayFeatureExtractor":
        return _picked(graph, node)
    if op_name(node) == ENCODER:
        return _encoded(node)
    if op_name(node) not in NUMBERED:
        return {}
    for attribute in node.attribute:
        if attribute.name == "classlabels_strings" and attribute.strings:
            texts = [text.decode("utf-8", "replace") for text in attribute.strings]
            name = "classlabels_int64s" if op_name(node) == TREES else "classlabels_ints"
            attribute.CopyFrom(helper.make_attribute(name, list(range(len(texts)))))
            return {node.output[0]: texts}
    return {}


def _picked(graph: GraphProto, node: NodeProto) -> dict[str, list[str]]:
    """Labels that are picked from a constant."""
    for tensor in graph.initializer:
        if tensor.name == node.input[0] and tensor.data_type == TensorProto.STRING:
            texts = [text.decode("utf-8", "replace") for text in tensor.string_data]
            numbers = np.arange(len(texts)).reshape(list(tensor.dims))
            tensor.CopyFrom(numpy_helper.from_array(numbers, tensor.name))
            for port in graph.input:  # before IR 4 every initializer is an input as well
                if port.name == tensor.name:
                    port.type.tensor_type.elem_type = TensorProto.INT64
            return {node.output[0]: texts}
    return {}


def _encoded(node: NodeProto) -> dict[str, list[str]]:
    """Labels that are looked up by number."""
    found = {attribute.name: attribute for attribute in node.attribute}
    values = found.get("values_strings")
    if values is None or "keys_strings" in found:
        return {}
    texts = [text.decode("utf-8", "replace") for text in values.strings]
    values.CopyFrom(helper.make_attribute("values_int64s", list(range(len(texts)))))
    if "default_string" in found:
        node.attribute.remove(found["default_string"])
    return {node.output[0]: texts}


def _categories(graph: GraphProto, node: NodeProto, known: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Write a lookup of texts by number, or of numbers by a text that has one, as a lookup of numbers.

    A label encoder of ai.onnx.ml 1 holds its texts in the order of their numbers.
    """
    found = {attribute.name: attribute for attribute in node.attribute}
    held = found.get("cats_strings", found.get("classes_strings"))
    texts = [text.decode("utf-8", "replace") for text in held.strings] if held is not None else []
    numbers = list(found["cats_int64s"].ints) if "cats_int64s" in found else list(range(len(texts)))
    source = node.input[0] if node.input else ""
    if len(numbers) != len(texts) or not source or (_is_text(graph, source) and source not in known):
        return {}
    made: dict[str, list[str]] = {}
    if source in known:
        pairs = dict(zip(texts, numbers, strict=True))
        keys = [number for number, text in enumerate(known[source]) if text in pairs]
        values = [pairs[known[source][key]] for key in keys]
        default = found["default_int64"].i if "default_int64" in found else -1
    else:
        other = found["default_string"].s.decode("utf-8", "replace") if "default_string" in found else UNUSED
        keys, values, default = numbers, list(range(len(texts))), len(texts)
        made = {node.output[0]: [*texts, other]}
    node.op_type = "LabelEncoder"
    del node.attribute[:]
    pairs_of = {"keys_int64s": keys, "values_int64s": values, "default_int64": default}
    node.attribute.extend(helper.make_attribute(name, value) for name, value in pairs_of.items())
    return made


def _is_text(graph: GraphProto, value: str) -> bool:
    ports = [port for port in (*graph.input, *graph.value_info) if port.name == value]
    return any(port.type.tensor_type.elem_type == TensorProto.STRING for port in ports)


def _number_outputs(graph: GraphProto, numbers: set[str]) -> None:
    """Whole numbers go where texts would have gone."""
    for node in graph.node:
        if node.op_type in PASSES and node.input[0] in numbers:
            numbers.add(node.output[0])
        if node.op_type == "Cast" and node.input[0] in numbers and node.attribute[0].i == TensorProto.STRING:
            numbers.add(node.output[0])
            node.op_type = "Identity"
            del node.attribute[:]
    for port in graph.output:
        if port.type.tensor_type.elem_type == TensorProto.STRING:
            port.type.tensor_type.elem_type = TensorProto.INT64
    for info in graph.value_info:
        if info.type.tensor_type.elem_type == TensorProto.STRING:
            info.type.tensor_type.elem_type = TensorProto.INT64
