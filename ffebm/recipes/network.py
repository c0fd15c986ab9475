"""The networks of the paper: chains of energy blocks, each behind a digital convolution, written as ONNX."""

import itertools
import math
from dataclasses import dataclass, replace

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from ffebm.graph.tensor import Array
from ffebm.recipes.nodes import Rung, rungs

SIDE, COLOURS, KERNEL = 32, 3, 3
FEWEST = 8
"""Channels that a layer keeps at least when a network is made narrower."""
GAIN = "{}.gain"
"""Name of the node that multiplies a layer's drive."""


@dataclass(frozen=True)
class PaperLayer:
    """A convolution of 3x3 with padding 1, or a dense map, and what follows it.

    Attributes:
        size: Channels, or units if dense.
        has_pool: A maximum over 2x2 windows follows.
        is_dense: A dense map of the flattened layer below.
        has_norm: Batch normalisation follows; then the map has no bias.
        is_clipped: The layer is clipped to [0, 1]; otherwise it is linear.
    """

    size: int
    has_pool: bool = False
    is_dense: bool = False
    has_norm: bool = False
    is_clipped: bool = True


@dataclass(frozen=True)
class PaperNetwork:
    """A chain of energy blocks with a dense readout.

    Attributes:
        blocks: Layers by block.
        variance: V of the initial convolution kernels, see `goe`.
        slope: Of the clipped layers, clip(slope * u, 0, 1).
        ladder: Further slopes of the layers but the last one, in order. A layer is then clipped to [0, the
            product of its own and all before it], and the readout makes up for the whole product. Without
            biases the feedforward network stays the same; what comes back from above is weaker.
        feedback: How strongly each layer of a block feels the one above, of the published strength; see
            `rungs`. The feedforward network is the same for all.
    """

    blocks: tuple[tuple[PaperLayer, ...], ...]
    variance: float
    slope: float = 1.0
    ladder: tuple[float, ...] = ()
    feedback: float = 1.0

    @property
    def ranges(self) -> tuple[float, ...]:
        """Of the layers in order; the last one keeps that of the layer below."""
        steps = self.ladder or (1.0,) * (len(self.layers) - 1)
        products = tuple(math.prod(steps[: index + 1]) for index in range(len(steps)))
        return (*products, products[-1])

    @property
    def rungs(self) -> tuple[Rung, ...]:
        """What each layer's feedback asks for, in order."""
        return tuple(rung for block in self.blocks for rung in rungs(len(block), self.feedback))

    @property
    def digital(self) -> tuple[str, ...]:
        """Nodes that stay digital beside energy blocks, by name: what multiplies their drives."""
        return (GAIN.format("*"),) if any(rung.gain != 1 for rung in self.rungs) else ()

    @property
    def layers(self) -> tuple[PaperLayer, ...]:
        """All layers in order."""
        return tuple(layer for block in self.blocks for layer in block)

    def narrowed(self, width: float) -> "PaperNetwork":
        """The same network with `width` times the channels and as strong couplings: V grows by 1 / width."""
        blocks = tuple(
            tuple(replace(layer, size=max(FEWEST, round(layer.size * width))) for layer in block)
            for block in self.blocks
        )
        return replace(self, blocks=blocks, variance=self.variance / width)

    def weights(self, classes: int, seed: int) -> dict[str, Array]:
        """Initial weights by name, `layer0.weight` to `readout.bias`; float32."""
        rng = np.random.default_rng(seed)
        weights: dict[str, Array] = {}
        channels, side = COLOURS, SIDE
        for index, layer in enumerate(self.layers):
            name = f"layer{index}"
            if layer.is_dense:
                weights |= _dense(rng, name, layer.size, channels * side * side)
                bias = weights[f"{name}.bias"]
                scale = np.float32(self.ranges[index] * self.rungs[index].gain)
                weights[f"{name}.bias"] = np.multiply(bias, scale)
                channels, side = layer.size, 1
                continue
            weights[f"{name}.weight"] = goe(rng, layer.size, channels, self.variance)
            if layer.has_norm:
                ones, zeros = np.ones(layer.size, np.float32), np.zeros(layer.size, np.float32)
                parts = {"gamma": ones, "beta": zeros, "mean": zeros, "var": ones}
                weights |= {f"{name}.norm.{part}": array for part, array in parts.items()}
            else:
                weights[f"{name}.bias"] = np.zeros(layer.size, np.float32)
            channels, side = layer.size, side // 2 if layer.has_pool else side
        return weights | _dense(rng, "readout", classes, channels * side * side)

    def model(self, classes: int, seed: int = 0, name: str = "network") -> ModelProto:
        """The network as ONNX, for images [N, 3, 32, 32], with initial weights.

        Args:
            classes: Outputs of the readout.
            seed: Of the initial weights.
            name: Name of the graph.
        """
        weights = self.weights(classes, seed)
        numbers = {"zero": 0.0, "one": 1.0, "gain": 1 / self.ranges[-1]}
        starts = set(itertools.accumulate((len(block) for block in self.blocks), initial=0))
        for index, (top, rung) in enumerate(zip(self.ranges, self.rungs, strict=True)):
            step = self.ladder[index] if index < len(self.ladder) else 1.0
            numbers |= {f"slope{index}": self.slope * step * rung.slope, f"top{index}": top * rung.top}
            numbers[f"gain{index}"] = rung.gain if index in starts else 1.0
        constants = {key: np.array(number, np.float32) for key, number in numbers.items()}
        nodes: list[NodeProto] = []
        value, is_flat = "image", False
        for index, layer in enumerate(self.layers):
            if layer.is_dense and not is_flat:
                nodes.append(helper.make_node("Flatten", [value], [f"flat{index}"], f"flatten{index}"))
                value, is_flat = f"flat{index}", True
            nodes += _layer(layer, f"layer{index}", value, str(index), numbers)
            value = nodes[-1].output[0]
        if not is_flat:
            nodes.append(helper.make_node("Flatten", [value], ["flat"], "flatten"))
            value = "flat"
        if self.ranges[-1] != 1:
            nodes.append(helper.make_node("Mul", [value, "gain"], ["rescaled"], "rescale"))
            value = "rescaled"
        readout = [value, "readout.weight", "readout.bias"]
        nodes.append(helper.make_node("Gemm", readout, ["logits"], "readout", transB=1))
        read = {source for node in nodes for source in node.input}
        graph = helper.make_graph(
            nodes,
            name,
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", COLOURS, SIDE, SIDE])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", classes])],
            [numpy_helper.from_array(a, key) for key, a in {**weights, **constants}.items() if key in read],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def goe(rng: np.random.Generator, size: int, channels: int, variance: float) -> Array:
    """Symmetric random kernels, [size, channels, 3, 3].

    With A normal of variance V / 3, a kernel is tril(A) + tril(A)^T with its diagonal times sqrt(2): variance
    V / 3 off the diagonal, 8 V / 3 on it.

    Source: Nest & Ernoult 2024 (arXiv 2409.03306), initialisation by Gaussian orthogonal ensembles.
    """
    a = rng.standard_normal((size, channels, KERNEL, KERNEL)) * math.sqrt(variance / KERNEL)
    lower = np.tril(a)
    kernels = lower + np.swapaxes(lower, 2, 3)
    diagonal = np.arange(KERNEL)
    kernels[:, :, diagonal, diagonal] *= math.sqrt(2)
    return kernels.astype(np.float32)


def _dense(rng: np.random.Generator, name: str, size: int, n_in: int) -> dict[str, Array]:
    """A dense map as torch initialises it: uniform within 1 / sqrt(n_in)."""
    bound = 1 / math.sqrt(n_in)
    return {
        f"{name}.weight": rng.uniform(-bound, bound, (size, n_in)).astype(np.float32),
        f"{name}.bias": rng.uniform(-bound, bound, size).astype(np.float32),
    }


def _layer(
    layer: PaperLayer, name: str, source: str, number: str, numbers: dict[str, float]
) -> list[NodeProto]:
    """The nodes of one layer."""
    nodes: list[NodeProto] = []

    def add(op: str, inputs: list[str], **attrs: int | list[int]) -> str:
        kind = {"Conv": "conv", "Gemm": "dense", "BatchNormalization": "norm"}.get(op, op.lower())
        node = helper.make_node(op, inputs, [f"{name}.{kind}"], f"{name}.{kind}")
        node.attribute.extend(helper.make_attribute(key, value) for key, value in attrs.items())
        nodes.append(node)
        return f"{name}.{kind}"

    maps = [source, f"{name}.weight", *([] if layer.has_norm else [f"{name}.bias"])]
    if layer.is_dense:
        value = add("Gemm", maps, transB=1)
    else:
        value = add("Conv", maps, pads=[1, 1, 1, 1], kernel_shape=[KERNEL, KERNEL])
    if layer.has_pool:
        value = add("MaxPool", [value], kernel_shape=[2, 2], strides=[2, 2])
    if layer.has_norm:
        parts = [f"{name}.norm.{part}" for part in ("gamma", "beta", "mean", "var")]
        value = add("BatchNormalization", [value, *parts])
    if numbers[f"gain{number}"] != 1:
        nodes.append(
            helper.make_node("Mul", [value, f"gain{number}"], [GAIN.format(name)], GAIN.format(name))
        )
        value = GAIN.format(name)
    if layer.is_clipped:
        if numbers[f"slope{number}"] != 1:
            value = add("Mul", [value, f"slope{number}"])
        add("Clip", [value, "zero", f"top{number}" if numbers[f"top{number}"] != 1 else "one"])
    return nodes
