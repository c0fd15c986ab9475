"""The bound that mutants of 16-bit models are held to: right results pass, wrong ones do not."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import ModelProto, helper, numpy_helper

from ffebm.graph.tensor import Array
from tests.conformance import cases
from tests.sixteen_bits import HALF_UNITS, near, roundings, wide_array, widened

HALF = HALF_UNITS["float16"]


def run(data: bytes, feeds: Mapping[str, Array]) -> npt.NDArray[Any]:
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    found: npt.NDArray[Any] = session.run(None, dict(feeds))[0]
    return found


def chain(length: int) -> ModelProto:
    """A sum of large terms that nearly cancel, node by node: x + c - c + c …"""
    nodes = [
        helper.make_node("Sub" if index % 2 else "Add", [f"v{index}", "c"], [f"v{index + 1}"])
        for index in range(length)
    ]
    ports = [helper.make_tensor_value_info(f"v{index}", 10, [64]) for index in (0, length)]
    constant = numpy_helper.from_array(np.full(64, 100, np.float16), "c")
    graph = helper.make_graph(nodes, "chain", ports[:1], ports[1:], [constant])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


NAMES = ("test_attention_4d_fp16", "test_attention_4d_fp16_expanded", "test_causal_conv_with_state_silu_fp16")


@pytest.mark.parametrize("name", NAMES)
def test_a_model_is_made_wide_and_stays_the_same_function(name: str) -> None:
    case = next(case for case in cases() if case.name == name)
    model = case.model
    shapes = [[d.dim_value for d in port.type.tensor_type.shape.dim] for port in model.graph.input]
    rng = np.random.default_rng(0)
    feeds = {
        port.name: rng.standard_normal(shape).astype(np.float16)
        for port, shape in zip(model.graph.input, shapes, strict=True)
    }
    short = run(model.SerializeToString(), feeds)
    wide = run(widened(model.SerializeToString()), {key: wide_array(array) for key, array in feeds.items()})
    assert (short.dtype.name, wide.dtype.name) == ("float16", "float32")
    assert 0 < np.abs(short - wide).max() < 4 * HALF * np.abs(wide).max()
    assert near(short.astype(np.float64), short, wide, roundings(model))
    assert near(wide.astype(np.float64), short, wide, roundings(model))


def test_one_rounding_each_is_right_without_anything_else() -> None:
    other = np.array([1.0, -3.0, 0.5, np.inf, np.nan], np.float16)
    found = other.astype(np.float64) * (1 + 2 * HALF * np.array([1, 1, 0, 1, 1]))
    assert near(found, other, None, 1)
    for wrong in (found * (1 + 3 * HALF), found + 0.01, -found, np.zeros(5)):
        assert not near(wrong, other, None, 1)


@pytest.mark.parametrize("place", [3, 4])
def test_what_is_not_finite_is_so_in_both(place: int) -> None:
    other = np.array([1.0, 2.0, 3.0, np.inf, np.nan], np.float16)
    found = other.astype(np.float64)
    found[place] = 4.0
    assert not near(found, other, None, 1)
    found = other.astype(np.float64)
    found[0] = other[place]
    assert not near(found, other, np.ones(5), 1)


def test_roundings_of_large_terms_are_seen_by_the_other_result() -> None:
    """Where numbers cancel, the other result is off as well, and that much is right and no more."""
    x = np.linspace(-0.05, 0.05, 64).astype(np.float16)
    after_each = x.copy()
    for index in range(4):
        after_each = after_each - np.float16(100) if index % 2 else after_each + np.float16(100)
    off = np.abs(after_each.astype(np.float64) - x).max()
    assert off > 50 * HALF * np.abs(x).max()
    once = x.astype(np.float64)
    assert near(once, after_each, once, roundings(chain(4)))
    assert near(after_each.astype(np.float64), after_each, once, 4)
    assert not near(after_each.astype(np.float64), x, once, 4)  # more roundings than the model has
    assert not near(once + 1.5 * off, after_each, once, 4)


def test_roundings_are_counted_where_numbers_are_computed() -> None:
    assert roundings(chain(5)) == 5
    moves = [helper.make_node("Identity", ["x"], ["y"]), helper.make_node("Reshape", ["y", "s"], ["z"])]
    inner = helper.make_graph([helper.make_node("Relu", ["x"], ["r"])], "then", [], [])
    branches = {"then_branch": inner, "else_branch": inner}
    graph = helper.make_graph([*moves, helper.make_node("If", ["c"], ["w"], **branches)], "g", [], [])
    assert roundings(helper.make_model(graph)) == 2
    assert roundings(onnx.helper.make_model(helper.make_graph(moves, "g", [], []))) == 1
