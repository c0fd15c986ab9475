"""Well-known networks: tiles where space is short, time where kernels could be read together."""

from pathlib import Path

import onnx
import pytest
from onnx import ModelProto

from ffebm.compiler.driver import compile_model
from tests.machines import crossbars
from tests.models import Builder

LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"
HOW = "training step cut", "blocks that share tiles are far apart"
"""How notes begin that say how a plan is made; others tell of blocks that found no tiles or lose there."""

STAGES = [
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
]  # fmt: skip
"""Of MobileNetV2, table 2 (arXiv:1801.04381): expansion, channels, blocks, stride."""


def mobilenet_v2() -> ModelProto:
    """MobileNetV2 for 224 x 224 with random weights, batch normalisation folded."""
    b = Builder()

    def convolution(x: str, n_in: int, n_out: int, size: int, stride: int = 1, groups: int = 1) -> str:
        weight = b.weight(n_out, n_in // groups, size, size)
        return b.node("Conv", x, weight, strides=[stride] * 2, pads=[size // 2] * 4, group=groups)

    y, width = b.node("Relu", convolution(b.input("x", 1, 3, 224, 224), 3, 32, 3, 2)), 32
    for expansion, n_out, blocks, first in STAGES:
        for stride in [first] + [1] * (blocks - 1):
            inner = width * expansion
            z = b.node("Relu", convolution(y, width, inner, 1)) if expansion > 1 else y
            z = b.node("Relu", convolution(z, inner, inner, 3, stride, inner))
            z = convolution(z, inner, n_out, 1)
            y = b.node("Add", z, y) if stride == 1 and width == n_out else z
            width = n_out
    y = b.node("GlobalAveragePool", b.node("Relu", convolution(y, 320, 1280, 1)))
    return b.model(b.node("MatMul", b.node("Flatten", y), b.weight(1280, 1000)))


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("inception_v1", 92),
        ("squeezenet", 20),
        pytest.param("densenet121", 122, marks=pytest.mark.slow),  # plans buffers of 9,000 steps for minutes
        pytest.param("inception_v2", 181, marks=pytest.mark.slow),
    ],
)
def test_all_layers_fit_on_hardly_more_tiles_than_their_cells(name: str, count: int) -> None:
    """These have at least 91, 19, 121 and 171 arrays of 256 x 256 cells."""
    plan = compile_model(LIGHT / f"light_{name}.onnx", hardware=crossbars(count, 256, 256))
    assert not [note for note in plan.notes if "ran out" in note]
    assert len(plan.tiles) == count


@pytest.mark.parametrize(
    ("count", "replicas", "seconds"), [(400, 1, 25e-3), (64, 1, 40e-3), (64, None, 26e-3)]
)
def test_depthwise_layers_are_no_slower_than_others(count: int, replicas: int | None, seconds: float) -> None:
    plan = compile_model(mobilenet_v2(), hardware=crossbars(count, 256, 256), replicas=replicas)
    assert [note for note in plan.notes if not note.startswith(HOW)] == []
    assert plan.inference.makespan_s < seconds


@pytest.mark.parametrize(
    ("count", "replicas", "seconds"), [(400, 1, 10e-3), (64, 1, 11e-3), (50, 1, 15e-3), (64, None, 5.5e-3)]
)
def test_grouped_layers_share_reads(count: int, replicas: int | None, seconds: float) -> None:
    model = LIGHT / "light_shufflenet.onnx"
    plan = compile_model(model, hardware=crossbars(count, 256, 256), replicas=replicas)
    assert [note for note in plan.notes if not note.startswith(HOW)] == []
    assert plan.inference.makespan_s < seconds


@pytest.mark.slow
def test_where_blocks_share_tiles_throughput_is_no_worse_than_that_of_the_least_latency() -> None:
    """54 blocks on 64 tiles; intervals of blocks that share a tile add up, which prices do not know."""
    model = LIGHT / "light_resnet50.onnx"
    fast = compile_model(model, hardware="hermes", objective="latency")
    often = compile_model(model, hardware="hermes", objective="throughput")
    assert often.inference.interval_s <= fast.inference.interval_s
    assert often.inference.interval_s < often.twin["fp32"].inference_s
