import numpy as np
import pytest
import torch
from onnx import helper
from torch import Tensor

from ffebm import Executor
from ffebm import compile as compile_plan
from ffebm.graph.ops import OPS
from ffebm.runtime.kernels import KERNELS, Call
from ffebm.runtime.kernels.call import Value
from tests.models import Builder, oracle, random_feeds, tensors


def test_every_op_has_a_kernel_and_every_kernel_an_op() -> None:
    assert set(OPS) == set(KERNELS)


@pytest.mark.parametrize("op", ["Div", "Mod", "Max", "Min", "Less", "Cast", "BitShift", "Clip", "ReduceMax"])
def test_numbers_above_the_signed_range(op: str) -> None:
    big, small = 2**64 - 3, 2**63 - 7
    x, y = torch.tensor([big, small], dtype=torch.uint64), torch.tensor([small, big], dtype=torch.uint64)
    shift = torch.tensor([2, 1], dtype=torch.uint64)
    inputs: dict[str, tuple[Tensor | None, ...]] = {
        "BitShift": (x, shift),
        "Cast": (x,),
        "Clip": (x, None, x[1]),
        "ReduceMax": (x,),
    }
    attrs: dict[str, Value] = {"direction": "RIGHT", "to": 11, "keepdims": 0}
    expected: dict[str, list[float]] = {
        "BitShift": [big >> 2, small >> 1],
        "Cast": [float(big), float(small)],
        "Clip": [small, small],
        "Div": [big // small, 0],
        "Less": [False, True],
        "Max": [big, big],
        "Min": [small, small],
        "Mod": [big % small, small],
        "ReduceMax": [big],
    }
    result = KERNELS[op](Call(op, attrs), *inputs.get(op, (x, y)))
    assert isinstance(result, Tensor)
    assert result.reshape(-1).tolist() == expected[op]


@pytest.mark.parametrize("number", [float("inf"), float("-inf"), float("nan")])
def test_attributes_that_json_does_not_hold(number: float) -> None:
    b = Builder()
    y = b.node("LeakyRelu", b.input("x", "N", 4), alpha=number)
    flag = b.node("Greater", b.node("ReduceSum", y, keepdims=0), b.constant(0.0))
    branches = []
    for name in ("then", "else"):
        node = helper.make_node("Constant", [], [name], value_float=number)
        port = helper.make_tensor_value_info(name, 1, [])
        branches.append(helper.make_graph([node], name, [], [port]))
    chosen = b.node("If", flag, then_branch=branches[0], else_branch=branches[1])
    model = b.model(y, chosen)
    feeds = random_feeds(model)
    found = Executor(compile_plan(model, hardware="ideal"))(**tensors(feeds))
    for one, other in zip(found, oracle(model, feeds), strict=True):
        np.testing.assert_array_equal(one.numpy(), other)
