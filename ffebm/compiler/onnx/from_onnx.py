"""ONNX in: a model file becomes a graph. Only this file reads ONNX protobufs on the way in.

Version conversion, inlining and shape inference are onnx's own; large weights are kept out of their way, so a
model of any size passes in the time that its structure takes.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, TensorProto, numpy_helper

from ffebm.compiler.isolated import isolated
from ffebm.compiler.old_opsets import say_meaning
from ffebm.compiler.onnx.contributed import adopted, move_inside
from ffebm.compiler.onnx.functions import inlined
from ffebm.compiler.onnx.fused import write_out
from ffebm.compiler.onnx.labels import numbered
from ffebm.compiler.onnx.reading import HeldArrays, array_of, read_model, read_source
from ffebm.compiler.onnx.roles import apart
from ffebm.compiler.onnx.schema import check_nodes
from ffebm.compiler.onnx.structure import check_ops, check_structure, op_name, write_defaults
from ffebm.compiler.onnx.text import readable
from ffebm.errors import Location, ModelError
from ffebm.graph.graph import Attr, Graph, Node
from ffebm.graph.own_ops import own_op
from ffebm.graph.tensor import Array, TensorType, same_array
from ffebm.plan.checks.source import source_digest, widened_from
from ffebm.plan.plan import MANIFEST
from ffebm.plan.schema import Source

OPSET = 20
"""Older models are converted up to this opset; the kernels implement it and what newer ones add."""
LONG = 100_000
"""Elements above which a vector's values are not followed."""
LARGE = 1024
"""Elements above which a constant is kept out of onnx's passes; no shape is computed from so many."""


@dataclass(frozen=True)
class OnnxImport:
    """A model that was read.

    Attributes:
        graph: The graph.
        source: Which model it was.
        proto: The ONNX source.
        no_weights: Its weights have no values, for it is the model of a plan that holds none.
    """

    graph: Graph
    source: Source
    proto: ModelProto
    no_weights: bool = False

    def needs_weights(self) -> None:
        """Refuse a model without values where they are needed.

        Raises:
            ModelError: If it has none.
        """
        if self.no_weights:
            raise ModelError(
                f"the plan of {self.source.name} holds no weights",
                allowed="the model's own file, or --no-weights (no_weights=True)",
            )


def from_onnx(
    model: str | Path | ModelProto, dims: Mapping[str, int], *, mapping: bool = False
) -> OnnxImport:
    """Read an ONNX model.

    Args:
        model: Path of a file, or of the folder of a plan; or a model in memory.
        dims: Sizes for named dimensions.
        mapping: Map the large weights of a file instead of reading them.

    Raises:
        ModelError: If it is not a valid model, or one that cannot be compiled; with the node.
    """
    read = _read(model, mapping=mapping)
    given, held, name = read.proto, read.held, read.source.name
    proto, notes = numbered(adopted(_inlined(readable(given), name)), name)
    order = check_structure(proto, name)
    check_ops(proto.graph, name)
    _check_opset(proto, name)
    check_nodes(proto, name)
    proto, merged = apart(proto, held)
    constants = _initializers(proto.graph, name, held)
    work = _without_large(proto, order, constants)
    write_defaults(work.graph)
    _set_dims(work, dims, name)
    move_inside(work)
    work = _convert(work, name)
    graph = _graph(_infer_own(work, name), constants, name)
    write_out(graph)
    graph.notes.extend([*notes, *_merged(merged)])
    source = read.source
    if not source.digest:
        structure = _without_initializers(proto).SerializeToString(deterministic=True)
        digest = source_digest(structure, constants.items())
        source = Source(name=name, format="onnx", digest=digest, opset=_opset(proto))
    return OnnxImport(graph, source, proto, read.no_weights)


@dataclass(frozen=True)
class _Read:
    """A model as it was read.

    Attributes:
        proto: The model.
        held: Values that it lacks.
        source: Its name; with its digest if it is that of a plan.
        no_weights: Weights are no values.
    """

    proto: ModelProto
    held: HeldArrays
    source: Source
    no_weights: bool = False


def _read(model: str | Path | ModelProto, *, mapping: bool) -> _Read:
    if isinstance(model, ModelProto):
        return _Read(model, [], Source(name="model", format="onnx", digest=""))
    path = Path(model)
    if (path / MANIFEST).is_file():
        plan, proto, held = read_source(path)
        return _Read(proto, held, plan.source, plan.options.no_weights)
    if path.is_dir():
        raise ModelError(
            f"a folder without {MANIFEST}, so it is no plan",
            allowed="an ONNX file, or a plan that was compiled from one",
            location=Location(str(path)),
        )
    proto, held = read_model(path, mapping=mapping)
    return _Read(proto, held, Source(name=path.name, format="onnx", digest=""))


def _merged(names: list[str]) -> list[str]:
    """What the user should know of constants that were merged."""
    if not names:
        return []
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return [f"each place that read {shown} has a constant of its own: the exporter had merged equal ones"]


def _inlined(model: ModelProto, name: str) -> ModelProto:
    """The model with calls of its own functions replaced by their bodies."""
    if not model.functions:
        return model
    flat = inlined(_without_initializers(model), name)
    flat.graph.initializer.extend(model.graph.initializer)
    return flat


# --- onnx's own passes, without large weights --------------------------------------------------------


def _initializers(graph: GraphProto, name: str, held: HeldArrays) -> dict[str, Array]:
    return {tensor.name: _array(tensor, Location(name, tensor.name), held) for tensor in graph.initializer}


def _array(tensor: TensorProto, where: Location, held: HeldArrays = ()) -> Array:
    """A tensor of the model as an array."""
    if tensor.data_type not in TensorProto.DataType.values() or not tensor.data_type:
        raise ModelError(f"its data are of the unknown type {tensor.data_type}", location=where)
    if any(size < 0 for size in tensor.dims):
        raise ModelError(f"its data have the shape {list(tensor.dims)}", location=where)
    try:
        return array_of(tensor, held)
    except (ValueError, TypeError, KeyError, IndexError, MemoryError, OSError) as error:
        raise ModelError(
            f"its data does not have the shape {list(tensor.dims)}: {_one_line(error)}",
            hint="export the model again",
            location=where,
        ) from None


def _without_large(model: ModelProto, order: list[int], constants: Mapping[str, Array]) -> ModelProto:
    """The same structure, with each large initializer as a typed input."""
    small = ModelProto()
    for part in ("ir_version", "producer_name", "domain", "model_version"):
        setattr(small, part, getattr(model, part))
    small.opset_import.extend(model.opset_import)
    graph, old = small.graph, model.graph
    graph.name = old.name
    graph.node.extend(old.node[index] for index in order)
    graph.output.extend(old.output)
    graph.value_info.extend(old.value_info)
    graph.input.extend(i for i in old.input if i.name not in constants)
    # Before IR 4 every initializer must be an input as well; from IR 4 on it may be one.
    graph.input.extend(
        onnx.helper.make_tensor_value_info(t.name, t.data_type, t.dims)
        for t in old.initializer
        if small.ir_version < 4 or constants[t.name].size > LARGE
    )
    graph.initializer.extend(t for t in old.initializer if constants[t.name].size <= LARGE)
    return small


def _set_dims(model: ModelProto, dims: Mapping[str, int], name: str) -> None:
    """Give named dimensions of the inputs their sizes; `input_axis` names any open one."""
    named: set[str] = set()
    places: set[str] = set()
    for value in model.graph.input:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            place = f"{value.name}_{axis}"
            if dim.WhichOneof("value") is None or dim.dim_value < 0 or dim.dim_param == "?":
                dim.dim_param = place
            if not dim.dim_param:
                continue
            named.add(dim.dim_param)
            places.add(place)
            given = dims.get(place, dims.get(dim.dim_param))
            if given is not None:
                dim.dim_value = given
    unknown = sorted(set(dims) - named - places)
    if unknown:
        raise ModelError(
            f"no input has a dimension named {unknown[0]!r}",
            allowed=f"named dimensions are {sorted(named)}",
            location=Location(name),
        )
    if dims:
        del model.graph.value_info[:]
        for value in model.graph.output:
            value.type.tensor_type.ClearField("shape")


def _check_opset(model: ModelProto, name: str) -> None:
    latest = onnx.defs.onnx_opset_version()
    opset = _opset(model)
    if not 1 <= opset <= latest:
        raise ModelError(
            f"opset {opset}",
            allowed=f"onnx {onnx.__version__} knows opsets up to {latest}",
            hint="install a newer onnx, or export the model with an older opset",
            location=Location(name),
        )


def _opset(model: ModelProto) -> int:
    return next((o.version for o in model.opset_import if o.domain in {"", "ai.onnx"}), OPSET)


def _convert(model: ModelProto, name: str) -> ModelProto:
    """Bring the model to the kernels' opset, where onnx's converter cannot take this process down."""
    opset = _opset(model)
    if opset >= OPSET:
        return model
    converter = onnx.version_converter

    def convert(data: bytes) -> bytes:
        return bytes(converter.convert_version(onnx.load_from_string(data), OPSET).SerializeToString())

    errors = (RuntimeError, ValueError, converter.ConvertError, onnx.shape_inference.InferenceError)
    try:
        converted = onnx.load_from_string(isolated(convert, model.SerializeToString(), errors))
    except ModelError as error:
        raise ModelError(
            f"opset {opset} cannot be converted to {OPSET}: {' '.join(error.found.split())}",
            allowed=error.allowed,
            hint=error.hint or "export the model with a newer opset",
            location=Location(name),
        ) from None
    say_meaning(converted.graph, opset)
    return converted


def _infer_own(model: ModelProto, name: str) -> list[ModelProto]:
    """The model with shapes, through ops of packages, whose types onnx does not know, one after another."""
    inferred = _infer(model, name)
    for index, node in enumerate(model.graph.node):
        own = own_op(op_name(node)) if node.domain else None
        if own is None:
            continue
        where = Location(name, node.name or f"{node.op_type}_{index}")
        known = _types(inferred[-1].graph)
        known |= {t.name: array_type(_array(t, where)) for t in model.graph.initializer}
        if all(value in known for value in node.input if value):
            attrs = {a.name: _attr(a, name, where) for a in node.attribute}
            made = own.types(attrs, [known.get(value) for value in node.input])
            _declare(model, dict(zip(node.output, made, strict=False)))
            inferred = _infer(model, name)
    return inferred


def _declare(model: ModelProto, types: Mapping[str, TensorType]) -> None:
    """Write down the types of some values."""
    outputs = {value.name: value for value in model.graph.output}
    for value, kind in types.items():
        element = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(kind.dtype))
        info = onnx.helper.make_tensor_value_info(value, element, kind.shape)
        if value in outputs:
            outputs[value].type.CopyFrom(info.type)
        elif value:
            model.graph.value_info.append(info)


def _infer(model: ModelProto, name: str) -> list[ModelProto]:
    """The model with shapes: what follows from shapes alone, and what follows from values too.

    onnx follows the values of vectors element by element, so a long one among them would cost more than all
    else: its length is hidden, and if one appears in between, values are not followed at all.
    """
    try:
        plain = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
        found = {value.name for value in (*plain.graph.value_info, *plain.graph.output) if _long(value)}
        if found - {value.name for value in model.graph.input}:
            return [plain]
        return [plain, onnx.shape_inference.infer_shapes(_with_short(model), True, True, True)]
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError) as error:
        text = _one_line(error)
        node = next((n for n in model.graph.node if n.name and f"node name: {n.name})" in text), None)
        raise ModelError(
            f"shapes or types do not fit: {text}",
            hint="check the shapes of the weights and inputs",
            location=Location(name, node.name if node else ""),
        ) from None


def _long(value: onnx.ValueInfoProto) -> bool:
    dims = value.type.tensor_type.shape.dim
    return len(dims) == 1 and dims[0].dim_value > LONG


def _with_short(model: ModelProto) -> ModelProto:
    """The model with the lengths of long vectors among its inputs left open."""
    if not any(_long(value) for value in model.graph.input):
        return model
    copy = ModelProto()
    copy.CopyFrom(model)
    for value in filter(_long, copy.graph.input):
        value.type.tensor_type.shape.dim[0].dim_param = f"length of {value.name}"
    return copy


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


# --- the graph ---------------------------------------------------------------------------------------


def _graph(inferred: list[ModelProto], constants: Mapping[str, Array], name: str) -> Graph:
    proto = inferred[-1].graph
    graph = Graph(name=proto.name or name, source=name)
    graph.constants = dict(constants)
    graph.constants.update((t.name, _array(t, Location(name, t.name))) for t in proto.initializer)
    graph.inputs = [i.name for i in proto.input if i.name not in graph.constants]
    graph.outputs = [o.name for o in proto.output]
    for model in inferred:
        for value, known in _types(model.graph).items():
            graph.types[value] = _known(graph.types.get(value), known)
    graph.types.update((key, array_type(array)) for key, array in graph.constants.items())
    graph.nodes = _nodes(proto, name)
    return graph


def _known(one: TensorType | None, other: TensorType) -> TensorType:
    """What two inferences know together; a number says more than a name."""
    if one is None or one.shape is None:
        return other
    if other.shape is None or len(one.shape) != len(other.shape):
        return one
    dims = (a if isinstance(a, int) else b for a, b in zip(one.shape, other.shape, strict=True))
    return TensorType(other.dtype if one.dtype == "unknown" else one.dtype, tuple(dims))


def _types(proto: GraphProto) -> dict[str, TensorType]:
    """What shape inference knows of a graph's values."""
    values = [*proto.input, *proto.value_info, *proto.output]
    return {v.name: _type(v.type.tensor_type) for v in values if v.type.HasField("tensor_type")}


def array_type(array: Array) -> TensorType:
    """Type of a constant."""
    return TensorType(str(array.dtype), tuple(array.shape))


def _type(tensor: onnx.TypeProto.Tensor) -> TensorType:
    if tensor.elem_type not in TensorProto.DataType.values():
        raise ModelError(f"a value is of the unknown type {tensor.elem_type}")
    dtype = str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)) if tensor.elem_type else "unknown"
    if not tensor.HasField("shape"):
        return TensorType(dtype)
    return TensorType(dtype, tuple(_dim(dim) for dim in tensor.shape.dim))


def _dim(dim: onnx.TensorShapeProto.Dimension) -> int | str:
    """A size; one below zero says as little as none, as onnxruntime takes it."""
    if dim.HasField("dim_value") and dim.dim_value >= 0:
        return int(dim.dim_value)
    return dim.dim_param or "?"


def _nodes(proto: GraphProto, source: str) -> list[Node]:
    taken: set[str] = set()
    nodes = []
    for index, node in enumerate(proto.node):
        name = node.name or f"{node.op_type}_{index}"
        while name in taken:
            name = f"{name}_{index}"
        taken.add(name)
        op = op_name(node)
        where = Location(source, name)
        attrs = {a.name: _attr(a, source, where) for a in node.attribute}
        if op.startswith("ai.onnx.ml."):
            attrs = {key: _as_array(value) for key, value in attrs.items()}
        nodes.append(Node(op, name, list(node.input), list(node.output), attrs, where))
    return nodes


def _as_array(value: Attr) -> Attr:
    """Many numbers, as the trees of an ensemble are, as an array: a plan keeps arrays apart from its text."""
    if not isinstance(value, tuple) or len(value) <= LARGE or isinstance(value[0], str):
        return value
    return np.asarray(value, np.float32 if isinstance(value[0], float) else np.int64)


def _attr(attr: AttributeProto, source: str, where: Location) -> Attr:
    if attr.type == AttributeProto.GRAPH:
        inner = Graph(name=attr.g.name, source=source)
        inner.inputs = [i.name for i in attr.g.input]
        inner.outputs = [o.name for o in attr.g.output]
        inner.constants = {t.name: _array(t, where) for t in attr.g.initializer}
        inner.nodes = _nodes(attr.g, source)
        inner.types = _types(attr.g)
        inner.types.update((key, array_type(array)) for key, array in inner.constants.items())
        return inner
    value = onnx.helper.get_attribute_value(attr)
    if isinstance(value, TensorProto):
        return _array(value, where)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, (int, float)):
        return value
    if attr.type == AttributeProto.STRINGS:
        return tuple(v.decode("utf-8", "replace") for v in value)
    if attr.type in {AttributeProto.INTS, AttributeProto.FLOATS}:
        return tuple(value)
    kind = AttributeProto.AttributeType.Name(attr.type)
    raise ModelError(f"attribute {attr.name!r} is a {kind}, which is not supported", location=where)


# --- the source without its weights ------------------------------------------------------------------


def without_weights(
    model: ModelProto,
    given: Mapping[str, Array],
    constants: Mapping[str, Array],
    left_out: Collection[str] = (),
) -> bytes:
    """The source model; an initializer that the plan holds keeps name, type and shape, not its data.

    Args:
        model: The source.
        given: Its constants by name.
        constants: What the passes have made of them; one that they changed keeps its data as well.
        left_out: Those whose data are nowhere.
    """
    copy = _without_initializers(model)
    kept = constants.keys() - left_out
    held = {name for name, array in given.items() if name in kept and _told(array, constants[name])}
    held |= {*left_out}
    for tensor in model.graph.initializer:
        if tensor.name in held:
            copy.graph.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
        elif tensor.data_location == TensorProto.EXTERNAL:  # its values are held apart
            copy.graph.initializer.append(numpy_helper.from_array(given[tensor.name], tensor.name))
        else:
            copy.graph.initializer.add().CopyFrom(tensor)
    return bytes(copy.SerializeToString(deterministic=True))


def _told(array: Array, now: Array) -> bool:
    """Whether a constant follows from what the passes have made of it: the same, or in a wider type."""
    if now is array:
        return True
    return (
        now.shape == array.shape
        and widened_from(now, array.dtype)
        and same_array(now.astype(array.dtype), array)
    )


def _without_initializers(model: ModelProto) -> ModelProto:
    copy = ModelProto()
    for field, value in model.ListFields():
        if field.name != "graph":
            _copy_field(copy, field.name, value)
    for field, value in model.graph.ListFields():
        if field.name != "initializer":
            _copy_field(copy.graph, field.name, value)
    return copy


def _copy_field(target: ModelProto | GraphProto, name: str, value: object) -> None:
    field = getattr(target, name)
    if hasattr(field, "extend"):
        field.extend(value)
    elif hasattr(field, "CopyFrom"):
        field.CopyFrom(value)
    else:
        setattr(target, name, value)
