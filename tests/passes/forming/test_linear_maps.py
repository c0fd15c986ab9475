"""Which values drive one layer side by side."""

import numpy as np
import pytest

from ffebm.compiler.driver import run_passes
from ffebm.graph.graph import Graph
from ffebm.hardware.description import load_hardware
from ffebm.passes.forming.linear_maps import branches
from ffebm.plan.schema import Options
from tests.models import Builder
from tests.passes.common import before


def conductances(b: Builder, *shape: int) -> str:
    return b.constant(abs(b.rng.normal(size=shape)).astype(np.float32))


def network(signs: int = 2, physics: str = "deep-resistive", block_size: int = 9) -> Graph:
    """Two layers of nodes of some signs each, and an output; weights are conductances."""
    b = Builder()

    def driven(sources: list[str], n: int, name: str) -> str:
        maps = [b.node("MatMul", source, conductances(b, 4, n)) for source in sources]
        total = maps[0]
        for other in maps[1:]:
            total = b.node("Add", total, other)
        return b.node("Mul", total, b.constant(2.0), out=name)

    values = [b.input("x", "N", 4)]
    for depth in range(2):
        names = [f"{depth}{'+-'[sign]}" for sign in range(signs)]
        ranges = {"+": ("Relu",), "-": ("Clip", "", b.constant(0.0))}
        values = [
            b.node(ranges[name[1]][0], driven(values, 4, f"u{name}"), *ranges[name[1]][1:], out=name)
            for name in names
        ]
    graph, step = before(
        "energy-blocks", b.model(driven(values, 3, "y")), Options(block_size=block_size, physics=physics)
    )
    run_passes(graph, load_hardware("ideal"), (step,), None)
    return graph


def blocks(graph: Graph) -> list[list[str]]:
    return [[layer.value for layer in block.layers] for block in graph.blocks]


def test_values_that_end_in_one_sum() -> None:
    graph = network()
    readers, makers = graph.consumers(), graph.producers()
    assert branches("0+", readers, makers) == ["0-"]
    assert branches("1-", readers, makers) == ["1+"]
    assert branches("x", readers, makers) == []
    assert branches("y", readers, makers) == []


@pytest.mark.parametrize(
    ("physics", "block_size", "found"),
    [
        ("deep-resistive", 9, [["0+", "0-", "1+", "1-", "y"]]),
        ("deep-resistive", 5, [["0+", "0-", "1+", "1-", "y"]]),
        ("deep-resistive", 3, [["0+", "0-", "1+"], ["1-", "y"]]),
        ("deep-resistive", 1, [["0+"], ["0-"], ["1+"], ["1-"], ["y"]]),
        ("hopfield", 9, [["0+"], ["0-", "1+", "1-", "y"]]),
    ],
)
def test_layers_of_either_sign_settle_together(physics: str, block_size: int, found: list[list[str]]) -> None:
    assert blocks(network(physics=physics, block_size=block_size)) == found


def test_a_list_of_sizes_counts_every_layer() -> None:
    b = Builder()
    x, ups = b.input("x", "N", 4), []
    for op, *rest in (("Relu",), ("Clip", "", b.constant(0.0))):
        h = b.node(op, b.node("MatMul", x, conductances(b, 4, 4)), *rest)
        ups.append(b.node("MatMul", h, conductances(b, 4, 3)))
    options = Options(block_size=(3,), physics="deep-resistive")
    graph, step = before("energy-blocks", b.model(b.node("Add", *ups, out="y")), options)
    run_passes(graph, load_hardware("ideal"), (step,), None)
    assert [len(block.layers) for block in graph.blocks] == [3]


@pytest.mark.parametrize(
    ("machine", "note"), [("ideal", ""), ("reference", "have 2 cells a weight, and blocks take 1")]
)
def test_cells_that_circuits_leave_unused_are_told(machine: str, note: str) -> None:
    b = Builder()
    model = b.model(b.node("MatMul", b.input("x", "N", 4), conductances(b, 4, 3)))
    for physics, wanted in (("deep-resistive", note), ("hopfield", "")):
        graph, step = before("energy-blocks", model, Options(physics=physics))
        run_passes(graph, load_hardware(machine), (step,), None)
        assert any("cells a weight" in found for found in graph.notes) == bool(wanted)
        assert not wanted or wanted in graph.notes[-1]
    assert graph.nodes[0].reason == "linear map with a stationary weight, into layer 1 of 1 in block0"


def test_a_linear_map_is_conductances() -> None:
    reasons = {node.reason for node in network().nodes if node.op == "MatMul"}
    assert "conductances, one cell a weight, into layer 5 of 5 in block0" in reasons


def test_what_has_no_sum_has_no_branches() -> None:
    graph = network(signs=1)
    assert branches("0+", graph.consumers(), graph.producers()) == []
