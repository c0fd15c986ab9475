"""What is said of energy blocks whose parts contradict each other; of a block that fits, nothing."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from ffebm.graph.energy_block import Activation, EnergyBlock, Interaction, Layer, Linear, Pool, Rearrangement
from ffebm.graph.tensor import Array, TensorType
from ffebm.plan.checks.blocks import block_problems
from tests.plan.folders import AGAIN, refused, set_at

Change = Callable[[dict[str, Any]], None]


def block() -> EnergyBlock:
    """A pooled convolution of [3, 8, 8] images, then a matrix product of what it makes."""
    convolution = Interaction(
        "x",
        (3, 8, 8),
        (4, 6, 6),
        linear=Linear("Conv", "w", "b", strides=(1, 1)),
        pool=Pool("MaxPool", (2, 2), (2, 2), ()),
    )
    product = Interaction(
        "h", (4, 3, 3), (5,), before=(Rearrangement("Reshape", (36,)),), linear=Linear("MatMul", "v")
    )
    relu, same = Activation("Relu"), Activation("Identity")
    layers = (
        Layer("h", (4, 3, 3), relu, (convolution,), ()),
        Layer("y", (5,), same, (product,), ("c",)),
    )
    return EnergyBlock(id=0, inputs=("x",), layers=layers, outputs=("y",))


def weights() -> dict[str, Array]:
    shapes = {"w": (4, 3, 3, 3), "b": (4,), "v": (36, 5), "c": (5,)}
    return {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}


TYPES = {"x": TensorType("float32", ("N", 3, 8, 8)), "y": TensorType("float32", ("N", 5))}


def problems(
    changed: Mapping[str, Any], arrays: Mapping[str, Array], types: Mapping[str, TensorType]
) -> list[str]:
    found = msgspec.convert(changed, EnergyBlock)
    return list(block_problems([found], arrays, types))


def at(*path: str | int, to: Any) -> Change:
    def change(document: dict[str, Any]) -> None:
        place: Any = document
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = to

    return change


FIRST, SECOND = ("layers", 0, "interactions", 0), ("layers", 1, "interactions", 0)

CASES: dict[str, tuple[Change, str]] = {
    "position": (at("id", to=3), "block3 stands at position 0"),
    "no layers": (at("layers", to=[]), "has no layers, or a layer that nothing drives"),
    "settles in no time": (
        at("relaxed", to={"time_constants": 0.0, "siemens": 1.0}),
        "settles in 0.0 time constants with 1.0 S",
    ),
    "half of a contrast": (
        at("relaxed", to={"time_constants": 1.0, "siemens": 1.0, "nudged": 2.0}),
        "settles in None time constants before a nudge and 2.0 under it",
    ),
    "nothing drives": (
        at("layers", 1, "interactions", to=[]),
        "has no layers, or a layer that nothing drives",
    ),
    "twice": (at("layers", 1, "value", to="h"), "makes or takes a value twice"),
    "output": (at("outputs", to=["x"]), "names an output that is no layer of it, or one twice"),
    "output twice": (at("outputs", to=["y", "y"]), "names an output that is no layer of it, or one twice"),
    "no values": (at(*SECOND, "linear", "weight", to="no"), "holds weight 'no', which has no values"),
    "activation": (
        at("layers", 0, "activation", "op", to="Sin"),
        "has layer 'h', whose activation 'Sin' is none",
    ),
    "source": (at(*SECOND, "source", to="z"), "has layer 'y', which reads 'z', no value before it"),
    "later source": (at(*FIRST, "source", to="y"), "has layer 'h', which reads 'y', no value before it"),
    "source shape": (
        at(*FIRST, "source_shape", to=[3, 9, 8]),
        "reads 'x' as [3, 9, 8] a sample, which is [3, 8, 8]",
    ),
    "shape": (at("layers", 0, "shape", to=[4, 3, 4]), "drives 'h' of [4, 3, 4] a sample by [4, 3, 3]"),
    "declared": (
        at("layers", 1, "shape", to=[1, 5]),
        "makes 'y' of [1, 5] a sample, whose type says [5]",
    ),
    "no size": (
        at("layers", 0, "shape", to=[4, 0, 3]),
        "makes 'h' of [4, 0, 3] a sample; sizes of at least 1 are allowed",
    ),
    "large": (
        at("layers", 0, "shape", to=[2**20, 2**20]),
        "makes 'h' of 1,099,511,627,776 elements a sample; at most 2,147,483,648 elements of one value",
    ),
    "bias of a layer": (at("layers", 1, "biases", to=["b"]), "adds bias 'b' of [4] to 'y' of [5] a sample"),
    "bias of a map": (at(*FIRST, "linear", "bias", to="c"), "adds bias 'c' of [5] to 4 outputs"),
    "linear shape": (
        at(*FIRST, "linear_shape", to=[4, 6, 7]),
        "maps 'x' to [4, 6, 6] a sample, not to [4, 6, 7]",
    ),
    "weight": (
        at(*FIRST, "linear", "weight", to="v"),
        "multiplies [3, 8, 8] a sample by 'v' of [36, 5] (Conv)",
    ),
    "transposed": (
        at(*SECOND, "linear", "transposed", to=True),
        "multiplies [36] a sample by 'v' of [36, 5] (MatMul)",
    ),
    "groups": (
        at(*FIRST, "linear", "groups", to=2),
        "multiplies [3, 8, 8] a sample by 'w' of [4, 3, 3, 3] (Conv)",
    ),
    "strides": (
        at(*FIRST, "linear", "strides", to=[1, 0]),
        "has windows of 2 axes with strides [1, 0] and pads []",
    ),
    "pads": (
        at(*FIRST, "linear", "pads", to=[1, 1]),
        "has windows of 2 axes with strides [1, 1] and pads [1, 1]",
    ),
    "negative pads": (at(*FIRST, "linear", "pads", to=[0, 0, 0, -1]), "pads by [0, 0, 0, -1]"),
    "output padding": (
        at(*FIRST, "linear", "output_padding", to=[1, 0]),
        "pads the output of 'w' by [1, 0]",
    ),
    "reshape": (
        at(*SECOND, "before", 0, "sizes", to=[35]),
        "reshapes [4, 3, 3] to [35] a sample",
    ),
    "reshape by two": (
        at(*SECOND, "before", 0, "sizes", to=[-1, -1]),
        "reshapes [4, 3, 3] to [-1, -1] a sample",
    ),
    "transpose": (
        at(*SECOND, "before", to=[{"op": "Transpose", "sizes": [1, 0, 2, 3]}]),
        "permutes the axes of [4, 3, 3] by [1, 0, 2, 3]",
    ),
    "kernel": (at(*FIRST, "pool", "kernel", to=[2, 0]), "pools [4, 6, 6] a sample by windows of [2, 0]"),
    "empty windows": (
        at(*FIRST, "pool", "pads", to=[2, 0, 0, 0]),
        "pools windows of [2, 2] with pads [2, 0, 0, 0], which may be empty",
    ),
    "no windows": (at(*FIRST, "pool", "kernel", to=[7, 7]), "pools [4, 6, 6] a sample to [4, 0, 0]"),
}


def test_a_block_that_fits() -> None:
    assert problems(msgspec.to_builtins(block()), weights(), TYPES) == []
    assert problems(msgspec.to_builtins(block()), weights(), {}) == []


@pytest.mark.parametrize("case", CASES)
def test_a_block_that_does_not_fit(case: str) -> None:
    change, message = CASES[case]
    document = msgspec.to_builtins(block())
    change(document)
    number = document["id"]
    said = message if case == "position" else f"block{number} {message}"
    assert problems(document, weights(), TYPES) == [said]


def test_types_of_values_and_weights() -> None:
    document = msgspec.to_builtins(block())
    whole = {"x": TensorType("int64", ("N", 3, 8, 8))}
    assert problems(document, weights(), whole) == [
        "block0 reads 'x', which is of type int64; floats are allowed"
    ]
    mixed = {**weights(), "v": np.zeros((36, 5), np.float64)}
    assert problems(document, mixed, TYPES) == [
        "block0 has weights of the types float32, float64; one of floats is allowed"
    ]
    integers = {name: array.astype(np.int8) for name, array in weights().items()}
    assert problems(document, integers, TYPES) == [
        "block0 has weights of the types int8; one of floats is allowed"
    ]


def test_what_fits_in_other_forms() -> None:
    """A transposed convolution, a transposed product, a skip, an open size."""
    arrays = weights() | {"u": np.zeros((3, 2, 3, 3), np.float32), "t": np.zeros((5, 200), np.float32)}
    up = Interaction(
        "x",
        (3, 4, 4),
        (2, 10, 10),
        linear=Linear("ConvTranspose", "u", strides=(2, 2), output_padding=(1, 1)),
    )
    product = Interaction(
        "h",
        (2, 10, 10),
        (5,),
        before=(Rearrangement("Reshape", (-1,)),),
        linear=Linear("MatMul", "t", transposed=True),
    )
    skip = Interaction("z", (5,), (5,))
    layers = (
        Layer("h", (2, 10, 10), Activation("Tanh"), (up,), ()),
        Layer("y", (5,), Activation("Identity"), (product, skip), ("c",)),
    )
    fits = EnergyBlock(id=0, inputs=("x", "z"), layers=layers, outputs=("y", "h"))
    types = {"x": TensorType("float32", ("N", 3, 4, "?")), "z": TensorType("unknown")}
    assert list(block_problems([fits], arrays, types)) == []


def test_a_physics_that_is_not_here(folder: Path) -> None:
    found = refused(folder, set_at("blocks", 0, "physics", to="springs"))
    assert found == "block0 cannot run: there is no physics 'springs'; hopfield, deep-resistive" + AGAIN


def test_a_physics_that_cannot_have_the_layers(folder: Path) -> None:
    found = refused(folder, set_at("blocks", 1, "physics", to="deep-resistive"))
    why = "a resistive network has no MaxPool: nodes are joined by conductances alone"
    assert found == f"block1 has layer 'v5': {why}" + AGAIN
