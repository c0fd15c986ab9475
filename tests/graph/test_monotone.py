from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import numpy_helper

import ffebm
from ffebm.graph.energy_block import Activation
from ffebm.graph.graph import Graph, Node
from ffebm.graph.monotone import activation_of, activation_problem
from tests.models import Builder, oracle, random_feeds, tensors


def found(op: str, *bounds: Any, **attrs: Any) -> Activation | None:
    graph = Graph("g")
    inputs = ["x"]
    for index, bound in enumerate(bounds):
        inputs.append("" if bound is None else f"b{index}")
        if isinstance(bound, (int, float, np.ndarray)):
            graph.constants[f"b{index}"] = np.asarray(bound, np.asarray(bound).dtype)
    return activation_of(graph, Node(op, "n", inputs, ["y"], attrs))


@pytest.mark.parametrize(
    ("op", "attrs", "expected"),
    [
        ("Relu", {}, Activation("Relu")),
        ("LeakyRelu", {}, Activation("LeakyRelu", alpha=0.01)),
        ("LeakyRelu", {"alpha": 0.5}, Activation("LeakyRelu", alpha=0.5)),
        ("LeakyRelu", {"alpha": -0.5}, None),
        ("HardSigmoid", {}, Activation("HardSigmoid", alpha=0.2, beta=0.5)),
        ("HardSigmoid", {"alpha": 0.1, "beta": 0.3}, Activation("HardSigmoid", alpha=0.1, beta=0.3)),
        ("Celu", {"alpha": 0.0}, None),
        ("Selu", {"gamma": -1.0}, None),
        ("Selu", {"alpha": 2.0, "gamma": 3.0}, Activation("Selu", alpha=2.0, beta=3.0)),
        ("Gelu", {}, None),
        ("Softmax", {}, None),
        ("Conv", {}, None),
    ],
)
def test_parameters(op: str, attrs: dict[str, float], expected: Activation | None) -> None:
    assert found(op, **attrs) == expected


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ((), Activation("Clip")),
        ((0.0, 6.0), Activation("Clip", low=0.0, high=6.0)),
        ((None, 1.0), Activation("Clip", high=1.0)),
        ((-np.inf, np.inf), Activation("Clip")),
        ((1.0, 1.0), None),
        ((2.0, 1.0), None),
        (("at run time",), None),
        ((np.array([0, 1], np.float32),), None),
        ((0,), None),
    ],
)
def test_bounds_of_a_clip(bounds: tuple[Any, ...], expected: Activation | None) -> None:
    assert found("Clip", *bounds) == expected


@pytest.mark.parametrize("number", [float("inf"), float("-inf"), float("nan")])
@pytest.mark.parametrize("op", ["Clip-low", "Clip-high", "LeakyRelu", "Elu", "HardSigmoid"])
def test_parameters_that_are_no_finite_numbers(op: str, number: float, tmp_path: Path) -> None:
    b = Builder()
    drive = b.node("MatMul", b.input("x", "N", 4), b.weight(4, 5))
    if op == "Clip-low":
        y = b.node("Clip", drive, b.constant(np.float32(number)))
    elif op == "Clip-high":
        y = b.node("Clip", drive, "", b.constant(np.float32(number)))
    else:
        y = b.node(op, drive, alpha=number)
    model = b.model(y)
    feeds = random_feeds(model)
    ffebm.compile(model, hardware="ideal").save(tmp_path / "plan")
    found = ffebm.Executor(ffebm.load_plan(tmp_path / "plan"))(**tensors(feeds))
    expected: Any = oracle(model, feeds)[0]
    if op.startswith("Clip"):  # onnxruntime ignores a bound that is no number; onnx's evaluator does not
        bound = np.maximum if op == "Clip-low" else np.minimum
        expected = bound(feeds["x"] @ numpy_helper.to_array(model.graph.initializer[0]), np.float32(number))
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scale", [0.0, -0.5, np.inf])
def test_a_scale_is_finite_and_above_zero(scale: float) -> None:
    assert activation_problem(Activation("Relu", scale)) == f"has a scale of {scale:g}"
