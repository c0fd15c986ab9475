"""A block and what contradicts it: each limit from both sides."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from ffebm.graph.energy_block import Activation, EnergyBlock, Interaction, Layer, Linear, Pool, Rearrangement
from ffebm.graph.tensor import Array, TensorType
from ffebm.plan.checks.blocks import block_problems

WEIGHTS: dict[str, Array] = {
    "square": np.ones((4, 4), np.float32),
    "wide": np.ones((4, 6), np.float32),
    "b4": np.ones(4, np.float32),
    "b3": np.ones(3, np.float32),
    "half": np.ones((4, 4), np.float16),
    "whole": np.ones((4, 4), np.int32),
    "conv": np.ones((6, 2, 3, 2), np.float32),
    "up": np.ones((4, 3, 2, 2), np.float32),
    "four axes": np.ones((2, 2, 1, 1, 1, 1), np.float32),
}
DENSE = Interaction("x", (4,), (4,), linear=Linear("MatMul", "square"))
ONE = Layer("s", (4,), Activation("Relu"), (DENSE,))
BLOCK = EnergyBlock(0, ("x",), (ONE,), ("s",))


def problems(block: EnergyBlock, **types: TensorType) -> str:
    return "; ".join(block_problems([block], WEIGHTS, types)).removeprefix("block0 ")


def driven(interaction: Interaction, shape: tuple[int, ...], **layer: Any) -> str:
    """What is wrong with a block of one layer."""
    one = Layer("s", shape, Activation("Relu"), (interaction,), **layer)
    return problems(EnergyBlock(0, (interaction.source,), (one,), ("s",)))


def mapped(linear: Linear, source: tuple[int, ...], made: tuple[int, ...], **parts: Any) -> str:
    return driven(Interaction("x", source, made, linear=linear, **parts), made)


def pooled(pool: Pool, source: tuple[int, ...], made: tuple[int, ...]) -> str:
    return driven(Interaction("x", source, source, pool=pool), made)


def laid(op: Any, sizes: tuple[int, ...], source: tuple[int, ...], made: tuple[int, ...]) -> str:
    return driven(Interaction("x", source, source, after=(Rearrangement(op, sizes),)), made)


def test_a_block_that_fits() -> None:
    assert problems(BLOCK) == ""
    assert problems(BLOCK, x=TensorType("float32", ("N", 4)), s=TensorType("float32", ("N", 4))) == ""


SECOND = replace(ONE, value="t", interactions=(replace(DENSE, source="s"),))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"id": 1}, "block1 stands at position 0"),
        ({"layers": ()}, "has no layers, or a layer that nothing drives"),
        ({"layers": (replace(ONE, interactions=()),)}, "has no layers, or a layer that nothing drives"),
        ({"layers": (ONE, ONE)}, "makes or takes a value twice"),
        ({"inputs": ("x", "x")}, "makes or takes a value twice"),
        ({"inputs": ("s", "x")}, "makes or takes a value twice"),
        ({"outputs": ("x",)}, "names an output that is no layer of it, or one twice"),
        ({"outputs": ("s", "s")}, "names an output that is no layer of it, or one twice"),
        ({"layers": (SECOND, ONE)}, "has layer 't', which reads 's', no value before it"),
        ({"inputs": ()}, "has layer 's', which reads 'x', no value before it"),
        (
            {
                "layers": (
                    ONE,
                    replace(SECOND, interactions=(replace(DENSE, source="s", source_shape=(2, 2)),)),
                )
            },
            "reads 's' as [2, 2] a sample, which is [4]",
        ),
        ({"layers": (ONE, SECOND)}, ""),
        (
            {"layers": (replace(ONE, activation=Activation("Relu", scale=0.0)),)},
            "has layer 's', whose activation 'Relu' has a scale of 0",
        ),
    ],
)
def test_names_and_order(change: dict[str, Any], expected: str) -> None:
    assert problems(replace(BLOCK, **change)) == expected


@pytest.mark.parametrize(
    ("weight", "biases", "expected"),
    [
        ("none", (), "holds weight 'none', which has no values"),
        ("square", ("none",), "holds weight 'none', which has no values"),
        ("square", ("half",), "has weights of the types float16, float32; one of floats is allowed"),
        ("whole", (), "has weights of the types int32; one of floats is allowed"),
        ("half", (), ""),
        ("square", ("b4",), ""),
        ("square", ("square",), "adds bias 'square' of [4, 4] to 's' of [4] a sample"),
        ("square", ("b3",), "adds bias 'b3' of [3] to 's' of [4] a sample"),
        ("square", ("conv",), "adds bias 'conv' of [6, 2, 3, 2] to 's' of [4] a sample"),
    ],
)
def test_weights_and_biases(weight: str, biases: tuple[str, ...], expected: str) -> None:
    dense = replace(DENSE, linear=Linear("MatMul", weight))
    layer = replace(ONE, interactions=(dense,), biases=biases)
    assert problems(replace(BLOCK, layers=(layer,))) == expected


@pytest.mark.parametrize(
    ("types", "expected"),
    [
        ({"x": TensorType("int64", ("N", 4))}, "reads 'x', which is of type int64; floats are allowed"),
        ({"x": TensorType("unknown", None)}, ""),
        ({"x": TensorType("float16", ("N", "M"))}, ""),
        ({"x": TensorType("float32", ("N", 5))}, "reads 'x' as [4] a sample, which is [5]"),
        ({"s": TensorType("float32", ("N", 5))}, "makes 's' of [4] a sample, whose type says [5]"),
        ({"s": TensorType("float32", ("N", 3))}, "makes 's' of [4] a sample, whose type says [3]"),
        ({"s": TensorType("float32", (7, 4))}, ""),
    ],
)
def test_types(types: dict[str, TensorType], expected: str) -> None:
    assert problems(BLOCK, **types) == expected


def test_sizes_of_values(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Interaction("x", (4,), (4,))
    assert driven(plain, (0,)) == "makes 's' of [0] a sample; sizes of at least 1 are allowed"
    assert driven(replace(plain, source_shape=(0,)), (4,)) == (
        "makes 'x' of [0] a sample; sizes of at least 1 are allowed"
    )
    for most, expected in (
        (4, ""),
        (3, "makes 's' of 4 elements a sample; at most 3 elements of one value"),
    ):
        monkeypatch.setenv("FFEBM_MAX_VALUE_ELEMENTS", str(most))
        assert driven(plain, (4,)) == expected


@pytest.mark.parametrize(
    ("drive", "layer", "expected"),
    [
        ((4,), (4,), ""),
        ((1,), (4,), ""),
        ((4,), (3, 4), ""),
        ((3, 1), (3, 4), ""),
        ((2,), (4,), "drives 's' of [4] a sample by [2]"),
        ((3, 4), (4,), "drives 's' of [4] a sample by [3, 4]"),
        ((2, 4), (3, 4), "drives 's' of [3, 4] a sample by [2, 4]"),
    ],
)
def test_a_drive_broadcasts_to_its_layer(
    drive: tuple[int, ...], layer: tuple[int, ...], expected: str
) -> None:
    assert driven(Interaction("x", drive, drive), layer) == expected


@pytest.mark.parametrize(
    ("op", "sizes", "source", "made", "expected"),
    [
        ("Transpose", (0, 3, 1, 2), (2, 3, 5), (5, 2, 3), ""),
        ("Transpose", (0, 2, 1), (2, 3), (2, 3), "drives 's' of [2, 3] a sample by [3, 2]"),
        ("Transpose", (1, 0, 2), (2, 3), (2, 3), "permutes the axes of [2, 3] by [1, 0, 2]"),
        ("Transpose", (0, 1), (2, 3), (2, 3), "permutes the axes of [2, 3] by [0, 1]"),
        ("Transpose", (0, 1, 1), (2, 3), (2, 3), "permutes the axes of [2, 3] by [0, 1, 1]"),
        ("Transpose", (0, 1, 2, 3), (2, 3), (2, 3), "permutes the axes of [2, 3] by [0, 1, 2, 3]"),
        ("Reshape", (6,), (2, 3), (6,), ""),
        ("Reshape", (3, -1), (2, 3), (3, 2), ""),
        ("Reshape", (5,), (2, 3), (5,), "reshapes [2, 3] to [5] a sample"),
        ("Reshape", (4, -1), (2, 3), (4, 1), "reshapes [2, 3] to [4, -1] a sample"),
        ("Reshape", (-1, -1), (2, 3), (2, 3), "reshapes [2, 3] to [-1, -1] a sample"),
        ("Reshape", (-2, 3), (2, 3), (2, 3), "reshapes [2, 3] to [-2, 3] a sample"),
        ("Reshape", (0, -1), (2, 3), (6,), "reshapes [2, 3] to [0, -1] a sample"),
    ],
)
def test_layouts(
    op: str, sizes: tuple[int, ...], source: tuple[int, ...], made: tuple[int, ...], expected: str
) -> None:
    assert laid(op, sizes, source, made) == expected


@pytest.mark.parametrize(
    ("linear", "source", "made", "expected"),
    [
        (Linear("MatMul", "wide"), (4,), (6,), ""),
        (Linear("MatMul", "wide", transposed=True), (6,), (4,), ""),
        (Linear("MatMul", "wide"), (2, 4), (2, 6), ""),
        (Linear("MatMul", "wide"), (6,), (4,), "multiplies [6] a sample by 'wide' of [4, 6] (MatMul)"),
        (Linear("MatMul", "wide"), (), (6,), "multiplies [] a sample by 'wide' of [4, 6] (MatMul)"),
        (Linear("MatMul", "b4"), (4,), (4,), "multiplies [4] a sample by 'b4' of [4] (MatMul)"),
        (Linear("MatMul", "wide"), (4,), (4,), "maps 'x' to [6] a sample, not to [4]"),
        (Linear("MatMul", "square", "b4"), (4,), (4,), ""),
        (Linear("MatMul", "square", "b3"), (4,), (4,), "adds bias 'b3' of [3] to 4 outputs"),
        (Linear("Conv", "conv"), (2, 5, 5), (6, 3, 4), ""),
        (Linear("Conv", "conv", strides=(2, 3), pads=(1, 0, 2, 1)), (2, 5, 5), (6, 3, 2), ""),
        (Linear("Conv", "conv", dilations=(2, 4)), (2, 5, 5), (6, 1, 1), ""),
        (
            Linear("Conv", "conv", dilations=(3, 1)),
            (2, 5, 5),
            (6, 1, 1),
            "maps 'x' to [6, -1, 4] a sample, not to [6, 1, 1]",
        ),
        (Linear("Conv", "conv", groups=2), (4, 5, 5), (6, 3, 4), ""),
        (
            Linear("Conv", "conv", groups=4),
            (8, 5, 5),
            (6, 3, 4),
            "multiplies [8, 5, 5] a sample by 'conv' of [6, 2, 3, 2] (Conv)",
        ),
        (
            Linear("Conv", "conv", groups=0),
            (2, 5, 5),
            (6, 3, 4),
            "multiplies [2, 5, 5] a sample by 'conv' of [6, 2, 3, 2] (Conv)",
        ),
        (
            Linear("Conv", "conv"),
            (3, 5, 5),
            (6, 3, 4),
            "multiplies [3, 5, 5] a sample by 'conv' of [6, 2, 3, 2] (Conv)",
        ),
        (
            Linear("Conv", "conv"),
            (2, 5),
            (6, 3),
            "multiplies [2, 5] a sample by 'conv' of [6, 2, 3, 2] (Conv)",
        ),
        (
            Linear("Conv", "four axes"),
            (2, 3, 3, 3, 3),
            (2, 3, 3, 3, 3),
            "multiplies [2, 3, 3, 3, 3] a sample by 'four axes' of [2, 2, 1, 1, 1, 1] (Conv)",
        ),
        (
            Linear("Conv", "conv", strides=(0, 1)),
            (2, 5, 5),
            (6, 3, 4),
            "has windows of 2 axes with strides [0, 1] and pads []",
        ),
        (
            Linear("Conv", "conv", dilations=(1,)),
            (2, 5, 5),
            (6, 3, 4),
            "has windows of 2 axes with strides [] and pads []",
        ),
        (
            Linear("Conv", "conv", pads=(1, 1)),
            (2, 5, 5),
            (6, 3, 4),
            "has windows of 2 axes with strides [] and pads [1, 1]",
        ),
        (Linear("Conv", "conv", pads=(0, 0, 0, -1)), (2, 5, 5), (6, 3, 3), "pads by [0, 0, 0, -1]"),
        (
            Linear("Conv", "conv", output_padding=(0, 1)),
            (2, 5, 5),
            (6, 3, 4),
            "pads the output of 'conv' by [0, 1]",
        ),
        (Linear("Conv", "conv", output_padding=(0, 0)), (2, 5, 5), (6, 3, 4), ""),
        (Linear("ConvTranspose", "up"), (4, 3, 3), (3, 4, 4), ""),
        (Linear("ConvTranspose", "up", groups=2), (4, 3, 3), (6, 4, 4), ""),
        (
            Linear("ConvTranspose", "up", None, (2, 3), (1, 0, 0, 1), (3, 1), output_padding=(1, 2)),
            (4, 3, 3),
            (3, 8, 9),
            "",
        ),
        (
            Linear("ConvTranspose", "up", output_padding=(0, -1)),
            (4, 3, 3),
            (3, 4, 3),
            "pads the output of 'up' by [0, -1]",
        ),
        (
            Linear("ConvTranspose", "up"),
            (3, 3, 3),
            (3, 4, 4),
            "multiplies [3, 3, 3] a sample by 'up' of [4, 3, 2, 2] (ConvTranspose)",
        ),
    ],
)
def test_linear_maps(linear: Linear, source: tuple[int, ...], made: tuple[int, ...], expected: str) -> None:
    assert mapped(linear, source, made) == expected


def pool(kernel: tuple[int, ...], strides: tuple[int, ...] = (), **settings: Any) -> Pool:
    return Pool("MaxPool", kernel, strides, settings.pop("pads", ()), **settings)


@pytest.mark.parametrize(
    ("window", "source", "made", "expected"),
    [
        (pool((2, 2)), (3, 4, 5), (3, 3, 4), ""),
        (pool((2, 2), (2, 2)), (3, 4, 5), (3, 2, 2), ""),
        (pool((2, 2), (2, 2), ceil_mode=True), (3, 4, 5), (3, 2, 3), ""),
        (pool((3,), dilations=(2,)), (3, 7), (3, 3), ""),
        (pool((3, 3), pads=(2, 1, 0, 2)), (3, 4, 4), (3, 4, 5), ""),
        (
            pool((3, 3), pads=(0, 0, 3, 0)),
            (3, 4, 4),
            (3, 5, 2),
            "pools windows of [3, 3] with pads [0, 0, 3, 0], which may be empty",
        ),
        (pool((2,), pads=(2, 0), dilations=(2,)), (1, 4), (1, 4), ""),
        (
            pool((2,), pads=(3, 0), dilations=(2,)),
            (1, 4),
            (1, 5),
            "pools windows of [2] with pads [3, 0], which may be empty",
        ),
        (
            pool((1,), pads=(1, 0)),
            (1, 4),
            (1, 5),
            "pools windows of [1] with pads [1, 0], which may be empty",
        ),
        (pool((4,)), (1, 4), (1, 1), ""),
        (pool((5,)), (1, 4), (1, 1), "pools [1, 4] a sample to [1, 0]"),
        (pool((0,)), (1, 4), (1, 4), "pools [1, 4] a sample by windows of [0]"),
        (pool(()), (1, 4), (1, 4), "pools [1, 4] a sample by windows of []"),
        (pool((1, 1, 1)), (2, 2, 2), (2, 2, 2), ""),
        (pool((1, 1, 1)), (2, 2), (2, 2), "pools [2, 2] a sample by windows of [1, 1, 1]"),
        (
            pool((1, 1, 1, 1)),
            (2, 2, 2, 2),
            (2, 2, 2, 2),
            "pools [2, 2, 2, 2] a sample by windows of [1, 1, 1, 1]",
        ),
    ],
)
def test_poolings(window: Pool, source: tuple[int, ...], made: tuple[int, ...], expected: str) -> None:
    assert pooled(window, source, made) == expected


def test_a_long_block_has_each_value_once() -> None:
    names = ["x", *(f"s{k}" for k in range(300))]
    layers = [
        replace(ONE, value=name, interactions=(replace(DENSE, source=source),))
        for source, name in pairwise(names)
    ]
    assert problems(replace(BLOCK, layers=tuple(layers), outputs=("s299",))) == ""
    again = replace(layers[-1], value="s7")
    assert (
        problems(replace(BLOCK, layers=(*layers, again), outputs=("s299",))) == "makes or takes a value twice"
    )
