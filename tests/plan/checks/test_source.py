"""The source of a plan is the model whose digest it holds."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from onnx import ModelProto, TensorProto, numpy_helper

from ffebm import Plan, load_plan
from ffebm import compile as compile_plan
from ffebm.plan.checks.source import holds_data, source_digest, source_problems
from ffebm.plan.schema import PlanData
from tests.models import Builder
from tests.plan.folders import model


@pytest.fixture(scope="module")
def plan() -> Plan:
    return compile_plan(model(), hardware="reference")


def problems(plan: Plan, **changes: Any) -> list[str]:
    data: PlanData = msgspec.structs.replace(plan, **changes)
    return list(source_problems(data))


def changed_model(plan: Plan, **fields: Any) -> bytes:
    """The source with fields of its first initializer set."""
    source = ModelProto.FromString(plan.model)
    for name, value in fields.items():
        if isinstance(value, list):
            getattr(source.graph.initializer[0], name)[:] = value
        else:
            setattr(source.graph.initializer[0], name, value)
    return bytes(source.SerializeToString())


def test_what_belongs_together(plan: Plan) -> None:
    assert problems(plan) == []
    small = compile_plan(torch.nn.Linear(3, 2), (torch.randn(1, 3),), hardware="ideal")
    assert problems(small) == []


DIGEST = "the digest of the source is not that of source.onnx with the plan's weights"


def test_a_weight_or_a_model_of_another_plan(plan: Plan) -> None:
    first = ModelProto.FromString(plan.model).graph.initializer[0].name
    moved = {**plan.weights, first: np.asarray(plan.weights[first], np.float32) + np.float32(1e-3)}
    assert problems(plan, weights=moved) == [DIGEST]
    source = ModelProto.FromString(plan.model)
    source.graph.node[0].name = "other"
    assert problems(plan, model=source.SerializeToString()) == [DIGEST]
    other = msgspec.structs.replace(plan.source, digest="0" * 64)
    assert problems(plan, source=other) == [DIGEST]


def of_half_precision(b: Builder) -> ModelProto:
    """A weight stored in 16 bits and used in 32, one stored in 32 and used in 16."""
    x = b.input("x", "N", 4)
    wide = b.constant(b.rng.standard_normal((4, 5)).astype(np.float16), "wide")
    y = b.node("MatMul", x, b.node("Cast", wide, to=TensorProto.FLOAT))
    narrow = b.node("Cast", b.weight(5, 3, name="narrow"), to=TensorProto.FLOAT16)
    z = b.node("MatMul", b.node("Cast", b.node("Relu", y), to=TensorProto.FLOAT16), narrow)
    return b.model(b.node("Cast", z, to=TensorProto.FLOAT))


def with_a_norm(b: Builder) -> ModelProto:
    return b.model(b.node("Relu", b.norm(b.conv(b.input("x", "N", 1, 6, 6), 1, 4), 4)))


@pytest.mark.parametrize(
    ("build", "fold", "kept"),
    [(of_half_precision, False, {"narrow"}), (with_a_norm, True, {"c0", "c1"}), (with_a_norm, False, set())],
)
def test_weights_in_another_form(
    build: Callable[[Builder], ModelProto], fold: bool, kept: set[str], tmp_path: Path
) -> None:
    """The source has those that do not follow from the plan's, so its digest is still its own."""
    made = build(Builder())
    plan = compile_plan(made, hardware="reference", fold_batch_norm=fold)
    assert problems(plan) == []
    plan.save(tmp_path / "plan")
    assert load_plan(tmp_path / "plan") == plan
    source = ModelProto.FromString(plan.model)
    floats = [tensor for tensor in source.graph.initializer if tensor.name in plan.weights]
    assert {tensor.name for tensor in floats if holds_data(tensor)} == kept

    source.graph.node[0].name = "other"
    assert problems(plan, model=source.SerializeToString()) == [DIGEST]
    for tensor in ModelProto.FromString(plan.model).graph.initializer:
        name = tensor.name
        if name in plan.weights and not holds_data(tensor):
            moved = {**plan.weights, name: np.asarray(plan.weights[name], np.float32) * np.float32(1.25)}
            assert problems(plan, weights=moved) in ([DIGEST], [message_of_type(name)])


def message_of_type(name: str) -> str:
    return (
        f"source.onnx holds a constant that cannot be read ('{name}' is of type float16, in the plan float32"
        " with other values)"
    )


def test_a_wider_weight_with_more_digits_than_its_source() -> None:
    plan = compile_plan(of_half_precision(Builder()), hardware="ideal")
    assert plan.weights["wide"].dtype == np.float32
    moved = {**plan.weights, "wide": np.asarray(plan.weights["wide"], np.float32) * np.float32(1 + 2**-20)}
    assert problems(plan, weights=moved) == [message_of_type("wide")]


@pytest.mark.parametrize("digest", ["", "0" * 63, "G" * 64, "A" * 64])
def test_what_is_no_digest(plan: Plan, digest: str) -> None:
    source = msgspec.structs.replace(plan.source, digest=digest)
    assert problems(plan, source=source) == [f"the digest of the source is {digest!r}"]


def test_a_model_that_is_not_there_or_should_not_be(plan: Plan) -> None:
    assert problems(plan, model=b"") == ["the source is onnx, and source.onnx is missing"]
    torch_source = msgspec.structs.replace(plan.source, format="torch")
    assert problems(plan, source=torch_source) == ["the source is torch, and source.onnx is there"]


def test_a_model_that_cannot_be_read(plan: Plan) -> None:
    assert problems(plan, model=b"\xff" * 9) == ["source.onnx is no ONNX model"]
    first = ModelProto.FromString(plan.model).graph.initializer[0].name
    found = list(plan.weights[first].shape)
    assert problems(plan, model=changed_model(plan, dims=[7])) == [
        f"source.onnx holds a constant that cannot be read ('{first}' is [7], in the plan {found})"
    ]
    broken = changed_model(plan, raw_data=b"123", data_type=TensorProto.FLOAT)
    assert problems(plan, model=broken)[0].startswith("source.onnx holds a constant that cannot be read (")


def test_a_digest_is_of_structure_names_types_shapes_and_values() -> None:
    array = np.arange(6, dtype=np.float32)
    known = hashlib.sha256(b"model" + b"w float32 (6,)" + array.tobytes()).hexdigest()
    assert source_digest(b"model", [("w", array)]) == known
    others = (
        source_digest(b"model ", [("w", array)]),
        source_digest(b"model", [("v", array)]),
        source_digest(b"model", [("w", array.reshape(2, 3))]),
        source_digest(b"model", [("w", array.astype(np.float64))]),
        source_digest(b"model", [("w", array + 1)]),
        source_digest(b"model", []),
    )
    assert len({known, *others}) == 7
    assert numpy_helper.to_array(numpy_helper.from_array(array)).tobytes() == array.tobytes()
