from collections.abc import Callable
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ffebm.compiler.driver import compile_model, run_passes
from ffebm.errors import UsageError
from ffebm.graph.energy_block import Activation
from ffebm.graph.graph import Graph
from ffebm.hardware.description import load_hardware
from ffebm.plan.schema import Options
from ffebm.runtime.executor import Executor
from tests.models import Builder, oracle, random_feeds, relative_error, tensors
from tests.passes.common import before


def blocks(b: Builder, *outputs: str, size: int | tuple[int, ...] = 1, digital: bool = False) -> Graph:
    options = Options(block_size=size, boundary="digital" if digital else "tile")
    graph, step = before("energy-blocks", b.model(*outputs), options)
    run_passes(graph, load_hardware("ideal"), (step,), None)
    return graph


def layers(graph: Graph) -> list[list[str]]:
    """Values of the layers of each block."""
    return [[layer.value for layer in block.layers] for block in graph.blocks]


def short(graph: Graph) -> str:
    """Nodes and blocks without types and windows."""
    lines = []
    for node in graph.nodes:
        where = node.unit if node.block is None else f"block{node.block}"
        lines.append(
            f"{', '.join(node.outputs)} = {node.op}({', '.join(node.inputs)})  # {where}: {node.reason}"
        )
    head = f"graph {graph.name}"
    assert str(graph).startswith(head)
    tail = [line for line in str(graph).splitlines() if line.startswith(("  block", "    "))]
    return "\n".join(lines + tail) + "\n"


def chain(b: Builder, *, bn: bool = False) -> list[str]:
    """The paper's architecture in small: Conv (MaxPool) (BN) Clip, then Conv MaxPool Clip, and a readout."""
    x = b.input("x", "N", 1, 8, 8)
    y = b.node("MaxPool", b.conv(x, 1, 2), kernel_shape=[2, 2], strides=[2, 2], out="pool1")
    y = b.node("Clip", b.norm(y, 2) if bn else y, b.constant(0.0, "zero"), b.constant(1.0, "one"), out="s1")
    y = b.node("MaxPool", b.conv(y, 2, 2), kernel_shape=[2, 2], strides=[2, 2], out="pool2")
    y = b.node("Clip", y, "zero", "one", out="s2")
    y = b.node("Gemm", b.node("Flatten", y), b.weight(8, 3), b.weight(3), out="logits")
    return [y]


@pytest.mark.parametrize("bn", [False, True])
@pytest.mark.parametrize("digital", [False, True])
@pytest.mark.parametrize("size", [1, 3])
def test_the_chain_of_the_paper(golden: Callable[[str], None], bn: bool, digital: bool, size: int) -> None:
    b = Builder()
    golden(short(blocks(b, *chain(b, bn=bn), size=size, digital=digital)))


def test_with_a_digital_boundary_a_block_begins_with_a_bare_activation() -> None:
    b = Builder()
    graph = blocks(b, *chain(b, bn=True), size=3, digital=True)
    (block,) = graph.blocks
    first = block.layers[0]
    assert (first.value, first.activation.op) == ("s1", "Clip")
    assert first.interactions[0].linear is None
    assert [layer.value for layer in block.layers] == ["s1", "s2", "logits"]
    assert block.inputs == (graph.producers()["s1"].inputs[0],)


def dense(b: Builder, x: str, n: int = 4, out: str = "") -> str:
    return b.node("Relu", b.node("MatMul", x, b.weight(n, n)), out=out)


def test_a_list_of_sizes_leaves_what_follows_digital() -> None:
    b = Builder()
    y = b.input("x", "N", 4)
    for index in range(5):
        y = dense(b, y, out=f"s{index}")
    graph = blocks(b, y, size=(2, 1))
    assert layers(graph) == [["s0", "s1"], ["s2"]]
    behind = [(n.unit, n.reason) for n in graph.nodes if n.block is None]
    assert (
        behind
        == [
            ("digital", "behind the last of the 2 blocks that block_size names"),
            ("digital", "activation of a value computed digitally, with no stationary weight before it"),
        ]
        * 2
    )


@given(
    depth=st.integers(1, 7), sizes=st.lists(st.integers(1, 4), min_size=1, max_size=5), digital=st.booleans()
)
@settings(max_examples=60, deadline=None)
def test_each_size_of_a_list_takes_its_turn_on_a_chain(depth: int, sizes: list[int], digital: bool) -> None:
    b = Builder()
    y = b.input("x", "N", 4)
    for index in range(depth):
        y = dense(b, y, out=f"s{index}")

    names = iter([f"s{index}" for index in range(depth)])
    turns = [list(islice(names, size)) for size in sizes]
    expected = [turn for turn in turns if len(turn) > (1 if digital else 0)]
    if not turns[-1]:
        with pytest.raises(UsageError, match=f"takes {sum(map(bool, turns))}; it has {depth} layer"):
            blocks(b, y, size=tuple(sizes), digital=digital)
        return

    graph = blocks(b, y, size=tuple(sizes), digital=digital)
    assert layers(graph) == expected
    held = [weight for block in graph.blocks for weight in block.weights()]
    assert len(held) == sum(len(block) - digital for block in expected)


@pytest.mark.parametrize("digital", [False, True])
def test_more_sizes_than_the_chain_takes_are_refused(digital: bool) -> None:
    b = Builder()
    y = dense(b, dense(b, b.input("x", "N", 4)))
    with pytest.raises(UsageError) as caught:
        compile_model(b.model(y), block_size=[1, 1, 3], boundary="digital" if digital else "tile")
    assert str(caught.value) == (
        "model: 3 block sizes for a chain that takes 2; it has 2 layers with weights that fit tiles\n"
        "  hint: list the first 2 only: 1,1"
    )


def test_a_list_of_sizes_for_a_model_without_a_layer_is_refused() -> None:
    b = Builder()
    with pytest.raises(UsageError) as caught:
        compile_model(b.model(b.node("Softmax", b.input("x", "N", 4))), block_size=[1, 2])
    assert str(caught.value) == (
        "model: 2 block sizes for a chain that takes 0; it has 0 layers with weights that fit tiles\n"
        "  hint: give one number, such as 1"
    )


def test_a_skip_inside_a_block() -> None:
    b = Builder()
    s0 = dense(b, b.input("x", "N", 4), out="s0")
    s1 = dense(b, s0, out="s1")
    y = b.node("Relu", b.node("Add", b.node("MatMul", s1, b.weight(4, 4)), s0), out="s2")
    graph = blocks(b, y, size=3)
    (block,) = graph.blocks
    last = block.layers[-1]
    assert [(i.source, i.linear is not None) for i in last.interactions] == [("s1", True), ("s0", False)]
    assert block.outputs == ("s2",)
    assert block.colours() == (0, 1, 2)  # a triangle: each feels both others


def test_a_value_that_is_read_inside_and_outside() -> None:
    b = Builder()
    s0 = dense(b, b.input("x", "N", 4), out="s0")
    s1 = dense(b, s0, out="s1")
    digital = b.node("Softmax", s0, out="soft")
    graph = blocks(b, s1, digital, size=2)
    (block,) = graph.blocks
    assert block.outputs == ("s0", "s1")


def test_a_block_does_not_wait_for_what_waits_for_it() -> None:
    b = Builder()
    s0 = dense(b, b.input("x", "N", 4), out="s0")
    soft = b.node("Softmax", s0, out="soft")  # digital, behind s0
    y = b.node("Add", b.node("MatMul", s0, b.weight(4, 4)), b.node("MatMul", soft, b.weight(4, 4)))
    graph = blocks(b, b.node("Relu", y, out="s1"), size=4)
    assert layers(graph) == [["s0"], ["s1"]]
    assert graph.blocks[1].inputs == ("s0", "soft")


def test_several_inputs_and_outputs() -> None:
    b = Builder()
    x, z = b.input("x", "N", 4), b.input("z", "N", 4)
    y = b.node("Sum", b.node("MatMul", x, b.weight(4, 4)), b.node("MatMul", z, b.weight(4, 4)), z)
    s0 = b.node("Relu", y, out="s0")
    graph = blocks(b, s0, dense(b, s0, out="s1"), size=2)
    (block,) = graph.blocks
    assert block.inputs == ("x", "z")
    assert block.outputs == ("s0", "s1")
    assert [i.source for i in block.layers[0].interactions] == ["x", "z", "z"]


def test_a_scaled_clip_with_a_bias() -> None:
    b = Builder()
    y = b.node("Add", b.node("MatMul", b.input("x", "N", 4), b.weight(4, 4)), b.weight(4, name="bias"))
    y = b.clip(b.node("Mul", b.constant(0.5), y), -1.0, 2.0)
    (block,) = blocks(b, y).blocks
    (layer,) = block.layers
    assert layer.biases == ("bias",)
    a = layer.activation
    assert (a.op, a.scale, a.low, a.high) == ("Clip", 0.5, -1.0, 2.0)


SCALED: dict[str, Callable[[Builder, str, str], str]] = {
    "scaled first": lambda b, xw, xu: b.node("Add", b.node("Mul", b.constant(0.5), xw), xu),
    "scaled last": lambda b, xw, xu: b.node("Add", xu, b.node("Mul", xw, b.constant(0.5))),
    "divided": lambda b, xw, xu: b.node("Add", b.node("Div", xw, b.constant(2.0)), xu),
    "both": lambda b, xw, xu: b.node(
        "Sum", b.node("Mul", xw, b.constant(0.5)), b.node("Mul", xu, b.constant(2.0)), "x"
    ),
    "with a bias": lambda b, xw, xu: b.node("Add", b.node("Mul", xw, b.constant(0.5)), b.weight(4)),
    "with a state": lambda b, xw, xu: b.node("Add", b.node("Mul", xw, b.constant(0.5)), "x"),
    "sum scaled": lambda b, xw, xu: b.node("Mul", b.node("Add", xw, xu), b.constant(0.5)),
    "sum scaled twice": lambda b, xw, xu: b.node(
        "Add", b.node("Mul", b.node("Add", xw, xu), b.constant(0.5)), b.weight(4)
    ),
    "bias scaled": lambda b, xw, xu: b.node("Mul", b.node("Add", xw, b.weight(4)), b.constant(3.0)),
}


@pytest.mark.parametrize("activation", ["Relu", "Tanh", "Identity"])
@pytest.mark.parametrize("case", SCALED)
def test_a_scale_reaches_only_what_it_scales(case: str, activation: str) -> None:
    b = Builder()
    x = b.input("x", "N", 4)
    products = [b.node("MatMul", x, b.weight(4, 4)) for _ in range(2)]
    model = b.model(b.node(activation, SCALED[case](b, *products)))
    feeds = random_feeds(model, batch=5)
    with torch.no_grad():
        found = Executor(compile_model(model, hardware="ideal"))(*tensors(feeds).values())
    assert relative_error((found,), oracle(model, feeds)) < 1e-5


@pytest.mark.parametrize(
    ("op", "attrs"),
    [
        ("Selu", {"alpha": 0.0}),
        ("Selu", {"alpha": 0.5}),
        ("Selu", {"alpha": 0.0, "gamma": 2.0}),
        ("Elu", {"alpha": 0.0}),
        ("LeakyRelu", {"alpha": 0.0}),
        ("HardSigmoid", {"alpha": 0.0}),
        ("HardSigmoid", {"beta": 0.0}),
        ("HardSigmoid", {"alpha": 0.0, "beta": 0.0}),
    ],
)
@pytest.mark.parametrize("digital", [(), ("w",)])
def test_a_parameter_of_zero_is_no_default(op: str, attrs: dict[str, Any], digital: tuple[str, ...]) -> None:
    b = Builder()
    x = b.input("x", "N", 4)
    model = b.model(b.node(op, b.node("MatMul", x, b.weight(4, 4, name="w", gain=3.0)), **attrs))
    feeds = random_feeds(model, batch=8)
    plan = compile_model(model, hardware="ideal", digital=digital)
    assert len(plan.blocks) == (0 if digital else 1)
    with torch.no_grad():
        found = Executor(plan)(*tensors(feeds).values())
    assert relative_error((found,), oracle(model, feeds)) < 1e-5


def test_layouts_inside_a_block() -> None:
    b = Builder()
    x = b.input("x", "N", 2, 4, 4)
    s0 = b.node("Relu", b.node("Transpose", b.conv(x, 2, 2), perm=[0, 2, 3, 1]), out="s0")
    y = b.node("Reshape", s0, b.shape(-1, 32))  # the batch keeps its size, whatever its name
    graph = blocks(b, b.node("MatMul", y, b.weight(32, 3), out="y"), size=2)
    (block,) = graph.blocks
    first, second = block.layers
    assert first.shape == (4, 4, 2)
    assert [(c.op, c.sizes) for c in first.interactions[0].after] == [("Transpose", (0, 2, 3, 1))]
    assert [(c.op, c.sizes) for c in second.interactions[0].before] == [("Reshape", (32,))]


@pytest.mark.parametrize("readers", [1, 2])
def test_a_layout_is_of_the_block_whose_layer_alone_reads_it(readers: int) -> None:
    b = Builder()
    state = b.node("Relu", b.node("MatMul", b.input("x", "N", 2, 4), b.weight(4, 4)))
    turned = b.node("Transpose", state, perm=[0, 2, 1], out="turned")
    ends = [b.node("MatMul", turned, b.weight(2, 3)) for _ in range(readers)]
    graph = blocks(b, *ends, size=3)
    (node,) = (node for node in graph.nodes if node.outputs == ["turned"])
    assert (node.unit, node.reason) == {
        1: ("tile", "layout between layers, into layer 2 of 2 in block0"),
        2: ("digital", "layout change between digital ops"),
    }[readers]


def test_an_output_that_is_left_out_by_name_is_none() -> None:
    b = Builder()
    y = b.node("MaxPool", b.conv(b.input("x", "N", 1, 8, 8), 1, 2), kernel_shape=[2, 2], out="pool")
    b.nodes[-1].output.append("")
    graph = blocks(b, b.node("Relu", y, out="s"), size=4)
    assert layers(graph) == [["s"]]
    assert {node.unit for node in graph.nodes} == {"tile"}


def test_a_block_without_a_weight_is_none() -> None:
    b = Builder()
    x = b.input("x", "N", 4)
    skip = b.node("Relu", b.node("Softmax", x))
    y = b.node("Relu", b.node("Add", b.node("MatMul", x, b.weight(4, 4)), skip))
    assert blocks(b, y, size=2, digital=True).blocks == []


@pytest.mark.parametrize(
    ("others", "unit"),
    [((), "tile"), (("Neg",), "digital"), (("Relu",), "digital"), (("output",), "digital")],
)
@pytest.mark.parametrize("op", ["Add", "Mul"])
def test_a_value_without_a_weight_is_a_layer_if_an_activation_alone_reads_it(
    op: str, others: tuple[str, ...], unit: str
) -> None:
    b = Builder()
    x = b.input("x", "N", 4)
    state = b.node("Relu", b.node("MatMul", x, b.weight(4, 4)))
    y = b.node(op, state, x if op == "Add" else b.constant(0.5))
    ends = [b.node("MatMul", b.node("Sigmoid", y), b.weight(4, 3))]
    ends += [y if other == "output" else b.node(other, y) for other in others]
    graph = blocks(b, *ends, size=4)
    assert next(node.unit for node in graph.nodes if node.outputs == [y]) == unit


def digital_reason(op: Callable[[Builder, str], str]) -> str:
    """The reason of the last node of a model."""
    b = Builder()
    y = op(b, b.input("x", "N", 4, 6, 6))
    node = blocks(b, y).nodes[-1]
    assert node.unit == "digital"
    return node.reason


REASONS: dict[str, tuple[Callable[[Builder, str], str], str]] = {
    "norm": (
        lambda b, x: b.norm(x, 4),
        "couples the samples of a batch in training, so it is no activation of an energy",
    ),
    "softmax": (
        lambda b, x: b.node("Softmax", x),
        "couples the units of a layer, so it is no activation of an energy",
    ),
    "gelu": (
        lambda b, x: b.node("Gelu", x),
        "not monotone, so no convex potential has it as its activation",
    ),
    "attention": (
        lambda b, x: b.node("MatMul", x, b.node("Transpose", x, perm=[0, 1, 3, 2])),
        "no stationary weight: both operands are computed at run time",
    ),
    "reshaped weight": (
        lambda b, x: b.node("MatMul", x, b.node("Reshape", b.weight(36), b.shape(6, 6))),
        "its weight passes a layout change first; a tile holds weights as the model stores them",
    ),
    "weight on the left": (
        lambda b, x: b.node("MatMul", b.weight(6, 6), x),
        "its stationary weight stands on the left, so it mixes the batch axis",
    ),
    "stack of weights": (
        lambda b, x: b.node("MatMul", x, b.weight(4, 6, 6)),
        "its stationary weight is not one matrix",
    ),
    "scaled Gemm": (
        lambda b, x: b.node("Gemm", b.node("Flatten", x), b.weight(144, 3), alpha=2.0),
        "a Gemm with transA, or with alpha or beta other than 1",
    ),
    "bias at run time": (
        lambda b, x: b.node("Gemm", b.node("Flatten", x), b.weight(144, 3), b.input("bias", 3)),
        "its bias is computed at run time, or is not one number an output",
    ),
    "bare activation": (
        lambda b, x: b.node("Relu", x),
        "activation of a value computed digitally, with no stationary weight before it",
    ),
    "negative slope": (
        lambda b, x: b.node("LeakyRelu", b.conv(x, 4, 4), alpha=-0.1),
        "not monotone with its parameters, so no convex potential has it as its activation",
    ),
    "bare pooling": (
        lambda b, x: b.node("MaxPool", x, kernel_shape=[2, 2]),
        "pooling that does not directly follow a linear map with a stationary weight",
    ),
    "moved batch": (
        lambda b, x: b.node("Transpose", x, perm=[1, 0, 2, 3]),
        "a layout change that moves the batch",
    ),
    "product": (
        lambda b, x: b.node("Mul", x, b.node("Sigmoid", x)),
        "product of two activations: no stationary weight",
    ),
    "negative scale": (
        lambda b, x: b.node("Relu", b.node("Mul", b.conv(x, 4, 4), b.constant(-1.0))),
        "activation of a value computed digitally, with no stationary weight before it",
    ),
    "diagonal": (
        lambda b, x: b.node("Mul", x, b.weight(4, 1, 1)),
        "product with a weight for each unit: a diagonal map, which no tile holds",
    ),
    "padding by output_shape": (
        lambda b, x: b.node("ConvTranspose", x, b.weight(4, 2, 2, 2), output_shape=[8, 8]),
        "its padding follows from output_shape or auto_pad",
    ),
    "same value twice": (
        lambda b, x: b.node("Add", x, x),
        "sum of values that drives no layer of an energy block",
    ),
}


@pytest.mark.parametrize("case", REASONS)
def test_the_reason_of_a_digital_node(case: str) -> None:
    build, expected = REASONS[case]
    assert digital_reason(build) == expected


def test_a_weight_in_two_forms_lies_on_tiles_once() -> None:
    b = Builder()
    w = b.weight(4, 4, name="w")
    h = b.node("Relu", b.node("MatMul", b.input("x", "N", 4), w))
    graph = blocks(b, b.node("Gemm", h, w, transB=1))
    assert [n.unit for n in graph.nodes] == ["tile", "tile", "digital"]
    assert graph.nodes[-1].reason == (
        "its weight lies on a tile already, for a map that uses it another way round"
    )


def test_an_open_size_that_is_not_the_batch() -> None:
    b = Builder()
    y = b.node("Conv", b.input("x", "N", 3, "H", "W"), b.weight(2, 3, 3, 3), name="c")
    graph = blocks(b, y)
    assert [(node.unit, node.reason) for node in graph.nodes] == [
        (
            "digital",
            "a tile needs every size but the batch, and one is open in 'x': ['N', 3, 'H', 'W']; "
            "--dim NAME=SIZE gives it",
        )
    ]


def kept_digital(*names: str) -> Graph:
    """Three dense layers; some names stay digital."""
    b = Builder()
    y = b.input("x", "N", 4)
    for index in range(3):
        product = b.node("MatMul", y, b.weight(4, 4, name=f"w{index}"), name=f"dense{index}")
        y = b.node("Relu", product, name=f"relu{index}", out=f"s{index}")
    graph, step = before("energy-blocks", b.model(y), Options(digital=names))
    run_passes(graph, load_hardware("ideal"), (step,), None)
    return graph


@pytest.mark.parametrize("name", ["w1", "dense1"])
def test_a_weight_or_a_node_stays_digital_on_request(name: str) -> None:
    graph = kept_digital(name)
    assert layers(graph) == [["s0"], ["s2"]]
    reasons = {node.name: node.reason for node in graph.nodes if node.unit == "digital"}
    assert reasons == {
        "dense1": "kept digital on request",
        "relu1": "activation of a value computed digitally, with no stationary weight before it",
    }


@pytest.mark.parametrize("pattern", ["*", "dense*", "w?"])
def test_patterns_keep_everything_digital_that_they_name(pattern: str) -> None:
    graph = kept_digital(pattern)
    assert graph.blocks == []
    assert {node.unit for node in graph.nodes} == {"digital"}
    assert {n.reason for n in graph.nodes if n.op == "MatMul"} == {"kept digital on request"}


def test_a_pattern_that_matches_some() -> None:
    assert layers(kept_digital("*1")) == [["s0"], ["s2"]]


def test_a_name_that_nothing_has() -> None:
    with pytest.raises(UsageError) as caught:
        kept_digital("w7")
    assert str(caught.value) == (
        "model: 'w7' is to stay digital; "
        "the name of a node, or of a weight that a tile could hold; * stands for anything\n"
        "  hint: there are w2, w1, w0"
    )


def test_what_the_circuits_of_a_physics_cannot_be_is_digital() -> None:
    b = Builder()

    def conductances() -> str:
        return b.constant(abs(b.rng.normal(size=(4, 4))).astype(np.float32))

    y = b.node("Relu", b.node("MatMul", b.input("x", "N", 4), conductances()), out="h")
    y = b.node("Tanh", b.node("MatMul", y, conductances(), out="u"), out="t")
    y = b.node("Mul", b.node("MatMul", y, conductances(), out="v"), b.constant(0.5), out="half")
    y = b.node("Relu", b.node("Add", b.node("MatMul", y, conductances(), out="w"), "h", out="sum"))
    graph, step = before("energy-blocks", b.model(y), Options(block_size=2, physics="deep-resistive"))
    run_passes(graph, load_hardware("ideal"), (step,), None)
    assert {block.physics for block in graph.blocks} == {"deep-resistive"}
    assert graph.notes[-1] == (
        "blocks of physics 'deep-resistive' settle where its energy is least: even with one layer a block "
        "that is not what the model computes"
    )
    assert layers(graph) == [["h", "u"], ["half", "w"]]
    assert graph.blocks[1].layers[0].activation == Activation("Identity", 0.5)  # amplifiers of half
    assert {node.op: node.reason for node in graph.nodes if node.unit == "digital"} == {
        "Tanh": "diodes hold a node within a range (Relu, Clip), and make no Tanh",
        "Add": "a resistive network joins layers by conductances, and an identity has none",
        "Relu": "a resistive network joins layers by conductances, and an identity has none",
    }


def test_ways_through_unlike_amplifiers_are_no_one_circuit() -> None:
    b = Builder()
    x = b.input("x", "N", 3)

    def way(name: str, gain: float) -> str:
        sums = b.node("MatMul", x, b.constant(np.eye(3, dtype=np.float32)))
        y = b.node("Relu", b.node("Mul", sums, b.constant(gain)), out=name)
        return b.node("MatMul", y, b.constant(np.eye(3, dtype=np.float32)))

    model = b.model(b.node("Add", way("a", 2.0), way("b", 3.0), out="y"))
    graph, step = before("energy-blocks", model, Options(block_size=3, physics="deep-resistive"))
    with pytest.raises(UsageError) as caught:
        run_passes(graph, load_hardware("ideal"), (step,), None)
    assert str(caught.value) == (
        "block0: layer 'y' is driven through unlike gains; one product of the gains of the amplifiers on all "
        "ways to a layer\n  hint: smaller blocks (block_size, --block-size), or one of the ways kept digital"
    )
    wrong = Options(block_size=3, physics="deep-resistive", digital=("absent",))
    graph, step = before("energy-blocks", model, wrong)
    with pytest.raises(UsageError, match="'absent' is to stay digital"):  # a name first: it may be the remedy
        run_passes(graph, load_hardware("ideal"), (step,), None)


def test_a_layer_without_any_conductance_floats() -> None:
    b = Builder()
    zeros, ones = np.zeros((3, 3), np.float32), np.ones((3, 3), np.float32)
    y = b.node("Relu", b.node("MatMul", b.input("x", "N", 3), b.constant(zeros)), out="a")
    y = b.node("Relu", b.node("MatMul", y, b.constant(ones)), out="b")  # a is loaded by b
    y = b.node("Relu", b.node("MatMul", y, b.constant(ones)), out="c")
    y = b.node("MatMul", b.node("Tanh", y), b.constant(zeros), out="d")
    graph, step = before("energy-blocks", b.model(y), Options(block_size=3, physics="deep-resistive"))
    run_passes(graph, load_hardware("ideal"), (step,), None)
    assert layers(graph) == [["a", "b", "c"], ["d"]]
    assert graph.notes[1:] == [
        "every conductance at layer 'd' of block1 is 0: its nodes float, and a current drives them without "
        "bound, until training raises conductances to their least"
    ]


def test_single_nodes_without_a_conductance_float() -> None:
    b = Builder()
    first, second = np.ones((3, 8), np.float32), np.ones((8, 4), np.float32)
    first[:, :7] = 0.0
    second[2:] = 0.0  # nodes 0 and 1 are held by the layer above, 7 by the input
    second[:, 3] = 0.0
    y = b.node("Relu", b.node("MatMul", b.input("x", "N", 3), b.constant(first)), out="a")
    y = b.node("MatMul", y, b.constant(second), out="b")
    graph, step = before("energy-blocks", b.model(y), Options(block_size=2, physics="deep-resistive"))
    run_passes(graph, load_hardware("ideal"), (step,), None)
    assert layers(graph) == [["a", "b"]]
    bound = "they float, and a current drives them without bound, until training raises conductances to their"
    assert graph.notes[-2:] == [
        f"every conductance at 5 of 8 nodes of layer 'a' of block0 is 0 (2, 3, 4, 5, 6): {bound} least",
        f"every conductance at 1 of 4 nodes of layer 'b' of block0 is 0 (3): {bound} least",
    ]


@pytest.mark.parametrize(("hardware", "floats"), [("resistive-single", False), ("resistive", True)])
def test_single_cells_hold_nodes_whose_weights_are_0(hardware: str, floats: bool) -> None:
    """At g_min, which is above 0; the difference of two cells may be 0."""
    b = Builder()
    first = np.ones((3, 8), np.float32)
    first[:, 2] = 0.0
    model = b.model(b.node("Relu", b.node("MatMul", b.input("x", "N", 3), b.constant(first)), out="a"))
    graph, step = before("energy-blocks", model, Options(physics="deep-resistive"))
    run_passes(graph, load_hardware(hardware), (step,), None)
    assert any("they float" in note for note in graph.notes) == floats


def test_a_negative_weight_is_no_conductance() -> None:
    b = Builder()
    weight = b.constant(np.array([[0.5, -0.25], [0.0, 1.0], [-1.0, 0.5]], np.float32), "w")
    y = b.node("Relu", b.node("MatMul", b.input("x", "N", 3), weight))
    graph, step = before("energy-blocks", b.model(y), Options(physics="deep-resistive"))
    run_passes(graph, load_hardware("ideal"), (step,), None)
    assert graph.blocks == []
    assert graph.nodes[0].reason == (
        "2 of its 6 weights are negative, down to -1, and a weight is one conductance; double its inputs, "
        "[x, -x], and clamp it at 0"
    )
