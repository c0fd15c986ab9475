"""Reasons for digital nodes: what they keep of the work and of the weights."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from ffebm import compile as compile_plan
from ffebm.plan.plan import Plan
from ffebm.report.facts.reasons import reasons
from ffebm.report.terminal.words import explain_lines


def embedded() -> Plan:
    """An embedding of 100 words in 8 numbers, a mean and a dense layer on a tile."""
    arrays = {
        "table": np.ones((100, 8), np.float32),
        "w": np.ones((8, 25), np.float32),
    }
    nodes = [
        helper.make_node("Gather", ["table", "words"], ["e"], "embed"),
        helper.make_node("ReduceMean", ["e"], ["m"], "mean", axes=[1], keepdims=0),
        helper.make_node("MatMul", ["m", "w"], ["y"], "dense"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("words", TensorProto.INT64, ["N", 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 25])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return compile_plan(model, hardware="ideal")


def test_an_embedding_does_no_work_and_keeps_most_weights() -> None:
    first, *others = reasons(embedded())
    assert (first.nodes, first.macs, first.share) == (1, 0, "0.0 %")
    assert (first.weights, first.weight_share) == (800, "80.0 %")
    assert all(other.weights == 0 for other in others)


def test_explain_says_both_shares() -> None:
    lines = list(explain_lines(embedded()))
    place = lines.index("digital because:")
    assert lines[place - 1] == "on tiles: 100.0 % of multiply-accumulates, 20.0 % of weights"
    assert lines[place + 1] == "  1 node, 0.0 % of multiply-accumulates, 80.0 % of weights:"
    assert "embed (Gather, 800 weights): digital" in lines
