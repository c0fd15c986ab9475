from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper

from ffebm import Executor
from ffebm import compile as compile_plan
from ffebm.compiler.onnx.from_onnx import from_onnx
from ffebm.errors import ModelError
from tests.models import Builder, as_tuple, oracle, random_feeds, relative_error, tensors

LATEST = 23
"""The newest opset that the oracle runs for certain."""


def error(model: ModelProto | Path, dims: dict[str, int] | None = None) -> float:
    """How far the plan is from the oracle."""
    plan = compile_plan(model, hardware="ideal", dims=dims)
    source = onnx.load(model) if isinstance(model, Path) else model
    feeds = random_feeds(source)
    expected = oracle(str(model) if isinstance(model, Path) else model, feeds)
    return relative_error(as_tuple(Executor(plan)(**tensors(feeds))), expected)


def message(model: ModelProto | Path, dims: dict[str, int] | None = None) -> str:
    with pytest.raises(ModelError) as caught:
        compile_plan(model, hardware="ideal", dims=dims)
    return str(caught.value)


def small(opset: int = 20, ir: int = 9) -> ModelProto:
    """Ops whose form changed over the opsets: Clip, Softmax, Squeeze, Pad, ReduceSum, Upsample, Dropout."""
    b = Builder()
    x = b.input("x", "N", 2, 6, 6)
    y = b.norm(b.conv(x, 2, 4), 4)
    y = b.node("Clip", y, min=-0.5, max=1.0) if opset < 11 else b.clip(y, -0.5, 1.0)
    if opset < 9:
        y = b.node("Upsample", y, scales=[1.0, 1.0, 2.0, 2.0], mode="nearest")
    elif opset == 9:
        y = b.node("Upsample", y, b.constant([1.0, 1.0, 2.0, 2.0]), mode="nearest")
    y = b.node("AveragePool", y, kernel_shape=[2, 2], strides=[2, 2])
    if opset < 11:
        y = b.node("Pad", y, pads=[0, 0, 1, 0, 0, 0, 0, 1])
    else:
        y = b.node("Pad", y, b.shape(0, 0, 1, 0, 0, 0, 0, 1))
    y = b.node("Dropout", y, ratio=0.5) if opset < 12 else b.node("Dropout", y)
    if opset < 13:
        z = b.node("ReduceSum", y, axes=[2], keepdims=1)
    else:
        z = b.node("ReduceSum", y, b.shape(2), keepdims=1)
    z = b.node("Squeeze", z, axes=[2]) if opset < 13 else b.node("Squeeze", z, b.shape(2))
    z = b.node("Softmax", z, axis=1)
    y = b.node("Gemm", b.node("Flatten", z), b.weight(_width(opset), 3), b.weight(3))
    return b.model(b.node("Softmax", y), opset=opset, ir=ir)


def _width(opset: int) -> int:
    """Elements behind the Flatten of `small`."""
    side = 6 if opset < 10 else 3
    return 4 * (side + 1)


@pytest.mark.parametrize("opset", range(7, LATEST + 1))
def test_every_opset(opset: int) -> None:
    assert error(small(opset, ir=3 if opset < 9 else 9)) < 1e-5


def test_initializers_of_old_models_are_inputs_too() -> None:
    model = small(7, ir=3)
    assert len(model.graph.input) > 1
    graph = from_onnx(model, {}).graph
    assert graph.inputs == ["x"]
    assert error(model) < 1e-5


def test_weights_of_every_origin_are_trainable() -> None:
    b = Builder()
    value = numpy_helper.from_array(np.full((4, 4), 0.3, np.float32))
    one = numpy_helper.from_array(np.array([0.1], np.float32))
    w0 = b.node("Constant", out="w0", value=value)
    w1 = b.node("ConstantOfShape", b.shape(4, 4), out="w1", value=one)
    y = b.node("MatMul", b.input("x", "N", 4), w0)
    y = b.node("Relu", b.node("MatMul", y, w1))
    model = b.model(b.node("MatMul", y, b.weight(4, 4, name="w2")))
    plan = compile_plan(model, hardware="ideal")
    assert set(plan.trainable) == {"w0", "w1", "w2"}
    assert {node.op for node in plan.nodes} == {"MatMul", "Relu"}
    assert error(model) < 1e-5


def test_external_data(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(small(), path, save_as_external_data=True, location="data.bin", size_threshold=100)
    assert error(path) < 1e-5
    assert (
        compile_plan(path, hardware="ideal").source.digest
        == compile_plan(small(), hardware="ideal").source.digest
    )
    (tmp_path / "data.bin").unlink()
    found = message(path)
    assert found.startswith(f"{path}: its external data cannot be read: ")
    assert found.endswith("\n  hint: keep the data file beside the .onnx file")


@pytest.mark.parametrize("batch", ["N", None, 2])
def test_batches(batch: str | int | None) -> None:
    b = Builder()
    y = b.node("Gemm", b.input("x", batch, 3), b.weight(3, 2))
    model = b.model(y)
    assert error(model) < 1e-5
    assert compile_plan(model, hardware="ideal").batch == (2 if batch == 2 else 1)


def test_sizes_for_named_dimensions() -> None:
    b = Builder()
    y = b.conv(b.input("x", "N", 1, "H", "W"), 1, 2)
    model = b.model(y)
    plan = compile_plan(model, hardware="ideal", dims={"H": 5, "W": 4, "N": 3})
    assert plan.batch == 3
    assert plan.outputs[0].type.shape == (3, 2, 5, 4)
    assert plan.options.dims == {"H": 5, "W": 4, "N": 3}
    assert message(model, {"D": 2}) == (
        "model: no input has a dimension named 'D'; named dimensions are ['H', 'N', 'W']"
    )


def test_nodes_in_any_order() -> None:
    model = small()
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(nodes[::-1])
    plan = compile_plan(model, hardware="ideal")
    assert [n.name for n in plan.nodes] == [n.name for n in compile_plan(small(), hardware="ideal").nodes]


def test_names_are_made_unique() -> None:
    b = Builder()
    y = b.node("Relu", b.input("x", "N", 3), name="a_2")
    y = b.node("Abs", b.node("Neg", y, name="a"), name="a")
    b.node("Sqrt", y, out="y")
    b.nodes[-1].name = ""
    assert [n.name for n in compile_plan(b.model("y"), hardware="ideal").nodes] == [
        "a_2",
        "a",
        "a_2_2",
        "Sqrt_3",
    ]


def test_a_node_may_have_the_name_of_a_block(tmp_path: Path) -> None:
    b = Builder()
    y = b.node("Abs", b.input("x", "N", 3), name="block0")
    model = b.model(b.node("MatMul", y, b.weight(3, 3), name="block1"))
    plan = compile_plan(model, hardware="ideal")
    plan.save(tmp_path / "plan")
    assert error(model) < 1e-6


@pytest.mark.parametrize("opset", [11, 13, 20])
def test_functions_are_inlined(tmp_path: Path, opset: int) -> None:
    b = Builder()
    weight = numpy_helper.from_array(np.arange(12, dtype=np.float32).reshape(3, 4) / 10)
    body = [
        helper.make_node("Constant", [], ["k"], "k", value=weight),
        helper.make_node("MatMul", ["a", "k"], ["m"], "mm"),
        helper.make_node("Softmax", ["m"], ["out"], "sm"),
    ]
    imports = [helper.make_opsetid("", opset)]
    b.functions.append(helper.make_function("my", "Layer", ["a"], ["out"], body, imports))
    y = b.node("Layer", b.input("x", "N", 2, 3), domain="my", name="f1")
    y = b.node("Layer", b.node("MatMul", y, b.weight(4, 3, name="w")), domain="my", name="f2")
    model = b.model(y, opset=opset, ir=8)
    assert error(model) < 1e-5
    net = Executor(compile_plan(model, hardware="ideal"))
    assert len(net.weights()) == 3
    for parameter in net.weights().values():
        parameter.data.mul_(0.5)
    net.save_onnx(tmp_path / "halved.onnx")
    feeds = random_feeds(model)
    expected = oracle(str(tmp_path / "halved.onnx"), feeds)
    assert relative_error(as_tuple(net(**tensors(feeds))), expected) < 1e-5


def test_attributes_that_a_call_leaves_out_are_what_its_function_says() -> None:
    imports = [helper.make_opsetid("", 20), helper.make_opsetid("my", 1)]
    leaky = helper.make_node("LeakyRelu", ["a"], ["out"])
    kind = onnx.AttributeProto.FLOAT
    leaky.attribute.append(onnx.AttributeProto(name="alpha", ref_attr_name="slope", type=kind))
    default = [helper.make_attribute("slope", 0.5)]
    body = [helper.make_node("Leaky", ["a"], ["m"], domain="my"), helper.make_node("Exp", ["m"], ["out"])]
    b = Builder()
    b.functions.append(
        helper.make_function("my", "Leaky", ["a"], ["out"], [leaky], imports, attribute_protos=default)
    )
    b.functions.append(helper.make_function("my", "Outer", ["a"], ["out"], body, imports))
    y = b.node("Leaky", b.input("x", 2, 3), domain="my")
    y = b.node("Leaky", b.node("Outer", y, domain="my"), domain="my", slope=0.25)
    y = b.node("Leaky", b.node("Neg", y), domain="my", slope=0.25)
    assert error(b.model(y, opset=20, ir=8)) < 1e-6


def branch(name: str, shift: float, inner: list[onnx.NodeProto] | None = None) -> onnx.GraphProto:
    constant = numpy_helper.from_array(np.array([shift], np.float32), "shift")
    nodes = inner or [helper.make_node("Add", ["y", "shift"], [f"{name}_out"], f"{name}_add")]
    out = helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, None)
    return helper.make_graph(nodes, name, [], [out], [constant])


def test_subgraphs_see_the_constants_around_them() -> None:
    """An If in an If; the inner one reads a constant of the outer one."""
    b = Builder()
    b.node("Relu", b.input("x", 2, 3), out="y")
    b.node("ReduceMax", "y", keepdims=0, out="largest")
    b.node("Greater", "largest", b.constant(0.0), out="condition")
    inner_then = helper.make_node("Mul", ["y", "shift"], ["in_out"], "in_mul")
    out = helper.make_tensor_value_info("in_out", TensorProto.FLOAT, None)
    inner = helper.make_node(
        "If",
        ["condition"],
        ["then_out"],
        "inner",
        then_branch=helper.make_graph([inner_then], "in", [], [out]),
        else_branch=branch("other", 3.0),
    )
    y = b.node("If", "condition", then_branch=branch("then", 5.0, [inner]), else_branch=branch("else", 7.0))
    model = b.model(y)
    assert error(model) < 1e-6


# --- models that are none ----------------------------------------------------------------------------

NOT_ONNX = (
    "not an ONNX model, or a truncated one\n  hint: export it again, or check that the download is complete"
)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("text.onnx", b"hello, this is text\n" * 20),
        ("code.onnx", b"import torch\n"),
        ("model.json", b'{"irVersion": 1}'),
        ("model.onnxtxt", b"\x00\xff"),
    ],
)
def test_files_of_another_kind(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert message(tmp_path / name) == f"{tmp_path / name}: {NOT_ONNX}"


@settings(max_examples=60)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_truncated_file_is_never_a_crash(tmp_path_factory: pytest.TempPathFactory, share: float) -> None:
    content = small().SerializeToString()
    path = tmp_path_factory.getbasetemp() / "cut.onnx"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ModelError):
        compile_plan(path, hardware="ideal")


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty.onnx").touch()
    assert message(tmp_path / "empty.onnx") == (
        "empty.onnx: not an ONNX model: it has no graph\n  hint: export it again"
    )


def test_no_file(tmp_path: Path) -> None:
    path = tmp_path / "missing.onnx"
    assert message(path) == f"{path}: there is no such file\n  hint: give the path of a .onnx file"


def test_a_folder_that_is_no_plan(tmp_path: Path) -> None:
    assert message(tmp_path) == (
        f"{tmp_path}: a folder without plan.json, so it is no plan; an ONNX file, or a plan that was "
        "compiled from one"
    )


def cycle(b: Builder) -> str:
    b.node("Add", b.input("x", "N", 4), "z", out="y", name="sum")
    return b.node("Relu", "y", out="z", name="act")


def missing(b: Builder) -> str:
    return b.node("MatMul", b.input("x", "N", 4), "w", name="mm")


def twice(b: Builder) -> str:
    b.node("Relu", b.input("x", "N", 4), out="y", name="first")
    return b.node("Abs", "x", out="y", name="second")


def unknown(b: Builder) -> str:
    y = b.node("Foo", b.input("x", "N", 4), name="foo1")
    y = b.node("Bar", b.node("Foo", y, name="foo2"), domain="com.acme", name="bar1")
    return b.node("Relu", y)


def sparse(b: Builder) -> str:
    values, indices = helper.make_tensor("v", 1, [1], [1.0]), helper.make_tensor("i", 7, [1], [1])
    b.node("Constant", out="k", name="k", sparse_value=helper.make_sparse_tensor(values, indices, [3]))
    return b.node("Add", b.input("x", "N", 3), "k")


BAD: dict[str, tuple[Callable[[Builder], str], str]] = {
    "cycle": (
        cycle,
        "model:act: the graph has a cycle: act -> sum -> act; a graph without cycles\n"
        "  hint: write recurrence as a Loop or Scan node",
    ),
    "missing initializer": (
        missing,
        "model:mm: reads 'w', which no node, input or initializer provides\n"
        "  hint: an initializer is missing, or a name is misspelt",
    ),
    "made twice": (twice, "model:second: value 'y' is made twice"),
    "unknown ops": (
        unknown,
        "model:foo1: ops that no unit runs: Foo (foo1, foo2); com.acme.Bar (bar1)\n"
        "  hint: docs/ops.md lists the ops that ffebm runs",
    ),
    "sparse constant": (
        sparse,
        "model:k: attribute 'sparse_value' is a SPARSE_TENSOR, which is not supported",
    ),
}


NEEDS_OPSET = {"sparse constant": 11}


@pytest.mark.parametrize(
    ("case", "opset"),
    [(case, opset) for case in BAD for opset in (9, 20) if opset >= NEEDS_OPSET.get(case, 0)],
)
def test_a_bad_model(case: str, opset: int) -> None:
    build, expected = BAD[case]
    b = Builder()
    output = build(b)
    domains = sorted({n.domain for n in b.nodes} - {""})
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    ports = [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)]
    graph = helper.make_graph(b.nodes, "bad", b.inputs, ports, b.initializers)
    assert message(helper.make_model(graph, opset_imports=imports)) == expected


def test_an_output_that_nothing_makes() -> None:
    b = Builder()
    b.node("Relu", b.input("x", "N", 4))
    model = b.model("v0")
    model.graph.output[0].name = "nothing"
    assert message(model) == "model: output 'nothing' is never made"


def test_data_of_another_size_than_its_shape() -> None:
    b = Builder()
    y = b.node("MatMul", b.input("x", "N", 4), b.weight(4, 4, name="w"))
    model = b.model(y)
    model.graph.initializer[0].raw_data = b"1234"
    found = message(model)
    assert found.startswith("model:w: its data does not have the shape [4, 4]: ")
    assert found.endswith("\n  hint: export the model again")


def test_an_opset_that_is_not_known_yet() -> None:
    b = Builder()
    y = b.node("Relu", b.input("x", "N", 4))
    model = b.model(y)
    model.opset_import[0].version = 99
    latest = onnx.defs.onnx_opset_version()
    assert message(model) == (
        f"model: opset 99; onnx {onnx.__version__} knows opsets up to {latest}\n"
        "  hint: install a newer onnx, or export the model with an older opset"
    )


def test_the_digest_covers_structure_and_weights() -> None:
    first, second = small(), small()
    assert from_onnx(first, {}).source == from_onnx(second, {}).source
    tensor = second.graph.initializer[0]
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + np.float32(1), tensor.name))
    assert from_onnx(first, {}).source.digest != from_onnx(second, {}).source.digest


def test_a_size_below_zero_says_nothing() -> None:
    """As onnxruntime takes it; steps of a negative time would have run in another order."""
    b = Builder()
    y = b.node("Relu", b.node("Sigmoid", b.node("Abs", b.input("x", "N", 4))))
    model = b.model(y)
    model.graph.output[0].type.tensor_type.shape.dim[0].ClearField("dim_param")
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = -128
    plan = compile_plan(model, hardware="ideal")
    feeds = random_feeds(model, 3)
    assert relative_error((Executor(plan)(*tensors(feeds).values()),), oracle(model, feeds)) < 1e-6
    assert all(size != -128 for known in plan.types.values() for size in known.shape or ())
