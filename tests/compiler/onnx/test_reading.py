"""Weights of files are read apart: the same values as onnx's own reader gives, and the same messages."""

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from onnx import ModelProto, TensorProto, helper, numpy_helper

from ffebm import compile as compile_plan
from ffebm.compiler.onnx import reading
from ffebm.compiler.onnx.reading import LARGE_BYTES, array_of, read_model
from ffebm.errors import ModelError
from ffebm.files.mapped import let_go
from tests.models import Builder, random_models

SIDE = 160
"""So many numbers a side are more than what is left in the model."""


def wide(*dtypes: str) -> ModelProto:
    """A model with a large constant of each type, a small one, and one inside a node."""
    rng = np.random.default_rng(0)
    arrays = [
        rng.integers(0, 2, (SIDE, SIDE * 2)).astype(np.dtype(getattr(ml_dtypes, dtype, None) or dtype))
        for dtype in dtypes
    ]
    weights = [numpy_helper.from_array(array, f"w{number}") for number, array in enumerate(arrays)]
    weights.append(numpy_helper.from_array(rng.standard_normal(3).astype(np.float32), "small"))
    nodes = [helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.zeros((SIDE, SIDE))))]
    nodes += [helper.make_node("Identity", [tensor.name], [f"{tensor.name}_out"]) for tensor in weights]
    outputs = [helper.make_empty_tensor_value_info(node.output[0]) for node in nodes]
    return helper.make_model(helper.make_graph(nodes, "wide", [], outputs, weights))


DTYPES = ("float32", "float64", "float16", "bfloat16", "int8", "uint16", "int64", "bool", "int4", "complex64")


@pytest.mark.parametrize("mapping", [False, True])
@pytest.mark.parametrize("outside", [False, True])
@pytest.mark.parametrize("dtypes", [DTYPES[:7], DTYPES])
def test_values_are_those_that_onnx_reads(
    dtypes: tuple[str, ...], outside: bool, mapping: bool, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(wide(*dtypes), path, save_as_external_data=outside, location="data.bin", size_threshold=0)
    model, held = read_model(path, mapping=mapping)
    plain = [tensor for tensor in model.graph.initializer[:-1] if tensor.data_type in reading.PLAIN]
    assert len(held) == len(plain) > 0  # what arrays hold otherwise is left to onnx
    for ours, theirs in zip(model.graph.initializer, onnx.load(path).graph.initializer, strict=True):
        found, expected = array_of(ours, held), numpy_helper.to_array(theirs)
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        assert found.tobytes() == expected.tobytes()
        assert found.flags.writeable == expected.flags.writeable
        let_go(found)  # and it is read again
        assert found.tobytes() == expected.tobytes()
        assert len(ours.raw_data) <= LARGE_BYTES or not held or ours.data_type not in reading.PLAIN


@given(random_models())
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nothing_else_of_a_model_changes(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, model: ModelProto
) -> None:
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    onnx.save(model, path)
    monkeypatch.setattr(reading, "LARGE_BYTES", 8)
    found, held = read_model(path)
    for tensor in found.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(array_of(tensor, held), tensor.name))
    assert found == model


def test_a_piece_is_a_part_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(
        wide("float32", "int8"), path, save_as_external_data=True, location="data.bin", size_threshold=0
    )
    monkeypatch.setattr(reading, "PIECE", 1000)
    model, held = read_model(path)
    whole = onnx.load(path).graph.initializer
    for ours, theirs in zip(model.graph.initializer, whole, strict=True):
        assert array_of(ours, held).tobytes() == numpy_helper.to_array(theirs).tobytes()


@pytest.mark.parametrize("mapping", [False, True])
@pytest.mark.parametrize("location", ["../data.bin", "/etc/passwd", "link.bin"])
def test_what_lies_elsewhere_is_not_read(location: str, mapping: bool, tmp_path: Path) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    path = folder / "model.onnx"
    onnx.save(wide("float32"), path, save_as_external_data=True, location="data.bin", size_threshold=0)
    (folder / "data.bin").rename(tmp_path / "data.bin")
    (folder / "link.bin").symlink_to(tmp_path / "data.bin")
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        tensor.external_data[0].value = location
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="its external data cannot be read: "):
        read_model(path, mapping=mapping)


@pytest.mark.parametrize("mapping", [False, True])
@pytest.mark.parametrize("outside", [False, True])
def test_data_that_end_early(outside: bool, mapping: bool, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(wide("float32"), path, save_as_external_data=outside, location="data.bin", size_threshold=0)
    short = path.with_name("data.bin") if outside else path
    content = short.read_bytes()
    for end in (len(content) - 1, len(content) // 2, 3):
        short.write_bytes(content[:end])
        message = "its external data cannot be read" if outside else "not an ONNX model, or a truncated one"
        with pytest.raises(ModelError, match=message):
            read_model(path, mapping=mapping)


def test_data_of_another_shape_are_one_message(tmp_path: Path) -> None:
    b = Builder()
    model = b.model(b.node("MatMul", b.input("x", "N", SIDE), b.weight(SIDE, 160, name="w0")))
    model.graph.initializer[0].dims[0] += 1
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=r"model.onnx:w0: its data does not have the shape \[161, 160\]"):
        compile_plan(path, hardware="ideal")


def test_a_constant_that_a_pass_changes_keeps_its_data_in_the_source(tmp_path: Path) -> None:
    """Folding batch normalisation changes a weight; the source model then still has the one of the file."""
    rng = np.random.default_rng(0)
    arrays = {"w": rng.standard_normal((64, 64, 3, 3)).astype(np.float32)}
    arrays |= {
        name: np.full(64, value, np.float32) for name, value in (("g", 2), ("b", 1), ("m", 0), ("v", 1))
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["u"], "conv"),
        helper.make_node("BatchNormalization", ["u", "g", "b", "m", "v"], ["y"], "norm"),
    ]
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 64, None, None]) for n in "xy"]
    weights = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    model = helper.make_model(
        helper.make_graph(
            nodes, "folded", [helper.make_tensor_value_info("x", 1, [1, 64, 8, 8])], ports[1:], weights
        ),
        opset_imports=[helper.make_opsetid("", 20)],
    )
    onnx.save(model, tmp_path / "model.onnx")
    plan = compile_plan(tmp_path / "model.onnx", hardware="ideal", fold_batch_norm=True)
    assert plan.model == compile_plan(model, hardware="ideal", fold_batch_norm=True).model
    kept = {
        t.name: numpy_helper.to_array(t)
        for t in ModelProto.FromString(plan.model).graph.initializer
        if t.raw_data
    }
    assert kept["w"].tobytes() == arrays["w"].tobytes()
