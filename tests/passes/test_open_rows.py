import numpy as np
import torch

import ffebm
from ffebm.hardware.description import load_hardware
from tests.models import Builder, oracle
from tests.passes.common import before


def test_open_rows_become_one_axis_and_are_given_back() -> None:
    b = Builder()
    y = b.node("MatMul", b.input("x", "N", 2, "T", 4), b.weight(4, 5, name="w"), out="y")
    graph, canonicalize = before("canonicalize", b.model(y))
    canonicalize.run(graph, load_hardware("ideal"))
    assert [(node.op, [str(graph.types[value]) for value in node.outputs]) for node in graph.nodes] == [
        ("Shape", ["int64[3]"]),
        ("Concat", ["int64[4]"]),
        ("Reshape", ["float32[2*N*Tx4]"]),
        ("MatMul", ["float32[2*N*Tx5]"]),
        ("Reshape", ["float32[Nx2xTx5]"]),
    ]


def test_rows_of_any_size_run() -> None:
    b = Builder()
    hidden = b.node("Relu", b.node("MatMul", b.input("x", "N", "T", 4), b.weight(4, 5)))
    model = b.model(b.node("MatMul", hidden, b.weight(5, 3)))
    net = ffebm.Executor(ffebm.compile(model, hardware="ideal"))
    for shape in ((3, 5, 4), (1, 7, 4), (4, 1, 4)):
        x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        torch.testing.assert_close(
            net(torch.from_numpy(x)).detach(), torch.from_numpy(oracle(model, {"x": x})[0])
        )
