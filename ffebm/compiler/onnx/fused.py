"""Ops that onnxruntime's optimiser has fused, and linear ones of ai.onnx.ml, written out in ONNX's own ops.

Written out, a fused convolution is one: its weights train, and go to tiles.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ffebm.errors import ModelError
from ffebm.graph.graph import Attr, Graph, Node
from ffebm.graph.ops import Kind, Op
from ffebm.graph.tensor import Array, TensorType


@dataclass
class _Writer:
    """Writes nodes in place of one.

    Attributes:
        graph: Where they stand.
        node: The fused node.
        made: What is written so far.
    """

    graph: Graph
    node: Node
    made: list[Node] = field(default_factory=list)

    def input(self, index: int) -> str:
        """An input of the fused node; empty if it is left out."""
        return self.node.inputs[index] if index < len(self.node.inputs) else ""

    def output(self, index: int) -> str:
        """An output of the fused node; empty if it is left out."""
        return self.node.outputs[index] if index < len(self.node.outputs) else ""

    def number(self, name: str, default: float) -> float:
        """An attribute that is a number."""
        value = self.node.attrs.get(name, default)
        return float(value) if isinstance(value, int | float) else default

    def write(self, op: str, *inputs: str, to: str = "", like: str = "", **attrs: Attr) -> str:
        """Write a node.

        Args:
            op: Its op.
            inputs: Its inputs.
            to: The value that it makes; a fresh one if empty.
            like: The value whose type the fresh one has; empty is the result of the fused node.
            attrs: Its attributes.
        """
        name = f"{self.node.name}.{op.rpartition('.')[2]}" if self.made or not to else self.node.name
        value = to or self.fresh(name, self.graph.types.get(like or self.node.outputs[0]))
        taken = {node.name for node in (*self.graph.nodes, *self.made)} - {self.node.name}
        while name in taken:
            name += "_"
        self.made.append(Node(op, name, list(inputs), [value], dict(attrs), self.node.location))
        return value

    def fresh(self, name: str, known: TensorType | None) -> str:
        """A name for a value that is not in the graph."""
        taken = {*self.graph.types, *self.graph.constants, *self.graph.inputs}
        taken |= {value for node in (*self.graph.nodes, *self.made) for value in node.outputs}
        while name in taken:
            name += "_"
        if known is not None:
            self.graph.types[name] = known
        return name

    def constant(self, name: str, values: object, dtype: str = "float32") -> str:
        """A constant of the fused node."""
        array: Array = np.asarray(values, dtype)
        value = self.fresh(f"{self.node.name}.{name}", TensorType(str(array.dtype), array.shape))
        self.graph.constants[value] = array
        return value

    def refused(self, found: str, allowed: str) -> ModelError:
        """The error for a node that cannot be written out."""
        return ModelError(f"{self.node.op}: {found}", allowed=allowed, location=self.node.location)


FusedRule = Callable[[_Writer], None]


def write_out(graph: Graph) -> None:
    """Replace every fused node, those of subgraphs too."""
    nodes: list[Node] = []
    for position, node in enumerate(graph.nodes):
        for inner in node.attrs.values():
            if isinstance(inner, Graph):
                write_out(inner)
        rule = _RULES.get(node.op)
        if rule is None:
            nodes.append(node)
            continue
        writer = _Writer(graph, node)
        try:
            rule(writer)
        except (ValueError, IndexError, TypeError) as error:
            raise writer.refused(f"its attributes do not fit: {error}", "what onnxruntime runs") from None
        nodes.extend(writer.made)
        graph.nodes[position] = writer.made[-1]
        taken = {other.name for other in nodes}
        assert len(taken) == len(nodes)
    graph.nodes = nodes


# --- activations behind linear maps ------------------------------------------------------------------


def _activated(writer: _Writer, value: str, name: str, parameters: tuple[float, ...]) -> None:
    """An activation by its name, with its parameters in the order of onnxruntime."""
    keys = {"LeakyRelu": ("alpha",), "HardSigmoid": ("alpha", "beta"), "Elu": ("alpha",)}
    result = writer.node.outputs[0]
    if name == "Clip":
        low, high = (writer.constant(key, v) for key, v in zip(("low", "high"), parameters, strict=True))
        writer.write("Clip", value, low, high, to=result)
    elif name in {"", "Relu", "Sigmoid", "Tanh", "Softplus", "Softsign", *keys}:
        attrs = dict(zip(keys.get(name, ()), parameters, strict=False))
        node = writer.write(name or "Identity", value, to=result)
        assert node == result
        writer.made[-1].attrs.update(attrs)
    else:
        raise writer.refused(f"activation {name!r}", "Clip, Relu, Sigmoid, Tanh, LeakyRelu, HardSigmoid, Elu")


def _fused_conv(writer: _Writer) -> None:
    attrs = dict(writer.node.attrs)
    name, parameters = str(attrs.pop("activation", "")), attrs.pop("activation_params", ())
    inputs = [value for value in writer.node.inputs[:3]]
    value = writer.write("Conv", *inputs)
    writer.made[-1].attrs.update(attrs)
    if writer.input(3):
        value = writer.write("Add", value, writer.input(3))
    _activated(
        writer, value, name, tuple(float(v) for v in parameters) if isinstance(parameters, tuple) else ()
    )


def _fused_gemm(writer: _Writer) -> None:
    attrs = {k: v for k, v in writer.node.attrs.items() if not k.startswith("activation")}
    keys = ("activation_alpha", "activation_beta", "activation_gamma")
    given = tuple(writer.number(key, 0.0) for key in keys if key in writer.node.attrs)
    value = writer.write("Gemm", *writer.node.inputs)
    writer.made[-1].attrs.update(attrs)
    _activated(writer, value, str(writer.node.attrs.get("activation", "")), given)


def _fused_matmul(writer: _Writer) -> None:
    """Alpha * A' B', where ' may turn the last two axes, and the first behind the other ones before."""
    sides = [_turned(writer, index, side) for index, side in enumerate("AB")]
    alpha = writer.number("alpha", 1.0)
    result = writer.node.outputs[0]
    if alpha == 1.0:
        writer.write("MatMul", *sides, to=result)
        return
    dtype = writer.graph.types[result].dtype if result in writer.graph.types else "float32"
    product = writer.write("MatMul", *sides)
    writer.write("Mul", product, writer.constant("alpha", alpha, dtype), to=result)


def _turned(writer: _Writer, index: int, side: str) -> str:
    value, node = writer.node.inputs[index], writer.node
    known = writer.graph.types.get(value)
    batch, last = node.attrs.get(f"transBatch{side}"), node.attrs.get(f"trans{side}")
    if not batch and not last:
        return value
    if known is None or known.shape is None:
        raise writer.refused(f"the rank of {value!r} is unknown, and its axes turn", "known ranks")
    rank = len(known.shape)
    if rank < 2:  # a vector has no axes to turn
        return value
    order = [*range(1, rank - 1), 0, rank - 1] if batch else list(range(rank))
    if last:
        order[-2:] = [order[-1], order[-2]]
    turned = writer.write("Transpose", value, like=value, perm=tuple(order))
    writer.graph.types[turned] = TensorType(known.dtype, tuple(known.shape[axis] for axis in order))
    return turned


# --- functions and normalisations --------------------------------------------------------------------


def _gelu(approximate: str) -> FusedRule:
    """With a bias before it, if there is one."""

    def rule(writer: _Writer) -> None:
        value = writer.input(0)
        if writer.input(1):
            value = writer.write("Add", value, writer.input(1))
        writer.write("Gelu", value, to=writer.node.outputs[0], approximate=approximate)

    return rule


def _quick_gelu(writer: _Writer) -> None:
    writer.write("Swish", writer.input(0), to=writer.node.outputs[0], alpha=writer.number("alpha", 1.702))


def _skip(op: str) -> FusedRule:
    """A normalisation of a sum, which may be an output too."""

    def rule(writer: _Writer) -> None:
        scales = [2, 3] if op == "LayerNormalization" else [2]
        bias = writer.input(scales[-1] + 1)
        total = writer.output(3)
        if writer.output(1) or writer.output(2):
            raise writer.refused("mean or deviation is read", "the result and the sum, as on a CPU")
        value = writer.write("Add", writer.input(0), writer.input(1), to="" if bias else total)
        if bias:
            value = writer.write("Add", value, bias, to=total)
        weights = [writer.input(position) for position in scales]
        weights = weights if weights[-1] else weights[:-1]
        epsilon = writer.number("epsilon", 1e-12)
        writer.write(op, value, *weights, to=writer.node.outputs[0], axis=-1, epsilon=epsilon)

    return rule


def _renamed(op: str, outputs: int = 1) -> FusedRule:
    """The same as an op of ONNX, of which only the first outputs exist."""

    def rule(writer: _Writer) -> None:
        if any(writer.output(index) for index in range(outputs, len(writer.node.outputs))):
            raise writer.refused("its second output is read", "the result alone")
        writer.write(op, *writer.node.inputs, to=writer.node.outputs[0])
        writer.made[-1].attrs.update(writer.node.attrs)
        writer.made[-1].outputs[:] = writer.node.outputs[:outputs]

    return rule


# --- attention ---------------------------------------------------------------------------------------


def _attention(writer: _Writer) -> None:
    """One product for queries, keys and values, and the attention of many heads."""
    node, attrs = writer.node, dict(writer.node.attrs)
    if writer.input(4) or writer.input(6) or writer.output(1):
        raise writer.refused("keys and values of earlier runs", "attention without a cache")
    if attrs.get("do_rotary"):
        raise writer.refused("do_rotary", "attention without rotary positions")
    known = writer.graph.types.get(writer.input(1))
    if known is None or known.shape is None or not isinstance(known.shape[-1], int):
        raise writer.refused(f"the size of {writer.input(1)!r} is unknown", "weights of known size")
    width = known.shape[-1]
    given = attrs.pop("qkv_hidden_sizes", ())
    widths = tuple(int(w) for w in given) if isinstance(given, tuple) and given else (width // 3,) * 3

    rows = writer.graph.types.get(writer.input(0))
    shape = (*rows.shape[:-1], width) if rows is not None and rows.shape is not None else None
    dtype = known.dtype
    product = writer.write("MatMul", writer.input(0), writer.input(1))
    writer.graph.types[product] = TensorType(dtype, shape)
    if writer.input(2):
        product = writer.write("Add", product, writer.input(2), like=product)
    parts = []
    for name, size in zip(("query", "key", "value"), widths, strict=True):
        part = TensorType(dtype, (*shape[:-1], size) if shape else None)
        parts.append(writer.fresh(f"{node.name}.{name}", part))
    sizes = writer.constant("sizes", widths, "int64")
    writer.write("Split", product, sizes, to=parts[0], axis=-1)
    writer.made[-1].outputs[:] = parts
    inputs = [*parts, "", writer.input(3), writer.input(5)]
    writer.write("com.microsoft.MultiHeadAttention", *inputs, to=node.outputs[0])
    kept = ("num_heads", "mask_filter_value", "scale", "unidirectional")
    writer.made[-1].attrs.update({key: attrs[key] for key in kept if key in attrs})


# --- ai.onnx.ml --------------------------------------------------------------------------------------


def _scaler(writer: _Writer) -> None:
    """(x - offset) * scale, as 32-bit floats."""
    value = _as_floats(writer)
    numbers = {key: writer.node.attrs.get(key) for key in ("offset", "scale")}
    offset, scale = (writer.constant(key, v) for key, v in numbers.items() if v is not None)
    value = writer.write("Sub", value, offset)
    writer.write("Mul", value, scale, to=writer.node.outputs[0])


def _linear_regressor(writer: _Writer) -> None:
    """A matrix product, whose coefficients train."""
    attrs, result = writer.node.attrs, writer.node.outputs[0]
    coefficients, targets = attrs.get("coefficients"), int(writer.number("targets", 1))
    after = {"NONE": "", "LOGISTIC": "Sigmoid", "SOFTMAX": "Softmax"}
    transform = str(attrs.get("post_transform", "NONE"))
    if transform not in after:
        raise writer.refused(f"post_transform {transform!r}", "one of LOGISTIC, NONE, SOFTMAX")
    if targets == 1:  # onnxruntime leaves a single target as it is
        transform = "NONE"
    weight = writer.constant("coefficients", np.reshape(np.asarray(coefficients), (targets, -1)))
    inputs = [_as_floats(writer), weight]
    intercepts = attrs.get("intercepts")
    if intercepts is not None and len(np.asarray(intercepts)):
        inputs.append(writer.constant("intercepts", intercepts))
    value = writer.write("Gemm", *inputs, to="" if after[transform] else result, transB=1)
    if after[transform]:
        writer.write(after[transform], value, to=result)


def _as_floats(writer: _Writer) -> str:
    value = writer.input(0)
    known = writer.graph.types.get(value)
    if known is not None and known.dtype == "float32":
        return value
    shape = known.shape if known is not None else None
    cast = writer.write("Cast", value, to=writer.fresh(f"{value}.float", TensorType("float32", shape)))
    writer.made[-1].attrs["to"] = 1
    return cast


_RULES: dict[str, FusedRule] = {
    "ai.onnx.ml.LinearRegressor": _linear_regressor,
    "ai.onnx.ml.Scaler": _scaler,
    "com.microsoft.Attention": _attention,
    "com.microsoft.BiasGelu": _gelu("none"),
    "com.microsoft.DequantizeLinear": _renamed("DequantizeLinear"),
    "com.microsoft.FastGelu": _gelu("tanh"),
    "com.microsoft.FusedConv": _fused_conv,
    "com.microsoft.FusedGemm": _fused_gemm,
    "com.microsoft.FusedMatMul": _fused_matmul,
    "com.microsoft.Gelu": _gelu("none"),
    "com.microsoft.LayerNormalization": _renamed("LayerNormalization", 3),
    "com.microsoft.QuantizeLinear": _renamed("QuantizeLinear"),
    "com.microsoft.QuickGelu": _quick_gelu,
    "com.microsoft.SimplifiedLayerNormalization": _renamed("RMSNormalization"),
    "com.microsoft.SkipLayerNormalization": _skip("LayerNormalization"),
    "com.microsoft.SkipSimplifiedLayerNormalization": _skip("RMSNormalization"),
    "com.microsoft.TransposeMatMul": _fused_matmul,
}

FUSED: dict[str, Op] = {
    **{op: Op(Kind.ARITHMETIC) for op in _RULES},
    "com.microsoft.Attention": Op(Kind.LINEAR, weights=(1, 2)),
    "com.microsoft.BiasGelu": Op(Kind.SUM, weights=(1,)),
    "com.microsoft.FastGelu": Op(Kind.SUM, weights=(1,)),
    "com.microsoft.FusedConv": Op(Kind.LINEAR, weights=(1, 2)),
    "com.microsoft.FusedGemm": Op(Kind.LINEAR, weights=(1, 2)),
    "com.microsoft.FusedMatMul": Op(Kind.LINEAR, weights=(0, 1)),
    "com.microsoft.LayerNormalization": Op(Kind.COUPLES_UNITS, weights=(1, 2)),
    "com.microsoft.SimplifiedLayerNormalization": Op(Kind.COUPLES_UNITS, weights=(1,)),
    "com.microsoft.SkipLayerNormalization": Op(Kind.COUPLES_UNITS, weights=(2, 3, 4)),
    "com.microsoft.SkipSimplifiedLayerNormalization": Op(Kind.COUPLES_UNITS, weights=(2, 3)),
    "com.microsoft.TransposeMatMul": Op(Kind.LINEAR, weights=(0, 1)),
}
"""What is written out, and which of its inputs hold weights."""
