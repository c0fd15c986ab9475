"""Types of what the ops of com.microsoft and ai.onnx.ml make, where onnx itself infers none.

A rule is called by onnx's own shape inference. Most ops are like one of ONNX's; its rule then does the work.
"""

import math
from collections.abc import Callable, Sequence

import onnx
from onnx import AttributeProto, NodeProto, TensorProto, TensorShapeProto, TypeProto, helper
from onnx.shape_inference import InferenceContext

InferenceRule = Callable[[InferenceContext], None]
Dims = list[TensorShapeProto.Dimension]
OPSET = 20
"""The opset of the ops that others are compared with."""


def _input(context: InferenceContext, index: int) -> TypeProto | None:
    """The type of an input; None if it is left out or unknown."""
    if index >= context.get_num_inputs() or not context.has_input(index):
        return None
    found = context.get_input_type(index)
    return found if found is not None and found.tensor_type.elem_type else None


def _dims(kind: TypeProto | None) -> Dims | None:
    if kind is None or not kind.tensor_type.HasField("shape"):
        return None
    return list(kind.tensor_type.shape.dim)


def _typed(element: int, dims: Dims | None) -> TypeProto:
    kind = TypeProto()
    kind.tensor_type.elem_type = element
    if dims is not None:
        kind.tensor_type.shape.dim.extend(dims)
    return kind


def _size(value: int | None) -> TensorShapeProto.Dimension:
    dim = TensorShapeProto.Dimension()
    if value is not None:
        dim.dim_value = value
    return dim


def _set(context: InferenceContext, index: int, element: int, dims: Dims | None) -> None:
    if index < context.get_num_outputs() and context.has_output(index):
        context.set_output_type(index, _typed(element, dims))


def _integer(context: InferenceContext, name: str, default: int = 0) -> int:
    attribute = context.get_attribute(name)
    return default if attribute is None else int(attribute.i)


def _integers(context: InferenceContext, name: str) -> list[int]:
    attribute = context.get_attribute(name)
    return [] if attribute is None else list(attribute.ints)


def _element(context: InferenceContext, index: int, otherwise: int = 0) -> int:
    """Element type of an input."""
    found = _input(context, index)
    return found.tensor_type.elem_type if found is not None else otherwise


# --- like an op of ONNX ------------------------------------------------------------------------------


def _standard(
    context: InferenceContext, op: str, kinds: Sequence[TypeProto | None], attributes: Sequence[str]
) -> Dims | None:
    """The sizes of what an op of ONNX would make of inputs of these types, as 32-bit floats."""
    if any(kind is None for kind in kinds):
        return None
    given = {f"i{n}": _typed(TensorProto.FLOAT, _dims(kind)) for n, kind in enumerate(kinds)}
    node = NodeProto(op_type=op, input=list(given), output=["y"])
    for name in attributes:
        attribute = context.get_attribute(name)
        if attribute is not None:
            node.attribute.append(attribute)
    schema = onnx.defs.get_schema(op, OPSET)
    found = onnx.shape_inference.infer_node_outputs(
        schema, node, given, opset_imports=[helper.make_opsetid("", OPSET)]
    )
    return _dims(found.get("y"))


def like(
    op: str, positions: Sequence[int], element: int | None = None, attributes: str = ""
) -> InferenceRule:
    """A rule: sizes as of an op of ONNX with the inputs at these positions.

    Args:
        op: The op of ONNX.
        positions: Its inputs among those of the node.
        element: Position of the input that has the element type of the result; None is the first of them.
        attributes: The attributes that matter.
    """
    source = positions[0] if element is None else element

    def rule(context: InferenceContext) -> None:
        kinds = [_input(context, position) for position in positions]
        _set(context, 0, _element(context, source), _standard(context, op, kinds, attributes.split()))

    return rule


def _same(context: InferenceContext) -> None:
    """Every output that is a tensor of the first input's size: the result, and what a sum before it was."""
    element, dims = _element(context, 0), _dims(_input(context, 0))
    _set(context, 0, element, dims)
    _set(context, 3, element, dims)


def _fused_matmul(context: InferenceContext) -> None:
    """As a matrix product of what is turned."""
    kinds = []
    for index, side in enumerate("AB"):
        kind = _input(context, index)
        dims = _dims(kind)
        if dims is not None and len(dims) > 1:
            if _integer(context, f"transBatch{side}"):
                dims = [*dims[1:-1], dims[0], dims[-1]]
            if _integer(context, f"trans{side}"):
                dims[-2:] = [dims[-1], dims[-2]]
        kinds.append(kind if dims is None else _typed(TensorProto.FLOAT, dims))
    _set(context, 0, _element(context, 0), _standard(context, "MatMul", kinds, ()))


def _floats_of_product(context: InferenceContext) -> None:
    """A product of integers, or of floats with integers, given as floats like its scale."""
    kinds = [_input(context, index) for index in (0, 1)]
    _set(context, 0, _element(context, 2), _standard(context, "MatMul", kinds, ()))


def _quantised_gemm(context: InferenceContext) -> None:
    kinds = [_input(context, index) for index in (0, 3)]
    dims = _standard(context, "Gemm", kinds, ("transA", "transB"))
    _set(context, 0, _element(context, 8, TensorProto.FLOAT), dims)


def _channels_moved(op: str, attributes: str, *, always: bool = False) -> InferenceRule:
    """A pooling whose channels may be the last axis."""

    def rule(context: InferenceContext) -> None:
        dims = _dims(_input(context, 0))
        last = always or _integer(context, "channels_last")
        if dims is not None and last:
            dims = [dims[0], dims[-1], *dims[1:-1]]
        kinds = [None if dims is None else _typed(TensorProto.FLOAT, dims)]
        made = _standard(context, op, kinds, attributes.split())
        if made is not None and last:
            made = [made[0], *made[2:], made[1]]
        _set(context, 0, _element(context, 0), made)

    return rule


def _quantised_concat(context: InferenceContext) -> None:
    kinds = [_input(context, index) for index in range(2, context.get_num_inputs(), 3)]
    _set(context, 0, _element(context, 1), _standard(context, "Concat", kinds, ("axis",)))


def _quantize(context: InferenceContext) -> None:
    _set(context, 0, _element(context, 2, TensorProto.UINT8), _dims(_input(context, 0)))


def _dequantize(context: InferenceContext) -> None:
    _set(context, 0, _element(context, 1), _dims(_input(context, 0)))


# --- transformers ------------------------------------------------------------------------------------


def _attention(context: InferenceContext) -> None:
    """[batch, time, channels] -> [batch, time, channels of the values]."""
    dims, weight = _dims(_input(context, 0)), _dims(_input(context, 1))
    if dims is None or weight is None:
        return
    sizes = _integers(context, "qkv_hidden_sizes")
    width = sizes[2] if sizes else weight[-1].dim_value // 3 if weight[-1].dim_value else None
    _set(context, 0, _element(context, 0), [*dims[:-1], _size(width)])


def _multi_head_attention(context: InferenceContext) -> None:
    dims, value = _dims(_input(context, 0)), _dims(_input(context, 2))
    if dims is None or len(dims) != 3 or value is None or len(value) not in {3, 4}:
        return
    width = value[-1]
    if len(value) == 4:
        width = _size(value[1].dim_value * value[3].dim_value or None)
    element = _element(context, 0)
    _set(context, 0, element, [*dims[:-1], width])
    for index in (1, 2):
        _set(
            context,
            index,
            element,
            [dims[0], _size(_integer(context, "num_heads")), _size(None), _size(None)],
        )


def _embedding(context: InferenceContext) -> None:
    ids, words = _dims(_input(context, 0)), _dims(_input(context, 2))
    if ids is None or words is None:
        return
    for index in (0, 2):
        _set(context, index, _element(context, 2), [*ids, words[-1]])
    _set(context, 1, TensorProto.INT32, ids[:1])


# --- ai.onnx.ml --------------------------------------------------------------------------------------


def _floats(context: InferenceContext) -> None:
    _set(context, 0, TensorProto.FLOAT, _dims(_input(context, 0)))


def _of_each(columns: Callable[[InferenceContext], int | None], *, classes: bool) -> InferenceRule:
    """A row for each sample: scores, behind its label for a classifier."""

    def rule(context: InferenceContext) -> None:
        dims = _dims(_input(context, 0))
        samples = dims[0] if dims is not None and len(dims) > 1 else _size(1 if dims else None)
        if classes:
            _set(context, 0, TensorProto.INT64, [samples])
        element: int = TensorProto.FLOAT
        if not classes and context.get_attribute("nodes_splits") is not None:
            element = _element(context, 0, element)
        _set(context, int(classes), element, [samples, _size(columns(context))])

    return rule


def _classes(context: InferenceContext) -> int | None:
    for name in ("classlabels_int64s", "classlabels_ints"):
        labels = _integers(context, name)
        if labels:
            return len(labels)
    return None


def _label_encoder(context: InferenceContext) -> None:
    kinds = {
        "values_int64s": TensorProto.INT64,
        "values_floats": TensorProto.FLOAT,
    }
    tensor: AttributeProto | None = context.get_attribute("values_tensor")
    found = [kind for name, kind in kinds.items() if context.get_attribute(name) is not None]
    element = tensor.t.data_type if tensor is not None else found[0] if found else 0
    if element:
        _set(context, 0, element, _dims(_input(context, 0)))


def _one_hot(context: InferenceContext) -> None:
    dims = _dims(_input(context, 0))
    if dims is not None:
        dims = [*dims, _size(len(_integers(context, "cats_int64s")) or None)]
    _set(context, 0, TensorProto.FLOAT, dims)


def _feature_vectorizer(context: InferenceContext) -> None:
    dims = _dims(_input(context, 0))
    widths = _integers(context, "inputdimensions")
    _set(context, 0, TensorProto.FLOAT, [dims[0], _size(sum(widths) or None)] if dims else None)


def _extractor(context: InferenceContext) -> None:
    """The columns that are asked for; of a vector, they are one row."""
    dims, index = _dims(_input(context, 0)), _dims(_input(context, 1))
    if dims is None or index is None:
        _set(context, 0, _element(context, 0), None)
        return
    sizes = [dim.dim_value for dim in index]
    count = _size(None if 0 in sizes else math.prod(sizes))
    _set(context, 0, _element(context, 0), [*dims[:-1], count] if len(dims) > 1 else [_size(1), count])


_MICROSOFT: dict[str, InferenceRule] = {
    "Attention": _attention,
    "BiasGelu": like("Add", (0, 1)),
    "DequantizeLinear": _dequantize,
    "DynamicQuantizeMatMul": _floats_of_product,
    "EmbedLayerNormalization": _embedding,
    "FastGelu": _same,
    "FusedConv": like("Conv", (0, 1), None, "auto_pad dilations group kernel_shape pads strides"),
    "FusedGemm": like("Gemm", (0, 1), None, "transA transB"),
    "FusedMatMul": _fused_matmul,
    "Gelu": _same,
    "LayerNormalization": _same,
    "MatMulIntegerToFloat": _floats_of_product,
    "MultiHeadAttention": _multi_head_attention,
    "NhwcMaxPool": _channels_moved(
        "MaxPool", "auto_pad ceil_mode dilations kernel_shape pads strides", always=True
    ),
    "QGemm": _quantised_gemm,
    "QLinearAdd": like("Add", (0, 3)),
    "QLinearAveragePool": _channels_moved(
        "AveragePool", "auto_pad ceil_mode count_include_pad kernel_shape pads strides"
    ),
    "QLinearConcat": _quantised_concat,
    "QLinearGlobalAveragePool": _channels_moved("GlobalAveragePool", ""),
    "QLinearLeakyRelu": _same,
    "QLinearMul": like("Mul", (0, 3)),
    "QLinearSigmoid": _same,
    "QLinearSoftmax": _same,
    "QLinearWhere": like("Sum", (0, 1, 4), 1),
    "QuantizeLinear": _quantize,
    "QuickGelu": _same,
    "SimplifiedLayerNormalization": _same,
    "SkipLayerNormalization": _same,
    "SkipSimplifiedLayerNormalization": _same,
    "TransposeMatMul": _fused_matmul,
}
_LEARNING: dict[str, InferenceRule] = {
    "ArrayFeatureExtractor": _extractor,
    "Binarizer": _same,
    "FeatureVectorizer": _feature_vectorizer,
    "Imputer": _same,
    "LabelEncoder": _label_encoder,
    "LinearClassifier": _of_each(_classes, classes=True),
    "LinearRegressor": _of_each(lambda c: _integer(c, "targets", 1), classes=False),
    "Normalizer": _floats,
    "OneHotEncoder": _one_hot,
    "SVMClassifier": _of_each(lambda _: None, classes=True),
    "SVMRegressor": _of_each(lambda _: 1, classes=False),
    "Scaler": _floats,
    "TreeEnsemble": _of_each(lambda c: _integer(c, "n_targets", 1), classes=False),
    "TreeEnsembleClassifier": _of_each(_classes, classes=True),
    "TreeEnsembleRegressor": _of_each(lambda c: _integer(c, "n_targets", 1), classes=False),
}
RULES: dict[str, InferenceRule] = {
    **{f"com.microsoft.{op}": rule for op, rule in _MICROSOFT.items()},
    **{f"ai.onnx.ml.{op}": rule for op, rule in _LEARNING.items()},
}
"""By `domain.Name`."""
