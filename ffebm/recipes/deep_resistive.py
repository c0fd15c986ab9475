"""The deep resistive network of Scellier & Mishra with one hidden layer, written as ONNX.

    x -> amplified, doubled (x, -x) -> nodes above 0 beside nodes below 0 -> linear outputs,

all joined by conductances; the nodes of either sign are half of the hidden layer each. Sizes, amplification,
initial weights and training are those of the published code (rain-neuromorphics/energy-based-learning,
papers/universal-drn; arXiv 2312.15063), whose Fashion-MNIST error after 100 epochs is 10.38 %.

Weights are initialised uniformly within 1 / sqrt(fan-in) and clamped at 0, as after each update; biases,
which are current sources, start at 0.
"""

import math
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from ffebm.errors import UsageError
from ffebm.graph.tensor import Array
from ffebm.plan.schema import Settle
from ffebm.recipes.recipe import Images, check_width
from ffebm.training.settings import Training

SAMPLES: dict[str, Images] = {
    "fashion-mnist": Images(10, 60_000, (), (), shape=(1, 28, 28)),
    "digits": Images(10, 1_438, (), (), shape=(64,)),
}
"""Raw pixels from 0 to 1, as published; scikit-learn's digits beside them."""

AMPLIFICATION = {"fashion-mnist": 300.0, "digits": 60.0}
"""Of the inputs: 60 of the network times 5 of the data, as published; of digits, which have a twelfth of the
pixels, 60 alone, by one run."""

CIRCUIT_BETA = 50.0
"""Strength of nudges where ADCs of ten bits read the states: with the published 0.5 the answers of hidden
nodes are below a code. One run of digits each: docs/circuits.md."""


@dataclass(frozen=True)
class DeepResistiveRecipe:
    """A deep resistive network with one hidden layer, and how it is trained.

    Attributes:
        title: What it is, in a line.
        hidden: Nodes of the hidden layer, half of them above and half below 0.
        settle: How it settles.
        training: How it is trained on Fashion-MNIST.
    """

    title: str
    hidden: int
    settle: Settle
    training: Training
    boundary: Literal["tile", "digital"] = "tile"
    trains: bool = True
    physics: str = "deep-resistive"
    block_size: tuple[int, ...] = (3,)
    digital: tuple[str, ...] = ()

    def with_feedback(self, feedback: float) -> "DeepResistiveRecipe":
        """Amplifiers decide its feedback.

        Raises:
            UsageError: Always.
        """
        raise UsageError(
            f"feedback {feedback} of a deep resistive network", allowed="recipes of other blocks"
        )

    def images(self, data: str) -> Images:
        """What it needs to know of some data.

        Raises:
            UsageError: If it is none of its data.
        """
        if data not in SAMPLES:
            raise UsageError(f"this recipe does not train on {data!r}", allowed=", ".join(SAMPLES))
        return SAMPLES[data]

    def model(self, width: float, data: str, seed: int) -> ModelProto:
        """The network as ONNX with initial weights.

        Args:
            width: Factor of the hidden nodes.
            data: A name of `SAMPLES`; it tells inputs, outputs and the amplification.
            seed: Of the weights.

        Raises:
            UsageError: If the width or the data is out of range.
        """
        check_width(width)
        images = self.images(data)
        half = max(1, round(self.hidden * width / 2))
        n_in = 2 * math.prod(images.shape)
        weights = _weights((n_in, half, images.classes), seed)
        constants = {"gain": np.array(AMPLIFICATION[data], np.float32), "zero": np.array(0, np.float32)}
        nodes = [
            helper.make_node("Flatten", ["image"], ["pixels"], "flatten"),
            helper.make_node("Mul", ["pixels", "gain"], ["amplified"], "amplify"),
            helper.make_node("Neg", ["amplified"], ["inverted"], "invert"),
            helper.make_node("Concat", ["amplified", "inverted"], ["doubled"], "double", axis=1),
        ]
        for sign, diode in (("plus", ("Relu",)), ("minus", ("Clip", "", "zero"))):
            maps = ["doubled", f"{sign}.weight", f"{sign}.bias"]
            above = [sign, f"readout.{sign}.weight", *(["readout.bias"] if sign == "plus" else [])]
            op, *limits = diode
            nodes += [
                helper.make_node("Gemm", maps, [f"{sign}.currents"], f"{sign}.conductances", transB=1),
                helper.make_node(op, [f"{sign}.currents", *limits], [sign], f"{sign}.diodes"),
                helper.make_node("Gemm", above, [f"readout.{sign}"], f"readout.{sign}", transB=1),
            ]
        nodes.append(helper.make_node("Add", ["readout.plus", "readout.minus"], ["scores"], "readout"))
        graph = helper.make_graph(
            nodes,
            "deep-resistive",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", *images.shape])],
            [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", images.classes])],
            [numpy_helper.from_array(array, key) for key, array in {**weights, **constants}.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)

    def settling(self, width: float) -> Settle:
        """How it settles, at any width."""
        check_width(width)
        return self.settle

    def settings(self, data: str, seed: int, width: float = 1.0) -> Training:
        """How it is trained on some data, at any width.

        Raises:
            UsageError: If it is none of its data, or the width is out of range.
        """
        check_width(width)
        self.images(data)
        if data == "digits":  # few samples take small batches; digits are not mirrored
            changed = msgspec.structs.replace(self.training, batch=4, epochs=20, flip=False)
        else:
            changed = self.training
        return msgspec.structs.replace(changed, data=data, seed=seed)


def _weights(sizes: tuple[int, int, int], seed: int) -> dict[str, Array]:
    """Initial conductances and currents by name, float32; of inputs, half of the hidden nodes, outputs."""
    rng = np.random.default_rng(seed)
    n_in, half, n_out = sizes

    def conductances(n: int, fan_in: int, columns: int) -> Array:
        bound = 1 / math.sqrt(fan_in)
        drawn: Array = rng.uniform(-bound, bound, (n, columns)).clip(0, None).astype(np.float32)
        return drawn

    weights: dict[str, Array] = {}
    for sign in ("plus", "minus"):
        weights[f"{sign}.weight"] = conductances(half, n_in, n_in)
        weights[f"{sign}.bias"] = np.zeros(half, np.float32)
        weights[f"readout.{sign}.weight"] = conductances(n_out, 2 * half, half)
    return {**weights, "readout.bias": np.zeros(n_out, np.float32)}


DEEP_RESISTIVE: dict[str, DeepResistiveRecipe] = {
    "deep-resistive-1h": DeepResistiveRecipe(
        "deep resistive network, one hidden layer of 1,024 nodes",
        1024,
        Settle(free_sweeps=4, nudged_sweeps=4),
        Training(
            data="fashion-mnist",
            epochs=100,
            batch=32,
            optimizer="SGD",
            lr=0.005,
            momentum=0.9,
            schedule="exponential",
            drop_factor=0.99,
            loss="squared-error",
            gradient="ep",
            beta=0.5,
            cost=True,
            flip=True,
        ),
    ),
}
"""Deep resistive networks by name."""
