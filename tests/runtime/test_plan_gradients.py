"""Gradients through a compiled plan: the published cases as ONNX, compiled and run by the executor."""

from collections.abc import Iterator

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor
from torch.nn.functional import cosine_similarity, cross_entropy

import ffebm
from tests.runtime.published import NAMES, ROUNDED, Published


class _Writer:
    """Writes the network of a case in the shapes of an exporter."""

    def __init__(self, case: Published) -> None:
        self.case = case
        self.nodes: list[onnx.NodeProto] = []
        self.arrays = {name: tensor.float().numpy() for name, tensor in case.weights.items()}
        numbers = {"zero": 0.0, "one": 1.0, "slope": case.slope}
        self.arrays |= {name: np.asarray(number, np.float32) for name, number in numbers.items()}

    def add(self, op: str, inputs: list[str], **attrs: int | list[int]) -> str:
        name = f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [f"{name}_out"], name, **attrs))  # type: ignore[arg-type] # onnx types them as strings
        return f"{name}_out"

    def clipped(self, value: str) -> str:
        return self.add("Clip", [self.add("Mul", [value, "slope"]), "zero", "one"])

    def convolution(self, value: str, block: int, layer: int) -> str:
        spec = self.case.case["blocks"][block]
        owner = f"blocks.{block}.{'feedforward.0' if layer == 0 else f'synapses.{layer}'}"
        inputs = [value, f"{owner}.weight"] + [n for n in [f"{owner}.bias"] if n in self.arrays]
        pads, strides = [spec["paddings"][layer]] * 4, [spec["strides"][layer]] * 2
        value = self.add("Conv", inputs, pads=pads, strides=strides)
        kind = {"m": "MaxPool", "a": "AveragePool"}.get(spec["pools"][layer])
        return self.add(kind, [value], kernel_shape=[2, 2], strides=[2, 2]) if kind else value

    def norm(self, value: str, block: int) -> str:
        prefix = f"blocks.{block}"
        names = [f"{prefix}.{part}" for part in ("feedforward.2.weight", "feedforward.2.bias", "mean", "var")]
        self.arrays[names[2]] = np.zeros_like(self.arrays[names[0]])
        self.arrays[names[3]] = np.ones_like(self.arrays[names[0]])
        return self.add("BatchNormalization", [value, *names])

    def block(self, value: str, number: int) -> str:
        spec, dense = self.case.case["blocks"][number], _dense(self.case, number)
        last = len(spec["channels"]) - 2
        for layer in range(last + 1):
            value = self.convolution(value, number, layer)
            if layer == 0 and spec["norm"] == "b":
                value = self.norm(value, number)
            if layer < last or spec["clamp_last"] or dense:
                value = self.clipped(value)
        for layer in dense:
            value = self.add("Flatten", [value]) if layer == dense[0] else value
            weights = [f"blocks.{number}.synapses.{layer}.{part}" for part in ("weight", "bias")]
            value = self.add("Gemm", [value, *weights], transB=1)
            value = self.clipped(value) if layer != dense[-1] else value
        return value

    def model(self) -> onnx.ModelProto:
        case, value = self.case, "x"
        for number in range(len(case.case["blocks"])):
            value = self.block(value, number)
        value = self.add("Flatten", [value])
        value = self.add("Gemm", [value, "readout.1.weight", "readout.1.bias"], transB=1)
        used = {name for node in self.nodes for name in node.input}
        graph = helper.make_graph(
            self.nodes,
            case.case["name"],
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *case.tensors["x"].shape[1:]])],
            [helper.make_tensor_value_info(value, TensorProto.FLOAT, ["N", case.case["classes"]])],
            [numpy_helper.from_array(a, name) for name, a in self.arrays.items() if name in used],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _dense(case: Published, block: int) -> list[int]:
    """Positions of a block's dense energy layers."""
    convolutions = len(case.case["blocks"][block]["channels"]) - 1
    names = (name for name in case.weights if name.startswith(f"blocks.{block}.synapses."))
    positions = {int(name.split(".")[3]) for name in names}
    return sorted(position for position in positions if position >= convolutions)


def sizes(case: Published) -> tuple[int, ...]:
    """Free layers of each block."""
    blocks = enumerate(case.case["blocks"])
    return tuple(len(spec["channels"]) - 1 + len(_dense(case, k)) for k, spec in blocks)


def gradients(case: Published, estimator: ffebm.EP) -> tuple[Tensor, Iterator[tuple[str, Tensor, Tensor]]]:
    """The loss, and each gradient beside the published one."""
    plan = ffebm.compile(
        _Writer(case).model(),
        hardware="ideal",
        block_size=sizes(case),
        boundary="digital",
        settle=case.settle,
    )
    assert tuple(len(block.layers) for block in plan.blocks) == sizes(case)
    net = ffebm.Executor(plan, gradient=estimator).train()
    loss = net.loss(case.tensors["x"].float(), case.tensors["y"], cross_entropy)
    loss.backward()  # type: ignore[no-untyped-call]
    expected = case.gradients("ep")
    found = {name.replace("feedforward.0", "synapses.0"): w.grad for name, w in net.weights().items()}
    return loss, (
        (name, grad.flatten(), expected[name].flatten()) for name, grad in found.items() if grad is not None
    )


@pytest.mark.filterwarnings("ignore::ffebm.NotSettledWarning")  # one published case has no equilibrium
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("cost", "least"), [(True, 0.9999), (False, 0.99)])
def test_a_compiled_plan_gives_the_published_gradients(name: str, cost: bool, least: float) -> None:
    case = Published(name)
    loss, pairs = gradients(case, ffebm.EP(beta=case.beta, cost=cost))
    assert loss.item() == pytest.approx(case.case["loss"], rel=1e-5)
    seen = 0
    for weight, ours, theirs in pairs:
        rounded = cost and (name, weight) in ROUNDED
        cosine = float(cosine_similarity(ours.double(), theirs.double(), dim=0))
        assert cosine >= (0.9997 if rounded else least), weight
        if cost:
            bound = 0.015 if rounded else 1e-3
            assert float(ours.norm()) == pytest.approx(float(theirs.norm()), rel=bound), weight
        seen += 1
    assert seen == len(case.gradients("ep"))
