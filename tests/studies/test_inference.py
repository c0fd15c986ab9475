"""What `ffebm run` takes as inputs."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from ffebm import Plan
from ffebm import compile as compile_plan
from ffebm.errors import UsageError
from ffebm.graph.tensor import Array
from ffebm.studies.inference import check_outputs, described, infer, read_inputs
from tests.models import Builder


def scaled(shape: list[int | str]) -> onnx.ModelProto:
    """An input times a number that is an input of some shape."""
    graph = helper.make_graph(
        [helper.make_node("Mul", ["a", "k"], ["y"])],
        "scaled",
        [
            helper.make_tensor_value_info("a", TensorProto.FLOAT, ["N", 2]),
            helper.make_tensor_value_info("k", TensorProto.FLOAT, shape),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("declared", [[], [1], ["K"]])
@pytest.mark.parametrize("given", [(), (1,)])
def test_single_numbers(declared: list[int | str], given: tuple[int, ...], tmp_path: Path) -> None:
    onnx.save(scaled(declared), tmp_path / "model.onnx")
    plan, path = compile_plan(tmp_path / "model.onnx", hardware="ideal"), tmp_path / "x.npz"
    np.savez(path, a=np.ones((3, 2), np.float32), k=np.full(given, 2.0, np.float32))
    inputs = read_inputs(plan, path)
    assert inputs["k"].ndim == len(declared)
    outputs, notes = infer(plan, inputs, 0, "cpu")
    np.testing.assert_array_equal(outputs["y"], np.full((3, 2), 2.0, np.float32), strict=True)
    assert notes == []
    (found,) = check_outputs(inputs, outputs, tmp_path / "model.onnx")
    assert found.relative_error == 0


def dense() -> Plan:
    b = Builder()
    return compile_plan(
        b.model(b.node("MatMul", b.input("tokens", "N", 4), b.weight(4, 3))), hardware="ideal"
    )


def test_labelled_samples_are_inputs(tmp_path: Path) -> None:
    x = np.ones((2, 4), np.float32)
    np.savez(tmp_path / "d.npz", x=x, y=np.array(["cat", "dog"]), x_test=x, y_test=np.arange(2))
    (found,) = read_inputs(dense(), tmp_path / "d.npz").items()
    assert found[0] == "tokens"
    np.testing.assert_array_equal(found[1], x)
    np.savez(tmp_path / "d.npz", x=x, tokens=2 * x)
    with pytest.raises(UsageError) as caught:
        read_inputs(dense(), tmp_path / "d.npz")
    assert str(caught.value) == (
        f"{tmp_path / 'd.npz'}: it holds arrays ['tokens', 'x']; one for each input: ['tokens']"
    )


def test_numbers_that_an_integer_input_cannot_hold(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Identity", ["t"], ["y"])],
        "same",
        [helper.make_tensor_value_info("t", TensorProto.INT64, ["N", 2])],
        [helper.make_tensor_value_info("y", TensorProto.INT64, ["N", 2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    plan, path = compile_plan(model, hardware="ideal"), tmp_path / "t.npz"
    np.savez(path, t=np.array([[1.0, 2.0]]))
    assert read_inputs(plan, path)["t"].dtype == np.int64
    for wrong in (1.5, np.nan, 1e30):
        np.savez(path, t=np.array([[1.0, wrong]]))
        with pytest.raises(UsageError) as caught:
            read_inputs(plan, path)
        assert str(caught.value) == (f"{path}: 't' is float64 and holds numbers that are not int64; int64")


def test_outputs_and_samples_that_are_not_finite_are_named() -> None:
    b = Builder(seed=1)
    x = b.input("x", "N", 6)
    hidden = b.node("Relu", b.node("Gemm", x, b.weight(6, 8), b.weight(8)))
    y = b.node("Gemm", hidden, b.weight(8, 4), b.weight(4))
    plan = compile_plan(b.model(y), hardware="ideal")
    array = np.ones((3, 6), np.float32)
    assert infer(plan, {"x": array}, 0, "cpu")[1] == []

    array[[0, 2], 1] = np.nan
    outputs, notes = infer(plan, {"x": array}, 0, "cpu")
    name = plan.outputs[0].name
    assert np.isnan(outputs[name]).any(1).tolist() == [True, False, True]
    assert notes == [
        *(
            f"warning: {block.name} did not settle in 66.7 % of samples (residual up to inf); "
            "compile with --relaxation 0.5 or more --free-sweeps"
            for block in plan.blocks
        ),
        f"warning: output {name!r} is not finite in samples 0, 2 of 3",
    ]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.array([[0.5, np.nan], [-1e-9, np.inf]], np.float32), "y: float32 [2, 2], -1e-09 to 0.5"),
        (np.array([3, -123456], np.int64), "y: int64 [2], -123456 to 3"),
        (np.array(True), "y: bool [], True to True"),
        (np.full(2, np.nan), "y: float64 [2]"),
        (np.zeros((0, 3), np.float32), "y: float32 [0, 3]"),
        (np.zeros(1, np.complex64), "y: complex64 [1]"),
    ],
)
def test_an_output_in_a_line(values: Array, words: str) -> None:
    assert described("y", values) == words
