"""Small graphs and machines, and every mapping of them."""

import itertools
import random
from collections.abc import Sequence
from dataclasses import replace

from msgspec.structs import replace as changed
from onnx import ModelProto

from ffebm.compiler.driver import pass_order, run_passes
from ffebm.compiler.onnx.from_onnx import from_onnx
from ffebm.hardware.description import Hardware
from ffebm.mapping.options import Option, Run, choosing_of
from ffebm.mapping.search.goal import AtMost, Goal, Measured
from ffebm.mapping.search.search import Search
from ffebm.mapping.search.trials import Tried
from ffebm.passes.partition import Partition
from ffebm.plan.schema import Options
from tests.machines import crossbars
from tests.models import Builder

MOST = 400
"""Mappings of a graph that are all scheduled."""


def random_model(seed: int) -> ModelProto:
    """A few convolutions, dense, grouped and depthwise, with branches and digital nodes between them."""
    draw, b = random.Random(seed), Builder()
    channels = draw.choice([4, 8])
    values = [b.input("x", 1, channels, 6, 6)]
    for _ in range(draw.randint(3, 4)):
        size, groups = draw.choice([1, 3]), draw.choice([1, 1, channels])
        weight = b.weight(channels, channels // groups, size, size)
        y = b.node("Conv", draw.choice(values[-2:]), weight, pads=[size // 2] * 4, group=groups)
        y = b.node("Relu", y)
        if draw.random() < 0.3:
            y = b.node("Add", y, draw.choice(values))
        values.append(b.node("Softmax", y) if draw.random() < 0.3 else y)
    return b.model(b.node("Add", values[-1], values[-2]))


def random_machine(seed: int) -> Hardware:
    """Few small tiles beside a slow digital unit, so that both have their uses."""
    draw = random.Random(seed + 1000)
    machine = crossbars(draw.randint(2, 10), *draw.choice([(16, 16), (32, 32), (64, 16)]))
    (units,), slow = machine.digital, 10 ** draw.uniform(-4, -1.5)
    rates = {name: getattr(units.fp32, name) for name in ("mac_rate", "op_rate")}
    fp32 = changed(units.fp32, **{n: changed(rate, value=rate.value * slow) for n, rate in rates.items()})
    return changed(machine, digital=(changed(units, fp32=fp32),))


def search(seed: int, goal: Goal) -> Search:
    """The search that the partition would make for a random graph."""
    return search_of(random_model(seed), random_machine(seed), goal)


def search_of(model: ModelProto, hardware: Hardware, goal: Goal) -> Search:
    """The search that the partition would make."""
    graph = from_onnx(model, {}).graph
    order = pass_order(Options())
    at = next(n for n, step in enumerate(order) if isinstance(step, Partition))
    run_passes(graph, hardware, order[:at], None)
    partition = order[at]
    assert isinstance(partition, Partition)
    choosing = choosing_of(graph, hardware, Run(1, 60))

    def measure(options: Sequence[Option], most: AtMost) -> Measured | None:
        return partition.measured(graph, hardware, choosing, options, most)

    def scatter(options: Sequence[Option], most: AtMost) -> Measured | None:
        return partition.measured(replace(graph, scattered=True), hardware, choosing, options, most)

    return Search(graph, hardware, choosing, goal, measure, scatter)


def every_mapping(one: Search) -> list[Tried]:
    """All that pack, or nothing if there are too many."""
    ranges = [range(len(some.options)) for some in one.choosing]
    count = 1
    for some in ranges:
        count *= len(some)
    if count > MOST:
        return []
    return [
        one.trials.tried(picked)
        for picked in itertools.product(*ranges)
        if one.filling.packs(picked, apart=False)
    ]
