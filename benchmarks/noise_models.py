"""The networks of benchmarks/noise.py, as ONNX."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Arrays = dict[str, np.ndarray]
Model = Callable[[int, float], onnx.ModelProto]
"""model(seed, slope): the slope is that of hidden activations, whose weights begin larger by 1/slope."""


@dataclass(frozen=True)
class Network:
    """A network and how it is trained.

    Attributes:
        name: In tables.
        data: Name of the data.
        model: Makes it untrained.
        count: Training samples of a sweep.
        epochs: Epochs of a sweep.
        tested: Test samples of a sweep, the first ones.
        whole_epochs: Epochs over the whole training set at the key point; 0 leaves it out.
        slope: Of hidden activations where two layers share a block: what comes back from the layer above must
            be weak, or the block does not settle.
    """

    name: str
    data: str
    model: Model
    count: int
    epochs: int
    tested: int
    whole_epochs: int
    slope: float


def dense(n_in: int, n_hidden: int) -> Model:
    """n_in - n_hidden - 10 with a clip to [0, 1] between."""

    def build(seed: int, slope: float) -> onnx.ModelProto:
        rng = np.random.default_rng(seed)
        weights: Arrays = {
            "hidden.weight": _normal(rng, (n_hidden, n_in), n_in) / np.float32(slope),
            "hidden.bias": np.zeros(n_hidden, np.float32),
            "readout.weight": _normal(rng, (10, n_hidden), 4 * n_hidden),
            "readout.bias": np.zeros(10, np.float32),
        }
        nodes = [
            helper.make_node("Gemm", ["x", "hidden.weight", "hidden.bias"], ["u"], "hidden", transB=1),
            helper.make_node("Mul", ["u", "slope"], ["scaled"], "scale"),
            helper.make_node("Clip", ["scaled", "zero", "one"], ["s"], "clip"),
            helper.make_node("Gemm", ["s", "readout.weight", "readout.bias"], ["y"], "readout", transB=1),
        ]
        return _model(nodes, ["N", n_in], {**weights, "slope": np.float32(slope)})

    return build


def conv(side: int, first: int, second: int) -> Model:
    """Two convolutions of stride 2 with clips to [0, 1], and a dense readout."""

    def build(seed: int, slope: float) -> onnx.ModelProto:
        rng = np.random.default_rng(seed)
        left = (side + 3) // 4
        weights: Arrays = {
            "conv1.weight": _normal(rng, (first, 1, 3, 3), 9) / np.float32(slope),
            "conv1.bias": np.zeros(first, np.float32),
            "conv2.weight": _normal(rng, (second, first, 3, 3), 9 * first) / np.float32(slope),
            "conv2.bias": np.zeros(second, np.float32),
            "readout.weight": _normal(rng, (10, second * left * left), 4 * second * left * left),
            "readout.bias": np.zeros(10, np.float32),
        }
        nodes = []
        source = "x"
        for layer in (1, 2):
            inputs = [source, f"conv{layer}.weight", f"conv{layer}.bias"]
            pads, strides = [1] * 4, [2, 2]
            nodes.append(
                helper.make_node("Conv", inputs, [f"u{layer}"], f"conv{layer}", pads=pads, strides=strides)
            )
            scaled, source = f"scaled{layer}", f"s{layer}"
            nodes.append(helper.make_node("Mul", [f"u{layer}", "slope"], [scaled], f"scale{layer}"))
            nodes.append(helper.make_node("Clip", [scaled, "zero", "one"], [source], f"clip{layer}"))
        nodes.append(helper.make_node("Flatten", [source], ["flat"], "flatten"))
        inputs = ["flat", "readout.weight", "readout.bias"]
        nodes.append(helper.make_node("Gemm", inputs, ["y"], "readout", transB=1))
        return _model(nodes, ["N", 1, side, side], {**weights, "slope": np.float32(slope)})

    return build


def _normal(rng: np.random.Generator, shape: tuple[int, ...], fan: int) -> np.ndarray:
    return (rng.standard_normal(shape) / np.sqrt(fan)).astype(np.float32)


def _model(nodes: list[onnx.NodeProto], shape: list[int | str], weights: Arrays) -> onnx.ModelProto:
    arrays = {**weights, "zero": np.float32(0.0), "one": np.float32(1.0)}
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 10])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


NETWORKS = (
    Network("digits 64-100-10", "digits", dense(64, 100), 1438, 10, 359, 0, 0.1),
    Network("digits conv 8-16", "digits", conv(8, 8, 16), 1438, 10, 359, 0, 0.01),
    Network("Fashion 784-500-10", "fashion-mnist", dense(784, 500), 5000, 3, 2000, 14, 0.03),
    Network("Fashion conv 8-16", "fashion-mnist", conv(28, 8, 16), 2000, 4, 2000, 0, 0.003),
)
