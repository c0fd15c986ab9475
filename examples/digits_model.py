"""A digits CNN written as ONNX: convolutions, max-pooling, batch normalisation, clips in [0, 1]."""

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CHANNELS = (32, 32, 64)
SLOPES = (0.1, 0.3, 1.0)
DROPPED = 0.1
CLASSES = 10


def digits_model(seed: int = 0) -> onnx.ModelProto:
    """An untrained network for images [N, 1, 8, 8] of scikit-learn's digits.

    Convolution, max-pooling, batch normalisation and clip, as the blocks of the paper begin; two convolutions
    with clips; dropout and a dense readout. The three clipped layers can settle together as one energy block.
    Slopes grow from layer to layer, so what comes back from above is weaker than what comes from below.
    """
    rng = np.random.default_rng(seed)
    weights: dict[str, np.ndarray] = {}

    def dense(name: str, shape: tuple[int, ...], gain: float) -> None:
        fan_in = int(np.prod(shape[1:]))
        weights[f"{name}.weight"] = (rng.standard_normal(shape) * gain / np.sqrt(fan_in)).astype(np.float32)
        weights[f"{name}.bias"] = np.zeros(shape[0], np.float32)

    first, second, third = CHANNELS
    dense("conv1", (first, 1, 3, 3), 1.0)
    dense("conv2", (second, first, 3, 3), 0.7 / SLOPES[1])
    dense("conv3", (third, second, 3, 3), 0.7 / SLOPES[2])
    dense("readout", (CLASSES, third * 2 * 2), 1.0)
    half = 0.5 / SLOPES[0]
    for name, value in (("weight", half), ("bias", half), ("mean", 0.0), ("var", 1.0)):
        weights[f"norm1.{name}"] = np.full(first, value, np.float32)
    numbers = {"zero": 0.0, "one": 1.0, "dropped": DROPPED}
    numbers |= {f"slope{layer}": slope for layer, slope in enumerate(SLOPES, 1)}
    constants = {name: np.array(number, np.float32) for name, number in numbers.items()}

    def conv(source: str, name: str, stride: int = 1) -> onnx.NodeProto:
        inputs, window = [source, f"{name}.weight", f"{name}.bias"], [1, 1, 1, 1]
        return helper.make_node("Conv", inputs, [f"{name}_out"], name, pads=window, strides=[stride] * 2)

    def clip(source: str, layer: int) -> list[onnx.NodeProto]:
        scaled, target = f"s{layer}_scaled", f"s{layer}"
        return [
            helper.make_node("Mul", [source, f"slope{layer}"], [scaled], f"scale{layer}"),
            helper.make_node("Clip", [scaled, "zero", "one"], [target], f"clip{layer}"),
        ]

    norm = [f"norm1.{part}" for part in ("weight", "bias", "mean", "var")]
    nodes = [
        conv("image", "conv1"),
        helper.make_node("MaxPool", ["conv1_out"], ["pool1"], "pool1", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("BatchNormalization", ["pool1", *norm], ["norm1_out"], "norm1"),
        *clip("norm1_out", 1),
        conv("s1", "conv2"),
        *clip("conv2_out", 2),
        conv("s2", "conv3", stride=2),
        *clip("conv3_out", 3),
        helper.make_node("Flatten", ["s3"], ["flat"], "flatten"),
        helper.make_node("Dropout", ["flat", "dropped"], ["kept"], "dropout"),
        helper.make_node("Gemm", ["kept", "readout.weight", "readout.bias"], ["logits"], "readout", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", CLASSES])],
        [numpy_helper.from_array(array, name) for name, array in {**weights, **constants}.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def main() -> None:
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "out/digits.onnx")
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(digits_model(), path)
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
