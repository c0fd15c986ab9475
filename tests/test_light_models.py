"""The nine "light" models of the onnx package, whole and with random weights."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto, numpy_helper

from ffebm import Executor
from ffebm import compile as compile_plan
from ffebm.graph.tensor import Array
from tests.models import as_tuple, oracle, random_feeds, tensors

FOLDER = Path(onnx.__file__).parent / "backend/test/data/light"
QUICK = ["inception_v1", "resnet50", "shufflenet", "squeezenet"]
SLOW = ["bvlc_alexnet", "densenet121", "inception_v2", "vgg19", "zfnet512"]
NAMES = [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]


def randomised(name: str) -> ModelProto:
    """The model with its constant weights replaced by random ones that keep the scale of the activations."""
    model = onnx.load(FOLDER / f"light_{name}.onnx")
    model.ir_version = 8
    rng = np.random.default_rng(0)
    shapes = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    variances = {n.input[4] for n in model.graph.node if n.op_type == "BatchNormalization"}
    scales = {n.input[1] for n in model.graph.node if n.op_type == "BatchNormalization"}

    def weight(value: str, shape: list[int]) -> Array:
        if value in variances | scales:
            return rng.uniform(0.7, 1.3, shape).astype(np.float32)
        gain = np.sqrt(2 / np.prod(shape[1:])) if len(shape) > 1 else 0.05
        return (rng.standard_normal(shape, np.float32) * gain).astype(np.float32)

    for node in [n for n in model.graph.node if n.op_type == "ConstantOfShape"]:
        array = weight(node.output[0], shapes[node.input[0]].tolist())
        model.graph.node.remove(node)
        model.graph.initializer.append(numpy_helper.from_array(array, node.output[0]))
    return model


@pytest.mark.parametrize("name", NAMES)
def test_a_light_model(name: str) -> None:
    model = randomised(name)
    feeds = random_feeds(model, 1)
    with torch.no_grad():
        found = as_tuple(Executor(compile_plan(model, hardware="ideal"))(**tensors(feeds)))
    for output, expected in zip(found, oracle(model, feeds), strict=True):
        wanted = expected.astype(float)
        scale = float(np.abs(wanted).max())
        assert float(np.ptp(wanted)) > 0.01 * scale > 0
        assert float(np.abs(output.numpy() - wanted).max()) <= 1e-4 * scale
    del found
    plan = compile_plan(model, hardware="reference")
    assert all(node.unit in {"tile", "digital"} and node.reason for node in plan.nodes)
    assert 0 < len(plan.tiles) <= 64
