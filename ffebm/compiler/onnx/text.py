"""Names of a model that are no UTF-8, which protobuf hands over as bytes and most runtimes accept."""

from collections.abc import Iterator

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from onnx import AttributeProto, GraphProto, ModelProto


def readable(model: ModelProto) -> ModelProto:
    """The model with names that are no UTF-8 written with escapes of bytes; itself if all are."""
    if not any(isinstance(name, bytes) for name in _names(model)):
        return model
    copy = ModelProto()
    copy.CopyFrom(model)
    _escape(copy)
    return copy


def _names(model: ModelProto) -> Iterator[object]:
    """Every text that matters, cheaply: most models have no odd one."""
    yield from (model.producer_name, model.producer_version, model.domain, model.doc_string)
    for entry in model.opset_import:
        yield entry.domain
    for prop in model.metadata_props:
        yield from (prop.key, prop.value)
    for function in model.functions:
        yield from (function.name, function.domain, *function.input, *function.output, *function.attribute)
        for node in function.node:
            yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
    yield from _names_of_graph(model.graph)


def _names_of_graph(graph: GraphProto) -> Iterator[object]:
    yield graph.name
    for tensor in graph.initializer:
        yield tensor.name
    for value in (*graph.input, *graph.output, *graph.value_info):
        yield value.name
        yield from (dim.dim_param for dim in value.type.tensor_type.shape.dim)
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        for attr in node.attribute:
            yield from (attr.name, attr.ref_attr_name)
            if attr.type == AttributeProto.GRAPH:
                yield from _names_of_graph(attr.g)


def _escape(message: Message) -> None:
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_STRING:
            _escape_field(message, field, value)
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            for inner in value if field.is_repeated else [value]:
                _escape(inner)


def _escape_field(message: Message, field: FieldDescriptor, value: object) -> None:
    if field.is_repeated:
        texts = getattr(message, field.name)
        texts[:] = [_text(text) for text in texts]
    else:
        setattr(message, field.name, _text(value))


def _text(value: object) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
