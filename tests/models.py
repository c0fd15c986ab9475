"""Small ONNX models for tests: a builder, random ones, and onnxruntime as the oracle."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from hypothesis import strategies as st
from onnx import ModelProto, helper, numpy_helper

from ffebm.graph.tensor import Array

onnxruntime.set_default_logger_severity(4)
OPSET = 20


class Builder:
    """Collects the parts of a model; each method returns the name of the value that it adds."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.inputs: list[onnx.ValueInfoProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.nodes: list[onnx.NodeProto] = []
        self.functions: list[onnx.FunctionProto] = []

    def input(self, name: str, *shape: int | str | None, dtype: int = onnx.TensorProto.FLOAT) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def weight(self, *shape: int, name: str = "", gain: float = 1.0) -> str:
        """A normal weight; a matrix product with it keeps the scale of its input."""
        fan = max(1, int(np.prod(shape[1:])) if len(shape) > 2 else shape[0])
        array = self.rng.standard_normal(shape) * gain / np.sqrt(fan)
        return self.constant(array.astype(np.float32), name)

    def constant(self, value: Any, name: str = "") -> str:
        array = np.asarray(value, None if isinstance(value, np.ndarray) else np.float32)
        name = name or f"c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def shape(self, *sizes: int) -> str:
        return self.constant(np.array(sizes, np.int64))

    def node(self, op: str, *inputs: str, out: str = "", name: str = "", **attrs: Any) -> str:
        """A node named after its output."""
        out = out or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [out], name or f"{op.lower()}_{out}", **attrs))
        return out

    def conv(self, x: str, c_in: int, c_out: int, kernel: int = 3, **attrs: Any) -> str:
        groups = attrs.get("group", 1)
        weight = self.weight(c_out, c_in // groups, kernel, kernel)
        attrs.setdefault("pads", [kernel // 2] * 4)
        return self.node("Conv", x, weight, self.weight(c_out), **attrs)

    def clip(self, x: str, low: float = 0.0, high: float = 1.0) -> str:
        return self.node("Clip", x, self.constant(low), self.constant(high))

    def norm(self, x: str, channels: int) -> str:
        parts = [self.weight(channels) for _ in range(3)]
        var = self.constant(self.rng.uniform(0.5, 2.0, channels).astype(np.float32))
        return self.node("BatchNormalization", x, *parts, var)

    def model(self, *outputs: str, opset: int = OPSET, ir: int = 9) -> ModelProto:
        ports = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in outputs]
        old = [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in self.initializers]
        inputs = [*self.inputs, *(old if ir < 4 else [])]  # before IR 4 every initializer is an input too
        graph = helper.make_graph(self.nodes, "test", inputs, ports, self.initializers)
        domains = sorted({node.domain for node in self.nodes} - {""})
        imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
        model = helper.make_model(graph, opset_imports=imports, ir_version=ir, functions=self.functions)
        inferred = onnx.shape_inference.infer_shapes(model).graph.output
        del model.graph.output[:]
        model.graph.output.extend(inferred)
        return model


def oracle(model: ModelProto | str, feeds: Mapping[str, Array]) -> list[Array]:
    """What onnxruntime computes."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    source = model if isinstance(model, str) else model.SerializeToString()
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    found: list[Array] = session.run(None, dict(feeds))
    return found


def random_feeds(model: ModelProto, batch: int = 2, seed: int = 0) -> dict[str, Array]:
    """Normal inputs; open dimensions are the batch."""
    rng = np.random.default_rng(seed)
    held = {t.name for t in model.graph.initializer}
    return {
        i.name: rng.standard_normal([d.dim_value or batch for d in i.type.tensor_type.shape.dim]).astype(
            np.float32
        )
        for i in model.graph.input
        if i.name not in held
    }


def tensors(feeds: Mapping[str, Array]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array.copy()) for name, array in feeds.items()}


def as_tuple(result: torch.Tensor | tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return result if isinstance(result, tuple) else (result,)


def relative_error(found: Sequence[torch.Tensor], expected: Sequence[Array]) -> float:
    """Largest difference of all outputs, in units of each output's largest magnitude (at least 1)."""
    assert [tuple(f.shape) for f in found] == [e.shape for e in expected]
    return max(
        float(np.abs(f.detach().numpy() - e).max(initial=0) / max(1.0, np.abs(e).max(initial=0)))
        for f, e in zip(found, expected, strict=True)
    )


# --- random models -----------------------------------------------------------------------------------

CHANNELS, SIDE, FEATURES = 4, 6, 6
Sizes = tuple[int, ...]


class _Growing:
    """A random model in the making: values by rank, each with its shape without the batch."""

    def __init__(self, draw: st.DrawFn, ranks: list[int]) -> None:
        self.draw = draw
        self.b = Builder(draw(st.integers(0, 1000)))
        self.values: list[tuple[str, Sizes]] = []
        self.read: set[str] = set()
        self.shared: dict[Sizes, str] = {}
        for index in range(draw(st.integers(1, 2))):
            rank = draw(st.sampled_from(ranks))
            sizes = (CHANNELS, SIDE, SIDE) if rank == 4 else (FEATURES,)
            self.values.append((self.b.input(f"x{index}", "N", *sizes), sizes))

    def one_of(self, *choices: Any) -> Any:
        return self.draw(st.sampled_from(choices))

    def pick(self, rank: int | None = None) -> tuple[str, Sizes] | None:
        fit = [(v, s) for v, s in self.values if rank is None or len(s) == rank - 1]
        if not fit:
            return None
        # recent values are taken more often, so that graphs grow deep
        value, sizes = self.draw(st.sampled_from(fit[-3:] if self.one_of(True, True, False) else fit))
        self.read.add(value)
        return value, sizes

    def add(self, value: str, sizes: Sizes) -> None:
        self.values.append((value, sizes))

    # --- one method a kind of node -------------------------------------------------------------------

    def linear4(self) -> None:
        picked = self.pick(4)
        if picked is None:
            return
        x, (c, h, w) = picked
        if self.one_of(True, True, False):
            group = self.one_of(1, 1, c, 2) if c % 2 == 0 else 1
            out = self.one_of(CHANNELS, 2 * c) if c <= CHANNELS else c
            stride = self.one_of(1, 1, 2) if min(h, w) > 3 else 1
            self.add(
                self.b.conv(x, c, out, group=group, strides=[stride] * 2),
                (out, -(-h // stride), -(-w // stride)),
            )
            return
        group = self.one_of(1, 2) if c % 2 == 0 else 1
        weight = self.b.weight(c, CHANNELS // group, 2, 2)
        stride = self.one_of(1, 2) if max(h, w) <= SIDE else 1
        bias = self.b.weight(CHANNELS)
        y = self.b.node("ConvTranspose", x, weight, bias, strides=[stride] * 2, group=group)
        self.add(y, (CHANNELS, (h - 1) * stride + 2, (w - 1) * stride + 2))

    def sharing(self) -> None:
        """A product or convolution with the one weight of its sizes."""
        picked = self.pick()
        assert picked is not None
        x, sizes = picked
        n = sizes[0] if len(sizes) == 3 else sizes[-1]
        kernel = (n, n, 3, 3) if len(sizes) == 3 else (n, n)
        if kernel not in self.shared:
            self.shared[kernel] = self.b.weight(*kernel)
        weight = self.shared[kernel]
        y = (
            self.b.node("Conv", x, weight, pads=[1] * 4)
            if len(sizes) == 3
            else self.b.node("MatMul", x, weight)
        )
        self.add(y, sizes)

    def pool(self) -> None:
        picked = self.pick(4)
        if picked is None:
            return
        x, (c, h, w) = picked
        op = self.one_of("MaxPool", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool")
        if op.startswith("Global"):
            self.add(self.b.node(op, x), (c, 1, 1))
        elif min(h, w) >= 2:
            ceil = self.one_of(0, 1)
            sizes = tuple(-(-(n - 2) // 2) + 1 if ceil else (n - 2) // 2 + 1 for n in (h, w))
            y = self.b.node(op, x, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=ceil)
            self.add(y, (c, *sizes))

    def matrix(self) -> None:
        picked = self.pick(self.one_of(2, 2, 3))
        if picked is None:
            return
        x, sizes = picked
        n, out = sizes[-1], self.one_of(FEATURES, 10)
        if len(sizes) == 1 and self.one_of(True, False):
            trans = self.one_of(0, 1)
            weight = self.b.weight(*((out, n) if trans else (n, out)))
            bias = [self.b.weight(out)] if self.one_of(True, False) else []
            self.add(self.b.node("Gemm", x, weight, *bias, transB=trans), (out,))
        elif len(sizes) == 2 and self.one_of(True, False, False):
            left = self.b.weight(5, sizes[0])
            self.add(self.b.node("MatMul", left, x), (5, sizes[1]))
        else:
            self.add(self.b.node("MatMul", x, self.b.weight(n, out)), (*sizes[:-1], out))

    def activation(self) -> None:
        picked = self.pick()
        assert picked is not None
        x, sizes = picked
        op = self.one_of("Clip", "Relu", "Tanh", "Sigmoid", "HardSigmoid", "Elu", "Abs", "LeakyRelu")
        self.add(self.b.clip(x) if op == "Clip" else self.b.node(op, x), sizes)

    def norm(self) -> None:
        picked = self.pick(4)
        if picked is not None:
            self.add(self.b.norm(picked[0], picked[1][0]), picked[1])

    def arithmetic(self) -> None:
        """A sum with a constant on either side, or a product with one."""
        picked = self.pick()
        assert picked is not None
        x, sizes = picked
        constant = self.one_of(
            self.b.constant(float(self.one_of(0.5, -1.0, 2.0))),
            self.b.weight(1, *sizes),
            self.b.weight(*((sizes[0], *[1] * (len(sizes) - 1)))),
        )
        operands = [x, constant] if self.one_of(True, False) else [constant, x]
        self.add(self.b.node(self.one_of("Add", "Mul", "Sub"), *operands), sizes)

    def join(self) -> None:
        """A sum, product or concatenation of two values."""
        picked = self.pick()
        assert picked is not None
        x, sizes = picked
        y = self.one_of(*[v for v, s in self.values if s == sizes])
        self.read.add(y)
        op = self.one_of("Add", "Add", "Sum", "Mul", "Concat")
        if op != "Concat":
            self.add(self.b.node(op, x, y), sizes)
        elif sizes[0] <= 8:
            self.add(self.b.node("Concat", x, y, axis=1), (2 * sizes[0], *sizes[1:]))

    def layout(self) -> None:
        picked = self.pick()
        assert picked is not None
        x, sizes = picked
        total = int(np.prod(sizes))
        kind = self.one_of("Flatten", "Reshape", "Transpose", "Identity")
        if kind == "Flatten":
            self.add(self.b.node("Flatten", x), (total,))
        elif kind == "Reshape" and total % 2 == 0:
            self.add(self.b.node("Reshape", x, self.b.shape(0, 2, total // 2)), (2, total // 2))
        elif kind == "Transpose" and len(sizes) > 1:
            order = self.draw(st.permutations(range(1, len(sizes) + 1)))
            y = self.b.node("Transpose", x, perm=[0, *order])
            self.add(y, tuple(sizes[axis - 1] for axis in order))
        elif kind == "Identity":
            self.add(self.b.node("Identity", x), sizes)


@st.composite
def random_models(draw: st.DrawFn, most_nodes: int = 14) -> ModelProto:
    """A random feedforward graph: branches, skips, shared values, outputs in the middle."""
    growing = _Growing(draw, [4, 4, 2])
    kinds = [
        growing.linear4,
        growing.linear4,
        growing.matrix,
        growing.activation,
        growing.activation,
        growing.pool,
        growing.norm,
        growing.arithmetic,
        growing.join,
        growing.layout,
    ]
    return _grown(growing, kinds, draw(st.integers(2, most_nodes)))


@st.composite
def random_sharing_models(draw: st.DrawFn, most_nodes: int = 14) -> ModelProto:
    """Products and convolutions of which several have one weight, with activations, sums and poolings."""
    growing = _Growing(draw, [4, 2])
    kinds = [
        growing.sharing,
        growing.sharing,
        growing.activation,
        growing.activation,
        growing.join,
        growing.pool,
    ]
    return _grown(growing, kinds, draw(st.integers(4, most_nodes)))


@st.composite
def random_dense_models(draw: st.DrawFn, most_nodes: int = 14) -> ModelProto:
    """Products, sums and activations of vectors: blocks of many layers, with skips, inputs and outputs."""
    growing = _Growing(draw, [2])
    kinds = [growing.matrix, growing.matrix, growing.activation, growing.activation, growing.join]
    return _grown(growing, kinds, draw(st.integers(4, most_nodes)))


def _grown(growing: _Growing, kinds: list[Callable[[], None]], count: int) -> ModelProto:
    """Add nodes of random kinds; what nothing reads is an output, and sometimes one in the middle."""
    draw = growing.draw
    for _ in range(count):
        draw(st.sampled_from(kinds))()
    made = [node.output[0] for node in growing.b.nodes]
    if not made:
        made = [growing.b.node("Relu", growing.values[0][0])]
    outputs = [v for v in made if v not in growing.read] or made[-1:]
    middle = draw(st.sampled_from(made))
    if middle not in outputs and draw(st.booleans()):
        outputs = [middle, *outputs]
    return growing.b.model(*outputs)
