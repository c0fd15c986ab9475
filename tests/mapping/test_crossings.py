"""What crosses between groups of digital units, as the mapping prices it and as the schedule bills it."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from onnx import ModelProto

import ffebm
from ffebm.compiler.driver import pass_order, run_passes
from ffebm.compiler.onnx.from_onnx import from_onnx
from ffebm.graph.graph import Graph
from ffebm.graph.work import elements
from ffebm.mapping.crossings import crossings, digital_price, digital_ways, homes_of
from ffebm.mapping.digital_cost import transfer_cost
from ffebm.mapping.options import Choosing, Run, choosing_of
from ffebm.mapping.solver.problem import figures_of
from ffebm.mapping.whole import WholeChoice, whole_choice
from ffebm.passes.partition import Partition
from ffebm.plan.schema import Options
from tests.machines import products_apart
from tests.models import Builder

MACHINE = ffebm.load_hardware("heterogeneous")
"""Matrix products run on one group of digital units, all else on another."""


def model() -> ModelProto:
    """Convolutions with activations, one of which two nodes read, and a product of a flattened map."""
    b = Builder()
    x = b.input("x", 1, 4, 6, 6)
    first = b.node("Relu", b.node("Conv", x, b.weight(8, 4, 3, 3), pads=[1, 1, 1, 1]))
    second = b.node("Relu", b.node("Conv", first, b.weight(8, 8, 3, 3), pads=[1, 1, 1, 1]))
    flat = b.node("Flatten", b.node("Softmax", b.node("Add", first, second)))
    return b.model(b.node("Gemm", flat, b.weight(288, 5)))


def prepared() -> Graph:
    """The graph as the partition gets it."""
    graph = from_onnx(model(), {}).graph
    order = pass_order(Options())
    run_passes(
        graph, MACHINE, order[: next(n for n, p in enumerate(order) if isinstance(p, Partition))], None
    )
    return graph


def carrying_j(whole: WholeChoice, picked: tuple[int, ...]) -> float:
    """Joules of all that is carried between what is picked, as prices add up."""
    taken = {position: number for (_, position), number in zip(whole.choosing, picked, strict=True)}
    problem = replace(whole.problem, leakage=0.0)
    every = [taken.get(problem.root(p), 0) for p in range(len(problem.decisions))]
    with_links, without = (figures_of(p, every).joules for p in (problem, replace(problem, links=())))
    return with_links - without


def transfers_j(plan: ffebm.Plan) -> float:
    """Joules of all transfers, as they are billed."""
    return math.fsum(step.cost.energy for step in plan.inference.steps if step.kind == "transfer")


def picked_of(plan: ffebm.Plan, choosing: Sequence[Choosing]) -> tuple[int, ...]:
    """The option of each choice that a plan without tiles has."""
    groups = {node.name: node.group for node in plan.nodes}
    return tuple(
        next(n for n, o in enumerate(some.options) if o.units and o.units.items() <= groups.items())
        for some in choosing
    )


def test_what_crosses_is_priced_as_it_is_billed_without_tiles() -> None:
    graph = prepared()
    choosing = choosing_of(graph, MACHINE, Run(1, 60))
    whole = whole_choice(graph, MACHINE, choosing)
    for machine in (MACHINE, products_apart()):
        plan = ffebm.compile(model(), hardware=machine, digital=["*"])
        picked = picked_of(plan, choosing)
        billed = transfers_j(plan)
        assert carrying_j(whole, picked) == pytest.approx(billed)
    assert picked == (0,) * len(choosing)
    assert billed > 0


def test_what_leaves_tiles_is_priced_as_it_is_billed() -> None:
    """The first block is on tiles; its result goes to both groups, once each."""
    graph = prepared()
    choosing = choosing_of(graph, MACHINE, Run(1, 60))
    whole = whole_choice(graph, MACHINE, choosing)
    first = next(n for n, option in enumerate(choosing[0].options) if option.group == "pcm")
    others = [node.name for node in graph.nodes if node.op in {"Conv", "Gemm"}][1:]
    plan = ffebm.compile(model(), hardware=products_apart(), digital=others)
    assert len(plan.blocks) == 1
    fetched = transfer_cost(MACHINE, elements(graph, "x")).cost.energy
    assert carrying_j(whole, (first, *(0,) * (len(choosing) - 1))) + fetched == pytest.approx(
        transfers_j(plan)
    )


def test_a_block_is_priced_with_what_crosses_inside_it() -> None:
    graph = prepared()
    nodes = [node for node in graph.nodes if node.block == 0]
    first, *others = digital_ways(graph, MACHINE, nodes)
    (inside,) = crossings(graph, MACHINE, nodes, first)
    alone = [digital_price(graph, MACHINE, [node], first) for node in nodes]
    price = digital_price(graph, MACHINE, nodes, first)
    assert price.joules == pytest.approx(sum(p.joules for p in alone) + inside.joules)
    assert price.busy["network"] == pytest.approx(inside.seconds)

    (other,) = others
    assert set(other.values()) == {"vector"}
    assert not list(crossings(graph, MACHINE, nodes, other))


def test_a_view_lies_where_its_source_does() -> None:
    graph = prepared()
    units = next(digital_ways(graph, MACHINE, graph.nodes))
    homes = homes_of(graph, graph.nodes, units)
    view = next(node for node in graph.nodes if node.op == "Flatten")
    assert homes[view.outputs[0]] == homes[view.inputs[0]] == "vector"
    assert {homes[node.outputs[0]] for node in graph.nodes if node.op == "Conv"} == {"matrix"}


def test_one_group_of_digital_units_crosses_nothing() -> None:
    graph, hardware = prepared(), ffebm.load_hardware("reference")
    (units,) = digital_ways(graph, hardware, graph.nodes)
    assert not list(crossings(graph, hardware, graph.nodes, units))
    whole = whole_choice(graph, hardware, choosing_of(graph, hardware, Run(1, 60)))
    assert not any(link.from_tiles for link in whole.problem.links)
