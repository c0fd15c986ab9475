"""The choice between groups of digital units against brute force: every node on every group that runs it."""

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import get_args

import pytest
from msgspec.structs import replace as changed
from onnx import ModelProto

import ffebm
from ffebm.compiler.driver import pass_order, run_passes
from ffebm.compiler.onnx.from_onnx import from_onnx
from ffebm.graph.graph import Graph
from ffebm.hardware.description import DigitalGroup, Hardware
from ffebm.mapping.crossings import digital_ways, viewed
from ffebm.mapping.options import Choosing, Option, Run, choosing_of
from ffebm.mapping.search.goal import Goal, Measured, value_of
from ffebm.mapping.search.search import Search
from ffebm.mapping.whole import Site, node_homes
from ffebm.passes.partition import Partition, _Found
from ffebm.plan.mapping import Objective
from ffebm.plan.schema import Options
from ffebm.plan.summary import engineering
from ffebm.report.facts.choices import choices, option_text
from tests.machines import crossbars, joules, rate
from tests.models import Builder

BY_PRICE: tuple[Objective, ...] = ("latency", "throughput", "energy", "edp")
MOST = 600
"""Mappings of a graph that are all scheduled."""


def random_model(seed: int) -> ModelProto:
    """Products of activations, and a convolution, with branches."""
    draw, b = random.Random(seed), Builder()
    values = [b.input("x", 1, 4, 8, 8), b.input("y", 1, 4, 8, 8)]
    for kind in draw.sample(["Conv", "MatMul", "MatMul", "Relu", "Softmax"], 4):
        if kind == "Conv":
            y = b.node(kind, draw.choice(values), b.weight(4, 4, 3, 3), pads=[1, 1, 1, 1])
        elif kind == "MatMul":
            y = b.node(kind, draw.choice(values[-2:]), draw.choice(values))
        else:
            y = b.node(kind, draw.choice(values[-2:]))
        values.append(y)
    return b.model(b.node("Add", values[-1], values[-2]))


def random_machine(seed: int) -> Hardware:
    """Two groups of digital units, each better at something, beside few tiles."""
    draw = random.Random(seed + 1000)
    machine = crossbars(draw.randint(1, 3), 64, 64)
    (usual,) = machine.digital

    def units(name: str, ops: Sequence[str], *, slow: float) -> DigitalGroup:
        fp32 = changed(
            usual.fp32,
            mac_rate=rate(10 ** draw.uniform(8, 10) * slow),
            op_rate=rate(10 ** draw.uniform(7, 9)),
            mac_energy=joules(10 ** draw.uniform(-13, -10)),
            op_energy=joules(10 ** draw.uniform(-13, -10)),
        )
        leakage = changed(usual.leakage, value=10 ** draw.uniform(-6, -3))
        return changed(usual, name=name, ops=tuple(ops), fp32=fp32, leakage=leakage)

    ops = ["Conv", "MatMul", *draw.sample(["Relu", "Softmax", "Add"], draw.randint(0, 2))]
    network = changed(machine.network, bit_rate=rate(10 ** draw.uniform(9, 12)))
    digital = units("first", ops, slow=1.0), units("second", (), slow=draw.choice([1.0, 0.1]))
    memory = tuple(changed(one, owner="chip") for one in machine.memory if one.owner == usual.name)
    return changed(machine, digital=digital, network=network, memory=memory)


class Case:
    """A graph as the partition gets it, and what mappings of it take."""

    def __init__(self, seed: int, *digital: str) -> None:
        self.graph, self.hardware = from_onnx(random_model(seed), {}).graph, random_machine(seed)
        order = pass_order(Options(digital=digital))
        at = next(n for n, step in enumerate(order) if isinstance(step, Partition))
        run_passes(self.graph, self.hardware, order[:at], None)
        partition = order[at]
        assert isinstance(partition, Partition)
        self.partition = partition
        self.choosing = choosing_of(self.graph, self.hardware, Run(1, 60))

    def measured(self, options: Sequence[Option], choosing: Sequence[Choosing]) -> Measured:
        """One inference of a mapping."""
        found = self.partition.measured(self.graph, self.hardware, choosing, options)
        assert found is not None
        return found

    def best(self, objective: Objective) -> _Found:
        """What the partition finds, some groups of the machine left off if that is better."""
        return replace(self.partition, goal=Goal(objective))._best(self.graph, self.hardware)[0]

    def everything(self) -> list[Measured]:
        """All mappings that pack; none if there are too many."""
        one = Search(self.graph, self.hardware, self.choosing, Goal(), lambda *_: None, lambda *_: None)
        blocks = [some for some in self.choosing if some.blocks]
        kept = []
        for picked in itertools.product(*(range(len(some.options)) for some in self.choosing)):
            options = [some.options[n] for some, n in zip(self.choosing, picked, strict=True)]
            usual = all(
                option is some.options[0]
                for some, option in zip(self.choosing, options, strict=True)
                if not option.group
            )
            if usual and one.filling.packs(picked, apart=False):
                kept.append([o for some, o in zip(self.choosing, options, strict=True) if some.blocks])
        found: list[Measured] = []
        for options in kept:
            for units in assignments(self.graph, self.hardware, blocks, options):
                everywhere = replace(Option("", (), ()), units=units)
                found.append(self.measured([*options, everywhere], [*blocks, Choosing((), (everywhere,))]))
                if len(found) > MOST:
                    return []
        return found


def assignments(
    graph: Graph, hardware: Hardware, blocks: Sequence[Choosing], options: Sequence[Option]
) -> Iterator[dict[str, str]]:
    """Each digital node on each group that runs it."""
    on_tiles = {
        b.id for some, option in zip(blocks, options, strict=True) if option.group for b in some.blocks
    }
    nodes = [node for node in graph.nodes if node.block not in on_tiles and not viewed(graph, node)]
    groups = [[group.name for group in hardware.digital if group.runs(node.op)] for node in nodes]
    for way in itertools.product(*groups):
        yield dict(zip((node.name for node in nodes), way, strict=True))


def compared(seeds: range, *digital: str) -> list[tuple[int, Objective, float]]:
    """How much more each objective's mapping has than the best of all, as times."""
    found = []
    for seed in seeds:
        case = Case(seed, *digital)
        everything = case.everything()
        if not everything:
            continue
        for objective in BY_PRICE:
            best = min(value_of(objective, one) for one in everything)
            found.append((seed, objective, case.best(objective).searched.value / best))
    return found


@pytest.mark.parametrize("digital", [(), ("*",)])
def test_each_node_runs_where_the_figure_is_least(digital: tuple[str, ...]) -> None:
    found = compared(range(5), *digital)
    assert len(found) == 5 * len(BY_PRICE)
    assert [one for one in found if one[2] > 1 + 1e-9] == []


@pytest.mark.slow
@pytest.mark.parametrize("digital", [(), ("*",)])
def test_each_node_runs_where_the_figure_is_least_in_many_graphs(digital: tuple[str, ...]) -> None:
    found = compared(range(60), *digital)
    assert len(found) == 60 * len(BY_PRICE)
    assert [one for one in found if one[2] > 1 + 1e-9] == []


def test_the_first_group_that_runs_an_op_is_not_always_the_best() -> None:
    case = Case(2, "*")
    usual = case.measured([some.options[0] for some in case.choosing], case.choosing)
    for objective in BY_PRICE:
        assert case.best(objective).searched.value < 0.3 * value_of(objective, usual)


@pytest.mark.parametrize("objective", get_args(Objective))
def test_the_twin_is_the_plan_without_tiles_that_the_objective_chooses(objective: Objective) -> None:
    for seed in range(2):
        model, machine = random_model(seed), random_machine(seed)
        plan = ffebm.compile(model, hardware=machine, objective=objective)
        alone = ffebm.compile(model, hardware=machine, objective=objective, digital=["*"])
        assert plan.twin["fp32"].inference_s == alone.inference.makespan_s
        assert plan.twin["fp32"].inference_j == pytest.approx(alone.inference.cost.energy, rel=1e-12)
        assert plan.twin["fp32"].training_s == alone.training.makespan_s
        assert plan.twin["fp32"].training_j == pytest.approx(alone.training.cost.energy, rel=1e-12)


def product_of_activations() -> ModelProto:
    b = Builder()
    y = b.node("MatMul", b.input("x", 64, 64), b.input("y", 64, 64))
    return b.model(b.node("Relu", y))


def test_a_reason_names_the_price_on_both_groups() -> None:
    """64^3 products and 64^2 sums: 256 + 64 ns on the one, 1,024 + 16 ns on the other; 3 values of 64^2."""
    memory = 3 * 64**2 * 32 * 0.2e-12
    here = engineering(64**3 * 4.6e-12 + 64**2 * 0.9e-12 + memory, "J")
    elsewhere = engineering(64**3 * 10.6e-12 + 64**2 * 6.9e-12 + memory, "J")
    plan = ffebm.compile(product_of_activations(), hardware="heterogeneous", objective="energy")
    product, relu = plan.nodes
    assert product.group == "matrix"
    assert product.reason == (
        "no stationary weight: both operands are computed at run time; "
        f"on matrix: 320 ns, {here} there, 1.04 us, {elsewhere} on vector"
    )
    assert " on " not in relu.reason


def test_a_plan_records_what_a_digital_node_could_be() -> None:
    plan = ffebm.compile(product_of_activations(), hardware="heterogeneous", objective="energy")
    assert plan.mapping is not None
    assert plan.mapping.blocks == ()
    (some,) = plan.mapping.digital
    assert [option.units for option in some.options] == [("matrix",), ("vector",)]
    assert some.nodes == (plan.nodes[0].name,)
    assert some.taken == 0
    found = choices(plan)
    assert found is not None
    assert [option_text(option) for option in found.blocks[0].options] == [
        "digital on matrix",
        "digital on vector",
    ]


def test_one_group_of_digital_units_leaves_no_choice() -> None:
    plan = ffebm.compile(product_of_activations(), objective="energy")
    assert plan.mapping is None
    plan = ffebm.compile(random_model(0), objective="energy")
    assert plan.mapping is not None
    assert plan.mapping.digital == ()
    assert not any(option.units for some in plan.mapping.blocks for option in some.options)


def test_a_view_lies_where_the_option_of_its_source_says() -> None:
    b = Builder()
    y = b.node("MatMul", b.input("x", 8, 8), b.input("y", 8, 8))
    graph = from_onnx(b.model(b.node("Relu", b.node("Flatten", y))), {}).graph
    machine = ffebm.load_hardware("heterogeneous")
    order = pass_order(Options())
    run_passes(
        graph, machine, order[: next(n for n, p in enumerate(order) if isinstance(p, Partition))], None
    )
    (some,) = choosing_of(graph, machine, Run(1, 60))
    homes = node_homes(graph, machine, (some,))
    product, view, relu = graph.nodes
    assert homes[product.name] == homes[view.name] == Site(some, ("matrix", "vector"))
    assert homes[relu.name] == Site(None, ("vector",))


def test_many_nodes_go_to_each_group_as_far_as_it_runs_them() -> None:
    b = Builder()
    y = b.input("x", 8, 8)
    for _ in range(4):
        y = b.node("Relu", b.node("MatMul", y, y))
    graph = from_onnx(b.model(y), {}).graph
    machine = ffebm.load_hardware("heterogeneous")
    few, many = (list(digital_ways(graph, machine, graph.nodes[:count])) for count in (6, 8))
    assert len(few) == 8
    assert [tuple(way.values()) for way in many] == [("matrix", "vector") * 4, ("vector",) * 8]
