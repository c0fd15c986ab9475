from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, numpy_helper

from ffebm import Executor, load_plan
from ffebm import compile as compile_plan
from ffebm.errors import ModelError
from tests.models import Builder, oracle, relative_error, tensors

GROUPS = "\n  hint: check the weight's shape and the group attribute"


def message(b: Builder, output: str) -> str:
    with pytest.raises(ModelError) as caught:
        compile_plan(b.model(output), hardware="ideal")
    return str(caught.value)


@pytest.mark.parametrize(
    ("op", "weight", "bias", "attrs", "expected"),
    [
        (
            "Conv",
            (2, 4, 3, 3),
            None,
            {},
            "weight [2, 4, 3, 3] in 1 group(s) takes 4 channels, its input ['N', 6, 8, 8] has 6" + GROUPS,
        ),
        (
            "Conv",
            (3, 3, 3, 3),
            None,
            {"group": 2},
            "weight [3, 3, 3, 3] cannot be divided into 2 group(s)" + GROUPS,
        ),
        ("Conv", (2, 6, 3, 3), 3, {}, "bias [3] does not fit 2 output channels"),
        (
            "Conv",
            (2, 6, 3, 3),
            None,
            {"kernel_shape": [5, 5]},
            "kernel_shape [5, 5] does not fit weight [2, 6, 3, 3]",
        ),
        (
            "ConvTranspose",
            (4, 2, 3, 3),
            None,
            {},
            "weight [4, 2, 3, 3] in 1 group(s) takes 4 channels, its input ['N', 6, 8, 8] has 6" + GROUPS,
        ),
        ("ConvTranspose", (6, 2, 3, 3), 3, {"group": 2}, "bias [3] does not fit 4 output channels"),
    ],
)
def test_convolutions(
    op: str, weight: tuple[int, ...], bias: int | None, attrs: dict[str, Any], expected: str
) -> None:
    b = Builder()
    x = b.input("x", "N", 6, 8, 8)
    inputs = [x, b.weight(*weight), *([b.weight(bias)] if bias else [])]
    assert message(b, b.node(op, *inputs, name="c", **attrs)) == f"model:c: {expected}"


def test_the_bias_of_a_gemm() -> None:
    b = Builder()
    y = b.node("Gemm", b.input("x", "N", 3), b.weight(3, 2), b.weight(5), name="g")
    assert message(b, y) == "model:g: bias [5] does not fit output ['N', 2]"


@pytest.mark.parametrize("bias", [(1,), (2,), (1, 2), (1, 1)])
def test_a_bias_of_a_gemm_that_fits(bias: tuple[int, ...]) -> None:
    b = Builder()
    y = b.node("Gemm", b.input("x", "N", 3), b.weight(3, 2), b.weight(*bias), name="g")
    model, feeds = b.model(y), {"x": np.ones((4, 3), np.float32)}
    found = Executor(compile_plan(model, hardware="ideal"))(*tensors(feeds).values())
    assert relative_error((found,), oracle(model, feeds)) < 1e-6


def test_the_inner_size_of_a_gemm() -> None:
    b = Builder()
    y = b.node("Gemm", b.input("x", "N", 3), b.weight(4, 2), name="g")
    text = message(b, y)
    assert text.startswith("model:g: shapes or types do not fit: ")
    assert text.endswith(
        "Dimension mismatch in unification between 4 and 3"
        "\n  hint: check the shapes of the weights and inputs"
    )


def test_batch_normalisation() -> None:
    b = Builder()
    x = b.input("x", "N", 3, 4, 4)
    y = b.node("BatchNormalization", x, *(b.weight(3) for _ in range(3)), b.weight(2, name="var"), name="bn")
    assert message(b, y).startswith("model:bn: shapes or types do not fit: ")


@pytest.mark.parametrize("shape", [("N", 0), (0, 3), (0, "M"), (0,)])
def test_an_empty_input_runs(shape: tuple[int | str, ...], tmp_path: Path) -> None:
    """As in onnxruntime, and a plan of no samples costs what one of a sample would."""
    b = Builder()
    x = b.input("x", *shape)
    model = b.model(b.node("Relu", x), b.node("ReduceSum", x, b.shape(0)))
    plan = compile_plan(model, hardware="ideal")
    feeds = {"x": np.zeros([size if isinstance(size, int) else 2 for size in shape], np.float32)}
    results = Executor(plan)(*tensors(feeds).values())
    assert relative_error(results, oracle(model, feeds)) < 1e-6
    plan.save(tmp_path / "plan")
    assert load_plan(tmp_path / "plan") == plan
    assert plan.batch == 1


def test_an_empty_input_of_a_layer() -> None:
    b = Builder()
    y = b.node("MatMul", b.input("x", 0, 3), b.weight(3, 2), name="m")
    assert message(b, y) == "model:m: 'x' has a dimension of size 0: [0, 3]; sizes of at least 1"


def test_an_empty_weight() -> None:
    b = Builder()
    y = b.node("MatMul", b.input("x", "N", 3), b.constant(np.zeros((3, 0), np.float32), "w"), name="m")
    assert message(b, y) == "model:m: 'w' has a dimension of size 0: [3, 0]; sizes of at least 1"


def test_a_window_larger_than_its_input() -> None:
    b = Builder()
    y = b.node("Conv", b.input("x", "N", 1, 2, 2), b.weight(1, 1, 3, 3), name="c", out="y")
    assert message(b, y) == "model:c: 'y' has a dimension of size 0: ['N', 1, 0, 0]; sizes of at least 1"


def test_a_constant_that_is_a_text() -> None:
    b = Builder()
    b.initializers.append(numpy_helper.from_array(np.array(["a"], object), "w"))
    y = b.node("Where", b.constant(np.ones(1, bool)), "w", "w")
    model = b.model(b.node("Relu", b.input("x", "N", 3)), b.node("Identity", y))
    model.graph.output[1].type.tensor_type.elem_type = TensorProto.STRING
    with pytest.raises(ModelError) as caught:
        compile_plan(model, hardware="ideal")
    assert "is of type object; numbers and booleans" in str(caught.value)


@pytest.mark.parametrize("number", [np.inf, -np.inf, np.nan])
def test_a_weight_of_a_linear_map_that_is_not_finite(number: float) -> None:
    b = Builder()
    w = b.constant(np.array([[1, number]], np.float32), "w")
    y = b.node("MatMul", b.input("x", "N", 1), w, name="m")
    assert message(b, y) == "model:w: weight 'w' holds a NaN or an infinite number; finite weights"


def test_a_mask_that_is_not_finite_is_no_weight_and_no_bias() -> None:
    b = Builder()
    mask = b.constant(np.array([0, -np.inf, 0, 0], np.float32), "mask")
    scores = b.node("MatMul", b.input("x", "N", 3), b.weight(3, 4, name="w"), name="m")
    plan = compile_plan(b.model(b.node("Softmax", b.node("Add", scores, mask, name="a"))), hardware="ideal")
    assert plan.trainable == ("w",)
    assert {node.name: node.unit for node in plan.nodes if node.name in {"m", "a"}} == {
        "m": "tile",
        "a": "digital",
    }
    x = np.ones((2, 3), np.float32)
    y = Executor(plan)(torch.from_numpy(x)).detach().numpy()
    drive = x @ plan.weights["w"].astype(np.float32) + np.array([0, -np.inf, 0, 0])
    expected = np.exp(drive) / np.exp(drive).sum(1, keepdims=True)
    np.testing.assert_allclose(y, expected, rtol=1e-5)
