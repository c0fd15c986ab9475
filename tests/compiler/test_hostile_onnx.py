"""Models that are damaged, endless or made to exhaust the machine: one message each."""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import AttributeProto, ModelProto, TensorProto, helper

import ffebm
from ffebm.compiler.isolated import isolated
from ffebm.errors import ModelError, UsageError
from ffebm.graph.graph import Graph
from ffebm.graph.verify import verify
from tests.models import Builder, oracle, random_feeds, relative_error, tensors


def refusal(model: ModelProto) -> str:
    with pytest.raises(ModelError) as caught:
        ffebm.compile(model, hardware="ideal")
    return str(caught.value)


def of_node(op: str, *attributes: AttributeProto, inputs: int = 1) -> ModelProto:
    b = Builder()
    b.nodes.append(helper.make_node(op, [b.input("x", "N", 4)] * inputs, ["y"], "n"))
    b.nodes[-1].attribute.extend(attributes)
    return b.model("y")


def with_nothing(op: str) -> ModelProto:
    model = of_node(op, inputs=2)
    model.graph.node[0].input[1] = ""
    return model


def undefined_tensor() -> ModelProto:
    b = Builder()
    b.nodes.append(helper.make_node("Constant", [], ["c"], "n"))
    b.nodes[-1].attribute.add(name="value", type=AttributeProto.TENSOR)
    return b.model(b.node("Add", b.input("x", "N", 4), "c"))


def a_map() -> ModelProto:
    b = Builder()
    model = b.model(b.node("Relu", b.input("x", "N", 4)))
    model.graph.input[0].type.map_type.key_type = TensorProto.INT64
    return model


def huge_shape() -> ModelProto:
    b = Builder()
    b.initializers.append(TensorProto(name="w", data_type=1, dims=[2**40, 2**20], raw_data=b"1234"))
    return b.model(b.node("Add", b.input("x", "N", 4), "w"))


def recursion() -> ModelProto:
    b = Builder()
    imports = [helper.make_opsetid("", 20), helper.make_opsetid("own", 1)]
    for name in "AB":
        node = helper.make_node("Relu", ["a"], ["b"])
        b.functions.append(helper.make_function("own", name, ["a"], ["b"], [node], imports))
    model = b.model(b.node("A", b.input("x", "N", 4), domain="own"))
    for function, called in zip(model.functions, "BA", strict=True):
        function.node[0].op_type, function.node[0].domain = called, "own"
    return model


def doubled_functions(depth: int) -> ModelProto:
    """Each function calls the one below it twice."""
    b = Builder()
    imports = [helper.make_opsetid("", 20), helper.make_opsetid("own", 1)]
    for level in range(depth):
        op, domain = (f"F{level - 1}", "own") if level else ("Relu", "")
        body = [helper.make_node(op, [v], [w], domain=domain) for v, w in (("a", "t"), ("t", "b"))]
        b.functions.append(helper.make_function("own", f"F{level}", ["a"], ["b"], body, imports))
    return b.model(b.node(f"F{depth - 1}", b.input("x", "N", 4), domain="own"))


def filled(*sizes: int) -> ModelProto:
    b = Builder()
    return b.model(b.node("Add", b.input("x", 1), b.node("ConstantOfShape", b.shape(*sizes), name="fill")))


FOLDED = (
    "; at most 1,073,741,824 bytes of constants that are computed in a compilation"
    "\n  hint: if that is meant, set the environment variable FFEBM_MAX_FOLDED_BYTES to a larger number"
)

REFUSED: dict[str, tuple[Callable[[], ModelProto], str]] = {
    "an equation is missing": (
        lambda: of_node("Einsum"),
        "model:n: Einsum: attribute 'equation' is missing; it is needed",
    ),
    "no equation": (
        lambda: of_node("Einsum", helper.make_attribute("equation", "-")),
        "model:n: Einsum: equation '-'; letters and '...' between commas, with or without '->'",
    ),
    "a sum of nothing": (
        lambda: with_nothing("Sum"),
        "model:n: Sum: one of its inputs data_0 is left out; each is needed",
    ),
    "an unknown reduction": (
        lambda: of_node("ScatterND", helper.make_attribute("reduction", "odd"), inputs=3),
        "model:n: ScatterND: reduction 'odd'; one of ['add', 'max', 'min', 'mul', 'none']",
    ),
    "an unknown attribute": (
        lambda: of_node("Relu", helper.make_attribute("slope", 1)),
        "model:n: Relu: attribute 'slope' is unknown; its attributes are none",
    ),
    "an attribute of another type": (
        lambda: of_node("Softmax", helper.make_attribute("axis", 1.0)),
        "model:n: Softmax: attribute 'axis' is FLOAT; INT is needed",
    ),
    "too many inputs": (lambda: of_node("Relu", inputs=2), "model:n: Relu: 2 inputs; 1 are allowed"),
    "a tensor of no type": (
        undefined_tensor,
        "model: shapes or types do not fit: Invalid tensor data type 0."
        "\n  hint: check the shapes of the weights and inputs",
    ),
    "a map": (a_map, "model:x: the input is a map; tensors"),
    "a shape without data": (
        huge_shape,
        "model:w: its data does not have the shape [1099511627776, 1048576]: "
        "cannot reshape array of size 1 into shape (1099511627776,1048576)\n  hint: export the model again",
    ),
    "a function that calls itself": (
        recursion,
        "model: a function calls itself: own.A -> own.B; no recursion",
    ),
    "functions in functions": (
        lambda: doubled_functions(15),
        "model: 32,768 nodes once its functions are inlined; at most 10,000 nodes, or ten times what the "
        "file holds\n  hint: if that is meant, set the environment variable FFEBM_MAX_INLINED_NODES to a "
        "larger number",
    ),
    "a constant of 16 GiB": (
        lambda: filled(2**16, 2**16),
        "model:fill: constants of 17,179,869,184 bytes" + FOLDED,
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_is_said(name: str) -> None:
    build, message = REFUSED[name]
    assert refusal(build()) == message


@pytest.mark.parametrize("op", ["Expand", "Tile", "Range"])
def test_other_ways_to_a_large_constant(op: str) -> None:
    b = Builder()
    large = b.constant(np.int64(2**31))
    inputs = {
        "Expand": (b.constant([1.0]), b.shape(2**31)),
        "Tile": (b.constant([1.0]), b.shape(2**31)),
        "Range": (b.constant(np.int64(0)), large, b.constant(np.int64(1))),
    }[op]
    y = b.node("ReduceSum", b.node("Cast", b.node(op, *inputs, name="fill"), to=1))
    text = refusal(b.model(b.node("Add", b.input("x", 1), y)))
    assert text.startswith("model:fill: constants of ")
    assert text.endswith(FOLDED)


def test_a_bound_can_be_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FFEBM_MAX_FOLDED_BYTES", "100")
    assert "at most 100 bytes" in refusal(filled(26))
    ffebm.compile(filled(25), hardware="ideal")
    monkeypatch.setenv("FFEBM_MAX_FOLDED_BYTES", "2e9")
    with pytest.raises(UsageError) as caught:
        ffebm.compile(filled(26), hardware="ideal")
    assert str(caught.value) == "FFEBM_MAX_FOLDED_BYTES='2e9'; a whole number of at least 1"


def test_functions_within_the_bound_run() -> None:
    model = doubled_functions(6)
    feeds = random_feeds(model)
    plan = ffebm.compile(model, hardware="ideal")
    assert len(plan.nodes) == 64
    assert relative_error((ffebm.Executor(plan)(**tensors(feeds)),), oracle(model, feeds)) <= 1e-6


@pytest.mark.parametrize("size", [2**31, 10**7])
def test_a_long_vector_costs_nothing(size: int) -> None:
    b = Builder()
    y = b.node("Add", b.input("x", size), b.constant(1.0))
    model = b.model(b.node("Mul", y, y))
    started, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    plan = ffebm.compile(model, hardware="ideal")
    assert plan.outputs[0].type.shape == (size,)
    assert time.process_time() - started < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024


def test_values_beside_a_long_vector_are_still_followed() -> None:
    b = Builder()
    x = b.input("x", "N", 6)
    long = b.node("ReduceSum", b.input("v", 200_000))
    shape = b.node("Concat", b.node("Shape", x, start=0, end=1), b.shape(2, 3), axis=0)
    y = b.node("Add", b.node("Reshape", x, shape), long)
    plan = ffebm.compile(b.model(y), hardware="ideal")
    assert (plan.outputs[0].type.shape or ())[1:] == (2, 3)


def test_names_that_are_no_text(tmp_path: Path) -> None:
    b = Builder()
    y = b.node("Relu", b.node("MatMul", b.input("xxQQ", "N", 4), b.weight(4, 3, name="wQQ"), name="nQQ"))
    path = tmp_path / "odd.onnx"
    path.write_bytes(b.model(y).SerializeToString().replace(b"QQ", b"\xff\xfe"))
    given = onnx.load(path)
    data = given.SerializeToString()
    for model in (path, given):
        plan = ffebm.compile(model, hardware="ideal")
        assert plan.inputs[0].name == r"xx\xff\xfe"
        assert plan.trainable == (r"w\xff\xfe",)
        plan.save(tmp_path / "plan")
        assert ffebm.load_plan(tmp_path / "plan") == plan
        x = torch.ones(2, 4)
        expected = torch.relu(x @ torch.tensor(plan.weights[r"w\xff\xfe"]))
        torch.testing.assert_close(ffebm.Executor(plan)(x), expected)
    assert given.SerializeToString() == data


def test_a_value_that_is_made_and_fed() -> None:
    b = Builder()
    x = b.input("x", "N", 4)
    b.node("Relu", x, out="x")
    assert refusal(b.model("x")) == "model: value 'x' is fed and made"


def test_a_body_out_of_order() -> None:
    b = Builder()
    flag = b.input("c", dtype=TensorProto.BOOL)
    x = b.input("x", 4)
    port = helper.make_tensor_value_info("b", 1, None)
    nodes = [helper.make_node("Relu", ["a"], ["b"]), helper.make_node("Relu", [x], ["a"])]
    branch = helper.make_graph(nodes, "branch", [], [port])
    y = b.node("If", flag, name="if", then_branch=branch, else_branch=branch)
    assert refusal(b.model(y)) == "model:if: in else_branch, 'a' is read before it is made, or made twice"


def test_truncated_files(tmp_path: Path) -> None:
    b = Builder()
    data = b.model(b.node("MatMul", b.input("x", "N", 4), b.weight(4, 3))).SerializeToString()
    path = tmp_path / "cut.onnx"
    for length in range(0, len(data), 3):
        path.write_bytes(data[:length])
        with pytest.raises(ModelError):
            ffebm.compile(path, hardware="ideal")
    command = [sys.executable, "-c", "from ffebm.cli import main; main()", "compile", str(path)]
    done = subprocess.run(
        [*command, "-o", str(tmp_path / "plan")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "plan").exists()


def test_what_a_kernel_cannot_compute_is_a_message() -> None:
    b = Builder()
    x = b.input("x", "N", "M")
    plan = ffebm.compile(b.model(b.node("Add", x, b.weight(5, name="w"), name="sum")), hardware="ideal")
    with pytest.raises(ModelError) as caught:
        ffebm.Executor(plan)(torch.ones(2, 3))
    assert str(caught.value) == (
        "sum: Add cannot be computed: The size of tensor a (3) must match the size of tensor b (5) at "
        "non-singleton dimension 1\n  hint: check the shapes and types of what it reads"
    )


def test_a_crash_elsewhere_is_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(data: bytes) -> bytes:
        os._exit(3)

    def hang(data: bytes) -> bytes:
        time.sleep(60)
        return data

    def refuse(data: bytes) -> bytes:
        raise ValueError("no")

    assert isolated(lambda data: data * 2, b"ab", (ValueError,)) == b"abab"
    for function, text in ((crash, "onnx crashes at it"), (refuse, "no")):
        with pytest.raises(ModelError) as caught:
            isolated(function, b"", (ValueError,))
        assert str(caught.value) == text
    monkeypatch.setenv("FFEBM_MAX_CONVERTER_SECONDS", "1")
    with pytest.raises(ModelError) as caught:
        isolated(hang, b"", (ValueError,))
    assert str(caught.value).startswith("onnx takes too long for it; at most 1 seconds")


def test_a_block_of_many_layers_is_checked_in_time_of_its_length() -> None:
    def seconds(length: int) -> float:
        b = Builder()
        y = b.input("x", "N", 2)
        w = b.weight(2, 2, name="w")
        for _ in range(length):
            y = b.node("MatMul", y, w)
        captured: list[Graph] = []
        ffebm.compile(
            b.model(y), hardware="ideal", block_size=length, progress=lambda _, g: captured.append(g)
        )
        started = time.process_time()
        verify(captured[-1])
        return time.process_time() - started

    seconds(50)
    assert seconds(1600) < 16 * max(seconds(200), 2e-3)


def test_a_value_of_an_unknown_type() -> None:
    b = Builder()
    y = b.node("Relu", b.node("Relu", b.input("x", 2)), out="y")
    model = b.model(y)
    model.graph.value_info.add(name="inner").type.tensor_type.elem_type = 99
    with pytest.raises(ModelError) as caught:
        ffebm.compile(model)
    assert str(caught.value).endswith("a value is of the unknown type 99")
