"""A small residual network, written as ONNX: skips inside an energy block and across blocks.

Not of the paper, whose networks are chains. As in its six-layer networks the first block alone has a batch
normalisation; what passes by drives a layer further on, in a sum of drives.
"""

import math
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from ffebm.graph.tensor import Array
from ffebm.recipes.nodes import Nodes, Rung, rungs

BLOCK_SIZES = (2, 3)
"""Free layers of the two energy blocks; the readout behind them is digital."""
DIGITAL = ("stem.*", "a1.conv")
"""Nodes in front of the first block that stay digital, as in the paper."""
KERNEL = 3
PLAIN = Rung(1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Residual:
    """Two energy blocks behind a convolution, and a dense readout of the mean over pixels in quarters.

    The first block has the layers `a1` and `a2`; what feeds it passes by to `a2`, a skip over one layer. The
    second has `b1`, `b2` and `b3` on half the pixels; `b1` passes by to `b3` through a map of single pixels,
    a skip inside the block, and `a2`, the layer below the block, passes by to `b3` through another one, a
    skip across blocks.

    Attributes:
        side: Pixels of the images along each axis; a multiple of 4.
        stride: Of the first convolution.
        channels: Of the first block; the second has twice as many.
        feedback: How strongly each layer of a block feels the one above, of the strength both ways; see
            `rungs`. The skip inside skips a layer, so what comes back through it has the square. Without
            biases, which are felt weaker behind gains, the feedforward network is the same for all.
    """

    side: int = 8
    stride: int = 1
    channels: int = 8
    feedback: float = 1.0

    @property
    def digital(self) -> tuple[str, ...]:
        """Nodes beside energy blocks, by name: in front of the first block, and what multiplies drives."""
        return (*DIGITAL, *(("*.gain",) if self.feedback != 1 else ()))

    def weights(self, classes: int, seed: int) -> dict[str, Array]:
        """Initial weights by name; float32.

        Maps are uniform within 1 / sqrt(n_in) as torch's, biases of convolutions are 0.
        """
        rng = np.random.default_rng(seed)
        low, high = self.channels, 2 * self.channels
        found: dict[str, Array] = {}

        def conv(name: str, n_out: int, n_in: int, kernel: int = KERNEL) -> None:
            bound = 1 / math.sqrt(n_in * kernel**2)
            found[f"{name}.weight"] = rng.uniform(-bound, bound, (n_out, n_in, kernel, kernel))

        for name, n_in in (("stem", 1), ("a1", low)):
            conv(name, low, n_in)
            ones, zeros = np.ones(low), np.zeros(low)
            parts = {"scale": ones, "shift": zeros, "mean": zeros, "var": ones}
            found.update({f"{name}.norm.{part}": array for part, array in parts.items()})
        for name, n_out, n_in in (
            ("a2", low, low),
            ("b1", high, low),
            ("b2", high, high),
            ("b3", high, high),
        ):
            conv(name, n_out, n_in)
            found[f"{name}.bias"] = np.zeros(n_out)
        conv("inside", high, high, kernel=1)
        conv("across", high, low, kernel=1)
        n_in = high * 4
        bound = 1 / math.sqrt(n_in)
        found["readout.weight"] = rng.uniform(-bound, bound, (classes, n_in))
        found["readout.bias"] = rng.uniform(-bound, bound, classes)
        return {name: array.astype(np.float32) for name, array in found.items()}

    def model(self, classes: int, seed: int = 0) -> ModelProto:
        """The network as ONNX: images [N, 1, side, side] to scores [N, classes].

        Args:
            classes: How many there are.
            seed: Of the initial weights.
        """
        nodes, numbers = Nodes(), {"low": 0.0, "high": 1.0}

        def layer(name: str, drive: str, rung: Rung = PLAIN) -> str:
            """Clipped, with the slope and the range of its rung."""
            if rung.slope != 1:
                numbers[f"{name}.slope"] = rung.slope
                drive = nodes.add(f"{name}.drive", "Mul", drive, f"{name}.slope")
            if rung.top != 1:
                numbers[f"{name}.high"] = rung.top
            return nodes.add(name, "Clip", drive, "low", f"{name}.high" if rung.top != 1 else "high")

        def driving(name: str, drive: str, rung: Rung) -> str:
            """What drives a layer from outside its block."""
            if rung.gain == 1:
                return drive
            numbers[f"{name}.factor"] = rung.gain
            return nodes.add(f"{name}.gain", "Mul", drive, f"{name}.factor")

        (a1_rung, a2_rung), (b1_rung, b2_rung, b3_rung) = (
            rungs(size, self.feedback, last=self.feedback) for size in BLOCK_SIZES
        )
        below = layer("stem", _norm(nodes, "stem", _conv(nodes, "stem", "image", self.stride)))
        normed = _norm(nodes, "a1", _conv(nodes, "a1", below))
        a1 = layer("a1", driving("a1", normed, a1_rung), a1_rung)
        passing = driving("a2", below, a2_rung)
        a2 = layer("a2", nodes.add("a2.sum", "Add", _conv(nodes, "a2", a1, bias=True), passing), a2_rung)
        b1 = layer("b1", _conv(nodes, "b1", driving("b1", a2, b1_rung), stride=2, bias=True), b1_rung)
        b2 = layer("b2", _conv(nodes, "b2", b1, bias=True), b2_rung)
        inside = _conv(nodes, "inside", b1, kernel=1)
        across = _conv(nodes, "across", driving("b3", a2, b3_rung), kernel=1, stride=2)
        drive = nodes.add("b3.inside", "Add", _conv(nodes, "b3", b2, bias=True), inside)
        b3 = layer("b3", nodes.add("b3.sum", "Add", drive, across), b3_rung)
        quarter = self.side // self.stride // 4
        mean = nodes.add("mean", "AveragePool", b3, kernel_shape=[quarter] * 2, strides=[quarter] * 2)
        flat = nodes.add("flat", "Flatten", mean)
        scores = nodes.add("readout", "Gemm", flat, "readout.weight", "readout.bias", transB=1)
        constants = {name: np.array(number, np.float32) for name, number in numbers.items()}
        graph = helper.make_graph(
            nodes.found,
            "residual",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, self.side, self.side])],
            [helper.make_tensor_value_info(scores, TensorProto.FLOAT, ["N", classes])],
            [numpy_helper.from_array(a, k) for k, a in {**self.weights(classes, seed), **constants}.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def _conv(
    nodes: Nodes, name: str, value: str, stride: int = 1, kernel: int = KERNEL, bias: bool = False
) -> str:
    """A convolution that keeps the pixels but for its stride."""
    read = [value, f"{name}.weight", *([f"{name}.bias"] if bias else [])]
    shape = {"kernel_shape": [kernel] * 2, "pads": [kernel // 2] * 4, "strides": [stride] * 2}
    return nodes.add(f"{name}.conv", "Conv", *read, **shape)


def _norm(nodes: Nodes, name: str, value: str) -> str:
    """Batch normalisation."""
    parts = [f"{name}.norm.{part}" for part in ("scale", "shift", "mean", "var")]
    return nodes.add(f"{name}.norm", "BatchNormalization", value, *parts)
