"""The annotated model: valid, unchanged in what it computes, and a unit and reason on every node."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from ffebm import Executor, Plan, load_plan
from ffebm import compile as compile_plan
from ffebm.errors import UsageError
from ffebm.report.viewers.netron import DEAD, FOLDED, annotated
from ffebm.runtime.save_onnx import write_model
from tests.models import Builder, oracle, random_feeds
from tests.report.conftest import WICKED
from tests.report.digits import digits_model
from tests.runtime.test_save_onnx import trained
from tests.test_light_models import randomised


def with_function() -> ModelProto:
    b = Builder()
    x = b.conv(b.input("x", "N", 2, 6, 6), 2, 3)
    b.functions.append(
        helper.make_function(
            "local",
            "Gate",
            ["u"],
            ["y"],
            [helper.make_node("Relu", ["u"], ["r"], "inner"), helper.make_node("Mul", ["r", "u"], ["y"])],
            [helper.make_opsetid("", 20)],
        )
    )
    return b.model(b.node("Gate", x, domain="local"))


def with_control_flow() -> ModelProto:
    """An If in a Loop in the graph, whose branches read from outside."""
    b = Builder()
    x = b.input("x", "N", 4)
    hidden = b.node("Relu", b.node("MatMul", x, b.weight(4, 4)))

    def branch(name: str, op: str) -> GraphProto:
        out = helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, None)
        return helper.make_graph([helper.make_node(op, [hidden], [f"{name}_out"])], name, [], [out])

    choice = helper.make_node(
        "If", ["go"], ["chosen"], "if", then_branch=branch("then", "Tanh"), else_branch=branch("else", "Abs")
    )
    body = helper.make_graph(
        [choice, helper.make_node("Add", ["carried", "chosen"], ["next"], "add"), _identity("go", "again")],
        "body",
        [
            helper.make_tensor_value_info("step", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("carried", TensorProto.FLOAT, ["N", 4]),
        ],
        [
            helper.make_tensor_value_info("again", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, ["N", 4]),
        ],
    )
    count = b.constant(np.array(3, np.int64))
    looped = b.node("Loop", count, b.constant(np.array(True)), hidden, out="looped", name="loop", body=body)
    model = b.model(b.node("Relu", looped))
    port = helper.make_tensor_value_info(model.graph.output[0].name, TensorProto.FLOAT, ["N", 4])
    model.graph.output[0].CopyFrom(port)
    return model


def _identity(source: str, target: str) -> NodeProto:
    return helper.make_node("Identity", [source], [target])


def with_absent_nodes(*, names: bool = True) -> ModelProto:
    """Folded arithmetic of constants, a transposed weight, dead nodes, a swapped pooling, an old opset."""
    b = Builder()
    x = b.input("x", "N", 2, 8, 8)
    half = b.node("Constant", value=numpy_helper.from_array(np.array(0.5, np.float32)), name="half")
    quarter = b.node("Mul", half, half, name="quarter")
    y = b.node("Relu", b.conv(x, 2, 3), name="relu")
    y = b.node("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2], name="pool")
    y = b.node("Mul", y, quarter, name="scale")
    b.node("Tanh", y, name="dead")
    y = b.node("GlobalMaxPool", b.node("Tanh", y, name="tanh"), name="global")
    y = b.node("Flatten", b.node("Dropout", y, name="dropout"), name="flatten")
    weight = b.node("Transpose", b.weight(5, 3), perm=[1, 0], name="turn")
    model = b.model(b.node("MatMul", y, weight, name="readout"), opset=9)
    if not names:
        for node in model.graph.node:
            node.name = ""
    return model


def wicked_model() -> ModelProto:
    b = Builder()
    value = b.input("x", "N", 6)
    for name in WICKED:
        value = b.node("Relu", b.node("MatMul", value, b.weight(6, 6, name=f"w{name}")), out=name, name=name)
    return b.model(value)


MODELS = {
    "digits": digits_model,
    "function": with_function,
    "control flow": with_control_flow,
    "absent nodes": with_absent_nodes,
    "no names": lambda: with_absent_nodes(names=False),
    "wicked names": wicked_model,
    "squeezenet": lambda: randomised("squeezenet"),
    "shufflenet": lambda: randomised("shufflenet"),
}


def every_node(graph: GraphProto) -> Iterator[NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                yield from every_node(attribute.g)


def props(node: NodeProto) -> dict[str, str]:
    return {entry.key.removeprefix("ffebm."): entry.value for entry in node.metadata_props}


def saved(plan: Plan, folder: Path) -> ModelProto:
    plan.save(folder / "plan")
    path = folder / "annotated.onnx"
    write_model(annotated(load_plan(folder / "plan"), path), path)
    onnx.checker.check_model(str(path), full_check=True)
    return onnx.load(path)


@pytest.mark.parametrize("name", MODELS)
def test_annotated_and_unchanged(name: str, tmp_path: Path) -> None:
    source = MODELS[name]()  # type: ignore[no-untyped-call] # an untyped maker of models
    # how well it is mapped does not count here
    plan = compile_plan(source, hardware="reference", block_size=2, replicas=1, effort=0)
    model = saved(plan, tmp_path)
    feeds = random_feeds(source)
    for found, wanted in zip(oracle(model, feeds), oracle(source, feeds), strict=True):
        assert np.array_equal(found, wanted)

    nodes = {node.name: node for node in plan.nodes}
    placed = 0
    for node in every_node(model.graph):
        written = props(node)
        assert written["unit"] in {"tile", "digital", "folded", "removed"}
        assert written["reason"]
        if "macs" in written:
            placed += 1
    added = 3 if name == "squeezenet" else 0  # its old Softmax becomes a few nodes
    assert placed == len(nodes) - added, "each of the plan's nodes stands on one of the source's"
    if name in {"digits", "absent nodes", "wicked names"}:
        for node in model.graph.node:
            written, twin = props(node), nodes.get(node.name)
            if twin is not None:
                assert (written["unit"], written["reason"]) == (twin.unit, twin.reason)
                assert written.get("block") == (None if twin.block is None else f"block{twin.block}")
                assert (written["macs"], written["weights"]) == (str(twin.macs), str(twin.weights))


def test_tiles_of_a_node(digits: Plan, tmp_path: Path) -> None:
    model = saved(digits, tmp_path)
    written = {node.name: props(node) for node in model.graph.node}
    for block in digits.blocks:
        for layer in block.layers:
            for interaction in layer.interactions:
                if interaction.linear is None:
                    continue
                weight = interaction.linear.weight
                held = [f"tile{tile.id}" for tile, piece in digits.pieces() if piece.weight == weight]
                (node,) = [n for n in model.graph.node if weight in n.input]
                assert written[node.name]["tiles"] == ", ".join(sorted(set(held)))
    assert "tiles" not in written["norm1"]
    assert written["scale1"]["unit"] == "tile"
    assert "tiles" not in written["scale1"]


@pytest.mark.parametrize("names", [True, False])
def test_nodes_that_compiling_took_away(names: bool, tmp_path: Path) -> None:
    plan = compile_plan(with_absent_nodes(names=names), hardware="reference")
    twin = with_absent_nodes()
    model = saved(plan, tmp_path)
    named = [node.name for node in twin.graph.node]
    written = {name: props(node) for name, node in zip(named, model.graph.node, strict=True)}
    absent = {name: (w["unit"], w["reason"]) for name, w in written.items() if "macs" not in w}
    assert absent == {
        "half": ("folded", FOLDED),
        "quarter": ("folded", FOLDED),
        "turn": ("folded", FOLDED),
        "dead": ("removed", DEAD),
    }
    assert written["relu"]["unit"] == written["readout"]["unit"] == "tile"
    assert "activation" in written["relu"]["reason"]
    assert "pool" in written["pool"]["reason"]


def test_inside_control_flow(tmp_path: Path) -> None:
    model = saved(compile_plan(with_control_flow(), hardware="reference"), tmp_path)
    written = {node.name or node.op_type: props(node) for node in every_node(model.graph)}
    loop = written["loop"]
    assert loop["unit"] == "digital"
    assert written["add"] == {"unit": "digital", "reason": f"inside loop: {loop['reason']}"}
    assert written["Tanh"] == {"unit": "digital", "reason": f"inside if: inside loop: {loop['reason']}"}


def test_a_trained_model_keeps_what_it_learnt(tmp_path: Path) -> None:
    source = digits_model()
    net = trained(source)
    net.save_onnx(tmp_path / "trained.onnx")
    learnt = onnx.load(tmp_path / "trained.onnx")
    model = saved(compile_plan(tmp_path / "trained.onnx", hardware="reference"), tmp_path)
    feeds = random_feeds(source)
    (found,), (wanted,), (before,) = oracle(model, feeds), oracle(learnt, feeds), oracle(source, feeds)
    assert np.array_equal(found, wanted)
    assert not np.allclose(found, before)


def test_annotating_again_replaces_what_was_written(digits: Plan, tmp_path: Path) -> None:
    model = saved(digits, tmp_path)
    again = annotated(compile_plan(model, hardware="ideal"), tmp_path / "again.onnx")
    for node in again.graph.node:
        keys = [entry.key for entry in node.metadata_props]
        assert len(set(keys)) == len(keys)
    entries = {entry.key: entry.value for entry in again.metadata_props}
    assert entries["ffebm.hardware"] == "ideal"


def test_folded_batch_normalisations_are_refused(tmp_path: Path) -> None:
    plan = compile_plan(digits_model(), hardware="ideal", fold_batch_norm=True)
    with pytest.raises(UsageError, match="hold folded batch normalisations"):
        annotated(plan, tmp_path / "no.onnx")


def test_the_executor_still_saves(tmp_path: Path) -> None:
    net = Executor(compile_plan(digits_model(), hardware="ideal"))
    net.save_onnx(tmp_path / "model.onnx")
    assert not any(node.metadata_props for node in onnx.load(tmp_path / "model.onnx").graph.node)
