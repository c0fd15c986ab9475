"""Inputs that are maps from a key to a number: each becomes a tensor with a column a key.

Only what makes a tensor of a map reads one: `DictVectorizer`, whose vocabulary orders the columns, and
`CastMap`, whose columns are the keys of the map, or all keys below a bound. Each reads one sample.
"""

from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

from ffebm.compiler.onnx.structure import all_nodes, op_name
from ffebm.errors import Location, ModelError

VECTORIZER, CAST = "ai.onnx.ml.DictVectorizer", "ai.onnx.ml.CastMap"
KINDS = {"TO_FLOAT": TensorProto.FLOAT, "TO_INT64": TensorProto.INT64}
SHOWN = 5


def without_maps(model: ModelProto, name: str) -> list[str]:
    """Give tensors in place of maps that are inputs.

    Args:
        model: The model, which is changed.
        name: How the user named it.

    Returns:
        What the user should know.

    Raises:
        ModelError: If a map holds texts, or is read in another way.
    """
    readers = {
        node.input[0]: [other for other, _ in all_nodes(model.graph) if node.input[0] in other.input]
        for node in model.graph.node
        if op_name(node) in {VECTORIZER, CAST} and node.input
    }
    return [
        _column_a_key(port, readers[port.name], name)
        for port in model.graph.input
        if port.type.WhichOneof("value") == "map_type" and port.name in readers
    ]


def _column_a_key(port: ValueInfoProto, readers: list[NodeProto], name: str) -> str:
    where = Location(name, port.name)
    element = port.type.map_type.value_type.tensor_type.elem_type
    found = {(op_name(node), str(sorted(node.attribute, key=_name))) for node in readers}
    if len(found) != 1 or element not in {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64}:
        raise ModelError(
            "the input is a map",
            allowed="a map to numbers that DictVectorizer or CastMap makes a tensor of, in one way",
            hint="give the model a tensor, and convert it again",
            location=where,
        )
    attributes = {attribute.name: attribute for attribute in readers[0].attribute}
    vectorized = op_name(readers[0]) == VECTORIZER
    size, columns = (_vocabulary if vectorized else _keys)(attributes, where)
    port.type.CopyFrom(helper.make_tensor_type_proto(element, [1, size]))
    for node in readers:
        if vectorized:
            node.op_type = "Identity"
            del node.attribute[:]
        else:
            node.op_type = "Cast"
            to = _text(attributes, "cast_to", "TO_FLOAT")
            del node.attribute[:]
            node.attribute.append(helper.make_attribute("to", KINDS[to]))
        node.domain = ""
    return f"{port.name!r}: a tensor in place of a map from key to number; columns are {columns}"


def _name(attribute: AttributeProto) -> str:
    return str(attribute.name)


def _vocabulary(attributes: dict[str, AttributeProto], where: Location) -> tuple[int | str, str]:
    """How many columns there are, and which."""
    keys: list[object] = []
    for attribute in attributes.values():
        keys += [*attribute.ints, *(text.decode("utf-8", "replace") for text in attribute.strings)]
    if not keys:
        raise ModelError("DictVectorizer without a vocabulary", location=where)
    more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    return len(keys), f"{', '.join(map(repr, keys[:SHOWN]))}{more}, 0 for a key that is absent"


def _keys(attributes: dict[str, AttributeProto], where: Location) -> tuple[int | str, str]:
    to, form = _text(attributes, "cast_to", "TO_FLOAT"), _text(attributes, "map_form", "DENSE")
    if to not in KINDS or form not in {"DENSE", "SPARSE"}:
        raise ModelError(
            f"CastMap to {to}, {form}", allowed="TO_FLOAT or TO_INT64, DENSE or SPARSE", location=where
        )
    if form == "DENSE":
        return "keys", "its keys in order"
    size = int(attributes["max_map"].i) if "max_map" in attributes else 1
    if size < 1:
        raise ModelError(f"CastMap with max_map {size}", allowed="at least 1", location=where)
    return size, f"the keys 0 to {size - 1}, 0 for a key that is absent"


def _text(attributes: dict[str, AttributeProto], name: str, otherwise: str) -> str:
    return attributes[name].s.decode("utf-8", "replace") if name in attributes else otherwise
