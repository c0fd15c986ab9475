"""Placed graphs for tests of single parts of the scheduler."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest
from onnx import ModelProto

from ffebm.compiler.driver import pass_order, run_passes
from ffebm.compiler.onnx.from_onnx import from_onnx
from ffebm.graph.graph import Graph
from ffebm.hardware.description import Hardware, load_hardware
from ffebm.plan.schema import Options
from ffebm.scheduling import schedules
from tests.models import Builder

REFERENCE = load_hardware("reference")


def placed(model: ModelProto, hardware: Hardware = REFERENCE, options: Options | None = None) -> Graph:
    """A model after all passes; by default with one copy of each weight."""
    graph = from_onnx(model, {}).graph
    run_passes(graph, hardware, pass_order(options or Options(replicas=1)), None)
    return graph


def two_convolutions() -> ModelProto:
    """3 x 3 kernels over eight rows of eight pixels, then a dense layer over all of them."""
    b = Builder()
    y = b.node("Relu", b.conv(b.input("x", 1, 2, 8, 8), 2, 4), out="first")
    y = b.node("Relu", b.conv(y, 4, 4), out="second")
    return b.model(b.node("Gemm", b.node("Flatten", y, out="flat"), b.weight(256, 3), out="y"))


def activated_first() -> ModelProto:
    """Normalised and rectified before each convolution, as in DenseNet: digital nodes between tiles."""
    b = Builder()
    x = b.input("x", 1, 2, 8, 8)
    y = b.node("Relu", b.conv(x, 2, 4), out="first")
    joined = b.node("Concat", x, y, axis=1, out="joined")
    y = b.conv(b.node("Relu", b.norm(joined, 6), out="risen"), 6, 4)
    return b.model(b.node("Concat", joined, b.node("Relu", y, out="second"), axis=1, out="y"))


@contextmanager
def few_steps(most: int) -> Iterator[None]:
    """Inferences of so many steps, for which digital nodes are done in one step where they can be."""
    with pytest.MonkeyPatch.context() as patch:
        listed = partial(schedules.inference_tasks, most_steps=most)
        patch.setattr(schedules, "inference_tasks", listed)
        yield
