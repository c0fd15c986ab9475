"""The text form of graphs is read back as it was written."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ffebm.compiler.driver import pass_order, run_passes
from ffebm.compiler.onnx.from_onnx import from_onnx
from ffebm.errors import Location, UsageError
from ffebm.graph.energy_block import (
    Activation,
    EnergyBlock,
    Interaction,
    Layer,
    Linear,
    Pool,
    Rearrangement,
    Relaxed,
)
from ffebm.graph.graph import Graph, Node, Part, Place, Stage, graph_text
from ffebm.graph.parse import parse
from ffebm.graph.tensor import Array, TensorType
from ffebm.graph.text import bytes_of, digest
from ffebm.hardware.description import load_hardware
from ffebm.plan.schema import Options
from tests.models import Builder

names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6)
sizes = st.one_of(st.integers(0, 300), st.sampled_from(["N", "batch_size", "max", "2*N"]))
types = st.builds(
    TensorType,
    st.sampled_from(["float32", "int64", "bool"]),
    st.none() | st.lists(sizes, max_size=4).map(tuple),
)
floats = st.floats(allow_nan=False)
shapes = st.lists(st.integers(0, 3), max_size=3).map(tuple)
positive = st.lists(st.integers(1, 9), max_size=3).map(tuple)


@st.composite
def arrays(draw: st.DrawFn) -> Any:
    shape = draw(shapes)
    dtype = draw(st.sampled_from(["float32", "float64", "int64", "bool", "complex64", "bfloat16", "float16"]))
    seed = draw(st.integers(0, 99))
    values = np.asarray(np.random.default_rng(seed).standard_normal(shape) * 3)
    if draw(st.booleans()) and values.size and dtype != "int64":
        values.reshape(-1)[0] = draw(st.sampled_from([np.inf, -np.inf, np.nan, -0.0]))
    return values.astype(np.dtype(ml_dtypes.bfloat16) if dtype == "bfloat16" else dtype)


attrs = st.one_of(
    st.integers(), st.booleans(), floats, st.text(st.characters(codec="utf-8"), max_size=5), arrays(),
    st.lists(st.integers(), max_size=3).map(tuple), st.lists(names, min_size=1, max_size=3).map(tuple),
    st.lists(floats, min_size=1, max_size=3).map(tuple),
)  # fmt: skip


@st.composite
def interactions(draw: st.DrawFn) -> Interaction:
    layouts = st.lists(
        st.builds(Rearrangement, st.sampled_from(["Reshape", "Transpose"]), positive), max_size=2
    ).map(tuple)
    linear = st.builds(
        Linear, st.sampled_from(["Conv", "ConvTranspose", "MatMul"]), names, st.none() | names, positive,
        groups=st.integers(1, 4), transposed=st.booleans(),
    )  # fmt: skip
    pool = st.builds(
        Pool,
        st.sampled_from(["MaxPool", "AveragePool"]),
        positive,
        positive,
        positive,
        ceil_mode=st.booleans(),
    )
    return Interaction(
        draw(names),
        draw(positive),
        draw(positive),
        draw(layouts),
        draw(st.none() | linear),
        draw(st.none() | pool),
        draw(layouts),
    )


@st.composite
def graphs(draw: st.DrawFn, depth: int = 1) -> Graph:
    graph = Graph(draw(names), source=draw(st.text(st.characters(codec="utf-8"), max_size=4)))
    graph.stage = draw(st.sampled_from(list(Stage)))
    graph.scattered = draw(st.booleans())
    graph.notes = draw(st.lists(st.text(st.characters(codec="utf-8"), max_size=9), max_size=2))
    values = draw(st.lists(names, min_size=4, max_size=9, unique=True))
    graph.inputs, made = values[:1], values[2:]
    for name in values:
        graph.types[name] = draw(types)
    array = draw(arrays())
    graph.constants[values[1]] = array
    graph.types[values[1]] = TensorType(str(array.dtype), array.shape)
    graph.trainable = set(draw(st.sampled_from([[], [values[1]]])))
    for index, name in enumerate(made):
        node = Node(draw(names), draw(names), values[: 2 + index], [name, *draw(st.sampled_from([[], [""]]))])
        node.attrs = draw(st.dictionaries(names, attrs, max_size=3))
        if depth and draw(st.booleans()):
            node.attrs["body"] = draw(graphs(0))
        node.location = draw(
            st.none() | st.builds(Location, names, st.text(st.characters(codec="utf-8"), max_size=5))
        )
        if draw(st.booleans()):
            node.unit, node.reason = "tile", draw(names.map(lambda text: text.strip(" ") or "why"))
            node.block = draw(st.none() | st.integers(0, 5))
        graph.nodes.append(node)
    graph.outputs = [made[-1]]
    clip = st.builds(Activation, st.sampled_from(["Clip", "Relu"]), floats, low=st.none() | floats)
    layers = st.builds(
        Layer, names, positive, clip, st.lists(interactions(), min_size=1, max_size=2).map(tuple),
        st.lists(names, max_size=2).map(tuple),
    )  # fmt: skip
    several = st.lists(names, max_size=2).map(tuple)
    for index in range(draw(st.integers(0, 2))):
        held = draw(st.lists(layers, min_size=1, max_size=2).map(tuple))
        physics = draw(st.just("hopfield") | names)
        needs = draw(
            st.none()
            | st.builds(Relaxed, floats, floats)
            | st.builds(Relaxed, floats, floats, floats, floats)
        )
        graph.blocks.append(
            EnergyBlock(
                index,
                draw(several),
                held,
                draw(several),
                physics=physics,
                relaxed=needs,
                feedback=draw(st.just(1.0) | floats),
            )
        )
    part = Part(draw(names), 0, (0, 3), (1, 2))
    graph.parts[part.weight] = (part, Part(part.weight, 1, (0, 3), (1, 2)))
    graph.places[part] = Place(4, 5, 6)
    return graph


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(graphs())
def test_a_text_is_read_back(graph: Graph) -> None:
    text = str(graph)
    found = parse(text, graph.arrays())
    assert str(found) == text
    for name in Graph.__dataclass_fields__:
        if name not in {"nodes", "constants", "types"}:
            assert getattr(found, name) == getattr(graph, name), name
    assert found == graph


@pytest.mark.parametrize("outputs", [["y", ""], ["", "y"], ["", "", "y"]])
def test_an_output_that_is_left_out_is_read_back(outputs: list[str]) -> None:
    graph = Graph("g", outputs=["y"], nodes=[Node("Op", "n", [], outputs)])
    graph.types["y"] = TensorType("float32", (2,))
    assert parse(str(graph), {}).nodes[0].outputs == outputs


@pytest.mark.parametrize(
    "change",
    ["attrs", "types", "blocks", "places", "scattered", "trainable", "constants", "notes", "nodes"],
)
def test_graphs_that_differ_are_not_equal(change: str) -> None:
    graph, other = compiled(), compiled()
    assert graph == other
    if change == "attrs":
        other.nodes[0].attrs["strides"] = (2, 2)
    elif change == "constants":
        other.constants["c1"] = other.constants["c1"] + 1
    elif change == "scattered":
        other.scattered = True
    elif change == "notes":
        other.notes.append("more")
    else:
        held = getattr(other, change)
        held.pop(*([next(iter(held))] if isinstance(held, dict) else []))
    assert graph != other


def compiled() -> Graph:
    b = Builder()
    x = b.node("Relu", b.conv(b.input("x", "N", 1, 8, 8), 1, 4))
    y = b.node("MaxPool", b.conv(x, 4, 4), kernel_shape=[2, 2], strides=[2, 2])
    graph = from_onnx(b.model(b.node("Relu", y)), {}).graph
    run_passes(graph, load_hardware("reference"), pass_order(Options(block_size=2, replicas=1)), None)
    return graph


def test_truth_values_as_text() -> None:
    held = {"x": TensorType("bool", (2,)), "c": TensorType("bool", (2,))}
    constants = {"c": np.array([True, False])}
    graph = Graph("g", inputs=["x"], outputs=["x"], constants=constants, types=held)
    assert "constant c: bool[2] = [true, false]\n" in str(graph)
    assert parse(str(graph)).constants["c"].tolist() == [True, False]


def test_a_compiled_graph(golden: Any) -> None:
    graph = compiled()
    assert parse(str(graph), graph.arrays()) == graph
    golden(str(graph))


def test_values_that_are_not_given() -> None:
    graph = compiled()
    found = digest(graph.constants["c0"])
    with pytest.raises(UsageError) as error:
        parse(str(graph))
    assert str(error.value) == (
        f"text: no values of float32[4, 1, 3, 3] and digest {found} for constant 'c0'; "
        "the model that the text was written for, or a text with all values"
    )
    assert parse(graph_text(graph, shown=10**6)) == graph


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("graf", "text:line 1: 'graf' stands here; 'graph'"),
        (
            "graph g () -> () at HOME",
            "text:line 1: the line ends here; a stage, one of IMPORTED, CANONICAL, "
            "BLOCKED, TILED, PARTITIONED, PLACED",
        ),
        (
            "graph g () -> () at TILED\n  c: float32[2 = Add(",
            "text:line 2: '= Add(' stands here; an x between sizes",
        ),
        ("graph g () -> () at TILED\n}\n", "text:line 2: '}' stands here; one graph, and nothing after it"),
        (
            "graph g () -> () at TILED\n  constant c: int8[2] = [1]",
            "text:line 2: the line ends here; int8 of shape [2]",
        ),
    ],
)
def test_what_is_no_graph(text: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        parse(text)
    assert str(error.value) == message


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3).T,
        np.zeros((0, 3)),
        np.array(3.0),
        np.array([True, False]),
        np.ones(3, dtype=ml_dtypes.bfloat16),
    ],
)
def test_bytes_of_an_array_are_in_the_order_of_its_elements(array: Array) -> None:
    assert bytes(bytes_of(array)) == array.tobytes()
