import numpy as np
from onnx import TensorProto, helper, numpy_helper

from ffebm import Executor, Plan, load_plan
from ffebm import compile as compile_plan
from tests.models import Builder, as_tuple, oracle, random_feeds, relative_error, tensors


def segments(plan: Plan) -> list[tuple[tuple[str, ...], list[str], tuple[str, ...]]]:
    return [
        (s.program.inputs, [i.op for i in s.program.instructions], s.program.outputs) for s in plan.segments
    ]


def test_segments_and_blocks_alternate() -> None:
    b = Builder()
    x = b.input("x", "N", 4)
    a = b.node("Abs", x, out="a")
    s = b.node("Relu", b.node("MatMul", a, b.weight(4, 4)), out="s")
    p = b.node("Softmax", s, out="p")
    q = b.node("Mul", p, a, out="q")  # also reads what came before the block
    r = b.node("Neg", x, out="r")  # hangs together with nothing
    t = b.node("Relu", b.node("MatMul", q, b.weight(4, 4)), out="t")
    plan = compile_plan(b.model(t, r), "ideal")
    assert segments(plan) == [
        (("x",), ["Abs"], ("a",)),
        (("x",), ["Neg"], ("r",)),
        (("s", "a"), ["Softmax", "Mul"], ("q",)),
    ]
    assert [n.segment for n in plan.nodes] == [0, None, None, 2, 2, 1, None, None]


def test_attributes_that_json_cannot_hold(tmp_path: object) -> None:
    b = Builder()
    y = b.node("ThresholdedRelu", b.input("x", "N", 4), alpha=float("inf"), name="t")
    plan = compile_plan(b.model(y), "ideal")
    (instruction,) = plan.segments[0].program.instructions
    assert instruction.tensors == {"alpha": "t.alpha"}
    assert np.isinf(plan.weights["t.alpha"]).all()
    plan.save(f"{tmp_path}/plan")
    assert load_plan(f"{tmp_path}/plan") == plan


def test_a_loop_with_constants_of_its_own(tmp_path: object) -> None:
    b = Builder()
    x = b.input("x", 3)
    body = helper.make_graph(
        [
            helper.make_node("Add", ["state", "step"], ["scaled"], "add"),
            helper.make_node("Mul", ["scaled", "outside"], ["next"], "mul"),
            helper.make_node("Identity", ["going"], ["on"], "on"),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, [3]),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, [3]),
        ],
        [numpy_helper.from_array(np.array([0.5], np.float32), "step")],
    )
    outside = b.node("Sigmoid", x, out="outside")
    count = b.constant(np.array(4))
    y = b.node("Loop", count, b.constant(np.array(True)), x, name="loop", body=body)
    model = b.model(y, outside)
    plan = compile_plan(model, "ideal")
    assert plan.weights["loop.step"].tolist() == [0.5]
    plan.save(f"{tmp_path}/plan")
    feeds = random_feeds(model)
    found = as_tuple(Executor(load_plan(f"{tmp_path}/plan"))(**tensors(feeds)))
    assert relative_error(found, oracle(model, feeds)) < 1e-6
