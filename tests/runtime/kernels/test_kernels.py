import math

import numpy as np
import pytest
import torch
from onnx import helper
from torch import Tensor

from ffebm import Executor
from ffebm import compile as compile_plan
from ffebm.errors import ModelError
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


def test_a_loop_of_no_round_scans_nothing_of_the_bodys_shape_and_type() -> None:
    def body(trip: Tensor, going: Tensor, state: Tensor) -> tuple[Tensor, ...]:
        return going, state, state.to(torch.int64)[None]

    call = Call("Loop", n_outputs=2, graphs={"body": body})
    state, scanned = KERNELS["Loop"](call, torch.tensor(0), None, torch.ones(3))
    assert torch.equal(state, torch.ones(3))
    assert (scanned.shape, scanned.dtype) == ((0, 1, 3), torch.int64)


def test_a_scan_of_an_empty_sequence_has_the_bodys_shape_and_type() -> None:
    call = Call(
        "Scan",
        {"num_scan_inputs": 1, "scan_output_axes": (1,)},
        n_outputs=2,
        graphs={"body": lambda state, x: (state, x.double())},
    )
    _, scanned = KERNELS["Scan"](call, torch.ones(2), torch.ones(0, 3))
    assert (scanned.shape, scanned.dtype) == ((3, 0), torch.float64)


def test_a_loop_that_goes_on_and_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FFEBM_MAX_LOOP_ROUNDS", "10")
    call = Call("Loop", graphs={"body": lambda trip, going, state: (going, state + 1)})
    assert int(KERNELS["Loop"](call, torch.tensor(10), None, torch.tensor(0))[0]) == 10
    with pytest.raises(ModelError) as caught:
        KERNELS["Loop"](call, torch.tensor(11), None, torch.tensor(0))
    assert str(caught.value) == (
        "a loop that goes on and on; at most 10 rounds of one loop\n"
        "  hint: if that is meant, set the environment variable FFEBM_MAX_LOOP_ROUNDS to a larger number"
    )


def test_celu_of_an_infinite_alpha() -> None:
    with pytest.raises(ModelError) as caught:
        KERNELS["Celu"](Call("Celu", {"alpha": math.inf}), torch.ones(2))
    assert str(caught.value) == "Celu: attribute alpha is inf; a finite number is needed"
