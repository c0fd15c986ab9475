import msgspec
import numpy as np
import pytest

from ffebm.errors import InternalError
from ffebm.graph.energy_block import Activation, EnergyBlock, Interaction, Layer, Linear
from ffebm.graph.graph import Graph, Node, Part, Stage, captured
from ffebm.graph.tensor import TensorType
from ffebm.graph.verify import verify


def graph() -> Graph:
    nodes = [
        Node("MatMul", "m", ["x", "w"], ["h"], unit="tile", reason="r", block=0),
        Node("Relu", "a", ["h"], ["s"], unit="tile", reason="r", block=0),
        Node("Softmax", "p", ["s"], ["y"], unit="digital", reason="r"),
    ]
    layer = Layer(
        "s", (2,), Activation("Relu"), (Interaction("x", (3,), (2,), linear=Linear("MatMul", "w")),)
    )
    return Graph(
        "g",
        inputs=["x"],
        outputs=["y"],
        nodes=nodes,
        types={n: TensorType("float32", ("N", 3)) for n in ("x", "h", "s", "y", "w")},
        constants={"w": np.zeros((3, 2), np.float32)},
        blocks=[EnergyBlock(0, ("x",), (layer,), ("s",))],
        parts={"w": (Part("w", 0, (0, 3), (0, 2)),)},
        stage=Stage.PARTITIONED,
    )


def test_a_graph_as_text() -> None:
    assert str(graph()) == (
        "graph g (x) -> (y) at PARTITIONED\n"
        "  input x: float32[Nx3]\n"
        "  constant w: float32[Nx3] = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0]\n"
        '  h: float32[Nx3] = MatMul(x, w) named "m"  # tile block 0: r\n'
        '  s: float32[Nx3] = Relu(h) named "a"  # tile block 0: r\n'
        '  y: float32[Nx3] = Softmax(s) named "p"  # digital: r\n'
        "  block0 (x) -> (s)\n"
        "    s: 2 = Relu{}(MatMul{}(x: 3, w): 2)\n"
        "  part w group 0 inputs 0:3 outputs 0:2 bundle 0 turn 0 replica 0\n"
    )
    assert str(TensorType("int64")) == "int64[?]"


def test_a_good_graph() -> None:
    verify(graph())


def broken(what: str) -> Graph:
    g = graph()
    if what == "name":
        g.nodes[1].name = "m"
    elif what == "order":
        g.nodes = g.nodes[::-1]
    elif what == "twice":
        g.nodes[1].outputs = ["h", "x"]
    elif what == "output":
        g.outputs = ["z"]
    elif what == "reason":
        g.nodes[2].reason = ""
    elif what == "place":
        g.stage = Stage.PLACED
    elif what == "number":
        block = g.blocks[0]
        g.blocks[0] = EnergyBlock(1, block.inputs, block.layers, block.outputs)
    elif what == "source":
        g.blocks[0] = EnergyBlock(0, (), g.blocks[0].layers, ("s",))
    elif what == "circle":
        g.nodes.append(Node("MatMul", "back", ["y", "w"], ["z"], unit="tile", reason="r", block=0))
    return g


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("name", "two nodes are named m"),
        ("order", "p reads s before it is made"),
        ("twice", "h is made twice"),
        ("output", "output z is never made"),
        ("reason", "p has no unit or no reason"),
        (
            "place",
            "Part(weight='w', group=0, inputs=(0, 3), outputs=(0, 2), bundle=0, turn=0, replica=0, "
            "transposed=False) has no place",
        ),
        ("number", "block1 stands at position 0"),
        ("source", "s of block0 reads unknown x"),
        ("circle", "back makes block0 wait for itself"),
    ],
)
def test_a_broken_fact(what: str, expected: str) -> None:
    with pytest.raises(InternalError) as caught:
        verify(broken(what))
    assert str(caught.value) == expected


def test_what_a_subgraph_reads_from_outside() -> None:
    inner = Graph("inner", inputs=["i"], outputs=["o", "w"], constants={"c": np.zeros(1)})
    inner.nodes = [Node("Add", "n", ["i", "x"], ["t"]), Node("Mul", "k", ["t", "c"], ["o"])]
    node = Node("Loop", "l", ["count", ""], ["r"], {"body": inner})
    assert captured(node) == ["count", "x", "w"]


def test_a_block_is_written_without_what_is_usual() -> None:
    layer = Layer("s", (2,), Activation("Relu"), (Interaction("x", (2,), (2,)),))
    plain = EnergyBlock(0, ("x",), (layer,), ("s",))
    assert not {"group", "physics"} & msgspec.to_builtins(plain).keys()
    other = msgspec.structs.replace(plain, physics="springs")
    assert msgspec.to_builtins(other)["physics"] == "springs"
    assert msgspec.json.decode(msgspec.json.encode(other), type=EnergyBlock) == other


def test_colours_of_a_chain_with_a_skip() -> None:
    def layer(value: str, *sources: str) -> Layer:
        return Layer(value, (1,), Activation("Relu"), tuple(Interaction(s, (1,), (1,)) for s in sources))

    chain = EnergyBlock(0, ("x",), (layer("a", "x"), layer("b", "a"), layer("c", "b")), ("c",))
    assert chain.colours() == (0, 1, 0)
    triangle = EnergyBlock(0, ("x",), (layer("a", "x"), layer("b", "a"), layer("c", "a", "b")), ("c",))
    assert triangle.colours() == (0, 1, 2)
