"""Which of torch's own ops a plan may run, and with which arguments.

A plan may come from a stranger, so what it names is data: an op runs if torch's schema says that it only
computes new tensors from tensors, numbers and a closed set of words.
"""

import os
import re
from collections.abc import Iterable, Iterator
from functools import cache, reduce
from typing import Any

from ffebm import plugins
from ffebm.plan.program import Instruction

TRAIN = "train."
"""Prefix of what an argument is while the network trains."""
TRUSTED = "FFEBM_TORCH_NAMESPACES"
"""Environment variable: more namespaces of torch ops that may run, parted by commas."""
NAMESPACES = frozenset({"aten", "torchvision"})
"""Whose ops may run: torch's own and torchvision's; both check their arguments."""

DTYPES = frozenset({
    "bfloat16", "bool", "complex128", "complex64", "float16", "float32", "float64", "float8_e4m3fn",
    "float8_e5m2", "int16", "int32", "int64", "int8", "uint16", "uint32", "uint64", "uint8",
})  # fmt: skip
"""Element types by torch's names."""
_WORDS: dict[str, frozenset[str]] = {
    "ScalarType": DTYPES,
    "MemoryFormat": frozenset({"contiguous_format", "preserve_format", "channels_last", "channels_last_3d"}),
    "Layout": frozenset({"strided"}),
    "Device": frozenset({"device"}),
}
"""What may stand for an argument of a type; a device is always the one that the network is on."""
_TEXTS = frozenset({
    "UPLO", "approximate", "driver", "equation", "indexing", "interpolation", "mode", "norm", "ord", "p",
    "pad_mode", "padding", "padding_side", "reduce", "rounding_mode", "side",
})  # fmt: skip
"""Arguments that are words: which way to compute. Any other text could name a file."""
_LONGEST_TEXT = 1000
_PLAIN = frozenset({"Tensor", "bool", "float", "int", "number"})

_INTERNAL = frozenset({
    "__and__", "__lshift__", "__or__", "__rshift__", "__xor__", "_adaptive_avg_pool2d",
    "_adaptive_avg_pool3d", "_addmm_activation", "_aminmax", "_batch_norm_no_update",
    "_batch_norm_with_update_functional", "_cast_Byte", "_cast_Char", "_cast_Double", "_cast_Float",
    "_cast_Half", "_cast_Int", "_cast_Long", "_cast_Short", "_cdist_forward", "_conj", "_conj_physical",
    "_convolution", "_convolution_mode", "_ctc_loss", "_dim_arange", "_embedding_bag",
    "_embedding_bag_forward_only", "_euclidean_dist", "_fft_c2c", "_fft_c2r", "_fft_r2c",
    "_fused_rms_norm", "_grouped_mm", "_int_mm", "_is_all_true", "_is_any_true", "_linalg_det",
    "_linalg_eigh", "_linalg_eigvals", "_linalg_slogdet", "_linalg_solve_ex", "_linalg_svd",
    "_log_softmax", "_logcumsumexp", "_lu_with_info", "_masked_scale", "_masked_softmax",
    "_native_batch_norm_legit", "_native_batch_norm_legit_functional",
    "_native_batch_norm_legit_no_training", "_native_multi_head_attention", "_neg_view",
    "_pad_circular", "_pad_enum", "_pdist_forward", "_prelu_kernel", "_reshape_copy", "_safe_softmax",
    "_sample_dirichlet", "_scaled_dot_product_attention_math",
    "_scaled_dot_product_efficient_attention", "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_flash_attention_for_cpu", "_shape_as_tensor", "_softmax", "_stack",
    "_standard_gamma", "_to_copy", "_transform_bias_rescale_qkv", "_transformer_encoder_layer_fwd",
    "_trilinear", "_unique", "_unique2", "_unsafe_index", "_unsafe_view", "_unsafe_masked_index",
    "_upsample_bicubic2d_aa", "_upsample_bilinear2d_aa", "_upsample_lanczos2d_aa",
    "_upsample_nearest_exact1d", "_upsample_nearest_exact2d", "_upsample_nearest_exact3d",
    "_weight_norm", "_weight_norm_interface",
})  # fmt: skip
"""Ops for torch's own use that exported models hold. The others trust their caller."""
_UNCHECKED = re.compile(
    r"(?<!^unfold_)backward|cudnn|fbgemm|jagged|miopen|mkldnn|nested|quantized|sparse"
    r"|^(set|resize|resize_as|resize_output|pin_memory|is_pinned|record_stream|slice_inverse)$"
)
"""Ops that trust indices, layouts or handles in their arguments, or that reach beside their tensors."""


@cache
def overload(op: str) -> Any:
    """An op of torch by its name `namespace.name.overload`; None if torch has none."""
    import torch  # it costs two seconds, which plans of ONNX models need not pay

    namespace, *path = op.split(".")
    try:
        found = reduce(getattr, path, getattr(torch.ops, namespace))
    except (AttributeError, RuntimeError):
        return None
    return found if isinstance(found, torch._ops.OpOverload) else None


def op_problem(op: str) -> str:
    """Why an op may not run; empty if it may."""
    parts = op.split(".")
    if len(parts) != 3 or not all(part.isidentifier() for part in parts):
        return f"no op is named {op!r}"
    trusted = os.environ.get(TRUSTED, "").split(",")
    if plugins.package_of(plugins.TORCH_OPS, parts[0]) is not None:
        plugins.load(plugins.TORCH_OPS, parts[0])
    elif parts[0] not in NAMESPACES and parts[0] not in trusted:
        return (
            f"op {op!r} is of another package; ops of {', '.join(sorted(NAMESPACES))}, of packages with an "
            f"entry point in {plugins.TORCH_OPS}, and of what the environment variable {TRUSTED} lists "
            "may run"
        )
    name = parts[1]
    if (name.startswith("_") and name not in _INTERNAL) or _UNCHECKED.search(name):
        return f"op {op!r} may not run: it trusts its arguments"
    found = overload(op)
    if found is None:
        return (
            f"no torch op is named {op!r}; this torch has none, or the package that registers it is missing"
        )
    why = schema_problem(found._schema)
    return f"op {op!r} may not run: {why}" if why else ""


def schema_problem(schema: Any) -> str:
    """Why an op of this schema may not run; empty if it only computes tensors from tensors and numbers."""
    if schema.is_mutable or any(a.is_out for a in schema.arguments):
        return "it writes into its arguments"
    for argument in schema.arguments:
        kind = _bare(str(argument.real_type))
        if kind == "str" and argument.name not in _TEXTS:
            return f"{argument.name} is a text, which may name a file"
        if kind not in {*_PLAIN, *_WORDS, "str", "Generator"}:
            return f"{argument.name} is a {kind}"
    returns = [_bare(str(made.real_type)) for made in schema.returns]
    if not returns or not set(returns) <= _PLAIN:
        return "it makes no tensors"
    return ""


def argument_problems(instruction: Instruction, single: Iterable[str]) -> Iterator[str]:
    """Arguments of a torch op that may not be, as text.

    Args:
        instruction: Of an op that may run.
        single: Constants that hold one number.
    """
    schema = {argument.name: argument for argument in overload(instruction.op)._schema.arguments}
    where = f"instruction {instruction.name!r} ({instruction.op})"
    if instruction.graphs:
        yield f"{where} has subgraphs"
    known, given = (
        set(single),
        {key.removeprefix(TRAIN) for key in (*instruction.attrs, *instruction.tensors)},
    )
    for key, value in instruction.attrs.items():
        argument = schema.get(key.removeprefix(TRAIN))
        if argument is None or argument.name == "pin_memory":
            yield f"{where} has no argument {key!r}"
        elif not _fits(value, str(argument.real_type), len(instruction.inputs)):
            yield f"{where} takes no {value!r} for {key}, which is {argument.real_type}"
    for key, name in instruction.tensors.items():
        argument = schema.get(key.removeprefix(TRAIN))
        if (
            argument is None
            or _bare(str(argument.real_type)) not in {"Tensor", "float", "number"}
            or name not in known
        ):
            yield f"{where} takes no {name!r} for {key}"
    for name, argument in schema.items():
        if (
            name not in given
            and not argument.has_default_value()
            and _bare(str(argument.real_type)) != "Device"
        ):
            yield f"{where} lacks {name}"


def _bare(kind: str) -> str:
    """A type without what says that it is a list or may be left out."""
    return re.sub(r"^(?:(?:Optional|List)\[)*|\]*$", "", kind)


def _fits(value: object, kind: str, n_inputs: int) -> bool:
    """Whether a value can stand for an argument of a type."""
    if kind.startswith("Optional["):
        return value == "%none" or _fits(value, kind[9:-1], n_inputs)
    if kind.startswith("List["):
        items = value if isinstance(value, tuple) else (value,) if kind != "List[Tensor]" else None
        return items is not None and all(_fits(item, kind[5:-1], n_inputs) for item in items)
    if isinstance(value, str):
        return _word_fits(value, kind, n_inputs)
    if isinstance(value, bool):
        return kind in {"Tensor", "bool", "int", "number"}
    if isinstance(value, int):
        return kind in {"Tensor", "int", "float", "number"} and -(2**63) <= value < 2**63
    return isinstance(value, float) and kind in {"Tensor", "float", "number"}


def _word_fits(value: str, kind: str, n_inputs: int) -> bool:
    if kind == "str":
        return len(value) <= _LONGEST_TEXT
    if kind in _WORDS:
        return value in _WORDS[kind]
    if re.fullmatch(r"%\d{1,6}", value, re.ASCII):
        return kind in _PLAIN and int(value[1:]) < n_inputs
    return kind == "int" and re.fullmatch(r"-?\d{1,18}", value, re.ASCII) is not None
