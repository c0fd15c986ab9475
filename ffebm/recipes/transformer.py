"""A transformer over characters, written as ONNX: attention, and two-layer feedforward parts.

Not of the paper, whose authors name it as future work: the feedforward parts are energy blocks, attention
stays digital. Parts are in the order of GPT-2 (Radford et al. 2019: normalisation before each part), with a
clipped activation between the two layers of a feedforward part, so that its energy is the paper's.
"""

import math
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from ffebm.graph.tensor import Array
from ffebm.recipes.nodes import Nodes

TRAINABLE = ("positions",)
"""What an ONNX file does not tell from a fixed table (`ffebm.compile(…, trainable=TRAINABLE)`)."""
ATTENTION = ("*.attention.*",)
"""Names of nodes that stay digital (`ffebm.compile(…, digital=ATTENTION)`)."""
SKIPS = ("*.skip",)
"""Names of the sums behind attention and feedforward parts. Digital, the two layers of a feedforward part
alone are its energy block; else what passes by is added inside, and the hidden layer feels it."""


@dataclass(frozen=True)
class Transformer:
    """A causal transformer.

    Attributes:
        layers: Pairs of attention and feedforward parts.
        width: Numbers a character.
        heads: Of attention; they divide the width.
        hidden: Units between the two layers of a feedforward part.
        context: Characters that it reads at once.
    """

    layers: int = 2
    width: int = 64
    heads: int = 4
    hidden: int = 128
    context: int = 64

    def weights(self, characters: int, seed: int) -> dict[str, Array]:
        """Initial weights by name; float32.

        Tables are normal with a deviation of 0.02 (Radford et al. 2019), dense maps [n_in, n_out] uniform
        within 1 / sqrt(n_in) as torch's.
        """
        rng = np.random.default_rng(seed)
        found = {
            "characters": rng.normal(0, 0.02, (characters, self.width)),
            "positions": rng.normal(0, 0.02, (self.context, self.width)),
        }

        def norm(name: str) -> None:
            found.update({f"{name}.scale": np.ones(self.width), f"{name}.shift": np.zeros(self.width)})

        def dense(name: str, n_in: int, n_out: int) -> None:
            bound = 1 / math.sqrt(n_in)
            found[f"{name}.weight"] = rng.uniform(-bound, bound, (n_in, n_out))
            found[f"{name}.bias"] = rng.uniform(-bound, bound, n_out)

        for layer in range(self.layers):
            norm(f"layer{layer}.attention.norm")
            for part in ("query", "key", "value", "output"):
                dense(f"layer{layer}.attention.{part}", self.width, self.width)
            norm(f"layer{layer}.norm")
            dense(f"layer{layer}.hidden", self.width, self.hidden)
            dense(f"layer{layer}.output", self.hidden, self.width)
        norm("norm")
        dense("readout", self.width, characters)
        return {name: array.astype(np.float32) for name, array in found.items()}

    def model(self, characters: int, seed: int = 0) -> ModelProto:
        """The transformer as ONNX: numbers of characters [N, context] to scores [N, context, characters].

        Args:
            characters: How many there are.
            seed: Of the initial weights.
        """
        nodes = Nodes()
        value = nodes.add("embedding", "Gather", "characters", "ids")
        value = nodes.add("embedding.sum", "Add", value, "positions")
        for layer in range(self.layers):
            value = self._attention(nodes, f"layer{layer}.attention", value)
            value = self._feedforward(nodes, f"layer{layer}", value)
        value = _dense(nodes, "readout", _norm(nodes, "norm", value))
        causal = np.triu(np.full((self.context, self.context), -np.inf, np.float32), 1)
        constants = {
            "split": np.array([0, 0, self.heads, -1]),
            "merge": np.array([0, 0, -1]),
            "scale": np.array(math.sqrt(self.heads / self.width), np.float32),
            "causal": causal,
            "low": np.array(0, np.float32),
            "high": np.array(1, np.float32),
        }
        graph = helper.make_graph(
            nodes.found,
            "transformer",
            [helper.make_tensor_value_info("ids", TensorProto.INT64, ["N", self.context])],
            [helper.make_tensor_value_info(value, TensorProto.FLOAT, ["N", self.context, characters])],
            [
                numpy_helper.from_array(a, k)
                for k, a in {**self.weights(characters, seed), **constants}.items()
            ],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)

    def _attention(self, nodes: Nodes, name: str, value: str) -> str:
        """Softmax attention to what came before, beside what passes by."""
        source = _norm(nodes, f"{name}.norm", value)
        heads = {}
        for part, order in (("query", [0, 2, 1, 3]), ("key", [0, 2, 3, 1]), ("value", [0, 2, 1, 3])):
            apart = nodes.add(
                f"{name}.{part}.heads", "Reshape", _dense(nodes, f"{name}.{part}", source), "split"
            )
            heads[part] = nodes.add(f"{name}.{part}.turned", "Transpose", apart, perm=order)
        scores = nodes.add(f"{name}.product", "MatMul", heads["query"], heads["key"])
        scores = nodes.add(f"{name}.scaled", "Mul", scores, "scale")
        shares = nodes.add(
            f"{name}.shares", "Softmax", nodes.add(f"{name}.causal", "Add", scores, "causal"), axis=-1
        )
        mixed = nodes.add(f"{name}.mixed", "MatMul", shares, heads["value"])
        turned = nodes.add(f"{name}.turned", "Transpose", mixed, perm=[0, 2, 1, 3])
        output = _dense(nodes, f"{name}.output", nodes.add(f"{name}.merged", "Reshape", turned, "merge"))
        return nodes.add(f"{name}.skip", "Add", value, output)

    def _feedforward(self, nodes: Nodes, name: str, value: str) -> str:
        """Two dense layers, the first one clipped to [0, 1], beside what passes by."""
        drive = _dense(nodes, f"{name}.hidden", _norm(nodes, f"{name}.norm", value))
        hidden = nodes.add(f"{name}.clip", "Clip", drive, "low", "high")
        return nodes.add(f"{name}.skip", "Add", value, _dense(nodes, f"{name}.output", hidden))


def _norm(nodes: Nodes, name: str, value: str) -> str:
    """Normalisation over the numbers of a character."""
    return nodes.add(name, "LayerNormalization", value, f"{name}.scale", f"{name}.shift", axis=-1)


def _dense(nodes: Nodes, name: str, value: str) -> str:
    """A dense map with a bias."""
    product = nodes.add(f"{name}.product", "MatMul", value, f"{name}.weight")
    return nodes.add(name, "Add", product, f"{name}.bias")
