"""A Llama-like model with random weights, written in pieces: a file of any size from little memory.

The structure is that of Llama 2 (Touvron et al. 2023) with grouped queries (Ainslie et al. 2023): root mean
square norms, rotary positions, a gated feed-forward part with SiLU. The default sizes are those of TinyLlama
(Zhang et al. 2024): 1.1 billion weights.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

PIECE = 1 << 22
"""Numbers that are drawn and written at once."""


@dataclass(frozen=True)
class Llama:
    """Sizes of a model.

    Attributes:
        layers: Transformer layers.
        width: Of the residual stream.
        hidden: Of the feed-forward part.
        heads: Of the queries.
        shared: Of the keys and values; each serves heads / shared queries.
        words: Of the vocabulary.
        tokens: In the sequence.
    """

    layers: int = 22
    width: int = 2048
    hidden: int = 5632
    heads: int = 32
    shared: int = 4
    words: int = 32_000
    tokens: int = 16

    def write(self, path: Path) -> int:
        """Write the model, with its weights in a file beside it; how many weights it has."""
        with path.with_suffix(".data").open("wb") as data:
            writer = _Writer(self, data)
            writer.build()
        size = self.tokens
        ids = helper.make_tensor_value_info("ids", TensorProto.INT64, [1, size])
        logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, size, self.words])
        graph = helper.make_graph(writer.nodes, "llama", [ids], [logits], writer.tensors)
        opset = [helper.make_opsetid("", 20)]
        onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
        return writer.count


@dataclass
class _Writer:
    """Nodes and tensors as they come; weights go into the file at once.

    Attributes:
        sizes: Of the model.
        data: The file of its weights, open.
        nodes: So far.
        tensors: So far.
        count: Weights so far.
    """

    sizes: Llama
    data: object
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    tensors: list[TensorProto] = field(default_factory=list)
    count: int = 0
    _rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def weight(self, name: str, *shape: int) -> str:
        """A matrix of normal numbers, with the spread that keeps variance; gains are ones."""
        size, spread = math.prod(shape), 1 / math.sqrt(shape[0])
        start = self.data.tell()
        for at in range(0, size, PIECE):
            piece = self._rng.standard_normal(min(PIECE, size - at), dtype=np.float32)
            self.data.write((piece * np.float32(spread)).tobytes() if len(shape) > 1 else np.ones_like(piece))
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape)
        tensor.data_location = TensorProto.EXTERNAL
        entries = {"location": Path(self.data.name).name, "offset": start, "length": 4 * size}
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=str(value))
        self.tensors.append(tensor)
        self.count += size
        return name

    def constant(self, name: str, values: object, dtype: str) -> str:
        """A constant that is no weight, once for all that read it."""
        if all(tensor.name != name for tensor in self.tensors):
            self.tensors.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def node(self, op: str, *inputs: str, to: str, **attrs: object) -> str:
        """A node, named as what it makes."""
        self.nodes.append(helper.make_node(op, inputs, [to], to.replace(".", "_"), **attrs))
        return to

    def build(self) -> None:
        """All of it."""
        sizes = self.sizes
        x = self.node("Gather", self.weight("embedding", sizes.words, sizes.width), "ids", to="h")
        for index in range(sizes.layers):
            at = f"l{index}."
            x = self.node("Add", x, self.attention(at, self.norm(at + "before", x)), to=at + "attended")
            x = self.node("Add", x, self.feed_forward(at, self.norm(at + "between", x)), to=at + "out")
        head = self.weight("head", sizes.width, sizes.words)
        self.node("MatMul", self.norm("last", x), head, to="logits")

    def norm(self, at: str, x: str) -> str:
        """The root mean square norm, in parts."""
        power = self.node("Pow", x, self.constant("two", 2.0, "float32"), to=at + ".power")
        axes = self.constant("last_axis", [-1], "int64")
        mean = self.node("ReduceMean", power, axes, to=at + ".mean")
        shifted = self.node("Add", mean, self.constant("epsilon", 1e-5, "float32"), to=at + ".shifted")
        root = self.node("Sqrt", shifted, to=at + ".root")
        return self.node(
            "Mul",
            self.node("Div", x, root, to=at + ".normal"),
            self.weight(at + ".gain", self.sizes.width),
            to=at,
        )

    def attention(self, at: str, x: str) -> str:
        """Grouped queries: heads that share keys and values are one axis of the same product."""
        sizes = self.sizes
        groups, size = sizes.heads // sizes.shared, sizes.width // sizes.heads
        q = self.heads(at + "q", x, groups)
        k = self.heads(at + "k", x, 1)
        v = self.heads(at + "v", x, 1, turned=False)
        k = self.node("Transpose", k, to=at + "k.t", perm=[0, 1, 2, 4, 3])
        scores = self.node("MatMul", q, k, to=at + "scores")
        scale = self.constant("scale", 1 / math.sqrt(size), "float32")
        scores = self.node("Mul", scores, scale, to=at + "scaled")
        hidden = np.triu(np.full((sizes.tokens, sizes.tokens), -np.inf), 1)
        scores = self.node("Add", scores, self.constant("mask", hidden, "float32"), to=at + "masked")
        shares = self.node("Softmax", scores, to=at + "shares", axis=-1)
        mixed = self.node("MatMul", shares, v, to=at + "mixed")
        mixed = self.node("Transpose", mixed, to=at + "mixed.t", perm=[0, 3, 1, 2, 4])
        shape = self.constant("flat", [1, sizes.tokens, sizes.width], "int64")
        flat = self.node("Reshape", mixed, shape, to=at + "flat")
        return self.node("MatMul", flat, self.weight(at + "o", sizes.width, sizes.width), to=at + "attention")

    def heads(self, at: str, x: str, groups: int, *, turned: bool = True) -> str:
        """Queries, keys or values, [1, shared, groups, tokens, size], turned by their positions."""
        sizes = self.sizes
        size = sizes.width // sizes.heads
        weight = self.weight(at + ".weight", sizes.width, sizes.shared * groups * size)
        shape = self.constant(f"split{groups}", [1, sizes.tokens, sizes.shared, groups, size], "int64")
        found = self.node("Reshape", self.node("MatMul", x, weight, to=at), shape, to=at + ".split")
        found = self.node("Transpose", found, to=at + ".heads", perm=[0, 2, 3, 1, 4])
        return self.turned(at, found, size) if turned else found

    def turned(self, at: str, x: str, size: int) -> str:
        """Rotary positions (Su et al. 2021)."""
        rates = 10_000.0 ** (-np.arange(size // 2) * 2 / size)
        angles = np.tile(np.outer(np.arange(self.sizes.tokens), rates), 2)
        halves = self.node("Split", x, to=at + ".first", axis=-1, num_outputs=2)
        self.nodes[-1].output.append(at + ".second")
        other = self.node("Neg", at + ".second", to=at + ".negative")
        crossed = self.node("Concat", other, halves, to=at + ".crossed", axis=-1)
        plain = self.node("Mul", x, self.constant("cosines", np.cos(angles), "float32"), to=at + ".plain")
        crossed = self.node(
            "Mul", crossed, self.constant("sines", np.sin(angles), "float32"), to=at + ".moved"
        )
        return self.node("Add", plain, crossed, to=at + ".turned")

    def feed_forward(self, at: str, x: str) -> str:
        """SiLU of one product gates another one."""
        sizes = self.sizes
        gate = self.node("MatMul", x, self.weight(at + "gate", sizes.width, sizes.hidden), to=at + "gated")
        silu = self.node("Mul", gate, self.node("Sigmoid", gate, to=at + "sigmoid"), to=at + "silu")
        up = self.node("MatMul", x, self.weight(at + "up", sizes.width, sizes.hidden), to=at + "raised")
        both = self.node("Mul", silu, up, to=at + "both")
        return self.node("MatMul", both, self.weight(at + "down", sizes.hidden, sizes.width), to=at + "fed")
