"""Recurrent layers against onnxruntime, where no case of ONNX looks."""

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import ffebm

N_IN, HIDDEN, STEPS = 4, 3, 2


@pytest.mark.parametrize(("op", "gates"), [("RNN", 1), ("GRU", 3), ("LSTM", 4)])
def test_a_sequence_of_no_step(op: str, gates: int) -> None:
    rng = np.random.default_rng(0)
    shapes = {"w": (1, gates * HIDDEN, N_IN), "r": (1, gates * HIDDEN, HIDDEN), "h": (1, 2, HIDDEN)}
    shapes |= {"c": (1, 2, HIDDEN)} if op == "LSTM" else {}
    constants = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    held = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    held.append(numpy_helper.from_array(np.array([STEPS, 0], np.int32), "lengths"))
    starts = [name for name in ("h", "c") if name in shapes]
    outputs = ["y", *(f"y_{name}" for name in starts)]
    node = helper.make_node(op, ["x", "w", "r", "", "lengths", *starts], outputs, hidden_size=HIDDEN)
    graph = helper.make_graph(
        [node],
        "recurrent",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [STEPS, 2, N_IN])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        held,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    x = rng.standard_normal((STEPS, 2, N_IN)).astype(np.float32)

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = ffebm.Executor(ffebm.compile(model, hardware="ideal"))(torch.from_numpy(x))
    for ours, expected in zip(found, session.run(None, {"x": x}), strict=True):
        np.testing.assert_allclose(ours.detach().numpy(), expected, rtol=1e-5, atol=1e-6)
