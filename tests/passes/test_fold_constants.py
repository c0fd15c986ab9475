from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from ffebm.errors import ModelError
from ffebm.graph.tensor import TensorType
from ffebm.passes.fold_constants import FoldConstants
from tests.machines import crossbars
from tests.models import Builder
from tests.passes.common import imported, rewritten


def test_constants_are_folded_and_weights_stay(golden: Callable[[str], None]) -> None:
    b = Builder()
    x = b.input("x", "N", 4)
    w = b.node("ConstantOfShape", b.shape(4, 4), value=numpy_helper.from_array(np.array([0.5], np.float32)))
    y = b.node("MatMul", x, w)
    bias = b.node("Add", b.constant([1.0, 2.0, 3.0, 4.0]), b.constant(1.0))  # folded, then a weight
    y = b.node("Add", y, bias)
    y = b.node("Mul", y, b.node("Constant", value_float=2.0))  # one number: a constant
    turned = b.node("Transpose", b.weight(3, 4), perm=[1, 0])  # stays, so that its weight can be trained
    golden(rewritten("fold-constants", b.model(b.node("MatMul", y, turned)))[0])


def test_folded_values_are_those_of_the_ops() -> None:
    b = Builder()
    x = b.input("x", "N", 3)
    two = b.node("Sqrt", b.constant([4.0]))
    shape = b.node("Concat", b.shape(0), b.node("Neg", b.shape(1)), axis=0)
    y = b.node("Reshape", b.node("Div", x, two), shape)
    _, graph = rewritten("fold-constants", b.model(y))
    assert [n.op for n in graph.nodes] == ["Div", "Reshape"]
    assert graph.constants[two].tolist() == [2.0]
    assert graph.constants[shape].tolist() == [0, -1]
    assert graph.trainable == set()


def test_random_numbers_are_not_folded() -> None:
    b = Builder()
    x = b.input("x", 2, 3)
    y = b.node("Add", x, b.node("RandomNormal", shape=[2, 3]))
    _, graph = rewritten("fold-constants", b.model(y))
    assert [n.op for n in graph.nodes] == ["RandomNormal", "Add"]


def test_a_node_that_cannot_be_computed_is_named() -> None:
    b = Builder()
    x = b.input("x", "N", 3)
    picked = b.node("Gather", b.constant(np.ones((1, 3), np.float32)), b.shape(7), name="pick")
    y = b.node("Add", x, picked)
    with pytest.raises(ModelError) as caught:
        rewritten("fold-constants", b.model(y))
    assert str(caught.value) == (
        "model:pick: cannot be computed from its constants: index 7 is out of bounds for axis 0 with size 1"
    )


def test_every_kind_of_constant_node() -> None:
    b = Builder()
    x = b.input("x", "N", 2)
    kinds: dict[str, tuple[Any, list[float], str]] = {
        "value_float": (2.0, [2.0], "float32"),
        "value_floats": ([1.0, 2.0], [1.0, 2.0], "float32"),
        "value_int": (3, [3], "int64"),
        "value_ints": ([3, 4], [3, 4], "int64"),
        "value": (numpy_helper.from_array(np.array([5.0])), [5.0], "float64"),
    }
    for name, (value, _, _) in kinds.items():
        b.node("Constant", out=name, **dict[str, Any]({name: value}))
    y = b.node("Relu", x)
    model = b.model(y, *kinds)
    for port in model.graph.output:
        port.type.tensor_type.elem_type = {"value_int": 7, "value_ints": 7, "value": 11}.get(port.name, 1)
    graph = imported(model)
    FoldConstants().run(graph, crossbars(1, 1, 1))
    for name, (_, expected, dtype) in kinds.items():
        assert graph.constants[name].ravel().tolist() == expected
        assert str(graph.constants[name].dtype) == dtype


@pytest.mark.parametrize(("limit", "fits"), [(11, True), (10, False)])
def test_an_element_of_a_type_that_numpy_lacks_counts_as_a_byte(
    limit: int, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    b = Builder()
    made = b.node("ConstantOfShape", b.shape(11), name="made")
    graph = imported(b.model(b.node("Add", b.input("x", "N", 11), made)))
    graph.types[made] = TensorType("unknown", (11,))
    monkeypatch.setenv("FFEBM_MAX_FOLDED_BYTES", str(limit))
    if fits:
        FoldConstants().run(graph, crossbars(1, 1, 1))
        assert graph.constants[made].tolist() == [0.0] * 11
        return
    with pytest.raises(ModelError) as caught:
        FoldConstants().run(graph, crossbars(1, 1, 1))
    assert "model:made: constants of 11 bytes; at most 10 bytes" in str(caught.value)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int64", "bool"])
def test_a_tensor_of_one_value_takes_the_memory_of_one(dtype: str) -> None:
    b = Builder()
    value = numpy_helper.from_array(np.ones(1, np.dtype(getattr(ml_dtypes, dtype, dtype))))
    made = b.node("ConstantOfShape", b.shape(1000, 1000), value=value)
    graph = imported(b.model(b.node("Cast", made, to=onnx.TensorProto.FLOAT)))
    FoldConstants().run(graph, crossbars(1, 1, 1))
    array = graph.constants[made]
    assert (str(array.dtype), array.shape, array.strides) == (dtype, (1000, 1000), (0, 0))
    assert bool((array == 1).all())
