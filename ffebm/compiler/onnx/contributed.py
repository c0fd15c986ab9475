"""Ops of onnxruntime's own domain, com.microsoft: their inputs, outputs and attributes, as it declares them.

onnx knows nothing of that domain. During version conversion and shape inference its nodes, and those of
ai.onnx.ml, stand in domains of ours, where onnx finds how to infer their types; nobody else's domain changes.
"""

from contextlib import suppress
from functools import cache

import onnx
from onnx import ModelProto
from onnx.defs import OpSchema
from onnx.shape_inference import InferenceContext

from ffebm.compiler.onnx.inference import RULES, InferenceRule
from ffebm.compiler.onnx.structure import INSIDE, all_nodes

MICROSOFT, LEARNING = "com.microsoft", "ai.onnx.ml"
UNLISTED = frozenset({"LayerNormalization", "SimplifiedLayerNormalization"})
"""Ops that onnxruntime writes in ONNX's domain, where opset 1 of onnx does not have them."""

_POOL = "kernel_shape:ints! auto_pad:string ceil_mode:int pads:ints strides:ints"
_CONV = "auto_pad:string dilations:ints group:int kernel_shape:ints pads:ints strides:ints"
_PAIR = "A A_scale A_zero_point? B B_scale B_zero_point? C_scale C_zero_point? -> C"
_FUNCTION = "X X_scale X_zero_point? Y_scale Y_zero_point? -> Y"
_NORM = "-> output mean? inv_std_var? input_skip_bias_sum?"
_TURNS = "alpha:float transA:int transB:int"

SIGNATURES: dict[str, tuple[str, str]] = {
    "Attention": (
        "input weights bias? mask_index? past? attention_bias? past_sequence_length? -> output present?",
        "num_heads:int! do_rotary:int mask_filter_value:float past_present_share_buffer:int"
        " qkv_hidden_sizes:ints rotary_embedding_dim:int scale:float unidirectional:int",
    ),
    "BiasGelu": ("A B -> C", ""),
    "DequantizeLinear": ("x x_scale x_zero_point? -> y", "axis:int"),
    "DynamicQuantizeMatMul": ("A B b_scale b_zero_point? bias? -> Y", ""),
    "EmbedLayerNormalization": (
        "input_ids segment_ids? word_embedding position_embedding segment_embedding? gamma beta mask?"
        " position_ids? -> output mask_index? embedding_sum?",
        "epsilon:float mask_index_type:int",
    ),
    "FastGelu": ("X bias? -> Y", ""),
    "FusedConv": ("X W B? Z? -> Y", f"{_CONV} activation:string activation_params:floats"),
    "FusedGemm": (
        "A B C? -> Y",
        f"{_TURNS} beta:float activation:string activation_alpha:float activation_beta:float"
        " activation_gamma:float",
    ),
    "FusedMatMul": ("A B -> Y", f"{_TURNS} transBatchA:int transBatchB:int"),
    "Gelu": ("X -> Y", ""),
    "LayerNormalization": ("X Scale B? -> Y Mean? InvStdDev?", "axis:int epsilon:float stash_type:int"),
    "MatMulIntegerToFloat": ("A B a_scale b_scale a_zero_point? b_zero_point? bias? -> Y", ""),
    "MultiHeadAttention": (
        "query key? value? bias? key_padding_mask? attention_bias? past_key? past_value?"
        " past_sequence_length? cache_indirection? -> output present_key? present_value? qk?",
        "num_heads:int! mask_filter_value:float scale:float unidirectional:int",
    ),
    "NhwcMaxPool": ("x -> y", f"{_POOL} dilations:ints"),
    "QGemm": (
        "A a_scale a_zero_point B b_scale b_zero_point C? y_scale? y_zero_point? -> Y",
        _TURNS,
    ),
    "QLinearAdd": (_PAIR, ""),
    "QLinearAveragePool": (_FUNCTION, f"{_POOL} channels_last:int count_include_pad:int"),
    "QLinearConcat": ("Y_scale Y_zero_point inputs* -> Y", "axis:int!"),
    "QLinearGlobalAveragePool": ("X x_scale x_zero_point y_scale y_zero_point -> Y", "channels_last:int"),
    "QLinearLeakyRelu": (_FUNCTION, "alpha:float"),
    "QLinearMul": (_PAIR, ""),
    "QLinearSigmoid": (_FUNCTION, ""),
    "QLinearSoftmax": ("X X_scale x_zero_point? y_scale y_zero_point -> Y", "axis:int opset:int!"),
    "QLinearWhere": (
        "condition X x_scale x_zero_point Y y_scale y_zero_point z_scale z_zero_point -> Z",
        "",
    ),
    "QuantizeLinear": ("x y_scale y_zero_point? -> y", "axis:int"),
    "QuickGelu": ("X -> Y", "alpha:float"),
    "SimplifiedLayerNormalization": ("X scale -> Y inv_std_var?", "axis:int epsilon:float stash_type:int"),
    "SkipLayerNormalization": (f"input skip gamma beta? bias? {_NORM}", "epsilon:float"),
    "SkipSimplifiedLayerNormalization": (f"input skip gamma bias? {_NORM}", "epsilon:float"),
    "TransposeMatMul": ("A B -> Y", _TURNS),
}
"""By op: its inputs and outputs (`?`: may be left out, `*`: any number), and its attributes (`!`: needed)."""


def inside(domain: str) -> str:
    """The domain in which onnx meets a domain's nodes."""
    return INSIDE + domain if domain in {MICROSOFT, LEARNING} else domain


def adopted(model: ModelProto) -> ModelProto:
    """The model with ops that onnxruntime writes in ONNX's domain, though onnx has none there, in its own."""
    opset = next((o.version for o in model.opset_import if o.domain in {"", "ai.onnx"}), 0)
    names = UNLISTED if opset < 17 else UNLISTED - {"LayerNormalization"}
    if all(node.op_type not in names for node, _ in all_nodes(model.graph)):
        return model
    copy = ModelProto()
    copy.CopyFrom(model)
    for node, _ in all_nodes(copy.graph):
        if node.domain in {"", "ai.onnx"} and node.op_type in names:
            node.domain = MICROSOFT
    if all(o.domain != MICROSOFT for o in copy.opset_import):
        copy.opset_import.add(domain=MICROSOFT, version=1)
    return copy


def move_inside(model: ModelProto) -> None:
    """Put the nodes of both domains where onnx knows how to infer their types."""
    if all(o.domain not in {MICROSOFT, LEARNING} for o in model.opset_import):
        return
    register()
    for node, _ in all_nodes(model.graph):
        node.domain = inside(node.domain)
    for entry in model.opset_import:
        if entry.domain in {MICROSOFT, LEARNING}:
            entry.domain, entry.version = inside(entry.domain), 1


@cache
def register() -> None:
    """Tell onnx of our two domains."""
    import onnx.reference.op_run  # it can be loaded only while no two domains have an op of one name

    for op, (signature, attributes) in SIGNATURES.items():
        _register(op, MICROSOFT, *_ports(signature), _attributes(attributes))
    for schema in onnx.defs.get_all_schemas():
        if schema.domain == LEARNING:
            anything = [_port(f"{name}*") for name in ("inputs", "outputs")]
            _register(schema.name, LEARNING, [anything[0]], [anything[1]], [])


def schema_of(op: str) -> OpSchema | None:
    """The description of one of onnxruntime's own ops."""
    register()
    return onnx.defs.get_schema(op, 1, inside(MICROSOFT)) if op in SIGNATURES else None


def _register(
    op: str,
    domain: str,
    inputs: list[OpSchema.FormalParameter],
    outputs: list[OpSchema.FormalParameter],
    attributes: list[OpSchema.Attribute],
) -> None:
    formals = [*inputs, *outputs]
    schema = OpSchema(
        op,
        inside(domain),
        1,
        inputs=inputs,
        outputs=outputs,
        attributes=attributes,
        type_constraints=[(formal.type_str, _tensor_types(), "") for formal in formals],
    )
    rule = RULES.get(f"{domain}.{op}")
    if rule is not None:
        schema.set_type_and_shape_inference_function(_guarded(rule))
    onnx.defs.register_schema(schema)


def _guarded(rule: InferenceRule) -> InferenceRule:
    """A rule that leaves open what it cannot infer, as of inputs of too few axes."""

    def guarded(context: InferenceContext) -> None:
        with suppress(IndexError, ValueError):
            rule(context)

    return guarded


@cache
def _tensor_types() -> list[str]:
    """Every type of tensor."""
    kinds = onnx.defs.get_schema("Identity").type_constraints[0].allowed_type_strs
    return [kind for kind in kinds if kind.startswith("tensor(")]


def _ports(signature: str) -> tuple[list[OpSchema.FormalParameter], list[OpSchema.FormalParameter]]:
    inputs, _, outputs = signature.partition("->")
    return [_port(name) for name in inputs.split()], [_port(name) for name in outputs.split()]


def _port(text: str) -> OpSchema.FormalParameter:
    option = OpSchema.FormalParameterOption
    kinds = {"?": option.Optional, "*": option.Variadic}
    name = text.rstrip("?*")
    kind = kinds.get(text[-1], option.Single)
    return OpSchema.FormalParameter(
        name,
        f"T{name}",
        param_option=kind,
        is_homogeneous=kind != option.Variadic,
        min_arity=0 if kind == option.Variadic else 1,
    )


def _attributes(text: str) -> list[OpSchema.Attribute]:
    kinds = OpSchema.AttrType
    types = {
        "int": kinds.INT,
        "ints": kinds.INTS,
        "float": kinds.FLOAT,
        "floats": kinds.FLOATS,
        "string": kinds.STRING,
    }
    pairs = [entry.partition(":")[::2] for entry in text.split()]
    return [
        OpSchema.Attribute(name, types[kind.rstrip("!")], required=kind.endswith("!")) for name, kind in pairs
    ]
