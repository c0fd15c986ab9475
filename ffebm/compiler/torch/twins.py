"""Torch's ops by their ONNX names, where ONNX has the same op; the others stay torch's.

A twin is a function from a call to the ONNX op, or None if this call has none (other element types, options
that ONNX lacks). Two attributes go beyond ONNX: `transB` of a MatMul, whose weight is stored [out, in], and
`unbiased` of a BatchNormalization, whose running variance is torch's.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import onnx

from ffebm.compiler.torch.call import Form, TorchCall, defaults
from ffebm.compiler.torch.modes import DECOMPOSED_NORMS, TRAIN
from ffebm.graph.graph import Attr, Graph, Node
from ffebm.graph.tensor import Dim, TensorType


def take_onnx_names(graph: Graph) -> dict[str, str]:
    """Rewrite every node that has an ONNX twin; nodes that change nothing are left out.

    Returns:
        What stands for the values of the nodes that were left out.
    """
    nodes: list[Node] = []
    renamed: dict[str, str] = {}
    for node in graph.nodes:
        _rename(node, renamed)
        call = TorchCall(graph, node, nodes)
        form = _form(call)
        if form is None:
            nodes.append(node)
        elif form[0] == "Identity":
            renamed[node.outputs[0]] = form[1][0]
        else:
            node.op, node.inputs, node.attrs = form
            node.outputs = node.outputs[:1]
            nodes.append(node)
    graph.nodes = nodes
    graph.outputs = list(dict.fromkeys(renamed.get(value, value) for value in graph.outputs))
    return renamed


def _rename(node: Node, renamed: dict[str, str]) -> None:
    node.inputs = [renamed.get(value, value) for value in node.inputs]
    for attr in node.attrs.values():
        if isinstance(attr, Graph):
            attr.outputs = [renamed.get(value, value) for value in attr.outputs]
            for inner in attr.nodes:
                _rename(inner, renamed)


Twin = Callable[[TorchCall], Form | None]


def _form(call: TorchCall) -> Form | None:
    twin = TWINS.get(call.node.op)
    moded = [key for key in call.node.attrs if key.startswith(TRAIN)]
    if twin is None or (moded and call.node.op not in _WITH_MODES):
        return None
    return twin(call)


# --- linear maps -------------------------------------------------------------------------------------


def _linear(call: TorchCall) -> Form | None:
    x, weight, bias = (call.tensor(name) for name in ("input", "weight", "bias"))
    gemm: Form = "Gemm", [x, weight, *([bias] if bias else [])], {"transB": 1}
    if len(call.shape(x)) == 2:
        return gemm
    if any(isinstance(size, str) for size in call.shape(x)[1:]):
        return _linear_of_rows(call, gemm)
    if not bias:
        return "MatMul", [x, weight], {"transB": 1}
    return "Add", [call.step("product", ("MatMul", [x, weight], {"transB": 1}), call.out), bias], {}


def _linear_of_rows(call: TorchCall, gemm: Form) -> Form:
    """Where another size than the first is open: all axes but the last become one, the batch of a Gemm."""
    op, (x, *weights), attrs = gemm
    *axes, n_in = call.shape(x)
    n_out = (call.out.shape or (0,))[-1]
    shape = call.constant("rows_shape", np.asarray([-1, n_in], np.int64))
    rows = TensorType(call.out.dtype, (_product(axes), n_in))
    flat = call.step("rows", ("Reshape", [x, shape], {}), rows)
    made = TensorType(call.out.dtype, (_product(axes), n_out))
    product = call.step("product", (op, [flat, *weights], attrs), made)
    sizes = [size if isinstance(size, int) else -1 for size in (*axes, n_out)]
    return "Reshape", [product, call.constant("shape", np.asarray(sizes, np.int64))], {}


def _product(sizes: Sequence[Dim]) -> Dim:
    """A product with at most one open size, written `8*batch`."""
    known = math.prod(size for size in sizes if isinstance(size, int))
    for size in sizes:
        if isinstance(size, str):
            factor, _, rest = size.partition("*")
            known, name = (known * int(factor), rest) if factor.isdecimal() else (known, size)
            return name if known == 1 else f"{known}*{name}"
    return known


def _matmul(left: str, right: str) -> Twin:
    return lambda call: ("MatMul", [call.tensor(left), call.tensor(right)], {})


def _addmm(call: TorchCall) -> Form | None:
    factors: dict[str, Attr] = {k: float(call.get(k)) for k in ("alpha", "beta") if call.get(k) != 1}
    return "Gemm", [call.tensor(name) for name in ("mat1", "mat2", "self")], factors


def _convolution(call: TorchCall) -> Form | None:
    x, weight, bias = (call.tensor(name) for name in ("input", "weight", "bias"))
    axes = len(call.shape(weight)) - 2
    transposed = "transpose" in call.node.op or bool(call.get("transposed"))
    pads = _pads(call, weight, axes)
    if len(call.shape(x)) != axes + 2 or pads is None:
        return None
    attrs: dict[str, Attr] = {
        "strides": call.ints("stride", axes),
        "pads": pads,
        "dilations": call.ints("dilation", axes),
        "group": call.get("groups"),
    }
    if transposed:
        attrs["output_padding"] = call.ints("output_padding", axes)
    return "ConvTranspose" if transposed else "Conv", [x, weight, *([bias] if bias else [])], attrs


def _pads(call: TorchCall, weight: str, axes: int) -> tuple[int, ...] | None:
    padding = call.get("padding")
    if padding == "valid":
        return (0,) * (2 * axes)
    if not isinstance(padding, str):
        return call.ints("padding", axes) * 2
    spans = zip(call.shape(weight)[2:], call.ints("dilation", axes), strict=True)
    total = [(int(size) - 1) * step for size, step in spans]
    return (*(n // 2 for n in total), *(n - n // 2 for n in total))


# --- normalisation -----------------------------------------------------------------------------------


def _batch_norm(call: TorchCall) -> Form | None:
    x, mean, var = (call.tensor(name) for name in ("input", "running_mean", "running_var"))
    fixed = call.node.op in _WHOLE_NORMS  # which mode it was recorded in, the op's name tells
    held = mean in call.graph.constants and var in call.graph.constants
    if not held or not (fixed or call.follows_mode("training")):
        return None
    shape = call.graph.constants[mean].shape
    scale = call.tensor("weight") or call.constant("scale", np.ones(shape, call.out.dtype))
    bias = call.tensor("bias") or call.constant("bias", np.zeros(shape, call.out.dtype))
    attrs: dict[str, Attr] = {"epsilon": call.get("eps"), "momentum": 1 - call.get("momentum"), "unbiased": 1}
    return "BatchNormalization", [x, scale, bias, mean, var], attrs


def _layer_norm(call: TorchCall) -> Form | None:
    axes = call.ints("normalized_shape")
    weight = call.tensor("weight") or call.constant("scale", np.ones(axes, call.out.dtype))
    bias = call.tensor("bias")
    attrs: dict[str, Attr] = {"axis": -len(axes), "epsilon": call.get("eps")}
    return "LayerNormalization", [call.tensor("input"), weight, *([bias] if bias else [])], attrs


def _group_norm(call: TorchCall) -> Form | None:
    x = call.tensor("input")
    channels = call.shape(x)[1]
    if not isinstance(channels, int):
        return None
    scale = call.tensor("weight") or call.constant("scale", np.ones(channels, call.out.dtype))
    bias = call.tensor("bias") or call.constant("bias", np.zeros(channels, call.out.dtype))
    attrs: dict[str, Attr] = {"num_groups": call.get("num_groups"), "epsilon": call.get("eps")}
    return "GroupNormalization", [x, scale, bias], attrs


# --- activations -------------------------------------------------------------------------------------


def _unary(op: str, *attrs: tuple[str, str]) -> Twin:
    """An op of one value; attributes are pairs of ONNX's name and torch's."""

    def form(call: TorchCall) -> Form | None:
        x = call.tensor("self")
        given: dict[str, Attr] = {ours: call.get(theirs) for ours, theirs in attrs}
        return (op, [x], given) if call.same_type(x) else None  # else it promotes, or takes a complex number

    return form


def _if_default(twin: Twin, *names: str) -> Twin:
    """A twin only if arguments are at their default."""

    def form(call: TorchCall) -> Form | None:
        known = defaults(call.node.op)
        return twin(call) if all(call.get(name) == known.get(name) for name in names) else None

    return form


def _clip(low: str, high: str) -> Twin:
    def form(call: TorchCall) -> Form | None:
        bounds = [call.get(name) if name else None for name in (low, high)]
        if any(isinstance(bound, str) for bound in bounds) or not call.same_type(call.tensor("self")):
            return None
        names = [
            "" if bound is None else call.constant(key, np.asarray(bound, call.out.dtype))
            for key, bound in zip(("low", "high"), bounds, strict=True)
        ]
        return "Clip", [call.tensor("self"), *names], {}

    return form


def _relu6(call: TorchCall) -> Form | None:
    bounds = [call.constant(key, np.asarray(n, call.out.dtype)) for key, n in (("low", 0), ("high", 6))]
    return "Clip", [call.tensor("self"), *bounds], {}


def _hard_sigmoid(call: TorchCall) -> Form | None:
    return "HardSigmoid", [call.tensor("self")], {"alpha": 1 / 6, "beta": 0.5}


def _softmax(op: str) -> Twin:
    return lambda call: (op, [call.tensor("self")], {"axis": call.get("dim")})


def _prelu(call: TorchCall) -> Form | None:
    return "PRelu", [call.tensor("self"), call.tensor("weight")], {}


# --- pooling -----------------------------------------------------------------------------------------


def _pool(op: str, axes: int) -> Twin:
    def form(call: TorchCall) -> Form | None:
        x = call.tensor("self")
        if len(call.shape(x)) != axes + 2 or call.get("divisor_override") is not None:
            return None
        attrs: dict[str, Attr] = {
            "kernel_shape": call.ints("kernel_size", axes),
            "strides": (call.ints("stride", axes) if call.get("stride") else ())
            or call.ints("kernel_size", axes),
            "pads": call.ints("padding", axes) * 2,
            "ceil_mode": int(call.get("ceil_mode")),
        }
        if op == "MaxPool":
            attrs["dilations"] = call.ints("dilation", axes)
        else:
            attrs["count_include_pad"] = int(call.get("count_include_pad"))
        return op, [x], attrs

    return form


def _adaptive(axes: int) -> Twin:
    def form(call: TorchCall) -> Form | None:
        x = call.tensor("self")
        made = call.ints("output_size", axes)
        sizes = call.shape(x)[2:]
        if len(call.shape(x)) != axes + 2 or not all(isinstance(size, int) for size in sizes):
            return None
        if all(size == 1 for size in made):
            return "GlobalAveragePool", [x], {}
        pairs = [(int(size), want) for size, want in zip(sizes, made, strict=True)]
        if any(size % want for size, want in pairs):
            return None
        kernel = tuple(size // want for size, want in pairs)
        return "AveragePool", [x], {"kernel_shape": kernel, "strides": kernel}

    return form


# --- arithmetic --------------------------------------------------------------------------------------


def _arithmetic(op: str) -> Twin:
    def form(call: TorchCall) -> Form | None:
        given = [call.tensor(name) for name in ("self", "other")]
        if call.get("alpha") not in {None, 1} or not call.same_type(*(value for value in given if value)):
            return None
        if op == "Div" and not call.out.dtype.startswith("float"):
            return None
        return op, [call.operand("self"), call.operand("other")], {}

    return form


def _cast(call: TorchCall) -> Form | None:
    value, dtype = call.tensor("self"), call.get("dtype")
    if dtype is None or call.same_type(value):
        return "Identity", [value], {}
    try:
        number = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(str(dtype)))
    except (TypeError, ValueError):
        return None
    return "Cast", [value], {"to": int(number)}


def _detach(call: TorchCall) -> Form | None:
    value = call.tensor("self")
    plain = value in call.graph.constants and value not in call.graph.trainable
    return ("Identity", [value], {}) if plain or not call.out.dtype.startswith("float") else None


# --- layout ------------------------------------------------------------------------------------------


def _reshape(call: TorchCall) -> Form | None:
    x = call.tensor("self")
    before, after = call.shape(x), call.shape(call.node.outputs[0])
    sizes: list[int] = []
    for axis, size in enumerate(after):
        kept = axis < len(before) and before[axis] == size
        sizes.append(size if isinstance(size, int) else 0 if kept else -1)
    zeros = 0 in after or sizes.count(-1) > 1
    if zeros:  # several open sizes, or none: torch works them out as it runs
        sizes_name = "size" if "size" in call.node.attrs else "shape"
        if sizes_name in call.node.attrs:
            call.node.op = "aten.reshape.default"
            call.node.attrs["shape"] = call.node.attrs.pop(sizes_name)
        return None
    if call.node.op == "aten.flatten.using_ints" and len(after) == 2 and call.get("start_dim") == 1:
        return "Flatten", [x], {"axis": 1}
    return "Reshape", [x, call.constant("shape", np.asarray(sizes, np.int64))], {}


def _axes(op: str) -> Twin:
    def form(call: TorchCall) -> Form | None:
        value = call.constant("axes", np.asarray(call.ints("dim"), np.int64))
        return op, [call.tensor("self"), value], {}

    return form


def _squeeze(call: TorchCall) -> Form | None:
    """Only where all axes are of size one, as ONNX demands."""
    x = call.tensor("self")
    shape = call.shape(x)
    fits = all(shape[axis] == 1 for axis in call.ints("dim"))
    return _axes("Squeeze")(call) if fits else None


def _permute(call: TorchCall) -> Form | None:
    x = call.tensor("self")
    rank = len(call.shape(x))
    return "Transpose", [x], {"perm": tuple(axis % rank for axis in call.ints("dims"))}


def _transpose(call: TorchCall) -> Form | None:
    x = call.tensor("self")
    order = list(range(len(call.shape(x))))
    if len(order) < 2:
        return "Identity", [x], {}
    plain = call.node.op == "aten.t.default"
    first, second = (0, 1) if plain else (call.get("dim0"), call.get("dim1"))
    order[first], order[second] = order[second], order[first]
    return "Transpose", [x], {"perm": tuple(order)}


def _concat(call: TorchCall) -> Form | None:
    values = call.tensors("tensors")
    ranks = {len(call.shape(value)) for value in values}
    if len(ranks) != 1 or not call.same_type(*values):
        return None
    return "Concat", values, {"axis": call.get("dim")}


def _identity(call: TorchCall) -> Form | None:
    return "Identity", [call.tensor("self") or call.tensor("input")], {}


def _dropout(call: TorchCall) -> Form | None:
    if call.follows_mode("train"):
        ratio = call.constant("ratio", np.asarray(call.get("p"), np.float32))
        return "Dropout", [call.tensor("input"), ratio], {}
    return None if call.get("train") else _identity(call)


def _embedding(call: TorchCall) -> Form | None:
    """Without a padding index, whose row has no gradient."""
    plain = call.get("padding_idx") == -1 and not call.get("scale_grad_by_freq") and not call.get("sparse")
    return ("Gather", [call.tensor("weight"), call.tensor("indices")], {"axis": 0}) if plain else None


_WITH_MODES = {"aten.batch_norm.default", "aten.dropout.default"}
_UNARY: Sequence[tuple[str, str]] = (
    ("abs", "Abs"), ("cos", "Cos"), ("erf", "Erf"), ("exp", "Exp"), ("hardswish", "HardSwish"),
    ("log", "Log"), ("mish", "Mish"), ("neg", "Neg"), ("reciprocal", "Reciprocal"), ("relu", "Relu"),
    ("selu", "Selu"), ("sigmoid", "Sigmoid"), ("silu", "Swish"), ("sin", "Sin"), ("sqrt", "Sqrt"),
    ("tanh", "Tanh"),
)  # fmt: skip
_WHOLE_NORMS = tuple(f"aten.{name}.default" for name in DECOMPOSED_NORMS)
TWINS: dict[str, Twin] = {
    **{f"aten.{name}.default": _unary(op) for name, op in _UNARY},
    **{f"aten.conv{n}d.{form}": _convolution for n in (1, 2, 3) for form in ("default", "padding")},
    **{f"aten.max_pool{n}d.default": _pool("MaxPool", n) for n in (1, 2, 3)},
    **{f"aten.avg_pool{n}d.default": _pool("AveragePool", n) for n in (1, 2, 3)},
    **{f"aten.adaptive_avg_pool{n}d.default": _adaptive(n) for n in (1, 2, 3)},
    **{
        f"aten.{name}.{form}": _arithmetic(op)
        for name, op in (("add", "Add"), ("sub", "Sub"), ("mul", "Mul"), ("div", "Div"))
        for form in ("Tensor", "Scalar")
    },
    "aten.maximum.default": _arithmetic("Max"),
    "aten.minimum.default": _arithmetic("Min"),
    **{f"aten.{name}.default": _reshape for name in ("reshape", "view", "_unsafe_view")},
    **{
        f"aten.{name}.default": _identity
        for name in ("alias", "clone", "contiguous", "lift_fresh", "lift_fresh_copy")
    },
    **{f"aten.{name}": _cast for name in ("to.dtype", "to.dtype_layout", "to.device", "_to_copy.default")},
    **dict.fromkeys(_WHOLE_NORMS, _batch_norm),
    "aten.addmm.default": _addmm,
    "aten.batch_norm.default": _batch_norm,
    "aten.bmm.default": _matmul("self", "mat2"),
    "aten.cat.default": _concat,
    "aten.celu.default": _unary("Celu", ("alpha", "alpha")),
    "aten.clamp.default": _clip("min", "max"),
    "aten.clamp_max.default": _clip("", "max"),
    "aten.clamp_min.default": _clip("min", ""),
    "aten.conv_transpose1d.default": _convolution,
    "aten.conv_transpose2d.input": _convolution,
    "aten.conv_transpose3d.input": _convolution,
    "aten.convolution.default": _convolution,
    "aten.detach.default": _detach,
    "aten.dropout.default": _dropout,
    "aten.elu.default": _if_default(_unary("Elu", ("alpha", "alpha")), "scale", "input_scale"),
    "aten.embedding.default": _embedding,
    "aten.flatten.using_ints": _reshape,
    "aten.gelu.default": _unary("Gelu", ("approximate", "approximate")),
    "aten.group_norm.default": _group_norm,
    "aten.hardsigmoid.default": _hard_sigmoid,
    "aten.hardtanh.default": _clip("min_val", "max_val"),
    "aten.layer_norm.default": _layer_norm,
    "aten.leaky_relu.default": _unary("LeakyRelu", ("alpha", "negative_slope")),
    "aten.linear.default": _linear,
    "aten.log_softmax.int": _if_default(_softmax("LogSoftmax"), "dtype"),
    "aten.matmul.default": _matmul("self", "other"),
    "aten.mm.default": _matmul("self", "mat2"),
    "aten.permute.default": _permute,
    "aten.prelu.default": _prelu,
    "aten.relu6.default": _relu6,
    "aten.softmax.int": _if_default(_softmax("Softmax"), "dtype"),
    "aten.softplus.default": _if_default(_unary("Softplus"), "beta", "threshold"),
    "aten.squeeze.dim": _squeeze,
    "aten.squeeze.dims": _squeeze,
    "aten.t.default": _transpose,
    "aten.transpose.int": _transpose,
    "aten.unsqueeze.default": _axes("Unsqueeze"),
}
"""The twin of each torch op, by its name with namespace and overload."""
